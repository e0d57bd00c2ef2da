"""Catalog rows of hand-made clips."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from av_assets.domain.catalog.rows import catalog_rows
from av_assets.domain.logs.drive_spec import DriveSpec

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
        "d", DriveSpec(drive="d", conditions={"weather": "rain"}), clips, report, sync, {"raw_logs": "x"}
    )


def test_a_drive_is_one_row_with_the_sun_in_it(tmp_path: Path) -> None:
    row = _rows([_clip(tmp_path / "0", 0, [10.0, None, 20.0, 30.0], position=True)])["drives"].to_pylist()[0]
    assert (row["mean_speed_mps"], row["max_speed_mps"], row["distance_m"]) == (20.0, 30.0, 200.0)
    assert (row["light"], row["weather"], row["raw_logs_content"]) == ("day", "rain", "x")


def test_without_a_position_light_is_null_with_a_reason(tmp_path: Path) -> None:
    row = _rows([_clip(tmp_path / "0", 0, [None], position=False)])["drives"].to_pylist()[0]
    assert row["light"] is None
    assert row["light_reason"] == "no GNSS position"
    assert row["mean_speed_mps"] is None


def test_clips_and_streams_have_a_row_each(tmp_path: Path) -> None:
    tables = _rows([_clip(tmp_path / str(n), n, [1.0, 2.0], position=True) for n in range(3)])
    assert tables["clips"]["camera_valid_share"].to_pylist() == [0.5, 0.5, 0.5]
    assert tables["streams"].to_pylist()[0]["residual_p95_ns"] == 5
