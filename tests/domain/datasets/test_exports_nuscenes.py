"""nuScenes: the official devkit loads the tables, walks over all samples and projects the boxes into the pictures."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path

import pytest
from exported_folder import (
    DELAY_NS,
    LEFT_OUT,
    ORIGIN,
    START_NS,
    THINGS,
    VIEW,
    corners_ego,
    cuboid_at,
    ego_at,
    make_dataset,
)
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.datasets.exports.export import export_dataset
from av_assets.domain.datasets.exports.frames import Box, Cuboid
from av_assets.domain.datasets.exports.nuscenes import in_global, upright, visibility_of
from av_assets.domain.datasets.exports.nuscenes_tables import TABLES
from av_assets.domain.errors import DatasetError, TransientError
from av_assets.domain.models.inputs import project
from av_assets.policies.archives import ArchivesPolicy
from resources.tool_environments import tool, tool_variables

POLICY = ArchivesPolicy.load()


def _box(*place: float) -> Box:
    x, y, z, yaw = place
    return Box("vehicle", 0, 0, 1, 1, "a", None, Cuboid(x, y, z, 4.5, 1.8, 1.5, yaw, 3))


def test_a_car_left_ahead_of_a_vehicle_that_drives_north() -> None:
    found = in_global(_box(5.0, 1.0, 0.75, 0.0), (10.0, 20.0, math.pi / 2))
    assert found["translation"] == pytest.approx([9.0, 25.0, 0.75])
    assert found["size"] == [1.8, 4.5, 1.5]
    assert found["rotation"] == pytest.approx([math.sqrt(0.5), 0, 0, math.sqrt(0.5)])


@given(*[st.floats(-100, 100)] * 5, st.floats(-3, 3), st.floats(-3, 3))
def test_back_in_the_ego_frame_the_place_is_the_same(x, y, z, east, north, yaw, turn) -> None:  # type: ignore[no-untyped-def]
    found = in_global(_box(x, y, z, turn), (east, north, yaw))
    gx, gy, gz = found["translation"]
    c, s = math.cos(yaw), math.sin(yaw)
    back = (c * (gx - east) + s * (gy - north), -s * (gx - east) + c * (gy - north), gz)
    assert back == pytest.approx((x, y, z), abs=1e-9)
    assert found["rotation"] == upright(yaw + turn)
    assert math.hypot(*found["rotation"]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("occlusion", "level"),
    [(None, ""), (0.0, "4"), (0.2, "4"), (0.3, "3"), (0.5, "2"), (0.7, "1"), (1.0, "1")],
)
def test_what_can_be_seen_in_levels(occlusion: float | None, level: str) -> None:
    assert visibility_of(occlusion) == level


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nuscenes")
    cuboids = make_dataset(folder)
    report = export_dataset(
        folder / "dataset", "nuscenes", folder / "out", ("train", "test"), cuboids, POLICY
    )
    assert (report["frames"], report["boxes"], report["boxes_without_cuboid"]) == (22, 88, 22)
    return folder


def test_tables_refer_to_nothing_that_is_not_there(exported: Path) -> None:
    folder = exported / "out" / "v1.0-av"
    tables = {name: json.loads((folder / f"{name}.json").read_text()) for name in TABLES}
    assert sorted(p.stem for p in folder.iterdir()) == sorted(TABLES)
    known = {name: {row["token"] for row in rows} for name, rows in tables.items()}
    assert all(len(known[name]) == len(rows) for name, rows in tables.items())
    owner = {"first_sample": "sample", "last_sample": "sample"} | {
        f"{which}_annotation": "sample_annotation" for which in ("first", "last")
    }
    for name, rows in tables.items():
        for row in rows:
            for key, value in row.items():
                if key.endswith("_token") and value:
                    table = owner.get(key.removesuffix("_token"), key.removesuffix("_token"))
                    assert value in known[table], (name, key)
                if key in ("prev", "next") and value:
                    assert value in known[name]
    assert json.loads((exported / "out" / "splits.json").read_text()) == {
        "train": ["veh001-a"],
        "test": ["veh002-b"],
    }
    assert tables["scene"][0]["description"] == f"origin {ORIGIN[0]:.6f},{ORIGIN[1]:.6f}"


def test_poses_are_those_that_were_driven(exported: Path) -> None:
    folder = exported / "out" / "v1.0-av"
    poses = {row["token"]: row for row in json.loads((folder / "ego_pose.json").read_text())}
    for row in json.loads((folder / "sample_data.json").read_text()):
        pose = poses[row["ego_pose_token"]]
        x, y, yaw = ego_at((row["timestamp"] * 1000 - START_NS) / 1e9)
        assert pose["translation"] == pytest.approx([x, y, 0.0], abs=0.02)
        assert pose["rotation"] == pytest.approx(upright(yaw), abs=1e-3)


def test_the_devkit_loads_loops_projects_and_renders(exported: Path) -> None:
    try:
        python = tool("nuscenes", "python")
    except TransientError:
        pytest.skip("the devkit cannot be installed: the package registry cannot be reached")
    picture = exported / "rendered.png"
    script = Path(__file__).with_name("devkit_reads.py")
    variables = tool_variables(MPLCONFIGDIR=str(exported / "matplotlib"))
    run = subprocess.run(
        [str(python), str(script), str(exported / "out"), str(picture)],
        capture_output=True,
        text=True,
        env=variables,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    tables = found["tables"]
    assert (tables["scene"], tables["sample"], tables["sample_data"]) == (2, 22, 44)
    assert (tables["instance"], tables["sample_annotation"]) == (6, 66)
    assert (tables["category"], tables["visibility"], tables["attribute"]) == (3, 4, 0)
    assert len(found["boxes"]) == 66
    assert set(found["points"]) == {200}
    # Things that stand still stand still, for a devkit that computes velocities from global places.
    assert max(found["velocity"]) < 0.1
    placed = {name: (east, north, height / 2) for name, east, north, _, _, _, height in _things()}
    for _, timestamp, category, translation, visibility, corners in found["boxes"]:
        assert translation == pytest.approx(placed[category], abs=0.03)
        assert visibility == {"vehicle.car": "3", "human.pedestrian.adult": "4"}.get(category, "")
        assert corners == pytest.approx(_seen(category, timestamp), abs=1.0)
    assert picture.stat().st_size > 1000


def _things() -> list[tuple]:  # type: ignore[type-arg]
    named = {
        "vehicle": "vehicle.car",
        "pedestrian": "human.pedestrian.adult",
        "cone": "movable_object.trafficcone",
    }
    return [(named[t[0]], *t[1:]) for label_id, t in THINGS.items() if label_id not in LEFT_OUT]


def _seen(category: str, timestamp_us: int) -> list[float]:
    """The box of the thing at the moment of the picture, which is later than that of the sweep."""
    label_id = {"vehicle.car": "auto-0001", "human.pedestrian.adult": "auto-0002"}.get(category, "auto-0003")
    seconds = (timestamp_us * 1000 - START_NS + DELAY_NS) / 1e9
    pixels, _ = project(corners_ego(cuboid_at(label_id, seconds)), VIEW)
    return [*pixels.min(0), *pixels.max(0)]


def test_a_drive_that_never_measured_its_motion_is_left_out(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    cuboids = make_dataset(tmp_path, {"veh001-a": "test"})
    for clip in (tmp_path / "dataset" / "drives" / "veh001-a" / "clips").iterdir():
        pq.write_table(pq.read_table(clip).drop_columns(["signals"]), clip)
    with pytest.raises(DatasetError, match="its motion was not measured") as refused:
        export_dataset(tmp_path / "dataset", "nuscenes", tmp_path / "out", ("test",), cuboids, POLICY)
    assert refused.value.code == "empty_export"


def test_without_cuboids_the_tables_are_whole_and_empty_of_boxes(tmp_path: Path) -> None:
    make_dataset(tmp_path, {"veh001-a": "test"})
    report = export_dataset(tmp_path / "dataset", "nuscenes", tmp_path / "out", ("test",), {}, POLICY)
    assert (report["cuboids"], report["boxes_without_cuboid"]) == ("0 of 1 drives have cuboids", 44)
    assert json.loads((tmp_path / "out" / "v1.0-av" / "sample_annotation.json").read_text()) == []


def test_a_label_twice_in_a_frame_is_one_annotation_and_one_box_that_is_counted(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    cuboids = make_dataset(tmp_path, {"veh001-a": "test"})
    labels = tmp_path / "dataset" / "drives" / "veh001-a" / "labels.parquet"
    table = pq.read_table(labels)
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), labels)
    report = export_dataset(tmp_path / "dataset", "nuscenes", tmp_path / "out", ("test",), cuboids, POLICY)
    assert (report["boxes"], report["boxes_without_cuboid"]) == (45, 12)
    rows = json.loads((tmp_path / "out" / "v1.0-av" / "sample_annotation.json").read_text())
    assert len({row["token"] for row in rows}) == len(rows) == 33
