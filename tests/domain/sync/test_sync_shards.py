"""Files of clips: keyframes, row groups, compression, the table without payloads, the same bytes again."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.errors import SyncError
from av_assets.domain.evidence.digests import sha256_file
from av_assets.domain.logs.reader import LogReader
from av_assets.domain.sync.frames import CameraFrames
from av_assets.domain.sync.frames_table import FRAMES_SCHEMA, frames_table
from av_assets.domain.sync.shards import keyframes
from av_assets.domain.sync.synchronize import SyncSummary, synchronize_drive
from tests.domain.sync.sync_runs import POLICY, Only, sync, table

if TYPE_CHECKING:
    from pathlib import Path

    from tests.domain.sync.conftest import Drive


def test_keyframes_stand_half_a_second_apart_and_first_in_every_clip(
    synced: tuple[SyncSummary, Path],
) -> None:
    for path in (synced[1] / "clips").iterdir():
        assert pq.read_table(path)["keyframe"].to_pylist() == [n in (0, 5) for n in range(10)]


@given(st.lists(st.integers(0, 5000), min_size=1, unique=True).map(sorted), st.integers(1, 900))
def test_no_frame_is_farther_from_the_keyframe_before_it_than_two_spacings(
    times: list[int], every: int
) -> None:
    ref_ns = np.array(times, np.int64)
    chosen = keyframes(ref_ns, every)
    assert chosen[0]
    windows = (ref_ns - ref_ns[0]) // every
    assert chosen.sum() == len(np.unique(windows))
    last = ref_ns[np.maximum.accumulate(np.where(chosen, np.arange(len(ref_ns)), 0))]
    assert ((ref_ns - last) < every).all()


def test_a_large_clip_has_several_row_groups_in_order(drive: Drive, tmp_path: Path) -> None:
    sync(drive, tmp_path, row_group_bytes=1 << 20)
    clip = pq.ParquetFile(tmp_path / "clips" / "00000.parquet")
    assert clip.num_row_groups > 1
    assert clip.schema_arrow.metadata[b"schema_version"] == b"2"
    column = clip.metadata.schema.names.index("ref_ns")
    bounds = [clip.metadata.row_group(g).column(column).statistics for g in range(clip.num_row_groups)]
    assert all(a.max < b.min for a, b in itertools.pairwise(bounds))


def test_frames_without_payloads_fit_one_table_for_every_drive(
    drive: Drive, synced: tuple[SyncSummary, Path], tmp_path: Path
) -> None:
    frames = frames_table(synced[1])
    assert frames.schema.equals(FRAMES_SCHEMA)
    whole = table(synced[1])
    for name in ("clip_id", "frame_index", "ref_ns", "keyframe"):
        assert frames[name].to_pylist() == whole[name].to_pylist()
    for row, (sensors, rear) in enumerate(
        zip(frames["sensors"].to_pylist(), whole["camera_rear"].to_pylist(), strict=True)
    ):
        assert [s["role"] for s in sensors] == ["camera_front", "camera_rear", "lidar_top", "radar_front"]
        assert {k: sensors[1][k] for k in ("valid", "sensor_ns", "log_ns", "delta_ns")} == {
            k: rear[k] for k in ("valid", "sensor_ns", "log_ns", "delta_ns")
        }, row
    with LogReader(drive.folder) as reader:
        some: Any = Only(reader, ("/imu",))
        synchronize_drive(some, drive.spec, None, POLICY, tmp_path, None, drive.folder)
    assert frames_table(tmp_path)["sensors"].to_pylist() == [[]] * len(table(tmp_path))
    assert frames_table([]).schema.equals(FRAMES_SCHEMA)
    with pytest.raises(SyncError) as caught:
        frames_table([drive.redacted / "camera_front" / "00000.parquet"])
    assert caught.value.code == "bad_clip"


def test_payloads_are_stored_as_they_are_and_the_rest_is_compressed(synced: tuple[SyncSummary, Path]) -> None:
    group = pq.ParquetFile(synced[1] / "clips" / "00000.parquet").metadata.row_group(0)
    codecs = {group.column(i).path_in_schema: group.column(i).compression for i in range(group.num_columns)}
    assert codecs["camera_front.data"] == codecs["lidar_top.points"] == "UNCOMPRESSED"
    assert (
        codecs["ref_ns"]
        == codecs["signals.speed_mps"]
        == codecs["radar_front.tracks.list.element.x_m"]
        == "ZSTD"
    )


def test_a_second_run_gives_the_same_bytes(
    drive: Drive, synced: tuple[SyncSummary, Path], tmp_path: Path
) -> None:
    sync(drive, tmp_path)
    first = {p.relative_to(synced[1]): sha256_file(p) for p in synced[1].rglob("*") if p.is_file()}
    second = {p.relative_to(tmp_path): sha256_file(p) for p in tmp_path.rglob("*") if p.is_file()}
    assert first == second
    assert {str(path) for path in first} >= {"sync_report.json", "residuals.png", "calibration.json"}


def test_parts_of_a_camera_are_one_sequence(
    drive: Drive, synced: tuple[SyncSummary, Path], tmp_path: Path
) -> None:
    """As redaction leaves them after an interruption, or for a long drive: many small parts."""
    for role in ("camera_front", "camera_rear"):
        rows = pq.read_table(drive.redacted / role / "00000.parquet")
        (tmp_path / "parts" / role).mkdir(parents=True)
        for number, at in enumerate(range(0, rows.num_rows, 7)):
            pq.write_table(
                rows.slice(at, 7), tmp_path / "parts" / role / f"{number:05d}.parquet", row_group_size=3
            )
    out = tmp_path / "out"
    with LogReader(drive.folder) as reader:
        policy = POLICY.model_copy(update={"clip_s": 1.0})
        synchronize_drive(reader, drive.spec, tmp_path / "parts", policy, out, None, drive.folder)
    assert table(out).equals(table(synced[1]))


def test_frames_can_be_taken_in_any_order_from_any_parts(drive: Drive, tmp_path: Path) -> None:
    rows = pq.read_table(drive.redacted / "camera_front" / "00000.parquet")
    (tmp_path / "camera_front").mkdir()
    for number, at in enumerate(range(0, 30, 4)):
        part = rows.slice(at, 4)
        pq.write_table(part, tmp_path / "camera_front" / f"{number:05d}.parquet", row_group_size=3)
    frames = CameraFrames(tmp_path, "camera_front")
    data = rows["data"].to_pylist()
    for index in ([3, 4, 5], [29, 0, -1, 13, 13], [-1, -1], list(range(30)), [7]):
        taken = frames.take(np.array(index, np.int64))["data"].to_pylist()
        assert taken == [None if i < 0 else data[i] for i in index]
    frames.close()
