"""A spinning lidar: rays against ground, oriented boxes and upright cylinders, with motion during the turn.

The turn starts behind the vehicle, so the beam looks forward half a turn later. Each column is cast from
where the ego vehicle is then at where the objects are then: clouds are distorted as real ones are.
Belongs here: ray casting, noise, dropouts. Does not belong here: messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.simulation.road import DASH_M, DASH_PERIOD_M, KERB_D_M, LANE_WIDTH_M, Array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from av_assets.domain.simulation.world import States, World

RINGS, COLUMNS = 32, 600
TURN_S = 0.1
MOUNT_M = (1.2, 0.0, 1.95)
ELEVATIONS_RAD = np.deg2rad(np.linspace(-24.0, 8.0, RINGS))
REACH_M, OBJECT_REACH_M = 110.0, 85.0
RANGE_NOISE_M = 0.02
MOVING_STEP_S = 0.05
DROPOUT = {"clear": 0.01, "rain": 0.05, "fog": 0.05}
LOSS_PER_M = {"clear": 0.0, "rain": 0.006, "fog": 0.026}
CLUTTER = {"clear": 0.0, "rain": 0.006, "fog": 0.01}
REFLECTANCE = {"car": 0.45, "van": 0.5, "truck": 0.4, "pedestrian": 0.3, "cone": 0.85}
FIXTURE_REFLECTANCE = {"building": 0.35, "tree": 0.22, "lamp": 0.5}

POINT_TYPE = np.dtype(
    {
        "names": ["x", "y", "z", "intensity", "t", "ring"],
        "formats": ["<f4", "<f4", "<f4", "<f4", "<u4", "<u2"],
        "offsets": [0, 4, 8, 12, 16, 20],
        "itemsize": 22,
    }
)


@dataclass(frozen=True)
class _Solid:
    """A box (or an upright cylinder, where `radius` is given) moving evenly during the turn."""

    x: float
    y: float
    yaw: float
    vx: float
    vy: float
    half_length: float
    half_width: float
    height: float
    reflectance: float
    radius: float | None = None
    base: float = 0.0


def _actor_solids(world: World, states: States) -> list[_Solid]:
    solids = []
    for i, actor in enumerate(world.actors):
        length, width, height = actor.size_m
        place = (float(states.x_m[i]), float(states.y_m[i]), float(states.yaw_rad[i]))
        motion = (float(states.vx_mps[i]), float(states.vy_mps[i]))
        shine = REFLECTANCE[actor.kind]
        if actor.kind == "car":
            solids.append(_Solid(*place, *motion, length / 2, width / 2, height * 0.62, shine))
            c, s = np.cos(place[2]), np.sin(place[2])
            back = (place[0] - 0.11 * length * c, place[1] - 0.11 * length * s, place[2])
            solids.append(_Solid(*back, *motion, length * 0.28, width * 0.44, height, 0.25))
        elif actor.cls == "vehicle":
            solids.append(_Solid(*place, *motion, length / 2, width / 2, height, shine))
        else:
            radius = 0.28 if actor.cls == "pedestrian" else 0.16
            solids.append(_Solid(*place, *motion, radius, radius, height, shine, radius))
    return solids


def _fixture_solids(world: World) -> list[_Solid]:
    solids = []
    for thing in world.fixtures:
        length, width, height = thing.size_m
        shine, place = FIXTURE_REFLECTANCE[thing.kind], (thing.x_m, thing.y_m, thing.yaw_rad, 0.0, 0.0)
        if thing.kind == "building":
            solids.append(_Solid(*place, length / 2, width / 2, height, shine))
        elif thing.kind == "lamp":
            solids.append(_Solid(*place, 0.08, 0.08, height, shine, 0.08))
        else:
            solids.append(_Solid(*place, 0.14, 0.14, height * 0.5, 0.3, 0.14))
            crown = length * 0.5
            solids.append(_Solid(*place, crown, crown, height, shine, crown, height * 0.4))
    return solids


class Lidar:
    """Casts turns through a world; holds what does not move."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.still = _fixture_solids(world)
        self.azimuth = -np.pi + 2 * np.pi * (np.arange(COLUMNS) + 0.5) / COLUMNS
        self.offset_s = TURN_S * (np.arange(COLUMNS) + 0.5) / COLUMNS
        self.cos_up, self.sin_up = np.cos(ELEVATIONS_RAD), np.sin(ELEVATIONS_RAD)

    def turn(self, start_s: float, rng: np.random.Generator) -> NDArray[np.void]:
        """Returns of one turn that starts at `start_s`, in firing order; POINT_TYPE, lidar frame."""
        ego = self.world.ego
        times = start_s + self.offset_s
        yaw = ego.at("yaw_rad", times)
        self.x = ego.at("x_m", times) + MOUNT_M[0] * np.cos(yaw)
        self.y = ego.at("y_m", times) + MOUNT_M[0] * np.sin(yaw)
        self.heading = yaw + self.azimuth
        self.middle = COLUMNS // 2
        with np.errstate(divide="ignore"):
            flat = np.where(self.sin_up < -1e-3, -MOUNT_M[2] / self.sin_up, np.inf)
        self.range = np.broadcast_to(flat, (COLUMNS, RINGS)).copy()
        self.range[self.range > REACH_M] = np.inf
        self.shine = np.full((COLUMNS, RINGS), -1.0)
        states = self.world.states(start_s + TURN_S / 2)
        for solid in self.still + _actor_solids(self.world, states):
            self._cast(solid)
        self._shade_ground()
        return self._measure(rng)

    def _columns(self, solid: _Solid, dx: float, dy: float, distance: float) -> NDArray[np.int64]:
        """Columns that may meet the solid, with room for the motion during the turn."""
        size = float(np.hypot(solid.half_length, solid.half_width)) + 1.2
        if distance <= size:
            return np.arange(COLUMNS)
        bearing = float(np.arctan2(dy, dx)) - float(self.heading[self.middle] - self.azimuth[self.middle])
        half = float(np.arcsin(size / distance)) + 0.02
        first = int(np.floor((bearing - half + np.pi) / (2 * np.pi) * COLUMNS))
        last = int(np.ceil((bearing + half + np.pi) / (2 * np.pi) * COLUMNS))
        return np.asarray(np.arange(first, last + 1) % COLUMNS, dtype=np.int64)

    def _cast(self, solid: _Solid) -> None:
        dx, dy = solid.x - float(self.x[self.middle]), solid.y - float(self.y[self.middle])
        distance = float(np.hypot(dx, dy))
        if distance > OBJECT_REACH_M:
            return
        columns = self._columns(solid, dx, dy, distance)
        since = self.offset_s[columns] - TURN_S / 2
        ox = self.x[columns] - (solid.x + solid.vx * since)
        oy = self.y[columns] - (solid.y + solid.vy * since)
        near, far = self._slab(solid, columns, ox, oy)
        columns, near, far = columns[far > near], near[far > near], far[far > near]
        if len(columns) == 0:
            return
        # Along the ground a ray enters at `near` and leaves at `far`; its height decides whether it hits.
        near, far = np.maximum(near, 0.3)[:, None], far[:, None]
        slope = (self.sin_up / self.cos_up)[None, :]
        z_in, z_out = MOUNT_M[2] + near * slope, MOUNT_M[2] + far * slope
        inside = (z_in >= solid.base) & (z_in <= solid.height)
        with np.errstate(divide="ignore", invalid="ignore"):
            above = (z_in > solid.height) & (z_out < solid.height)
            below = (z_in < solid.base) & (z_out > solid.base)
            edge = np.where(above, solid.height, solid.base)
            flat = np.where(inside, near, (edge - MOUNT_M[2]) / slope)
        reach = np.where(inside | above | below, flat / self.cos_up[None, :], np.inf)
        block = self.range[columns]
        closer = reach < block
        self.range[columns] = np.where(closer, reach, block)
        self.shine[columns] = np.where(closer, solid.reflectance, self.shine[columns])

    def _slab(self, solid: _Solid, columns: NDArray[np.int64], ox: Array, oy: Array) -> tuple[Array, Array]:
        """Where rays enter and leave the outline, metres along the ground; leave < enter means a miss."""
        heading = self.heading[columns]
        if solid.radius is not None:
            b = ox * np.cos(heading) + oy * np.sin(heading)
            inside = b**2 - (ox**2 + oy**2 - solid.radius**2)
            root = np.sqrt(np.maximum(inside, 0.0))
            return -b - root, np.where((inside > 0) & (b < 0), -b + root, -np.inf)
        c, s = np.cos(solid.yaw), np.sin(solid.yaw)
        lx, ly = ox * c + oy * s, -ox * s + oy * c
        rx, ry = np.cos(heading - solid.yaw), np.sin(heading - solid.yaw)
        rx, ry = np.where(np.abs(rx) < 1e-9, 1e-9, rx), np.where(np.abs(ry) < 1e-9, 1e-9, ry)
        x1, x2 = (-solid.half_length - lx) / rx, (solid.half_length - lx) / rx
        y1, y2 = (-solid.half_width - ly) / ry, (solid.half_width - ly) / ry
        enter = np.maximum(np.minimum(x1, x2), np.minimum(y1, y2))
        leave = np.minimum(np.maximum(x1, x2), np.maximum(y1, y2))
        return enter, np.where(leave > 0, leave, -np.inf)

    def _shade_ground(self) -> None:
        """Paint reflects, asphalt hardly does, grass a little: lane lines show up in the intensity."""
        column, ring = np.nonzero((self.shine < 0) & np.isfinite(self.range))
        flat = self.range[column, ring] * self.cos_up[ring]
        x = self.x[column] + flat * np.cos(self.heading[column])
        y = self.y[column] + flat * np.sin(self.heading[column])
        s, d = self.world.road.locate(x, y)
        away = np.abs(d)
        shine = np.where(away < KERB_D_M, 0.10, np.where(away < 10.6, 0.28, 0.20))
        solid = (np.abs(away - KERB_D_M + 0.18) < 0.1) | (np.abs(away - 0.12) < 0.1)
        dashed = (np.abs(away - LANE_WIDTH_M) < 0.1) & (np.mod(s, DASH_PERIOD_M) < DASH_M)
        self.shine[column, ring] = np.where(solid | dashed, 0.8, shine)

    def _measure(self, rng: np.random.Generator) -> NDArray[np.void]:
        weather = self.world.script.weather
        column, ring = np.nonzero(np.isfinite(self.range) & (self.range < REACH_M))
        reach, shine = self.range[column, ring], self.shine[column, ring]
        chance = (1 - DROPOUT[weather]) * np.exp(-LOSS_PER_M[weather] * reach)
        reach = reach + rng.normal(0, RANGE_NOISE_M, len(reach))
        if CLUTTER[weather]:  # drops answer before the target does
            false = rng.uniform(size=len(reach)) < CLUTTER[weather]
            reach = np.where(false, np.minimum(reach, rng.uniform(1.0, 9.0, len(reach))), reach)
            shine = np.where(false, 0.03, shine)
        kept = rng.uniform(size=len(reach)) < chance
        column, ring, reach, shine = column[kept], ring[kept], reach[kept], shine[kept]
        points = np.zeros(len(reach), POINT_TYPE)
        flat = reach * self.cos_up[ring]
        points["x"], points["y"] = flat * np.cos(self.azimuth[column]), flat * np.sin(self.azimuth[column])
        points["z"] = reach * self.sin_up[ring]
        points["intensity"] = np.clip(shine + rng.normal(0, 0.03, len(reach)), 0, 1)
        points["t"] = np.rint(self.offset_s[column] * 1e9)
        points["ring"] = ring
        return points
