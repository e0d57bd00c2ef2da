"""KITTI: vectors computed by hand, round trips, and a reader that knows nothing of the writer."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from exported_folder import EGO_SE3_CAMERA, EGO_SE3_LIDAR, LEFT_OUT, THINGS, make_dataset
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.datasets.exports.export import export_dataset
from av_assets.domain.datasets.exports.frames import Cuboid
from av_assets.domain.datasets.exports.kitti import from_kitti, to_kitti, wrapped
from av_assets.policies.archives import ArchivesPolicy

# Looks straight ahead from 1.9 m before and 1.45 m above the origin: camera x, y, z = ego -y, -z, x.
LEVEL = np.array([[0.0, 0, 1, 1.9], [-1, 0, 0, 0], [0, -1, 0, 1.45], [0, 0, 0, 1]])
metres = st.floats(-50, 50)


@pytest.mark.parametrize(
    ("yaw", "rotation_y", "alpha"),
    [
        (0.0, -math.pi / 2, -math.pi / 2 + math.atan2(2, 10)),  # drives away from the camera
        (-math.pi / 2, 0.0, math.atan2(2, 10)),  # to the right
        (math.pi, math.pi / 2, math.pi / 2 + math.atan2(2, 10)),  # towards it
    ],
)
def test_a_car_ten_metres_ahead_two_to_the_left(yaw: float, rotation_y: float, alpha: float) -> None:
    box = to_kitti(Cuboid(11.9, 2.0, 0.75, 4.5, 1.8, 1.5, yaw, 9), LEVEL)
    assert (box.height_m, box.width_m, box.length_m) == (1.5, 1.8, 4.5)
    assert (box.x_m, box.y_m, box.z_m) == pytest.approx((-2.0, 1.45, 10.0))
    assert box.rotation_y == pytest.approx(rotation_y)
    assert box.alpha == pytest.approx(alpha)


@given(metres, metres, metres, st.floats(-math.pi, math.pi), st.sampled_from([LEVEL, EGO_SE3_CAMERA]))
def test_there_and_back(x: float, y: float, z: float, yaw: float, camera: np.ndarray) -> None:
    there = to_kitti(Cuboid(x, y, z, 4.5, 1.8, 1.5, yaw, 9), camera)
    back = from_kitti(there, camera, 9)
    assert (back.x_m, back.y_m, back.z_m) == pytest.approx((x, y, z), abs=1e-9)
    assert abs(wrapped(back.yaw_rad - yaw)) < 1e-9
    assert (back.length_m, back.width_m, back.height_m, back.points) == (4.5, 1.8, 1.5, 9)
    assert -math.pi <= there.alpha < math.pi


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kitti")
    cuboids = make_dataset(folder)
    report = export_dataset(
        folder / "dataset", "kitti", folder / "out", ("train", "test"), cuboids, ArchivesPolicy.load()
    )
    assert (report["frames"], report["boxes"], report["boxes_without_cuboid"]) == (22, 88, 22)
    assert report["cuboids"] == "2 of 2 drives have cuboids"
    return folder / "out"


def test_a_dataset_with_cuboids_of_its_own_needs_no_others(out: Path, tmp_path: Path) -> None:
    cuboids = make_dataset(tmp_path)
    for drive, path in cuboids.items():
        path.rename(tmp_path / "dataset" / "drives" / drive / "cuboids.parquet")
    own = tmp_path / "own"
    report = export_dataset(tmp_path / "dataset", "kitti", own, ("train", "test"), {}, ArchivesPolicy.load())
    assert (report["cuboids"], report["boxes_without_cuboid"]) == ("2 of 2 drives have cuboids", 22)
    names = sorted(path.relative_to(out) for path in out.rglob("*.txt"))
    assert len(names) > 22
    assert all((own / name).read_bytes() == (out / name).read_bytes() for name in names)


def _objects(path: Path) -> list[dict]:  # type: ignore[type-arg]
    """As the readme of KITTI's development kit describes a line."""
    found = []
    for text in path.read_text().splitlines():
        words = text.split(" ")
        assert len(words) == 15
        v = [float(w) for w in words[1:]]
        found.append({
            "type": words[0], "truncated": v[0], "occluded": int(words[2]), "alpha": v[2], "bbox": v[3:7],
            "hwl": v[7:10], "xyz": v[10:13], "ry": v[13],
        })  # fmt: skip
    return found


def _calib(path: Path) -> dict[str, np.ndarray]:
    rows = (text.split(":") for text in path.read_text().splitlines())
    found = {name: np.array([float(w) for w in words.split()]) for name, words in rows}
    return {name: v.reshape(3, -1) for name, v in found.items()}


def _projected(item: dict, calib: dict[str, np.ndarray]) -> list[float]:  # type: ignore[type-arg]
    """computeBox3D.m of the development kit: corners, turned around y, moved, projected by P2."""
    h, w, l = item["hwl"]  # noqa: E741
    corners = np.array([
        [l / 2, l / 2, -l / 2, -l / 2] * 2,
        [0, 0, 0, 0, -h, -h, -h, -h],
        [w / 2, -w / 2, -w / 2, w / 2] * 2,
    ])  # fmt: skip
    c, s = math.cos(item["ry"]), math.sin(item["ry"])
    placed = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) @ corners + np.array(item["xyz"])[:, None]
    uvw = calib["P2"] @ np.vstack([placed, np.ones(8)])
    pixels = uvw[:2] / uvw[2]
    return [*pixels.min(1), *pixels.max(1)]


def test_a_reader_that_knows_only_the_format_finds_every_object_in_the_picture(out: Path) -> None:
    folder, numbers = out / "training", (out / "ImageSets" / "test.txt").read_text().split()
    assert numbers == [f"{n:06}" for n in range(11, 22)]
    for number in numbers:
        calib, objects = (
            _calib(folder / "calib" / f"{number}.txt"),
            _objects(folder / "label_2" / f"{number}.txt"),
        )
        assert cv2.imread(str(folder / "image_2" / f"{number}.png")).shape == (384, 640, 3)
        assert [o["type"] for o in objects] == ["Car", "Pedestrian", "Misc", "Car"]
        assert [o["occluded"] for o in objects] == [1, 0, 3, 3]
        for item in objects[:3]:
            # The camera looks down by 3 degrees, KITTI's boxes stand upright for the camera: some pixels' difference.
            assert _projected(item, calib) == pytest.approx(item["bbox"], abs=6)
            assert (
                abs(wrapped(item["alpha"] - item["ry"] + math.atan2(item["xyz"][0], item["xyz"][2]))) < 1e-3
            )
            width = [round(v, 4) for v in item["hwl"]]
            assert width in [[t[6], t[5], t[4]] for t in THINGS.values()]
        unknown = objects[3]
        assert len(LEFT_OUT) == 1
        assert (unknown["alpha"], unknown["hwl"], unknown["xyz"], unknown["ry"]) == (
            -10,
            [-1] * 3,
            [-1000] * 3,
            -10,
        )


def test_points_and_poses_are_those_of_the_lidar(out: Path) -> None:
    points = np.fromfile(out / "training" / "velodyne" / "000000.bin", "<f4").reshape(-1, 4)
    # Frame 0 of the drive: what the lidar measured comes back in the lidar's own frame.
    assert points == pytest.approx(np.random.default_rng(0).uniform(1, 30, (200, 4)), abs=1e-4)
    calib = _calib(out / "training" / "calib" / "000000.txt")
    camera_se3_lidar = np.linalg.inv(EGO_SE3_CAMERA) @ EGO_SE3_LIDAR
    assert calib["Tr_velo_to_cam"] == pytest.approx(camera_se3_lidar[:3])
    assert calib["R0_rect"] == pytest.approx(np.eye(3))


def test_a_drive_without_calibration_is_left_out_and_named(tmp_path: Path) -> None:
    cuboids = make_dataset(tmp_path, {"veh001-a": "test", "veh002-b": "test"})
    (tmp_path / "dataset" / "drives" / "veh001-a" / "calibration.json").write_text('{"cameras": {}}')
    report = export_dataset(
        tmp_path / "dataset", "kitti", tmp_path / "out", ("test",), cuboids, ArchivesPolicy.load()
    )
    assert report["left_out"] == {"veh001-a": "its camera has no calibration"}
    assert report["frames"] == 11
