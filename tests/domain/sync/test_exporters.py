"""Shards exported and read back by the official readers: the same pictures, points, times and signals."""

from __future__ import annotations

import gc
import hashlib
import io
import json
import resource
import shutil
import tarfile
import warnings
import weakref
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset as wds
import zarr
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from av_assets.domain.errors import LogError, SyncError, TransientError
from av_assets.domain.geometry.calibration import Calibration, CameraCalibration, LidarCalibration
from av_assets.domain.geometry.transforms import quaternions_to_matrices, se3
from av_assets.domain.logs.inspect import inspect_log
from av_assets.domain.logs.payloads import image_payload
from av_assets.domain.logs.reader import LogReader, header_stamp_ns
from av_assets.domain.sync.exporters.clips import Clip, Shards
from av_assets.domain.sync.exporters.mcap_export import export_mcap
from av_assets.domain.sync.exporters.webdataset_export import export_webdataset
from av_assets.domain.sync.exporters.zarr_export import _CHUNK_BYTES, export_zarr
from av_assets.domain.sync.shards import (
    Times,
    clip_path,
    clip_table,
    keyframes,
    points_column,
    signals_column,
    struct_column,
    tracks_column,
    write_clip,
)
from av_assets.domain.sync.tracks import Track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

DRIVE = "veh001-20250601t080000z"
START_NS = 1_750_000_000_000_000_000
ROWS, CLIPS = 10, 3
FRAMES = ROWS * CLIPS
SIGNALS = ("speed_mps", "Steering.Angle [deg]", "header", "2nd")
ROTATED = se3(quaternions_to_matrices([0.5, -0.5, 0.5, -0.5]), [1.5, 0.2, 1.4]).tolist()
CALIBRATION = Calibration(
    cameras={
        "camera_front": CameraCalibration(
            width=32, height=24, K=((20.0, 0, 16), (0, 21.0, 12), (0, 0, 1)), D=(0.1, 0.01),
            ego_SE3_camera=ROTATED,
        )
    },
    lidars={"lidar_top": LidarCalibration(ego_SE3_lidar=se3(np.eye(3), [0, 0, 1.8]).tolist())},
    source="log",
)  # fmt: skip


def jpeg(row: int) -> bytes:
    pixels = np.random.default_rng(row).integers(0, 255, (24, 32, 3), np.uint8)
    return bytes(cv2.imencode(".jpg", pixels)[1])


def access_unit(row: int) -> bytes:
    return b"\0\0\0\1\x67" + bytes([row]) * (50 + row)


def cloud(row: int) -> NDArray[np.float32]:
    points = np.random.default_rng(row).normal(0, 10, (row * 7 % 40, 4)).astype("<f4")
    points[:1] = np.nan
    return points


def tracks(row: int) -> list[Track]:
    return [Track(i, row + 0.5, i - 1.0, 0.25, -0.5) for i in range(row % 4)]


def signal(name: str, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.where(rows % 5 == 0, np.nan, rows * 0.5 + len(name))


def picture_column(
    rows: range, every: int, encode: Callable[[int], bytes], encoding: str
) -> dict[str, pa.Array]:
    present = [encode(row) if row % every == 0 else None for row in rows]
    names = [encoding if data else None for data in present]
    return {"data": pa.array(present, pa.binary()), "encoding": pa.array(names, pa.string())}


def times(rows: NDArray[np.int64], delay_ns: int, valid: Any = None) -> Times:
    sensor_ns = START_NS + rows * 100_000_000 + delay_ns
    found = np.ones(len(rows), np.bool_) if valid is None else np.asarray(valid)
    return Times(sensor_ns, sensor_ns + 5_000_000, np.full(len(rows), delay_ns, np.int64), found)


def write_shards(folder: Path) -> Path:
    """Two cameras, a video, a lidar whose last sweep of a clip stands in two rows, a radar, signals."""
    for number in range(CLIPS):
        span = range(number * ROWS, (number + 1) * ROWS)
        rows = np.array(span, np.int64)
        swept = np.minimum(rows, span[-2])
        columns = {
            "camera_front": struct_column(picture_column(span, 1, jpeg, "jpeg"), times(rows, 50)),
            "camera_rear": struct_column(
                picture_column(span, 2, jpeg, "png"), times(rows, 60, rows % 2 == 0)
            ),
            "camera_side": struct_column(picture_column(span, 1, access_unit, "h264"), times(rows, 70)),
            "lidar_top": struct_column(points_column([cloud(int(row)) for row in swept]), times(swept, 0)),
            "radar_front": struct_column(
                tracks_column([None if row % 3 == 2 else tracks(row) for row in span]),
                times(rows, -20, rows % 3 != 2),
            ),
            "signals": signals_column({name: signal(name, rows) for name in SIGNALS}),
            "weather": pa.array([{"rain": 1.0}] * ROWS),
        }
        ref_ns = START_NS + rows * 100_000_000
        table = clip_table(DRIVE, number, span.start, ref_ns, keyframes(ref_ns, 500_000_000), columns)
        write_clip(table, clip_path(folder, number), 3, 1, 1 << 14)
    CALIBRATION.save(folder / "calibration.json")
    (folder / "sync_report.json").write_text(json.dumps({"policy": "p" * 64, "more": 1}))
    return folder


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("shards"))


def valid_rows(role: str) -> list[int]:
    step = {"camera_rear": lambda r: r % 2 == 0, "radar_front": lambda r: r % 3 != 2}.get(
        role, lambda _: True
    )
    return [row for row in range(FRAMES) if step(row)]


SWEEPS = [row for row in range(FRAMES) if row % ROWS != ROWS - 1]  # the last one is a repetition


@pytest.fixture(scope="module")
def mcap(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mcap") / "drive.mcap"
    counts = export_mcap(shards, out)
    assert counts == {
        "/camera_front/camera_info": FRAMES,
        "/camera_front/image/compressed": FRAMES,
        "/camera_rear/image/compressed": FRAMES // 2,
        "/camera_side/video": FRAMES,
        "/lidar_top/points": len(SWEEPS),
        "/radar_front/tracks": FRAMES * 2 // 3,
        "/signals": FRAMES,
        "/tf_static": 1,
    }
    return out


def decoded(path: Path) -> dict[str, list[tuple[int, Any]]]:
    found: dict[str, list[tuple[int, Any]]] = {}
    with AnyReader([path], default_typestore=get_typestore(Stores.EMPTY)) as reader:
        for connection, log_ns, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            found.setdefault(connection.topic, []).append((log_ns, message))
    return found


def stamp_of(message: Any) -> int:
    stamp = message.header.stamp
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)


def test_an_exported_mcap_is_whole_for_every_reader(mcap: Path) -> None:
    verdict = inspect_log(mcap)
    assert (verdict.state, verdict.messages) == ("ok", sum(t.count for t in verdict.topics.values()))
    with mcap.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        assert sum(1 for _ in reader.iter_messages()) == verdict.messages
        assert reader.get_header().profile == "ros2"
        (record,) = reader.iter_metadata()
    assert record.metadata["drive"] == DRIVE
    assert record.metadata["policy"] == "p" * 64
    assert {v for k, v in record.metadata.items() if k.startswith("signal.")} == {
        "Steering.Angle [deg]", "header", "2nd",
    }  # fmt: skip


def test_pictures_in_mcap_are_the_bytes_of_the_shards(mcap: Path) -> None:
    with LogReader(mcap) as reader:
        for role, delay_ns, encode in (("camera_front", 50, jpeg), ("camera_rear", 60, jpeg)):
            found = [image_payload(raw) for raw in reader.messages([f"/{role}/image/compressed"])]
            assert [bytes(one.data) for one in found] == [encode(row) for row in valid_rows(role)]
            assert [one.sensor_ns for one in found] == [
                START_NS + row * 100_000_000 + delay_ns for row in valid_rows(role)
            ]
        raws = list(reader.messages(["/camera_side/video"]))
        assert [bytes(image_payload(raw).data) for raw in raws] == [access_unit(row) for row in range(FRAMES)]
        assert {image_payload(raw).encoding for raw in raws} == {"h264"}
        assert [raw.log_ns - (header_stamp_ns(raw) or 0) for raw in raws] == [5_000_000] * FRAMES


def test_points_tracks_and_signals_in_mcap_are_those_of_the_shards(mcap: Path) -> None:
    found = decoded(mcap)
    for row, (_, message) in zip(SWEEPS, found["/lidar_top/points"], strict=True):
        points = np.frombuffer(message.data.tobytes(), "<f4").reshape(-1, 4)
        assert points.tobytes() == cloud(row).tobytes()
        assert (message.width, message.header.frame_id) == (len(points), "lidar_top")
        assert [field.name for field in message.fields] == ["x", "y", "z", "intensity"]
        assert stamp_of(message) == START_NS + row * 100_000_000
    for row, (_, message) in zip(valid_rows("radar_front"), found["/radar_front/tracks"], strict=True):
        assert [(t.track_id, t.x_m, t.y_m, t.vx_mps, t.vy_mps) for t in message.tracks] == tracks(row)
        assert message.header.frame_id == "base_link"
    names = {"speed_mps": "speed_mps", "Steering.Angle [deg]": "steering_angle_deg", "header": "s_header",
             "2nd": "s_2nd"}  # fmt: skip
    for name, field in names.items():
        values = [getattr(message, field) for _, message in found["/signals"]]
        np.testing.assert_array_equal(values, signal(name, np.arange(FRAMES)))
    assert [message.frame_index for _, message in found["/signals"]] == list(range(FRAMES))
    assert [message.keyframe for _, message in found["/signals"]] == [row % 5 == 0 for row in range(FRAMES)]


def test_calibration_in_mcap_is_that_of_the_shards(mcap: Path) -> None:
    found = decoded(mcap)
    _, info = found["/camera_front/camera_info"][0]
    camera = CALIBRATION.cameras["camera_front"]
    np.testing.assert_array_equal(info.k.reshape(3, 3), np.array(camera.K))
    assert (info.d.tolist(), info.width, info.height) == ([0.1, 0.01, 0, 0, 0], 32, 24)
    ((_, message),) = found["/tf_static"]
    poses = {one.child_frame_id: one.transform for one in message.transforms}
    assert set(poses) == {"camera_front", "lidar_top"}
    q, t = poses["camera_front"].rotation, poses["camera_front"].translation
    pose = se3(quaternions_to_matrices([q.x, q.y, q.z, q.w]), [t.x, t.y, t.z])
    np.testing.assert_allclose(pose, ROTATED, atol=1e-12)


def tar_samples(tars: list[Path]) -> list[dict[str, Any]]:
    """As webdataset reads them, which leaves its files to the garbage collector."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        found = list(wds.WebDataset([str(path) for path in tars], shardshuffle=False, empty_check=False))
        gc.collect()
    return found


def test_tar_samples_are_the_rows_of_the_shards(shards: Path, tmp_path: Path) -> None:
    index = export_webdataset(shards, tmp_path / "wds", max_tar_bytes=60_000)
    assert len(index["tars"]) > 2
    assert index["samples"] == FRAMES
    tars = [tmp_path / "wds" / entry["file"] for entry in index["tars"]]
    for path, entry in zip(tars, index["tars"], strict=True):
        assert path.stat().st_size == entry["bytes"] <= 60_000
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
    samples = tar_samples(tars)
    assert [sample["__key__"] for sample in samples] == [f"{DRIVE}-{row:06d}" for row in range(FRAMES)]
    for row, sample in enumerate(samples):
        about = json.loads(sample["json"])
        assert sample["camera_front.jpg"] == jpeg(row)
        assert ("camera_rear.png" in sample) == (row % 2 == 0)
        assert sample["camera_side.h264"] == access_unit(row)
        swept = row - (row % ROWS == ROWS - 1)
        points = np.load(io.BytesIO(sample["lidar_top.points.npy"]))
        assert (points.dtype, points.tobytes()) == (np.float32, cloud(swept).tobytes())
        assert about["keyframe"] == (row % 5 == 0)
        assert (about["frame_index"], about["ref_ns"]) == (row, START_NS + row * 100_000_000)
        assert about["sensors"]["camera_front"] == {
            "sensor_ns": START_NS + row * 100_000_000 + 50,
            "log_ns": START_NS + row * 100_000_000 + 5_000_050,
            "delta_ns": 50,
            "valid": True,
        }
        assert about["sensors"]["camera_rear"]["valid"] == (row % 2 == 0)
        if row % 3 == 2:
            assert about["tracks"]["radar_front"] is None
        else:
            assert about["tracks"]["radar_front"] == [track._asdict() for track in tracks(row)]
        expected = None if row % 5 == 0 else row * 0.5 + len("speed_mps")
        assert about["signals"]["speed_mps"] == expected
    assert Calibration.load(tmp_path / "wds" / "calibration.json") == CALIBRATION


def test_tar_headers_hold_names_and_sizes_only(shards: Path, tmp_path: Path) -> None:
    index = export_webdataset(shards, tmp_path / "wds")
    with tarfile.open(tmp_path / "wds" / index["tars"][0]["file"]) as tar:
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar} == {(0, 0, 0, "", "", 0o644)}


def test_a_sample_beyond_the_bound_is_refused(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(SyncError) as error:
        export_webdataset(shards, tmp_path / "wds", max_tar_bytes=12_000)
    assert error.value.code == "sample_too_large"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("small", [False, True])
def test_zarr_arrays_are_the_columns_of_the_shards(
    shards: Path, tmp_path: Path, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if small:  # many shards, of which clips fill parts
        monkeypatch.setattr("av_assets.domain.sync.exporters.zarr_export._SMALL_CHUNK_BYTES", 8)
        monkeypatch.setattr("av_assets.domain.sync.exporters.zarr_export._CHUNKS_PER_SHARD", 3)
        for name in _CHUNK_BYTES:
            monkeypatch.setitem(_CHUNK_BYTES, name, 100)
    shapes = export_zarr(shards, tmp_path / "drive.zarr")
    root = zarr.open_group(tmp_path / "drive.zarr", mode="r")
    assert root.metadata.zarr_format == 3
    assert (root.attrs["drive"], root.attrs["policy"], root.attrs["redacted"]) == (DRIVE, "p" * 64, True)
    assert Calibration.model_validate(root.attrs["calibration"]) == CALIBRATION
    rows = np.arange(FRAMES)
    np.testing.assert_array_equal(root["ref_ns"][:], START_NS + rows * 100_000_000)
    np.testing.assert_array_equal(root["clip"][:], rows // ROWS)
    np.testing.assert_array_equal(root["keyframe"][:], rows % 5 == 0)
    for role, encode in (("camera_front", jpeg), ("camera_rear", jpeg), ("camera_side", access_unit)):
        group = root[role]
        data, offsets = group["data"], group["offsets"][:]
        assert data.shards is not None
        names = [group.attrs["encodings"][code] for code in group["encoding"][:]]
        for row in range(FRAMES):
            expected = encode(row) if row in valid_rows(role) else b""
            assert bytes(data[offsets[row] : offsets[row + 1]]) == expected
            assert bool(names[row]) == bool(expected)
            assert bool(group["valid"][row]) == bool(expected)
        assert offsets[-1] == data.shape[0] == shapes[f"{role}/data"][0]
    group = root["lidar_top"]
    offsets, points = group["offsets"][:], group["points"][:]
    for row in range(FRAMES):
        swept = row - (row % ROWS == ROWS - 1)
        assert points[offsets[row] : offsets[row + 1]].tobytes() == cloud(swept).tobytes()
        assert group["sensor_ns"][row] == START_NS + swept * 100_000_000
    group = root["radar_front"]
    offsets = group["offsets"][:]
    for row in range(FRAMES):
        inside = slice(int(offsets[row]), int(offsets[row + 1]))
        found = [Track(int(i), *map(float, rest)) for i, rest in
                 zip(group["track_id"][inside], group["tracks"][inside], strict=True)]  # fmt: skip
        assert found == (tracks(row) if row in valid_rows("radar_front") else [])
    for name in SIGNALS:
        np.testing.assert_array_equal(root["signals"][name][:], signal(name, rows))
    assert np.array_equal(root["camera_front"]["delta_ns"][:], np.full(FRAMES, 50))


EXPORTERS: dict[str, Callable[..., Any]] = {
    "mcap": export_mcap, "webdataset": export_webdataset, "zarr": export_zarr,
}  # fmt: skip


def files_of(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


@pytest.fixture(params=EXPORTERS)
def export(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return EXPORTERS[request.param]


def test_equal_shards_give_equal_bytes(export: Callable[..., Any], shards: Path, tmp_path: Path) -> None:
    export(shards, tmp_path / "one")
    export(shards, tmp_path / "two")
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_an_output_is_never_overwritten_unasked(
    export: Callable[..., Any], shards: Path, tmp_path: Path
) -> None:
    export(shards, tmp_path / "out")
    before = files_of(tmp_path / "out")
    with pytest.raises(LogError) as error:
        export(shards, tmp_path / "out")
    assert error.value.code == "output_exists"
    export(shards, tmp_path / "out", overwrite=True)
    assert files_of(tmp_path / "out") == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_leaves_nothing_behind(export: Callable[..., Any], shards: Path, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(TransientError) as error:
            export(shards, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.value.code == "disk_full"
    assert not list(tmp_path.iterdir())


def test_broken_and_absent_shards_are_named(export: Callable[..., Any], shards: Path, tmp_path: Path) -> None:
    with pytest.raises(SyncError) as error:
        export(tmp_path, tmp_path / "out")
    assert error.value.code == "no_shards"
    shutil.copytree(shards, tmp_path / "cut")
    last = clip_path(tmp_path / "cut", CLIPS - 1)
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(SyncError) as error:
        export(tmp_path / "cut", tmp_path / "out")
    assert (error.value.code, error.value.file) == ("bad_shard", str(last))
    pq.write_table(pa.table({"a": [1]}), clip_path(tmp_path / "cut", 0))
    with pytest.raises(SyncError) as error:
        export(tmp_path / "cut", tmp_path / "out")
    assert error.value.code == "bad_shard"
    assert [path.name for path in tmp_path.iterdir()] == ["cut"]


def test_shards_without_sensors_are_exported(export: Callable[..., Any], tmp_path: Path) -> None:
    ref_ns = START_NS + np.arange(3) * 10
    table = clip_table(DRIVE, 0, 0, ref_ns, keyframes(ref_ns, 10), {})
    write_clip(table, clip_path(tmp_path / "bare", 0), 3, 1, 1 << 20)
    export(tmp_path / "bare", tmp_path / "out")
    assert (tmp_path / "out").exists()


def test_one_clip_is_in_memory_at_a_time(
    export: Callable[..., Any], shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[weakref.ref[Clip]] = []
    most: list[int] = []
    clips = Shards.clips

    def watched(self: Shards) -> Iterator[Clip]:
        for clip in clips(self):
            alive.append(weakref.ref(clip))
            most.append(sum(one() is not None for one in alive))
            yield clip
            del clip

    monkeypatch.setattr(Shards, "clips", watched)
    export(shards, tmp_path / "out")
    assert len(most) == CLIPS
    assert max(most) <= 2  # the one that comes, and the one that the loop still names


def test_a_synchronized_drive_is_exported(
    export: Callable[..., Any], synced: tuple[Any, Path], tmp_path: Path
) -> None:
    """Shards as synchronization writes them: counts of the report against counts of the export."""
    summary, folder = synced
    counts = export(folder, tmp_path / "out")
    matched = {role: stream["matched"] for role, stream in summary.report["streams"].items()}
    if export is export_mcap:
        assert inspect_log(tmp_path / "out").state == "ok"
        assert counts["/camera_front/image/compressed"] == matched["camera_front"]
        assert counts["/camera_rear/image/compressed"] == counts["/camera_rear/camera_info"]
        assert counts["/signals"] == summary.frames
    elif export is export_webdataset:
        assert counts["samples"] == summary.frames
    else:
        root = zarr.open_group(tmp_path / "out", mode="r")
        assert {role: int(root[role]["valid"][:].sum()) for role in matched} == matched
