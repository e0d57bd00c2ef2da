"""Frames that went through redaction: the only pictures that thumbnails, embeddings and reports accept.

`RedactedFrame` cannot be built from bytes: it comes out of a file that redaction wrote, or out of a shard
that was cut from such a file. Its constructor asks for a token that never leaves this module.
Belongs here: that type, and the parquet layout of redacted clips. Does not belong here: finding or hiding.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from av_assets.domain.errors import RedactionError
from av_assets.domain.privacy import video_out

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path
    from types import TracebackType

SCHEMA_VERSION: Final = b"1"
CLIP_SCHEMA: Final = pa.schema(
    [
        pa.field("sensor_ns", pa.int64(), nullable=False),
        pa.field("log_ns", pa.int64(), nullable=False),
        pa.field("encoding", pa.string(), nullable=False),
        pa.field("data", pa.binary(), nullable=False),
        pa.field("regions", pa.int32(), nullable=False),
        pa.field("source_sha256", pa.string(), nullable=False),
    ],
    metadata={b"schema_version": SCHEMA_VERSION, b"redacted": b"true"},
)
ROWS_PER_GROUP: Final = 64
MAX_VIDEO_PIXELS: Final = 1 << 27
_TOKEN: Final = object()


class RedactedFrame:
    """One encoded picture that redaction released; immutable.

    Attributes:
        role: camera role, e.g. `camera_front`.
        sensor_ns: time of exposure.
        encoding: "jpeg", "png", or "h264": one access unit that decodes by itself.
        data: the encoded picture.
    """

    __slots__ = ("data", "encoding", "role", "sensor_ns")
    role: str
    sensor_ns: int
    encoding: str
    data: bytes

    def __init__(
        self, role: str, sensor_ns: int, encoding: str, data: bytes, *, token: object = None
    ) -> None:
        if token is not _TOKEN:
            raise RedactionError(
                "a redacted frame is made by redaction only",
                code="unredacted_frame",
                remedy="read it with read_redacted_clips or frames_from_shard",
            )
        for name, value in (("role", role), ("sensor_ns", sensor_ns), ("encoding", encoding), ("data", data)):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a redacted frame cannot be changed ({name})")

    def __reduce__(self) -> NoReturn:
        # Unpickling would be a second way in; workers read the file again instead.
        raise RedactionError(
            "a redacted frame is not pickled", code="unredacted_frame", remedy="send its path"
        )

    def __repr__(self) -> str:
        return f"RedactedFrame({self.role}, {self.sensor_ns}, {self.encoding}, {len(self.data)} bytes)"

    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB.

        Raises:
            RedactionError: the bytes are no picture.
        """
        import cv2

        if self.encoding == video_out.ENCODING:
            return video_out.decode_unit(self.data, MAX_VIDEO_PIXELS)
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        bgr = cv2.imdecode(np.frombuffer(self.data, np.uint8), flags) if self.data else None
        if bgr is None:
            raise RedactionError(f"{self!r} does not decode", code="undecodable_frame")
        return np.ascontiguousarray(bgr[..., ::-1])

    def thumbnail(self, width: int) -> bytes:
        """JPEG of at most `width` pixels width, aspect kept."""
        import cv2

        bgr = self.pixels()[..., ::-1]
        scale = min(1.0, width / bgr.shape[1])
        size = (max(1, round(bgr.shape[1] * scale)), max(1, round(bgr.shape[0] * scale)))
        small = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA)
        return bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])[1])


@dataclass(frozen=True)
class ClipRow:
    """What redaction hands to the writer for one released frame."""

    sensor_ns: int
    log_ns: int
    encoding: str
    data: bytes
    regions: int
    source_sha256: str


class ClipWriter:
    """Streams rows to one part of a clip in small row groups; the closed file is sorted by sensor_ns.

    Memory is bounded by one row group. Rows that arrive out of order cost one more pass over the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self._sorted = True
        self._last_ns = -(1 << 63)
        self._buffer: list[ClipRow] = []
        self._writer = _open(path)

    def write(self, row: ClipRow) -> None:
        self._sorted &= row.sensor_ns >= self._last_ns
        self._last_ns = row.sensor_ns
        self.rows += 1
        self._buffer.append(row)
        if len(self._buffer) >= ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        columns = {f.name: [getattr(r, f.name) for r in self._buffer] for f in CLIP_SCHEMA}
        self._writer.write_table(pa.table(columns, schema=CLIP_SCHEMA))
        self._buffer = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._buffer:
            self._flush()
        self._writer.close()
        if kind is None and not self._sorted:
            _sort_by_time(self.path)


def _open(path: Path) -> Any:
    # Pictures do not compress again; statistics of binary columns would copy picture bytes into the footer.
    return pq.ParquetWriter(
        path, CLIP_SCHEMA, compression="none", use_dictionary=False, write_statistics=["sensor_ns"]
    )


def _sort_by_time(path: Path) -> None:
    unsorted = path.with_suffix(".unsorted")
    path.rename(unsorted)
    with pq.ParquetFile(unsorted) as source, _open(path) as target:
        starts = np.cumsum(
            [0] + [source.metadata.row_group(g).num_rows for g in range(source.num_row_groups)]
        )
        order = np.argsort(source.read(["sensor_ns"])["sensor_ns"].to_numpy(), kind="stable")
        for chunk in np.split(order, range(ROWS_PER_GROUP, len(order), ROWS_PER_GROUP)):
            parts = []
            for group in np.unique(np.searchsorted(starts, chunk, side="right") - 1):
                inside = chunk[(chunk >= starts[group]) & (chunk < starts[group + 1])]
                parts.append(source.read_row_group(int(group)).take(pa.array(inside - starts[group])))
            table = pa.concat_tables(parts)
            target.write_table(table.sort_by("sensor_ns").cast(CLIP_SCHEMA))
    unsorted.unlink()


def redacted_parts(folder: Path, role: str) -> list[Path]:
    """The parts `<role>/<NNNNN>.parquet` of a bundle in their order, which is that of log time; maybe none."""
    return sorted((folder / role).glob("[0-9]*.parquet"))


def read_redacted_clips(
    path: Path, role: str, rows: Collection[int] | None = None
) -> Iterator[RedactedFrame]:
    """The frames of one part that redaction wrote, by sensor time, one row group in memory; all, or those of `rows`.

    Raises:
        RedactionError: the file does not carry the mark of redaction.
    """
    with pq.ParquetFile(path) as source:
        metadata = source.schema_arrow.metadata or {}
        if metadata.get(b"redacted") != b"true":
            raise RedactionError("file was not written by redaction", code="unredacted_file", file=path)
        first = 0
        for group in range(source.num_row_groups):
            inside = range(first, first + source.metadata.row_group(group).num_rows)
            first = inside.stop
            wanted = inside if rows is None else [row for row in inside if row in rows]
            if wanted:
                table = source.read_row_group(group, columns=["sensor_ns", "encoding", "data"])
                for row in wanted:
                    cells = {name: table[name][row - inside.start].as_py() for name in table.column_names}
                    yield RedactedFrame(role, **cells, token=_TOKEN)


def frames_from_shard(table: pa.Table | pa.RecordBatch, role: str) -> Iterator[RedactedFrame | None]:
    """One item per row of a synced shard: the frame of `role`, or None where the row has none.

    Raises:
        RedactionError: unredacted_file, the table does not carry the mark of shards; no_such_camera.
    """
    if (table.schema.metadata or {}).get(b"redacted") != b"true":
        raise RedactionError("not rows of a synced shard", code="unredacted_file", remedy="read a clip file")
    if role not in table.schema.names:
        raise RedactionError(f"shard has no camera {role}", code="no_such_camera")
    batches = table.select([role]).to_batches() if isinstance(table, pa.Table) else [table.select([role])]
    for batch in batches:
        for cell in batch.column(0):
            row = cell.as_py()
            if row is None or not row["valid"] or row["data"] is None:
                yield None
            else:
                yield RedactedFrame(role, row["sensor_ns"], row["encoding"], row["data"], token=_TOKEN)


class ShardFrames:
    """The frames of one synced shard, each read by itself from its place in the file.

    The mark of redaction is checked in the footer once; a file that is opened again must be the same one.

    Attributes:
        metadata: the footer.
        schema: its Arrow schema.
        bytes: size of the file.

    Raises:
        RedactionError: unredacted_file, the footer does not carry the mark of shards.
        OSError, pyarrow.ArrowException: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._fd: int | None = None
        with pq.ParquetFile(path) as source:
            self.metadata, self.schema = source.metadata, source.schema_arrow
            if (self.schema.metadata or {}).get(b"redacted") != b"true":
                raise RedactionError("not a synced shard", code="unredacted_file", file=path)
            self._same = _identity(path.stat())
            self.bytes = self._same[2]
        self.open(path)

    def open(self, path: Path) -> None:
        """Open the file; nothing happens where it is open.

        Raises:
            RedactionError: unredacted_file, another file lies there now.
        """
        if self._fd is None:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            if _identity(os.fstat(self._fd)) != self._same:
                self.close()
                raise RedactionError("another file than the one that was checked", code="unredacted_file")

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def read(self, start: int, length: int) -> bytes:
        """Exactly these bytes of the open file.

        Raises:
            ValueError: it is closed, or has fewer.
        """
        if self._fd is None or start < 0 or not 0 <= length <= self.bytes - start:
            raise ValueError(f"{length} bytes at {start} are not in the file")
        data = os.pread(self._fd, length, start)
        if len(data) != length:
            raise ValueError(f"{length} bytes at {start} are not in the file")
        return data

    def frame(self, role: str, sensor_ns: int, encoding: str, start: int, length: int) -> RedactedFrame:
        """The frame whose picture lies at `start`."""
        return RedactedFrame(role, sensor_ns, encoding, self.read(start, length), token=_TOKEN)


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
