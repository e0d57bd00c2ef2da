"""Catalog rows of hand-made clips."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from av_assets.domain.catalog.rows import catalog_rows
from av_assets.domain.catalog.schemas import CLIPS, DRIVES, STREAMS, meanings
from av_assets.domain.catalog.sources import DRIVES_FROM
from av_assets.domain.errors import SyncError
from av_assets.domain.logs.drive_spec import DriveSpec
from av_assets.policies.catalog import CatalogPolicy

if TYPE_CHECKING:
    from pathlib import Path

START = 1_748_851_200_000_000_000  # 2025-06-02 08:00 UTC


def _clip(path: Path, number: int, speeds: list[float | None], position: bool) -> Path:
    signals = [
        {"speed_mps": s} | ({"latitude_deg": 48.1, "longitude_deg": 11.5} if position else {}) for s in speeds
    ]
    rows = [
        {
            "clip_id": f"d/{number:05d}",
            "ref_ns": START + i * 10**8,
            "signals": row,
            "camera_front": {"valid": i % 2 == 0},
        }
        for i, row in enumerate(signals)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def _rows(clips: list[Path]) -> dict[str, pa.Table]:
    report = {
        "start_ns": START,
        "end_ns": START + 10**10,
        "messages": 7,
        "streams": {"camera_front": {"topic": "/c", "kind": "camera", "messages": 4, "median_rate_hz": 10.0}},
    }
    sync = {"streams": {"camera_front": {"matched": 4, "residual_ns": {"p95": 5}}}}
    return catalog_rows(
        "d",
        DriveSpec(drive="d", conditions={"weather": "rain"}),
        clips,
        report,
        sync,
        {"raw_logs": "x"},
        CatalogPolicy.load(),
    )


def test_a_drive_is_one_row_with_the_sun_in_it(tmp_path: Path) -> None:
    row = _rows([_clip(tmp_path / "0", 0, [10.0, None, 20.0, 30.0], position=True)])["drives"].to_pylist()[0]
    assert (row["mean_speed_mps"], row["max_speed_mps"]) == (20.0, 30.0)
    assert row["distance_m"] == pytest.approx(15 * 0.2 + 25 * 0.1)  # over the times of speed, not of the log
    assert (row["light"], row["weather"], row["raw_logs_content"]) == ("day", "rain", "x")


def test_without_a_position_light_is_null_with_a_reason(tmp_path: Path) -> None:
    row = _rows([_clip(tmp_path / "0", 0, [None], position=False)])["drives"].to_pylist()[0]
    assert row["light"] is None
    assert row["position_reason"] == "no GNSS position"
    assert (row["route_id"], row["h3_cells"], row["geometry_wkb"]) == (None, None, None)
    assert row["sun_elevation_end_deg"] is None
    assert row["light_reason"] == "no GNSS position"
    assert row["mean_speed_mps"] is None


def test_clips_and_streams_have_a_row_each(tmp_path: Path) -> None:
    tables = _rows([_clip(tmp_path / str(n), n, [1.0, 2.0], position=True) for n in range(3)])
    assert tables["clips"]["camera_valid_share"].to_pylist() == [0.5, 0.5, 0.5]
    assert tables["streams"].to_pylist()[0]["residual_p95_ns"] == 5


def test_a_clip_says_where_when_and_in_what_light_it_was(tmp_path: Path) -> None:
    row = _rows([_clip(tmp_path / "0", 0, [10.0, 8.0, 6.0, 4.0, 2.0, 0.0, 0.0], position=True)])[
        "clips"
    ].to_pylist()[0]
    assert (row["latitude_deg"], row["longitude_deg"]) == pytest.approx((48.1, 11.5))
    assert row["h3_cell"] == h3.latlng_to_cell(48.1, 11.5, 9)
    assert (row["light"], row["light_reason"]) == ("day", None)
    assert row["sun_elevation_deg"] > 40
    assert row["max_decel_mps2"] == pytest.approx(20.0)
    assert row["p95_speed_mps"] == pytest.approx(9.4)


def test_a_clip_without_positions_takes_the_sun_from_its_neighbour_and_says_so(tmp_path: Path) -> None:
    there = _clip(tmp_path / "0", 0, [1.0] * 5, position=True)
    table = pq.read_table(_clip(tmp_path / "1", 1, [1.0] * 5, position=False))
    later = pa.array([START + 60 * 10**9 + i * 10**8 for i in range(5)])
    pq.write_table(table.set_column(1, "ref_ns", later), tmp_path / "1")
    first, second = _rows([there, tmp_path / "1"])["clips"].to_pylist()
    assert (second["latitude_deg"], second["h3_cell"]) == (None, None)
    assert (second["light"], second["light_reason"]) == ("day", "from a position 60 s away")
    assert first["light_reason"] is None


def test_empty_clips_have_no_row_and_a_signal_of_some_clips_stays_in_time(tmp_path: Path) -> None:
    whole = _clip(tmp_path / "0", 0, [10.0] * 11, position=True)
    empty = tmp_path / "1"
    pq.write_table(pq.read_table(whole).slice(0, 0), empty)
    found = _rows([empty, whole])
    assert found["clips"].num_rows == 1
    assert found["drives"]["distance_m"].to_pylist() == [pytest.approx(10.0)]
    assert _rows([])["drives"]["clips"].to_pylist() == [0]
    assert _rows([])["drives"]["position_reason"].to_pylist() == ["no GNSS position"]


def test_null_island_becomes_no_geometry(tmp_path: Path) -> None:
    path = _clip(tmp_path / "0", 0, [1.0] * 4, position=True)
    table = pq.read_table(path)
    rows = [{"speed_mps": 1.0, "latitude_deg": 0.0, "longitude_deg": 0.0}] * 4
    pq.write_table(table.set_column(2, "signals", pa.array(rows)), path)
    row = _rows([path])["drives"].to_pylist()[0]
    assert (row["geometry_wkb"], row["min_latitude_deg"], row["light"]) == (None, None, None)
    assert "4 positions without a fix" in row["position_reason"]


def test_signals_of_nan_and_text_are_null(tmp_path: Path) -> None:
    path = _clip(tmp_path / "0", 0, [float("nan")] * 4, position=False)
    table = pq.read_table(path)
    rows = [{"speed_mps": float("nan"), "latitude_deg": "n/a", "longitude_deg": "n/a"}] * 4
    pq.write_table(table.set_column(2, "signals", pa.array(rows)), path)
    row = _rows([path])["drives"].to_pylist()[0]
    assert {row[c] for c in ("distance_m", "p50_speed_mps", "stops", "standing_share", "route_id")} == {None}


def test_what_is_no_clip_is_named(tmp_path: Path) -> None:
    (tmp_path / "0").write_bytes(b"not parquet")
    with pytest.raises(SyncError) as caught:
        _rows([tmp_path / "0"])
    assert caught.value.code == "bad_clip"


def test_every_column_says_what_it_means_and_lineage_names_columns_that_there_are() -> None:
    for schema in (DRIVES, STREAMS, CLIPS):
        assert set(meanings(schema)) == set(schema.names)
    assert set(DRIVES_FROM) <= set(DRIVES.names)
