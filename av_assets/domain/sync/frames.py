"""Frames of one camera out of the parts that redaction wrote, picked row by row for clip after clip.

This is the only way pictures come into shards: raw image topics are never read here.
Belongs here: reading redacted clip files in bounded memory. Does not belong here: redaction, decoding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from av_assets.domain.errors import SyncError
from av_assets.domain.privacy.frames import redacted_parts

if TYPE_CHECKING:
    from pathlib import Path

    from av_assets.domain.sync.grid import Ns

_COLUMNS = ["data", "encoding"]
_NEEDED = {"sensor_ns", "log_ns", "encoding", "data"}


class CameraFrames:
    """All parts of one camera as one sequence; holds the row groups that the current clip touches.

    Attributes:
        sensor_ns, log_ns: stamps of all frames, in order of the files.

    Raises:
        SyncError: bad_redacted_clip, unless each file carries the mark and the columns of redaction.
    """

    def __init__(self, folder: Path, role: str) -> None:
        self._groups: list[tuple[Path, int]] = []
        self._held: dict[int, pa.Table] = {}
        self._open: tuple[Path, pq.ParquetFile] | None = None
        sensor_ns, log_ns, counts = [np.empty(0, np.int64)], [np.empty(0, np.int64)], []
        for path in redacted_parts(folder, role):
            source = self._file(path)
            stamps = source.read(["sensor_ns", "log_ns"])
            sensor_ns.append(stamps["sensor_ns"].to_numpy())
            log_ns.append(stamps["log_ns"].to_numpy())
            for group in range(source.num_row_groups):
                self._groups.append((path, group))
                counts.append(source.metadata.row_group(group).num_rows)
        self.sensor_ns, self.log_ns = np.concatenate(sensor_ns), np.concatenate(log_ns)
        self._starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def _file(self, path: Path) -> pq.ParquetFile:
        """One open file at a time: a long drive has more parts than a process may open."""
        if self._open is not None and self._open[0] == path:
            return self._open[1]
        self.close()
        try:
            # Not mapped: pages of a mapped file count as memory of this process until somebody needs them.
            source = pq.ParquetFile(path)
        except (OSError, pa.ArrowException) as error:
            raise SyncError(
                f"cannot read redacted clip: {error}", code="bad_redacted_clip", file=path
            ) from error
        self._open = (path, source)
        schema = source.schema_arrow
        if not set(schema.names) >= _NEEDED or (schema.metadata or {}).get(b"redacted") != b"true":
            self.close()
            raise SyncError("not a file that redaction wrote", code="bad_redacted_clip", file=path)
        return source

    def take(self, index: Ns) -> dict[str, pa.Array]:
        """`data` and `encoding` of the frames at `index`; -1 gives nulls."""
        found = index >= 0
        if not found.any():
            return {"data": pa.nulls(len(index), pa.binary()), "encoding": pa.nulls(len(index), pa.string())}
        of_row = np.searchsorted(self._starts, index[found], side="right") - 1
        groups = np.unique(of_row)
        self._hold(groups.tolist())
        table = pa.concat_tables([self._held[group] for group in groups.tolist()])
        held_rows = self._starts[groups + 1] - self._starts[groups]
        before = np.concatenate([[0], np.cumsum(held_rows)[:-1]])
        local = np.zeros(len(index), np.int64)
        local[found] = index[found] - self._starts[of_row] + before[np.searchsorted(groups, of_row)]
        if found.all() and np.array_equal(local, np.arange(local[0], local[0] + len(local))):
            picked = table.slice(int(local[0]), len(local))  # the usual case, without a copy
        else:
            picked = table.take(pa.array(local, mask=~found))
        return {name: picked[name].combine_chunks() for name in _COLUMNS}

    def _hold(self, groups: list[int]) -> None:
        for group in [g for g in self._held if g not in groups]:
            del self._held[group]
        for group in groups:
            if group not in self._held:
                path, number = self._groups[group]
                self._held[group] = self._file(path).read_row_group(number, columns=_COLUMNS)

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None
