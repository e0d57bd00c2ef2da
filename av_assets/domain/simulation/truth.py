"""What really happened: windows of events, trajectories, boxes, faces and plates, clocks.

Belongs here: truth as tables. Does not belong here: anything a vehicle could measure.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from av_assets.domain.simulation.ego import FRONT_BUMPER_X_M
from av_assets.domain.simulation.road import LANES_D_M, Array

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from av_assets.domain.simulation.scene import Frame
    from av_assets.domain.simulation.world import World

HARSH_MPS2, HARSH_MIN_S = 3.5, 1.0
HAZARD_SPEED_MPS, HAZARD_DECEL_MPS2, HAZARD_HALF_WIDTH_M = 0.5, 3.0, 1.5
LANE_SETTLED_M = 0.1
TRAJECTORY_RATE_HZ = 10.0

BOXES = pa.schema([
    ("sensor_ns", pa.int64()), ("role", pa.string()), ("object_id", pa.int32()), ("cls", pa.string()),
    ("x1", pa.float32()), ("y1", pa.float32()), ("x2", pa.float32()), ("y2", pa.float32()),
    ("occlusion", pa.float32()), ("truncation", pa.float32()), ("distance_m", pa.float32()),
])  # fmt: skip
DRIVABLE = pa.schema([
    ("sensor_ns", pa.int64()), ("role", pa.string()), ("width", pa.int32()), ("height", pa.int32()),
    ("mask", pa.binary()),
])  # fmt: skip
PRIVACY = pa.schema([
    ("sensor_ns", pa.int64()), ("role", pa.string()), ("kind", pa.string()),
    ("x1", pa.float32()), ("y1", pa.float32()), ("x2", pa.float32()), ("y2", pa.float32()),
    ("object_id", pa.int32()),
])  # fmt: skip
EVENTS = pa.schema([
    ("kind", pa.string()), ("start_ns", pa.int64()), ("end_ns", pa.int64()), ("object_id", pa.int32()),
])  # fmt: skip


@dataclass(frozen=True)
class EventWindow:
    """An event from `start_ns` to `end_ns` (true time); `object_id` is -1 where only the ego takes part."""

    kind: str
    start_ns: int
    end_ns: int
    object_id: int = -1


def _windows(mask: NDArray[np.bool_], t_s: Array, least_s: float = 0.0) -> Iterator[tuple[float, float]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    for start, end in zip(edges[::2], edges[1::2] - 1, strict=True):
        if t_s[end] - t_s[start] >= least_s:
            yield float(t_s[start]), float(t_s[end])


def event_windows(world: World) -> tuple[EventWindow, ...]:
    """All events of the recording, by what the noise-free motion does, exact to the 10 ms grid.

    harsh_brake: acceleration stays at or below -3.5 m/s2 for at least 1 s.
    cut_in: from 0.1 m off its own lane centre until 0.1 m from that of the ego lane.
    stationary_hazard: a vehicle in the path stands (< 0.5 m/s) and v^2 / (2 d) >= 3 m/s2, d from the bumper.
    disengagement: from the edge 1 -> 0 until the automation drives again or the recording ends.
    """
    ego, script = world.ego, world.script
    recorded = (ego.t_s >= 0) & (ego.t_s <= script.seconds)
    t = ego.t_s[recorded]
    found: list[tuple[str, float, float, int]] = []
    for low, high in _windows(ego.accel_mps2[recorded] <= -HARSH_MPS2, t, HARSH_MIN_S):
        found.append(("harsh_brake", low, high, -1))
    for low, high in _windows(ego.engaged[recorded] < 0.5, t):
        found.append(("disengagement", low, high, -1))
    lane = LANES_D_M["left" if script.zone == "construction" else "right"]
    for actor in world.actors:
        if actor.cls != "vehicle":
            continue
        s, d = actor.s_m[recorded], actor.d_m[recorded]
        if np.ptp(actor.d_m) > 1.0:
            moving = (np.abs(d - actor.d_m[0]) > LANE_SETTLED_M) & (np.abs(d - lane) > LANE_SETTLED_M)
            found += [("cut_in", low, high, actor.object_id) for low, high in _windows(moving, t)]
        gap = s - actor.size_m[0] / 2 - ego.s_m[recorded] - FRONT_BUMPER_X_M
        speed = np.abs(np.gradient(actor.s_m, ego.t_s))[recorded]
        needed = ego.speed_mps[recorded] ** 2 / (2 * np.maximum(gap, 0.1))
        hazard = (
            (np.abs(d - ego.d_m[recorded]) < HAZARD_HALF_WIDTH_M) & (gap > 0) & (speed < HAZARD_SPEED_MPS)
        )
        hazard &= needed >= HAZARD_DECEL_MPS2
        found += [("stationary_hazard", low, high, actor.object_id) for low, high in _windows(hazard, t, 0.1)]
    start = script.start_ns
    rows = [EventWindow(k, start + round(a * 1e9), start + round(b * 1e9), i) for k, a, b, i in found]
    return tuple(sorted(rows, key=lambda w: (w.start_ns, w.kind, w.object_id)))


def trajectories(world: World) -> pa.Table:
    """10 Hz states in the world and the ego frame; object_id 0 is the ego vehicle."""
    script = world.script
    rows: list[dict[str, Any]] = []
    for t in np.arange(0.0, script.seconds + 1e-9, 1 / TRAJECTORY_RATE_HZ):
        x, y, yaw = world.ego.pose(float(t))
        speed = float(world.ego.at("speed_mps", t))
        ns = script.start_ns + round(float(t) * 1e9)
        c, s = np.cos(yaw), np.sin(yaw)
        rows.append(_state(ns, 0, "ego", (x, y, yaw), (speed * c, speed * s), (4.8, 1.9, 1.6), (0.0, 0.0)))
        states = world.states(float(t))
        for i, actor in enumerate(world.actors):
            px, py = float(states.x_m[i]), float(states.y_m[i])
            local = ((px - x) * c + (py - y) * s, -(px - x) * s + (py - y) * c)
            if np.hypot(*local) < 150.0:
                motion = (float(states.vx_mps[i]), float(states.vy_mps[i]))
                pose = (px, py, float(states.yaw_rad[i]))
                rows.append(_state(ns, actor.object_id, actor.cls, pose, motion, actor.size_m, local))
    return pa.Table.from_pylist(rows)


def _state(
    ns: int, ident: int, cls: str, pose: tuple[float, float, float], motion: tuple[float, float],
    size: tuple[float, float, float], local: tuple[float, float],
) -> dict[str, Any]:  # fmt: skip
    return {
        "time_ns": ns, "object_id": ident, "cls": cls, "x_m": pose[0], "y_m": pose[1], "yaw_rad": pose[2],
        "vx_mps": motion[0], "vy_mps": motion[1],
        "length_m": size[0], "width_m": size[1], "height_m": size[2],
        "ego_x_m": float(local[0]), "ego_y_m": float(local[1]),
    }  # fmt: skip


@dataclass
class TruthLog:
    """Collects the truth of camera frames while they are rendered, then writes everything."""

    boxes: list[dict[str, Any]] = field(default_factory=list)
    drivable: list[dict[str, Any]] = field(default_factory=list)
    privacy: list[dict[str, Any]] = field(default_factory=list)

    def add(self, sensor_ns: int, role: str, frame: Frame) -> None:
        import cv2

        key = {"sensor_ns": sensor_ns, "role": role}
        self.boxes += [key | vars(box) for box in frame.boxes]
        self.privacy += [key | vars(box) for box in frame.private]
        _, png = cv2.imencode(".png", frame.drivable, [cv2.IMWRITE_PNG_COMPRESSION, 3])
        height, width = frame.drivable.shape
        self.drivable.append(key | {"width": width, "height": height, "mask": png.tobytes()})

    def write(self, folder: Path, world: World, clocks: dict[str, dict[str, int]]) -> None:
        """`boxes`, `drivable`, `privacy`, `events`, `trajectories` as parquet, and `clocks.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows, schema in (
            ("boxes", self.boxes, BOXES), ("drivable", self.drivable, DRIVABLE),
            ("privacy", self.privacy, PRIVACY),
            ("events", [vars(w) for w in event_windows(world)], EVENTS),
        ):  # fmt: skip
            rows = sorted(rows, key=lambda r: (r.get("sensor_ns", r.get("start_ns", 0)), r.get("role", "")))
            pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / f"{name}.parquet")
        pq.write_table(trajectories(world), folder / "trajectories.parquet")
        (folder / "clocks.json").write_text(json.dumps(clocks, indent=1, sort_keys=True) + "\n", "utf-8")
