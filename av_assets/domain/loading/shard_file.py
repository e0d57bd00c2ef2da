"""One shard, row by row: what its sensors saw in one row, without reading the others.

Payloads that lie in the file as they are (see `pages`) are read from their place; others come out of their row group,
of which a few are kept. The small columns are read once; with a radar also how fast the vehicle drove, since what a
radar tells is relative to it.
Belongs here: the columns of a shard as cells. Does not belong here: decoding, order, which rows are wanted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from av_assets.domain.errors import DatasetError
from av_assets.domain.loading.ego_speed import SIGNALS, SPEED_COLUMN, ego_speeds_mps, tells_speed
from av_assets.domain.loading.footer import row_groups
from av_assets.domain.loading.pages import ABSENT, Chunk, cell_ranges
from av_assets.domain.privacy.frames import RedactedFrame, ShardFrames, frames_from_shard

TRACK: Final = np.dtype(
    [("track_id", "<i4"), ("x_m", "<f4"), ("y_m", "<f4"), ("vx_mps", "<f4"), ("vy_mps", "<f4")]
)
"""One radar track, ego frame; velocity relative to the ego vehicle (`sync.tracks.Track`), NaN where there is none."""
_TRACK_TYPES: Final = {name: pa.from_numpy_dtype(TRACK[name]) for name in TRACK.names or ()}

PAYLOADS: Final = {"data": "camera", "points": "lidar", "tracks": "radar"}
MAX_GROUP_BYTES: Final = 1 << 31
MAX_ROWS: Final = 1 << 20
_BROKEN: Final = "remake the shard from its drive, or fetch it again"


@dataclass(frozen=True)
class Sensor:
    """One sensor's column: kind, and per row valid, sensor_ns, and encoding (cameras only).

    Attributes:
        ranges: (rows, 2) start and length of the payload; None where it does not lie in the file as it is.
        tracks: of each row, for radars.
    """

    kind: str
    valid: NDArray[np.bool_]
    sensor_ns: NDArray[np.int64]
    encodings: Sequence[str | None] = ()
    ranges: NDArray[np.int64] | None = None
    tracks: Sequence[NDArray[Any] | None] = ()

    @property
    def nbytes(self) -> int:
        """About what it holds in memory."""
        tracks = sum(64 + (0 if t is None else t.nbytes) for t in self.tracks)
        return 17 * len(self.valid) + 16 * len(self.valid) * (self.ranges is not None) + tracks


class GroupCache:
    """The payload columns of the row groups that were read last, up to `max_bytes` (and at least one)."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self._held = max_bytes, OrderedDict[tuple[int, str, int], pa.Table]()

    def read(self, shard: ShardFile, column: str, group: int) -> pa.Table:
        key = (id(shard), column, group)
        if key not in self._held:
            table = shard.read_group(column, group)
            while self._held and sum(t.nbytes for t in self._held.values()) + table.nbytes > self.max_bytes:
                self._held.popitem(last=False)
            self._held[key] = table
        self._held.move_to_end(key)
        return self._held[key]

    def forget(self, shard: ShardFile) -> None:
        for key in [key for key in self._held if key[0] == id(shard)]:
            del self._held[key]


class ShardFile:
    """The wanted sensors of one shard.

    Attributes:
        rows: number of rows.
        nbytes: about what is held in memory of it.

    Raises:
        DatasetError: bad_shard, it is damaged, or no shard.
        RedactionError: unredacted_file, its footer does not carry the mark of shards.
    """

    def __init__(self, path: Path, roles: Sequence[str]) -> None:
        self.path = path
        try:
            self.frames = ShardFrames(path)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise bad_shard(path, error) from error
        metadata = self.frames.metadata
        self.rows: int = metadata.num_rows
        try:
            self._groups = row_groups(self.frames.read, self.frames.bytes)
            self._starts = np.cumsum([0, *(group.rows for group in self._groups)], dtype=np.int64)
            if not 0 <= self.rows == self._starts[-1] <= MAX_ROWS:
                raise ValueError(f"it claims {self.rows} rows")
            self._sensors, self._speeds_mps = self._read_small(
                [role for role in roles if role in self.frames.schema.names]
            )
        except (OSError, ValueError, LookupError, TypeError, OverflowError, pa.ArrowException) as error:
            self.frames.close()
            raise bad_shard(path, error) from error
        self.nbytes = 4096 + self._speeds_mps.nbytes + sum(s.nbytes for s in self._sensors.values())

    def open(self, path: Path) -> None:
        """Open the file again after `close`; it may lie elsewhere now."""
        self.path = path
        self.frames.open(path)

    def close(self) -> None:
        """Close the file; what was read of it stays."""
        self.frames.close()

    def frame(self, row: int, role: str, groups: GroupCache) -> RedactedFrame | None:
        """The picture of a camera, or None where the row has none, or the shard no such camera.

        Raises:
            OSError, ValueError, pyarrow.ArrowException: the bytes are not there, or no cell.
        """
        sensor = self._sensor(row, role, "camera")
        if sensor is None:
            return None
        if sensor.ranges is not None:
            start, length = sensor.ranges[row].tolist()
            if length == ABSENT:
                return None
            encoding = sensor.encodings[row] or ""
            return self.frames.frame(role, int(sensor.sensor_ns[row]), encoding, start, length)
        table, inside = self._group(row, role, groups)
        return next(frames_from_shard(table.slice(inside, 1), role))

    def points(self, row: int, role: str, groups: GroupCache) -> NDArray[np.float32] | None:
        """(N, 4) float32 x, y, z, intensity in the sensor's frame, read-only; None as in `frame`.

        Raises:
            OSError, ValueError, pyarrow.ArrowException: as in `frame`, or the cell holds no such array.
        """
        sensor = self._sensor(row, role, "lidar")
        if sensor is None:
            return None
        if sensor.ranges is not None:
            start, length = sensor.ranges[row].tolist()
            data = None if length == ABSENT else self.frames.read(start, length)
        else:
            table, inside = self._group(row, role, groups)
            data = (table[role][inside].as_py() or {}).get("points")
        return None if data is None else np.frombuffer(data, "<f4").reshape(-1, 4)

    def tracks(self, row: int, role: str) -> NDArray[Any] | None:
        """(n,) of TRACK; None as in `frame`.

        Raises:
            ValueError: it is no radar.
        """
        sensor = self._sensor(row, role, "radar")
        return None if sensor is None else sensor.tracks[row]

    def speed_mps(self, row: int) -> float:
        """Speed of the ego vehicle over ground, along its x axis; NaN where it is not known, or no radar is wanted."""
        return float(self._speeds_mps[row])

    def _sensor(self, row: int, role: str, kind: str) -> Sensor | None:
        sensor = self._sensors.get(role)
        if sensor is not None and sensor.kind != kind:
            raise ValueError(f"{role} is no {kind}")
        return sensor if sensor is not None and sensor.valid[row] else None

    def _group(self, row: int, role: str, groups: GroupCache) -> tuple[pa.Table, int]:
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        return groups.read(self, role, group), row - int(self._starts[group])

    def read_group(self, role: str, group: int) -> pa.Table:
        """The rows of one column of a row group.

        Raises:
            ValueError: it claims to be larger than any writer of shards makes them, or holds other rows than it says.
        """
        about = self._groups[group]
        claimed = sum(c.plain_bytes for path, c in about.columns.items() if path.split(".", 1)[0] == role)
        if claimed > MAX_GROUP_BYTES:
            raise ValueError(f"{role} is larger than {MAX_GROUP_BYTES} bytes in one row group")
        with pq.ParquetFile(self.path, metadata=self.frames.metadata) as source:
            table = source.read_row_group(group, columns=[role], use_threads=False)
        if table.num_rows != about.rows:
            raise ValueError(f"a row group holds {table.num_rows} rows instead of {about.rows}")
        return table

    def _read_small(self, roles: Sequence[str]) -> tuple[dict[str, Sensor], NDArray[np.float64]]:
        """The wanted sensors, and (rows,) speeds of the ego vehicle."""
        unknown = np.full(self.rows, np.nan)
        kinds = {role: _kind(self.frames.schema.field(role)) for role in roles}
        wanted = [
            f"{role}.{leaf}"
            for role, kind in kinds.items()
            for leaf in ("valid", "sensor_ns", *{"camera": ["encoding"], "radar": ["tracks"]}.get(kind, []))
        ]
        if not wanted:
            return {}, unknown
        moving = "radar" in kinds.values() and tells_speed(self.frames.schema)
        wanted += [SPEED_COLUMN] if moving else []
        with pq.ParquetFile(self.path, metadata=self.frames.metadata) as source:
            table = source.read(wanted, use_threads=False).combine_chunks()
        if table.num_rows != self.rows:
            raise ValueError(f"it holds {table.num_rows} rows instead of {self.rows}")
        sensors = {role: self._read_sensor(role, kind, table[role]) for role, kind in kinds.items()}
        return sensors, ego_speeds_mps(table[SIGNALS]) if moving else unknown

    def _read_sensor(self, role: str, kind: str, column: pa.ChunkedArray) -> Sensor:
        fields = dict(zip((f.name for f in column.type), column.combine_chunks().flatten(), strict=True))
        valid = fields["valid"].fill_null(False).to_numpy(zero_copy_only=False)
        stamps = fields["sensor_ns"].fill_null(0).to_numpy(zero_copy_only=False)
        if kind == "radar":
            return Sensor(kind, valid, stamps, tracks=_tracks(fields["tracks"]))
        leaf = "data" if kind == "camera" else "points"
        encodings = fields["encoding"].to_pylist() if kind == "camera" else ()
        return Sensor(kind, valid, stamps, encodings, self._ranges(f"{role}.{leaf}"))

    def _ranges(self, leaf: str) -> NDArray[np.int64] | None:
        metadata = self.frames.metadata
        paths = (metadata.schema.column(c).path for c in range(metadata.num_columns))
        number = next((c for c, path in enumerate(paths) if path == leaf), None)
        if number is None:
            raise ValueError(f"{leaf} is missing")
        about = metadata.schema.column(number)
        if about.max_repetition_level or about.physical_type != "BYTE_ARRAY":
            return None
        found = [np.empty((0, 2), np.int64)]
        for group in self._groups:
            column = group.columns.get(leaf)
            if column is None:
                raise ValueError(f"{leaf} is missing from a row group")
            place = Chunk(column.start, column.stored_bytes, group.rows, about.max_definition_level)
            ranges = cell_ranges(self.frames.read, place) if column.as_is else None
            if ranges is None:
                return None
            found.append(ranges)
        return np.concatenate(found)


def bad_shard(path: Path, error: Exception) -> DatasetError:
    reason = f"the shard cannot be read: {error}"
    return DatasetError(reason[:500], code="bad_shard", file=path, remedy=_BROKEN)


def _kind(field: pa.Field) -> str:
    names = [child.name for child in field.type] if pa.types.is_struct(field.type) else []
    kind = next((PAYLOADS[name] for name in names if name in PAYLOADS), None)
    if kind is None:
        raise ValueError(f"{field.name} is no sensor: it has none of {', '.join(PAYLOADS)}")
    return kind


def _tracks(column: pa.ListArray) -> list[NDArray[Any] | None]:
    """Of each row; None where the list is null."""
    flat = column.flatten()
    fields = dict(zip((f.name for f in flat.type), flat.flatten(), strict=True))
    if missing := _TRACK_TYPES.keys() - fields.keys():
        raise ValueError(f"tracks have no {', '.join(sorted(missing))}")
    values = np.empty(len(flat), TRACK)
    for name, kind in _TRACK_TYPES.items():
        held = fields[name].fill_null(0) if name == "track_id" else fields[name]
        values[name] = held.cast(kind).to_numpy(zero_copy_only=False)
    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    ends = np.cumsum(lengths)
    present = column.is_valid().to_numpy(zero_copy_only=False)
    return [
        values[end - length : end] if there else None
        for end, length, there in zip(ends.tolist(), lengths.tolist(), present.tolist(), strict=True)
    ]
