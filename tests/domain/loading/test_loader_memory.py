"""A process that streams many shards holds as much as one that reads few."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toy_shards import COLUMNS, all_payloads, write_shards

from av_assets.domain.loading.loader import Loader
from av_assets.domain.loading.making import SampleMaker
from av_assets.domain.loading.sources import FolderSource

SHARDS, ROWS, POINTS = 40, 8, 20_000  # 40 files of 2.6 MB


def peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) / 1e3 for line in status.splitlines() if line.startswith("VmHWM:"))


@pytest.mark.parametrize("how", [{}, {"compression": "snappy"}], ids=["in place", "by row group"])
def test_a_worker_streams_in_bounded_memory(tmp_path: Path, how: dict[str, Any]) -> None:
    index = write_shards(tmp_path, [ROWS] * SHARDS, points=POINTS, **how)
    source = FolderSource(tmp_path)
    with Loader(
        index, source, all_payloads, columns=COLUMNS, batch_size=8, seed=1, workers=1, open_shards=4
    ) as loader:
        loader._maker._groups.max_bytes = 8 << 20
        peaks = []
        for number, _ in enumerate(loader):
            assert loader._pool is not None
            if number in (4, len(loader) - 1):
                peaks.append(peak_mb(loader._pool.pids[0]))
    payload_mb = SHARDS * ROWS * POINTS * 16 / 1e6
    assert payload_mb > 100
    assert peaks[1] - peaks[0] < 30, f"grew from {peaks[0]:.0f} to {peaks[1]:.0f} MB over {payload_mb:.0f} MB"


def test_what_is_kept_of_shards_has_a_budget(tmp_path: Path) -> None:
    index = write_shards(tmp_path, [2] * 12)
    loader = Loader(
        index, FolderSource(tmp_path), all_payloads, columns=COLUMNS, batch_size=1, seed=1, open_shards=3
    )
    maker: SampleMaker = loader._maker
    maker._shards.max_held_bytes = 30_000
    for _ in range(2):
        for _ in loader:
            assert len(maker._shards._open) <= 3
            assert maker._shards._bytes <= 30_000
            assert sum(held.context is not None for held in maker._shards._held.values()) <= 3
    assert 1 < len(maker._shards._held) < 12
    loader.close()
    assert maker._shards._bytes == 0
