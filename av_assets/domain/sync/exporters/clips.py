"""Synchronized shards as the exporters read them: clip by clip, one in memory.

Pictures come through `frames_from_shard` alone, so that what was not redacted cannot be exported. Columns that an
exporter does not know are left alone.
Belongs here: reading clip files. Does not belong here: what they become.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from av_assets.domain.errors import SyncError
from av_assets.domain.geometry.calibration import Calibration
from av_assets.domain.privacy.frames import RedactedFrame, frames_from_shard
from av_assets.domain.sync.shards import Times

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from av_assets.domain.geometry.transforms import Array

Kind = Literal["camera", "lidar", "radar"]
SIGNALS = "signals"
# The leaf that tells what a sensor column holds, and what it must be.
_LEAVES: dict[Kind, tuple[str, str]] = {
    "camera": ("data", "encoding"),
    "lidar": ("points", "count"),
    "radar": ("tracks", "valid"),
}
_TIMES = frozenset(Times._fields)
_POINT_BYTES = 16


class _Reference(BaseModel):
    policy: str = ""


@dataclass(frozen=True)
class Clip:
    """One clip. `table` has one row per reference frame."""

    number: int
    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def numbers(self, name: str, kind: Any = np.int64) -> Any:
        """A leading column as (rows,)."""
        return self.table[name].to_numpy().astype(kind)

    def keyframes(self) -> NDArray[np.bool_]:
        """Which rows are keyframes, (rows,); none in shards that do not say."""
        if "keyframe" not in self.table.schema.names:
            return np.zeros(len(self), np.bool_)
        return np.asarray(self.table["keyframe"].to_numpy().astype(np.bool_))

    def times(self, role: str) -> Times:
        """Times of one sensor, each (rows,); zero where not valid."""
        cells = self._cells(role)
        valid = np.asarray(cells.field("valid").fill_null(False)) & np.asarray(cells.is_valid())

        def column(name: str) -> NDArray[np.int64]:
            values = cells.field(name).fill_null(0).to_numpy(zero_copy_only=False)
            return np.where(valid, values, 0).astype(np.int64)

        return Times(column("sensor_ns"), column("log_ns"), column("delta_ns"), valid)

    def frames(self, role: str) -> Iterator[RedactedFrame | None]:
        """One redacted frame per row, None where there is none."""
        return frames_from_shard(self.table, role)

    def clouds(self, role: str) -> list[NDArray[np.float32] | None]:
        """x, y, z in m in the frame of the sensor, and intensity, (N, 4) float32 per row; None where there is none.

        Raises:
            SyncError: bad_shard, a cloud that is no whole number of points.
        """
        found: list[NDArray[np.float32] | None] = []
        for cell, valid in zip(self._cells(role).field("points"), self.times(role).valid, strict=True):
            buffer = cell.as_buffer() if valid and cell.is_valid else None
            if buffer is not None and buffer.size % _POINT_BYTES:
                raise SyncError(f"{role}: a cloud of {buffer.size} bytes", code="bad_shard")
            found.append(None if buffer is None else np.frombuffer(buffer, "<f4").reshape(-1, 4))
        return found

    def tracks(self, role: str) -> list[list[dict[str, Any]] | None]:
        """Tracks of one radar per row, as dicts of the fields of `TRACK_TYPE`; None where there is none."""
        cells = self._cells(role).field("tracks").to_pylist()
        return [tracks if v else None for tracks, v in zip(cells, self.times(role).valid, strict=True)]

    def signals(self) -> dict[str, Array]:
        """Signals by name, each (rows,) float64, NaN where there is no value."""
        if SIGNALS not in self.table.schema.names:
            return {}
        cells = self._cells(SIGNALS)
        return {
            field.name: cells.field(field.name).fill_null(np.nan).to_numpy(zero_copy_only=False)
            for field in cells.type
            if pa.types.is_floating(field.type)
        }

    def _cells(self, name: str) -> pa.StructArray:
        column = self.table[name].combine_chunks()
        return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


@dataclass(frozen=True)
class Shards:
    """The shards of one drive.

    Attributes:
        drive, schema_version: as the clip files say.
        policy: digest of the policy that made them, empty where no report tells.
        roles: sensor role -> kind, in name order.
        calibration: None without `calibration.json`.
    """

    folder: Path
    paths: tuple[Path, ...]
    drive: str
    schema_version: str
    policy: str
    roles: dict[str, Kind]
    calibration: Calibration | None

    @classmethod
    def open(cls, folder: Path) -> Shards:
        """Look at the shards in `folder`.

        Raises:
            SyncError: no_shards or bad_shard.
            CalibrationError: a calibration.json that is none.
        """
        paths = tuple(sorted((folder / "clips").glob("[0-9]*.parquet")))
        if not paths:
            raise SyncError("the folder holds no clips", code="no_shards", file=folder)
        with _typed(paths[0]):
            schema = pq.read_schema(paths[0])
        metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
        if "drive" not in metadata or not {"clip_id", "frame_index", "ref_ns"} <= set(schema.names):
            raise SyncError("not a clip of synchronized shards", code="bad_shard", file=paths[0])
        roles = {field.name: kind for field in schema if (kind := _kind(field)) is not None}
        ledger = folder / "calibration.json"
        return cls(
            folder, paths, metadata["drive"], metadata.get("schema_version", ""), _policy(folder),
            dict(sorted(roles.items())), Calibration.load(ledger) if ledger.is_file() else None,
        )  # fmt: skip

    def of(self, kind: Kind) -> list[str]:
        return [role for role, one in self.roles.items() if one == kind]

    def clips(self) -> Iterator[Clip]:
        """All clips in order of time.

        Raises:
            SyncError: bad_shard.
        """
        for number, path in enumerate(self.paths):
            with _typed(path):
                table = pq.read_table(path, memory_map=True)
            missing = {*self.roles, "clip_id", "frame_index", "ref_ns"} - set(table.schema.names)
            if missing:
                raise SyncError(f"the clip lacks {sorted(missing)}", code="bad_shard", file=path)
            yield Clip(number, table)


def _kind(field: pa.Field) -> Kind | None:
    if not pa.types.is_struct(field.type) or field.name == SIGNALS:
        return None
    leaves = {leaf.name for leaf in field.type}
    return next((kind for kind, own in _LEAVES.items() if {*own, *_TIMES} <= leaves), None)


def _policy(folder: Path) -> str:
    """The digest in sync_report.json, which a copied folder may lack."""
    try:
        return _Reference.model_validate_json((folder / "sync_report.json").read_bytes()).policy
    except (OSError, ValidationError):
        return ""


@contextmanager
def _typed(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise SyncError(f"cannot read the clip: {error}", code="bad_shard", file=path) from error
