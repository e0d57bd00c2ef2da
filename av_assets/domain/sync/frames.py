"""Frames of one camera out of its redacted parquet file, picked row by row for clip after clip.

This is the only way pictures come into shards: raw image topics are never read here.
Belongs here: reading redacted clip files in bounded memory. Does not belong here: redaction, decoding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from av_assets.domain.errors import SyncError

if TYPE_CHECKING:
    from pathlib import Path

    from av_assets.domain.sync.grid import Ns

_COLUMNS = ["data", "encoding"]
_NEEDED = {"sensor_ns", "log_ns", "encoding", "data"}


class CameraFrames:
    """A sequential reader over `<role>.parquet`; holds the row groups that the current clip touches.

    Attributes:
        sensor_ns, log_ns: stamps of all frames, in file order.

    Raises:
        SyncError: bad_redacted_clip, unless the file carries the mark and the columns of redaction.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = pq.ParquetFile(path, memory_map=True)
        except (OSError, pa.ArrowException) as error:
            raise SyncError(
                f"cannot read redacted clip: {error}", code="bad_redacted_clip", file=path
            ) from error
        schema = self._file.schema_arrow
        if not set(schema.names) >= _NEEDED or (schema.metadata or {}).get(b"redacted") != b"true":
            self.close()
            raise SyncError("not a file that redaction wrote", code="bad_redacted_clip", file=path)
        stamps = self._file.read(["sensor_ns", "log_ns"])
        self.sensor_ns = stamps["sensor_ns"].to_numpy().astype(np.int64)
        self.log_ns = stamps["log_ns"].to_numpy().astype(np.int64)
        metadata = self._file.metadata
        counts = [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._held: dict[int, pa.Table] = {}

    def take(self, index: Ns) -> dict[str, pa.Array]:
        """`data` and `encoding` of the frames at `index`; -1 gives nulls."""
        found = index >= 0
        if not found.any():
            return {"data": pa.nulls(len(index), pa.binary()), "encoding": pa.nulls(len(index), pa.string())}
        groups = np.unique(np.searchsorted(self._starts, index[found], side="right") - 1)
        self._hold(range(int(groups[0]), int(groups[-1]) + 1))
        table = pa.concat_tables([self._held[group] for group in sorted(self._held)])
        local = index - self._starts[groups[0]]
        if found.all() and np.array_equal(local, np.arange(local[0], local[0] + len(local))):
            picked = table.slice(int(local[0]), len(local))  # the usual case, without a copy
        else:
            picked = table.take(pa.array(local, mask=~found))
        return {name: picked[name].combine_chunks() for name in _COLUMNS}

    def _hold(self, groups: range) -> None:
        for group in [g for g in self._held if g not in groups]:
            del self._held[group]
        for group in groups:
            if group not in self._held:
                self._held[group] = self._file.read_row_group(group, columns=_COLUMNS)

    def close(self) -> None:
        self._file.close()
