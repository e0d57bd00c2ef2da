"""Weather tables as files: lines of perhaps gzipped text, lists of stations, Parquet; all within limits.

Belongs here: bytes, and refusing them by file. Does not belong here: which files there are (weather), columns and units
(domain/context).
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from av_assets.domain.context.weather_layouts import GRID_COLUMNS
from av_assets.domain.errors import PoisonError

if TYPE_CHECKING:
    import pyarrow as pa

MAX_LIST_BYTES = 64 << 20
MAX_LINE_BYTES = 1 << 20
BLOCK_BYTES = 1 << 20
BATCH_ROWS = 1 << 16
GZIP = 31  # zlib's word for: with a gzip header


class Lines(io.RawIOBase):
    """Whole lines of a text file, perhaps gzipped; bytes beyond ASCII are taken for Latin-1.

    A line that a cut-off gzip file ends in is not given: the rest of a number is another number.

    Attributes:
        cut: whether the compressed file ended early.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        super().__init__()
        self._path, self._max_bytes, self._taken = path, max_bytes, 0
        self._file = path.open("rb")
        self._blocks = (
            self._unpacked() if path.suffix == ".gz" else iter(lambda: self._file.read(BLOCK_BYTES), b"")
        )
        self._ready, self._waiting, self._ended, self.cut = b"", b"", False, False

    def first(self) -> str:
        """The first line, without its end."""
        return self.read().split(b"\n", 1)[0].decode().rstrip("\r")

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes of whole lines, or of one block of them; none at the end."""
        if not self._ready:
            self._ready = _text(self._lines())
        given = self._ready if size < 0 else self._ready[:size]
        self._ready = self._ready[len(given) :]
        return given

    def _lines(self) -> bytes:
        while not self._ended:
            block = self._block()
            self._ended = not block
            lines, end, self._waiting = (self._waiting + block).rpartition(b"\n")
            if len(self._waiting) > MAX_LINE_BYTES:
                raise bad_table(self._path, f"a line has more than {MAX_LINE_BYTES} bytes")
            if end:
                return lines + end
        left, self._waiting = b"" if self.cut else self._waiting, b""
        return left

    def _block(self) -> bytes:
        block = next(self._blocks, b"")
        if not self._taken:
            block = block.removeprefix(b"\xef\xbb\xbf")
        self._taken += len(block)
        if self._taken > self._max_bytes:
            raise too_large(self._path, f"it unpacks to more than {self._max_bytes} bytes")
        return block

    def _unpacked(self) -> Iterator[bytes]:
        """Blocks of all gzip members. Python's gzip would lose what stands before a cut."""
        member = zlib.decompressobj(GZIP)
        packed = self._file.read(BLOCK_BYTES)
        while packed:
            try:
                block = member.decompress(packed, BLOCK_BYTES)
            except zlib.error as error:
                raise bad_table(self._path, "it is no gzip file, or is damaged") from error
            packed = member.unused_data.lstrip(b"\0") if member.eof else member.unconsumed_tail
            packed = packed or self._file.read(BLOCK_BYTES)
            if block:
                yield block
            if member.eof and packed:
                member = zlib.decompressobj(GZIP)
        self.cut = not member.eof

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()


def _text(block: bytes) -> bytes:
    return block if block.isascii() else block.decode("latin-1").encode()


def json_stations(path: Path) -> Iterable[pa.Table]:
    """Meteostat's list: [{id, location: {latitude, longitude}}], or the same flat."""
    import pyarrow as pa

    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        try:
            data = file.read(MAX_LIST_BYTES + 1)
            if len(data) > MAX_LIST_BYTES:
                raise too_large(path, f"a list of stations has at most {MAX_LIST_BYTES} bytes")
            found = json.loads(data)
        except (ValueError, RecursionError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise bad_table(path, "it is no JSON") from error
    if not isinstance(found, list) or not all(isinstance(entry, dict) and "id" in entry for entry in found):
        raise unknown_layout(path, "it is no list of stations")
    places = [entry["location"] if isinstance(entry.get("location"), dict) else entry for entry in found]
    columns = {"id": [str(entry["id"]) for entry in found]}
    for name in ("latitude", "longitude"):
        columns[name] = [str(place.get(name)) for place in places]
    return [pa.table({name: pa.chunked_array([texts], pa.string()) for name, texts in columns.items()})]


def open_parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise bad_table(path, "it is no Parquet file") from error


def parquet_batches(path: Path, max_rows: int) -> Iterator[pa.Table]:
    """Pieces of a Parquet grid: numbers and times only, since texts could unpack to any size."""
    import pyarrow as pa

    with open_parquet(path) as file:
        schema, metadata = file.schema_arrow, file.metadata
        wanted = [f for f in schema if f.name.lower() in GRID_COLUMNS]
        for column in wanted:
            if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
                    or pa.types.is_timestamp(column.type)):  # fmt: skip
                raise bad_table(path, f"column {column.name} holds {column.type}, no numbers or times")
        if metadata.num_rows > max_rows:
            raise too_large(path, f"it has more than {max_rows} rows")
        try:
            for batch in file.iter_batches(BATCH_ROWS, columns=[f.name for f in wanted]):
                yield pa.Table.from_batches([batch]).rename_columns([n.lower() for n in batch.schema.names])
        except (pa.ArrowInvalid, OSError) as error:
            raise bad_table(path, "a page of it cannot be read") from error


def unknown_layout(path: Path, why: str) -> PoisonError:
    remedy = "take it out, or give a Meteostat table, a list of stations, or a grid with the names of ERA5"
    reason = f"no known layout of weather tables: {why}"
    return PoisonError(reason, code="unknown_weather_layout", file=path, remedy=remedy)


def bad_table(path: Path, why: str) -> PoisonError:
    return PoisonError(why, code="bad_weather_table", file=path, remedy="fetch the table again")


def too_large(path: Path, why: str) -> PoisonError:
    remedy = "give fewer years, stations or points, or raise the limits of the policy context"
    return PoisonError(why, code="weather_table_too_large", file=path, remedy=remedy)
