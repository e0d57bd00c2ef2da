from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scripted_camera import encoded, picture

from av_assets.domain.errors import RedactionError
from av_assets.domain.privacy.contact_sheet import contact_sheet, spread
from av_assets.domain.privacy.frames import (
    ClipRow,
    ClipWriter,
    RedactedFrame,
    frames_from_shard,
    read_redacted_clips,
    redacted_parts,
)

if TYPE_CHECKING:
    from pathlib import Path


def clips(path: Path, stamps: list[int]) -> Path:
    with ClipWriter(path) as writer:
        for stamp in stamps:
            data = encoded(picture(stamp % 7))
            writer.write(ClipRow(stamp, stamp + 1, "jpeg", data, 0, f"{stamp:064x}"))
    return path


def test_no_frame_is_made_of_raw_bytes():
    with pytest.raises(RedactionError, match="made by redaction only"):
        RedactedFrame("camera_front", 1, "jpeg", b"raw")
    with pytest.raises(RedactionError):
        RedactedFrame("camera_front", 1, "jpeg", b"raw", token=object())


def test_no_frame_is_changed_or_smuggled(tmp_path: Path):
    frame = next(read_redacted_clips(clips(tmp_path / "camera_front.parquet", [5]), "camera_front"))
    with pytest.raises(AttributeError):
        frame.data = b"raw"  # type: ignore[misc]
    with pytest.raises(RedactionError):
        pickle.dumps(frame)
    with pytest.raises(RedactionError):
        copy.copy(frame)


def test_foreign_parquet_is_refused(tmp_path: Path):
    pq.write_table(
        pa.table({"sensor_ns": [1], "encoding": ["jpeg"], "data": [b"raw"]}), tmp_path / "x.parquet"
    )
    with pytest.raises(RedactionError) as caught:
        list(read_redacted_clips(tmp_path / "x.parquet", "camera_front"))
    assert caught.value.code == "unredacted_file"


def test_frames_come_back_in_time_order_over_many_row_groups(tmp_path: Path):
    stamps = np.random.default_rng(1).permutation(300).tolist()
    frames = list(read_redacted_clips(clips(tmp_path / "a.parquet", stamps), "camera_front"))
    assert [f.sensor_ns for f in frames] == sorted(stamps)
    assert all(f.data == encoded(picture(f.sensor_ns % 7)) for f in frames)
    assert [p.name for p in tmp_path.iterdir()] == ["a.parquet"]


def test_same_rows_give_the_same_bytes(tmp_path: Path):
    first, second = (clips(tmp_path / name, [3, 1, 2]) for name in ("a.parquet", "b.parquet"))
    assert first.read_bytes() == second.read_bytes()


def test_pictures_are_not_copied_into_the_footer(tmp_path: Path):
    path = clips(tmp_path / "a.parquet", [1])
    assert pq.read_metadata(path).row_group(0).column(3).statistics is None


def test_shard_rows_without_a_frame_are_none():
    cell = {"data": encoded(picture()), "encoding": "jpeg", "sensor_ns": 7, "valid": True}
    missing = {"data": None, "encoding": None, "sensor_ns": None, "valid": False}
    table = pa.table({"camera_front": [cell, missing, None]}).replace_schema_metadata({"redacted": "true"})
    first, *rest = frames_from_shard(table, "camera_front")
    assert first is not None
    assert (first.sensor_ns, first.pixels().shape) == (7, (96, 160, 3))
    assert rest == [None, None]
    with pytest.raises(RedactionError):
        list(frames_from_shard(table, "camera_rear"))
    with pytest.raises(RedactionError, match="unredacted_file"):
        list(frames_from_shard(table.replace_schema_metadata(None), "camera_front"))


def test_thumbnails_keep_the_aspect(tmp_path: Path):
    frame = next(read_redacted_clips(clips(tmp_path / "a.parquet", [5]), "camera_front"))
    small = cv2.imdecode(np.frombuffer(frame.thumbnail(80), np.uint8), cv2.IMREAD_COLOR)
    assert small.shape == (48, 80, 3)


def test_single_rows_are_read_without_the_others(tmp_path: Path):
    path = clips(tmp_path / "a.parquet", list(range(200)))
    assert [f.sensor_ns for f in read_redacted_clips(path, "camera_front", {3, 64, 199})] == [3, 64, 199]


def test_parts_come_in_order(tmp_path: Path):
    (tmp_path / "camera_front").mkdir()
    for name in ("00010", "00002", "notes"):
        (tmp_path / "camera_front" / f"{name}.parquet").touch()
    names = [p.stem for p in redacted_parts(tmp_path, "camera_front")]
    assert names == ["00002", "00010"]
    assert redacted_parts(tmp_path, "camera_rear") == []


def test_contact_sheet_takes_redacted_frames_only(tmp_path: Path):
    parts = {
        role: [clips(tmp_path / f"{role}{k}.parquet", list(range(k * 20, k * 20 + 20))) for k in range(2)]
        for role in ("camera_front", "camera_rear")
    }
    frames = spread({**parts, "camera_left": []}, 6)
    assert [f.role for f in frames] == ["camera_front"] * 3 + ["camera_rear"] * 3
    assert [f.sensor_ns for f in frames[:3]] == [7, 21, 35]
    sheet = contact_sheet(frames)
    assert sheet.startswith(b"\x89PNG")
    assert sheet == contact_sheet(frames)
    with pytest.raises(RedactionError):
        contact_sheet([encoded(picture())])  # type: ignore[list-item]
