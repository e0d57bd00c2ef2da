"""The world of one drive: who is on the road, where they are at any time, and what stands beside it.

Other vehicles of the ego lane are the ego motion shifted in time and distance (G. F. Newell, "A simplified
car-following theory", 2002): physically consistent and free of collisions.
Belongs here: the assembled world and its states. Does not belong here: who is put into it, how it looks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.simulation.ego import MARGIN_S, STEP_S, Ego, drive_ego
from av_assets.domain.simulation.road import Array, Road

if TYPE_CHECKING:
    from av_assets.domain.simulation.script import DriveScript

RGB = tuple[int, int, int]
SIZES_M = {
    "car": (4.4, 1.82, 1.48),
    "van": (5.3, 2.0, 2.2),
    "truck": (8.2, 2.5, 3.3),
    "pedestrian": (0.5, 0.55, 1.78),
    "cone": (0.4, 0.4, 0.78),
}


@dataclass(frozen=True)
class Actor:
    """Something that is detected: vehicle, pedestrian or cone; `s_m` and `d_m` follow the grid of the ego."""

    object_id: int
    cls: str
    kind: str
    s_m: Array
    d_m: Array
    yaw_offset_rad: float = 0.0
    colour: RGB = (120, 120, 120)
    second_colour: RGB = (60, 60, 70)
    look: int = 0
    plate: str = ""
    scale: float = 1.0
    scripted: bool = False

    @property
    def size_m(self) -> tuple[float, float, float]:
        """Length, width, height."""
        length, width, height = SIZES_M[self.kind]
        return length * self.scale, width * self.scale, height * self.scale


@dataclass(frozen=True)
class Fixture:
    """Road furniture: never labelled, but it hides things and reflects lidar."""

    kind: str  # building | tree | lamp
    x_m: float
    y_m: float
    yaw_rad: float
    size_m: tuple[float, float, float]
    colour: RGB
    look: int = 0


@dataclass(frozen=True)
class States:
    """All actors at one time; arrays of shape (actors,), world frame."""

    x_m: Array
    y_m: Array
    yaw_rad: Array
    vx_mps: Array
    vy_mps: Array


@dataclass(frozen=True)
class World:
    script: DriveScript
    road: Road
    ego: Ego
    actors: tuple[Actor, ...]
    fixtures: tuple[Fixture, ...]
    crossings_s_m: tuple[float, ...] = ()
    closed_s_m: tuple[float, float] | None = None  # where the right lane is closed
    _tracks: Array = field(default_factory=lambda: np.zeros((5, 0, 2)), repr=False)

    def states(self, t_s: float) -> States:
        """States of the actors at `t_s`, linear between the 100 Hz samples."""
        position = (t_s + MARGIN_S) / STEP_S
        index = min(max(int(position), 0), self._tracks.shape[2] - 2)
        part = position - index
        now = self._tracks[:, :, index] * (1 - part) + self._tracks[:, :, index + 1] * part
        return States(now[0], now[1], now[2], now[3], now[4])


def tracks_of(road: Road, actors: tuple[Actor, ...], count: int) -> Array:
    """x, y, yaw, vx, vy of every actor on the grid; shape (5, actors, count)."""
    tracks = np.zeros((5, len(actors), count))
    for i, actor in enumerate(actors):
        x, y, heading = road.pose(actor.s_m, actor.d_m)
        along = np.gradient(np.broadcast_to(actor.s_m, (count,)), STEP_S)
        across = np.gradient(np.broadcast_to(actor.d_m, (count,)), STEP_S)
        slip = np.arctan2(across, np.maximum(np.abs(along), 2.0)) if actor.cls == "vehicle" else 0.0
        tracks[:3, i] = x, y, heading + actor.yaw_offset_rad + slip
        tracks[3, i], tracks[4, i] = np.gradient(x, STEP_S), np.gradient(y, STEP_S)
    return tracks


def build_world(script: DriveScript) -> World:
    """The world of a script; the same script gives the same world."""
    from av_assets.domain.simulation.traffic import populate, scenery

    road = Road.make(script.seed)
    ego = drive_ego(script, road)
    actors, crossings, closed = populate(script, road, ego)
    tracks = tracks_of(road, actors, len(ego.t_s))
    return World(script, road, ego, actors, scenery(script, road, ego), crossings, closed, tracks)
