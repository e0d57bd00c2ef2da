"""Byte ranges of cells are those of pyarrow, for whatever it writes; damage is a typed error."""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_shards import COLUMNS, row_of, write_shard

from av_assets.domain.errors import AvError, DatasetError, RedactionError
from av_assets.domain.loading.pages import ABSENT, Chunk, cell_ranges, run_lengths
from av_assets.domain.loading.shard_file import TRACK, GroupCache, ShardFile

CELLS = st.lists(
    st.one_of(st.none(), st.fixed_dictionaries({"data": st.one_of(st.none(), st.binary(max_size=300))})),
    min_size=1,
    max_size=60,
)


def ranges_of(data: bytes, leaf: str) -> np.ndarray | None:
    metadata = pq.ParquetFile(io.BytesIO(data)).metadata
    paths = [metadata.schema.column(c).path for c in range(metadata.num_columns)]
    number, found = paths.index(leaf), []

    def read(start: int, length: int) -> bytes:
        if start + length > len(data):
            raise ValueError("too short")
        return data[start : start + length]

    for group in range(metadata.num_row_groups):
        chunk = metadata.row_group(group).column(number)
        level = metadata.schema.column(number).max_definition_level
        rows = metadata.row_group(group).num_rows
        ranges = cell_ranges(read, Chunk(chunk.data_page_offset, chunk.total_compressed_size, rows, level))
        if ranges is None:
            return None
        found.append(ranges)
    return np.concatenate(found)


@given(
    CELLS, st.integers(1, 70), st.integers(1, 2000), st.sampled_from(["1.0", "2.0"]), st.integers(1, 20),
    st.booleans(), st.booleans(),
)  # fmt: skip
@settings(max_examples=200)
def test_ranges_are_the_cells(
    cells: list[dict[str, bytes | None] | None], group: int, page: int, version: str, batch: int,
    statistics: bool, checksums: bool,
) -> None:  # fmt: skip
    column = pa.array(cells, pa.struct([pa.field("data", pa.binary())]))
    sink = io.BytesIO()
    pq.write_table(
        pa.table({"camera": column}), sink, row_group_size=group, data_page_size=page, data_page_version=version,
        write_batch_size=batch, write_statistics=statistics, write_page_checksum=checksums, compression="none",
        use_dictionary=False,
    )  # fmt: skip
    data = sink.getvalue()
    ranges = ranges_of(data, "camera.data")
    assert ranges is not None
    found = [None if n == ABSENT else data[start : start + n] for start, n in ranges.tolist()]
    assert found == [None if cell is None else cell["data"] for cell in cells]


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=40), st.sampled_from(["1.0", "2.0"]))
def test_columns_that_are_never_null(cells: list[bytes], version: str) -> None:
    schema = pa.schema([pa.field("data", pa.binary(), nullable=False)])
    sink = io.BytesIO()
    table = pa.table({"data": pa.array(cells, pa.binary())}, schema=schema)
    pq.write_table(table, sink, data_page_version=version, compression="none", use_dictionary=False)
    ranges = ranges_of(sink.getvalue(), "data")
    assert ranges is not None
    assert [sink.getvalue()[start : start + n] for start, n in ranges.tolist()] == cells


def test_other_encodings_are_left_to_pyarrow() -> None:
    sink = io.BytesIO()
    pq.write_table(
        pa.table({"data": [b"a", b"b"]}), sink, compression="none", use_dictionary=False,
        column_encoding={"data": "DELTA_BYTE_ARRAY"},
    )  # fmt: skip
    assert ranges_of(sink.getvalue(), "data") is None


@given(st.binary(max_size=64), st.integers(0, 200), st.integers(1, 5))
@settings(max_examples=300)
def test_levels_of_any_bytes_end(data: bytes, count: int, most: int) -> None:
    try:
        levels = run_lengths(data, count, most)
    except (ValueError, IndexError):
        return
    assert len(levels) == count
    assert count == 0 or levels.max() <= most


def expected(row: dict[str, Any]) -> tuple[Any, ...]:
    camera, lidar, radar = (row[role] if row[role] and row[role]["valid"] else None for role in COLUMNS)
    return (
        camera and (camera["data"], camera["sensor_ns"], camera["encoding"]),
        lidar and lidar["points"],
        None if radar is None else [track["track_id"] for track in radar["tracks"]],
    )


def read_back(shard: ShardFile, row: int, groups: GroupCache) -> tuple[Any, ...]:
    frame = shard.frame(row, "camera_front", groups)
    points, tracks = shard.points(row, "lidar_top", groups), shard.tracks(row, "radar_front")
    return (
        frame and (frame.data, frame.sensor_ns, frame.encoding),
        None if points is None else points.tobytes(),
        None if tracks is None else tracks["track_id"].tolist(),
    )


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"data_page_version": "2.0"},
        {"row_group_size": 4},
        {"compression": "snappy"},
        {"compression": "zstd", "row_group_size": 3, "data_page_version": "2.0"},
        {"use_dictionary": True},
    ],
)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=12))
@settings(max_examples=15)
def test_a_shard_is_what_pyarrow_reads(
    tmp_path_factory: pytest.TempPathFactory, how: dict[str, Any], present: list[tuple[bool, ...]]
) -> None:
    rows = [row_of(number) for number in range(len(present))]
    for row, there in zip(rows, present, strict=True):
        for role, valid in zip(COLUMNS, there, strict=True):
            if not valid:
                payload = next(name for name in row[role] if name in ("data", "points", "tracks"))
                row[role] |= {"valid": False, "sensor_ns": None, payload: None}
    path = tmp_path_factory.mktemp("shard") / "00000.parquet"
    # One more row, so that every column has a type.
    write_shard(path, "drive/00000", [*rows, row_of(98)], **how)
    shard, groups = ShardFile(path, COLUMNS), GroupCache(1 << 20)
    assert [read_back(shard, row, groups) for row in range(len(rows))] == [expected(row) for row in rows]
    assert shard.frame(0, "camera_rear", groups) is None
    shard.close()


@pytest.mark.parametrize("how", [{}, {"data_page_version": "2.0"}, {"compression": "snappy"}])
@given(st.randoms(use_true_random=False), st.booleans())
@settings(max_examples=200)
def test_damage_is_a_typed_error_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, how: dict[str, Any], chance: random.Random, cut: bool
) -> None:
    """Also in the footer, where pyarrow ends the process when it is asked about a damaged column chunk."""
    path = tmp_path_factory.mktemp("damaged") / "00000.parquet"
    write_shard(path, "drive/00000", [row_of(number) for number in range(5)], **how)
    good = bytearray(path.read_bytes())
    if cut:
        good = good[: chance.randrange(len(good))]
    else:
        first = chance.choice([0, len(good) * 2 // 3])
        for _ in range(chance.randint(1, 6)):
            good[chance.randrange(first, len(good))] = chance.randrange(256)
    path.write_bytes(good)
    try:
        shard = ShardFile(path, COLUMNS)
    except (DatasetError, RedactionError) as error:
        found = error.code
    else:
        found = _payloads_are_in_the_file(shard, len(good))
    assert found in ("bad_shard", "unredacted_file", "fine")


def _payloads_are_in_the_file(shard: ShardFile, size: int) -> str:
    groups = GroupCache(1 << 20)
    for row in range(min(shard.rows, 20)):
        with contextlib.suppress(AvError, OSError, ValueError, pa.ArrowException):
            frame = shard.frame(row, "camera_front", groups)
            assert frame is None or len(frame.data) < max(size, 1 << 16)
        with contextlib.suppress(AvError, OSError, ValueError, pa.ArrowException):
            shard.points(row, "lidar_top", groups)
    shard.close()
    return "fine"


def test_tracks_have_the_fields_of_shards(tmp_path: Path) -> None:
    write_shard(tmp_path / "00000.parquet", "drive/00000", [row_of(2), row_of(5)])
    tracks = ShardFile(tmp_path / "00000.parquet", COLUMNS).tracks(1, "radar_front")
    assert tracks is not None
    assert tracks.dtype == TRACK
    assert tracks.tolist() == [(5, 1.0, 2.0, 3.0, 4.0)] * 2


def speeds(path: Path, columns: Sequence[str] = COLUMNS) -> list[float | None]:
    shard = ShardFile(path, columns)
    found = [shard.speed_mps(row) for row in range(shard.rows)]
    shard.close()
    return [None if np.isnan(speed) else speed for speed in found]


def with_signals(path: Path, signals: Sequence[Any]) -> Path:
    rows = [row_of(number) | {"signals": signal} for number, signal in enumerate(signals)]
    write_shard(path, "drive/00000", rows, row_group_size=2)
    return path


@given(st.lists(st.none() | st.floats(width=32), min_size=1, max_size=6))
@settings(max_examples=20, deadline=None)
def test_the_speed_of_the_vehicle_comes_with_a_radar(
    tmp_path_factory: pytest.TempPathFactory, told: list[float | None]
) -> None:
    """Unknown where the signal is null or no number, and not read for other sensors."""
    signals = [{"brake": 0.5, "speed_mps": speed} for speed in [*told, 1.0]] + [None]
    path = with_signals(tmp_path_factory.mktemp("signals") / "00000.parquet", signals)
    known = [None if speed is None or not np.isfinite(speed) else speed for speed in told]
    assert speeds(path) == [*known, 1.0, None]
    assert speeds(path, ("camera_front", "lidar_top")) == [None] * len(signals)


@pytest.mark.parametrize("signal", [None, {"brake": 0.5}])
def test_a_drive_may_not_tell_its_speed(tmp_path: Path, signal: dict[str, float] | None) -> None:
    path = tmp_path / "00000.parquet"
    if signal is None:
        write_shard(path, "drive/00000", [row_of(1), row_of(2)])
    else:
        with_signals(path, [signal] * 2)
    assert speeds(path) == [None, None]


@pytest.mark.parametrize("signal", [5.0, "5", {"speed_mps": "5"}, {"speed_mps": [5.0]}, {"speed_mps": True}])
def test_an_odd_column_of_signals_is_a_bad_shard(tmp_path: Path, signal: Any) -> None:
    path = with_signals(tmp_path / "00000.parquet", [signal])
    with pytest.raises(DatasetError, match="bad_shard"):
        ShardFile(path, COLUMNS)
    ShardFile(path, ("camera_front",)).close()


def test_a_track_without_a_velocity_is_no_track_that_stands(tmp_path: Path) -> None:
    row, other = row_of(1), row_of(2)
    row["radar_front"]["tracks"][0]["vx_mps"] = None
    write_shard(tmp_path / "00000.parquet", "drive/00000", [row, other])
    tracks = ShardFile(tmp_path / "00000.parquet", COLUMNS).tracks(0, "radar_front")
    assert tracks is not None
    assert np.isnan(tracks["vx_mps"]).all()
    for track in other["radar_front"]["tracks"] + row["radar_front"]["tracks"]:
        track.pop("vx_mps", None)
    write_shard(tmp_path / "00001.parquet", "drive/00000", [row, other])
    with pytest.raises(DatasetError, match="tracks have no vx_mps"):
        ShardFile(tmp_path / "00001.parquet", COLUMNS)
