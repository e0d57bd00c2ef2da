"""The truth beside a drive agrees with what its sensors show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from av_assets.domain.simulation import canbus, signals
from av_assets.domain.simulation.camera import CAMERAS, FRONT
from av_assets.domain.simulation.ego import FRONT_BUMPER_X_M, REAR_BUMPER_X_M
from av_assets.domain.simulation.lidar import MOUNT_M, Lidar
from av_assets.domain.simulation.samples import sample_drives, short_drive
from av_assets.domain.simulation.scene import Frame, Renderer
from av_assets.domain.simulation.script import ScriptedEvent
from av_assets.domain.simulation.truth import event_windows
from av_assets.domain.simulation.world import World, build_world

if TYPE_CHECKING:
    from pathlib import Path


def _world(*events: ScriptedEvent, **conditions: object) -> World:
    return build_world(short_drive(seconds=20.0, seed=7, events=tuple(events), **conditions))


@pytest.fixture(scope="module")
def seen() -> list[tuple[World, float, Frame]]:
    """Frames of the front camera of all sample drives."""
    shots = []
    for script in sample_drives():
        world = build_world(script)
        renderer = Renderer(world)
        for t in (2.05, 9.05, 16.05):
            shots.append((world, t, renderer.frame(FRONT, t, np.random.default_rng(0))))
    return shots


def test_boxes_lie_inside_the_image_and_are_large_and_near_enough(
    seen: list[tuple[World, float, Frame]],
) -> None:
    for _, _, frame in seen:
        for box in frame.boxes:
            assert 0 <= box.x1 < box.x2 <= FRONT.width
            assert 0 <= box.y1 < box.y2 <= FRONT.height
            assert box.y2 - box.y1 >= 8
            assert box.distance_m <= 60
            assert 0 <= box.occlusion <= 1
            assert 0 <= box.truncation <= 1


def test_every_drive_shows_vehicles_and_people_and_works_show_cones(
    seen: list[tuple[World, float, Frame]],
) -> None:
    for world, _, frame in seen:
        classes = {box.cls for box in frame.boxes}
        assert {"vehicle", "pedestrian"} <= classes
        assert ("cone" in classes) == (world.script.zone == "construction")


def test_projected_centre_of_a_free_vehicle_is_in_its_box(seen: list[tuple[World, float, Frame]]) -> None:
    checked = 0
    for world, t, frame in seen:
        states = world.states(t)
        view = FRONT.camera_SE3_world(*world.ego.pose(t))
        for box in frame.boxes:
            if box.occlusion > 0.05 or box.truncation > 0.05:
                continue
            i = box.object_id - 1
            centre = np.array([states.x_m[i], states.y_m[i], world.actors[i].size_m[2] / 2, 1.0])
            pixel = FRONT.matrix @ (view @ centre)[:3]
            u, v = pixel[:2] / pixel[2]
            assert box.x1 - 1 <= u <= box.x2 + 1
            assert box.y1 - 1 <= v <= box.y2 + 1
            checked += 1
    assert checked > 50


def test_faces_and_plates_lie_on_their_owners(seen: list[tuple[World, float, Frame]]) -> None:
    kinds = set()
    for _, _, frame in seen:
        owners = {box.object_id: box for box in frame.boxes}
        for found in frame.private:
            kinds.add(found.kind)
            owner = owners[found.object_id]
            assert owner.cls == {"face": "pedestrian", "plate": "vehicle"}[found.kind]
            assert owner.x1 - 3 <= (found.x1 + found.x2) / 2 <= owner.x2 + 3
            assert owner.y1 - 3 <= (found.y1 + found.y2) / 2 <= owner.y2 + 3
    assert kinds == {"face", "plate"}


def test_drivable_mask_is_the_asphalt_ahead_less_objects(seen: list[tuple[World, float, Frame]]) -> None:
    for _, _, frame in seen:
        assert set(np.unique(frame.drivable)) == {0, 255}
        assert (frame.drivable[: int(FRONT.horizon_row) - 2] == 0).all()
        assert 0.1 < np.mean(frame.drivable > 0) < 0.6
        for box in frame.boxes:
            if box.cls == "vehicle" and box.occlusion < 0.01 and box.truncation < 0.01:
                u, v = int((box.x1 + box.x2) / 2), int((box.y1 + box.y2) / 2)
                assert frame.drivable[v, u] == 0


def test_conditions_look_different() -> None:
    frames = {}
    for name, light, weather in (("day", "day", "clear"), ("night", "night", "clear"), ("fog", "day", "fog")):
        world = build_world(short_drive(seconds=3.0, seed=3, light=light, weather=weather))
        frames[name] = Renderer(world).frame(FRONT, 1.0, np.random.default_rng(0)).rgb.astype(float)
    assert frames["night"].mean() < 0.5 * frames["day"].mean()
    far = slice(int(FRONT.horizon_row) - 12, int(FRONT.horizon_row) + 6)
    assert frames["fog"][far].std() < 0.8 * frames["day"][far].std()


def test_recorded_truth_speaks_of_the_recorded_frames(short_drive_folder: Path, short_truth: Path) -> None:
    folder = short_truth / short_drive_folder.name
    drivable = pq.read_table(folder / "drivable.parquet").to_pylist()
    assert len(drivable) == 45
    assert {row["role"] for row in drivable} == {camera.role for camera in CAMERAS}
    mask = cv2.imdecode(np.frombuffer(drivable[0]["mask"], np.uint8), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (drivable[0]["height"], drivable[0]["width"])
    stamps = {(row["sensor_ns"], row["role"]) for row in drivable}
    for name in ("boxes", "privacy"):
        rows = pq.read_table(folder / f"{name}.parquet").to_pylist()
        assert rows
        assert {(row["sensor_ns"], row["role"]) for row in rows} <= stamps
    ego = [r for r in pq.read_table(folder / "trajectories.parquet").to_pylist() if r["object_id"] == 0]
    assert len(ego) == 31


def _decoded(world: World, name: str, t_s: float) -> float:
    for ident, data in canbus.frames(world, t_s, 1, np.random.default_rng(0)):
        signals_ = canbus.database().decode_message(ident, data)
        if name in signals_:
            return float(signals_[name])
    raise KeyError(name)


def test_harsh_brake_is_exact_and_visible_on_the_can_bus() -> None:
    world = _world(ScriptedEvent("harsh_brake", 8.0))
    (window,) = event_windows(world)
    start = (window.start_ns - world.script.start_ns) / 1e9
    end = (window.end_ns - world.script.start_ns) / 1e9
    assert window.kind == "harsh_brake"
    assert 8.0 < start < 8.5
    assert end - start >= 1.0
    assert _decoded(world, "accel_mps2", (start + end) / 2) < -4.5
    assert _decoded(world, "brake", (start + end) / 2) > 0.3
    assert _decoded(world, "speed_mps", end) < _decoded(world, "speed_mps", start) - 4
    assert world.ego.at("accel_mps2", start) <= -3.5 < world.ego.at("accel_mps2", start - 0.02)


def test_disengagement_is_an_edge_on_the_can_bus() -> None:
    world = _world(ScriptedEvent("disengagement", 5.0))
    (window,) = event_windows(world)
    assert window.start_ns == world.script.start_ns + 5_000_000_000
    assert _decoded(world, "engaged", 4.98) == 1
    assert _decoded(world, "engaged", 5.0) == 0
    assert _decoded(world, "engaged", (window.end_ns - world.script.start_ns) / 1e9 + 0.02) == 1


def test_cut_in_is_seen_by_the_radar() -> None:
    world = _world(ScriptedEvent("cut_in", 6.0))
    (window,) = event_windows(world)
    assert window.kind == "cut_in"
    rng = np.random.default_rng(0)
    sides = []
    for ns in (window.start_ns, window.end_ns):
        tracks = signals.radar(world, (ns - world.script.start_ns) / 1e9, rng)
        (track,) = [t for t in tracks if t[0] == window.object_id]
        assert 5 < track[1] < 60
        sides.append(track[2])
    assert sides[0] > 2.2
    assert abs(sides[1]) < 1.0


def test_stationary_hazard_stands_in_the_path_and_asks_for_hard_braking() -> None:
    world = _world(ScriptedEvent("stationary_hazard", 8.0))
    windows = {w.kind: w for w in event_windows(world)}
    window = windows["stationary_hazard"]
    t = (window.start_ns - world.script.start_ns) / 1e9
    (track,) = [t for t in signals.radar(world, t, np.random.default_rng(0)) if t[0] == window.object_id]
    speed = float(world.ego.at("speed_mps", t))
    assert abs(track[3] + speed) < 0.5
    assert speed**2 / (2 * track[1]) == pytest.approx(3.0, abs=0.15)


def test_nobody_drives_through_anybody() -> None:
    for script in sample_drives():
        world = build_world(script)
        inside = (world.ego.t_s >= 0) & (world.ego.t_s <= script.seconds)
        for actor in world.actors:
            ahead = (actor.s_m - world.ego.s_m)[inside]
            across = np.abs(actor.d_m - world.ego.d_m)[inside]
            half = actor.size_m[0] / 2
            overlap = (ahead - half < FRONT_BUMPER_X_M) & (ahead + half > REAR_BUMPER_X_M)
            assert not np.any(overlap & (across < 0.95 + actor.size_m[1] / 2)), (script.drive, actor.kind)


def test_can_frames_agree_with_the_truth_and_counters_wrap() -> None:
    world = _world()
    for t in (1.0, 7.5):
        for name in ("speed_mps", "accel_mps2", "yaw_rate_radps", "steering_rad"):
            assert _decoded(world, name, t) == pytest.approx(float(world.ego.at(name, t)), abs=0.2)
    counters = [canbus.frames(world, 1.0, i, np.random.default_rng(0))[0][1] for i in range(17)]
    values = [canbus.database().decode_message(canbus.MOTION, c)["motion_counter"] for c in counters]
    assert values == [*range(16), 0]


def test_lidar_hits_the_vehicle_ahead_where_it_is() -> None:
    world = _world()
    start = 4.0
    points = Lidar(world).turn(start, np.random.default_rng(0))
    x, y, yaw = world.ego.pose(start + 0.05)
    states = world.states(start + 0.05)
    ahead = (states.x_m - x) * np.cos(yaw) + (states.y_m - y) * np.sin(yaw)
    left = -(states.x_m - x) * np.sin(yaw) + (states.y_m - y) * np.cos(yaw)
    lead = min(
        (i for i, a in enumerate(world.actors) if a.cls == "vehicle" and ahead[i] > 4 and abs(left[i]) < 1.5),
        key=lambda i: ahead[i],
    )
    rear = ahead[lead] - world.actors[lead].size_m[0] / 2
    near = np.abs(points["y"]) < 0.5
    high = (points["z"] + MOUNT_M[2] > 0.3) & (points["z"] + MOUNT_M[2] < 0.85) & (points["x"] > 0)
    hits = points["x"][near & high] + MOUNT_M[0]
    assert hits.min() == pytest.approx(rear, abs=0.25)
