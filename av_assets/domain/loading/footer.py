"""Where the column chunks of a Parquet file lie, read from its footer.

`pyarrow` says so too, but asking it about a damaged column chunk ends the process (an exception in C++ that nobody
catches); what is read here fails as an error.
Belongs here: that part of the footer. Does not belong here: schemas, which `pyarrow` reads; pages (`pages`).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from av_assets.domain.loading.pages import Read, thrift_struct

MAGIC: Final = b"PAR1"
MAX_FOOTER_BYTES: Final = 64 << 20
_UNCOMPRESSED: Final = 0


class ColumnChunk(NamedTuple):
    """One column of one row group; `as_is` where its pages are neither compressed nor point into a dictionary."""

    as_is: bool
    start: int
    stored_bytes: int
    plain_bytes: int


class RowGroup(NamedTuple):
    """One row group: its rows, and its columns by dotted path."""

    rows: int
    columns: dict[str, ColumnChunk]


def row_groups(read: Read, size: int) -> list[RowGroup]:
    """The row groups of a file of `size` bytes.

    Raises:
        ValueError: it has no such footer.
    """
    tail = read(size - 8, 8)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != MAGIC or not 0 < length <= min(size - 12, MAX_FOOTER_BYTES):
        raise ValueError("the file does not end with a footer")
    try:
        fields = thrift_struct(read(size - 8 - length, length))
        return [_group(group) for group in fields[4]]
    except (IndexError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError(f"the footer is damaged: {type(error).__name__}") from error


def _group(fields: dict[int, Any]) -> RowGroup:
    columns = {}
    for column in fields[1]:
        about = column[3]
        path = ".".join(part.decode() for part in about[3])
        as_is = about[4] == _UNCOMPRESSED and 11 not in about
        columns[path] = ColumnChunk(as_is, _count(about[9]), _count(about[7]), _count(about[6]))
    return RowGroup(_count(fields[3]), columns)


def _count(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError("the footer holds a size that is none")
    return value
