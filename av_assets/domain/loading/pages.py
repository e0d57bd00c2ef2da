"""Where the cells of an uncompressed, PLAIN encoded Parquet column lie in the file.

A picture can then be read by itself, without decoding the row group around it. Format: the Parquet specification
(parquet.thrift, Thrift compact protocol, RLE / bit-packed hybrid). The file may be anything: every number is checked
against the place that it speaks of.
Belongs here: page headers, definition levels, byte ranges. Does not belong here: footers, compressed pages, what the
bytes mean: `pyarrow` reads those.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Read = Callable[[int, int], bytes]
"""(start, length) -> exactly these bytes of the file; raises ValueError where there are fewer."""

DATA_PAGE, INDEX_PAGE, DICTIONARY_PAGE, DATA_PAGE_V2 = range(4)
PLAIN, RLE = 0, 3
ABSENT: Final = -1
_FIRST_LOOK, _LONGEST_HEADER, _DEEPEST = 128, 1 << 20, 16
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
_INTEGERS = (4, 5, 6)


class Chunk(NamedTuple):
    """A column chunk: its bytes in the file, its rows, and the definition level of a cell that is there."""

    start: int
    length: int
    rows: int
    level: int


class _Page(NamedTuple):
    """The values of one data page, at `start` up to `end`; `levels` (n,) uint8 of its rows."""

    start: int
    end: int
    levels: NDArray[np.uint8]


def cell_ranges(read: Read, chunk: Chunk) -> NDArray[np.int64] | None:
    """(rows, 2) start in the file and length of each byte-array cell; length is ABSENT where the cell is null.

    None where a page is of a kind whose cells do not lie in the file as they are (a dictionary, another encoding).

    Raises:
        ValueError: the bytes are no pages, or contradict each other.
    """
    ranges = np.full((chunk.rows, 2), ABSENT, np.int64)
    position, end, row = chunk.start, chunk.start + chunk.length, 0
    while row < chunk.rows:
        header, body = _header(read, position, end)
        position = body + _within(header, 3, end - body)
        if header.get(2) != header.get(3):
            raise ValueError("an uncompressed page has two sizes")
        if header.get(1) == INDEX_PAGE:
            continue
        page = _data_page(read, header, body, position, chunk)
        if page is None:
            return None
        if not 0 < len(page.levels) <= chunk.rows - row:
            raise ValueError(f"a page holds {len(page.levels)} of {chunk.rows - row} rows that are left")
        _walk(read, page, chunk.level, ranges[row : row + len(page.levels)])
        row += len(page.levels)
    return ranges


def _walk(read: Read, page: _Page, level: int, ranges: NDArray[np.int64]) -> None:
    """Fill in the ranges of one page: a cell is its length in four bytes, then its bytes."""
    position = page.start
    for row in np.flatnonzero(page.levels == level).tolist():
        if position + 4 > page.end:
            raise ValueError("a page ends before its cells")
        length = int.from_bytes(read(position, 4), "little")
        position += 4
        if length > page.end - position:
            raise ValueError("a cell ends behind its page")
        ranges[row] = position, length
        position += length
    if position != page.end:
        raise ValueError("a page holds more than its cells")


def _data_page(read: Read, header: dict[int, Any], body: int, end: int, chunk: Chunk) -> _Page | None:
    kind = header.get(1)
    about = header.get(5 if kind == DATA_PAGE else 8)
    if kind not in (DATA_PAGE, DATA_PAGE_V2):
        return None
    if not isinstance(about, dict):
        raise ValueError("a data page without a header of its own")
    count = _within(about, 1, chunk.rows)
    if kind == DATA_PAGE_V2:
        return _second_version(read, about, count, body, end, chunk.level)
    if about.get(2) != PLAIN or (chunk.level and about.get(3) != RLE):
        return None
    if not chunk.level:
        return _Page(body, end, np.zeros(count, np.uint8))
    if end - body < 4:
        raise ValueError("a page ends before its levels")
    length = int.from_bytes(read(body, 4), "little")
    if length > end - body - 4:
        raise ValueError("levels end behind their page")
    levels = run_lengths(read(body + 4, length), count, chunk.level)
    return _Page(body + 4 + length, end, levels)


def _second_version(
    read: Read, about: dict[int, Any], count: int, body: int, end: int, level: int
) -> _Page | None:
    if about.get(4) != PLAIN or about.get(6, 0) != 0:
        return None
    length = _within(about, 5, end - body)
    levels = run_lengths(read(body, length), count, level) if level else np.zeros(count, np.uint8)
    return _Page(body + length, end, levels)


def run_lengths(data: bytes, count: int, most: int) -> NDArray[np.uint8]:
    """(count,) levels of the RLE / bit-packed hybrid of Parquet, each at most `most` (itself below 256).

    Raises:
        ValueError: fewer than `count` levels, or a level above `most`.
    """
    width = most.bit_length()
    levels, filled, position = np.empty(count, np.uint8), 0, 0
    while filled < count:
        run, position = _varint(data, position)
        if run & 1:
            packed = (run >> 1) * width  # groups of 8 values: `width` bytes each
            if packed == 0 or position + packed > len(data):
                raise ValueError("levels end in the middle of a group")
            bits = np.unpackbits(np.frombuffer(data, np.uint8, packed, position), bitorder="little")
            values = np.packbits(bits.reshape(-1, width), axis=1, bitorder="little")[:, 0]
            taken = min(len(values), count - filled)
            levels[filled : filled + taken] = values[:taken]
            position += packed
        else:
            taken = min(run >> 1, count - filled)
            if taken == 0 or position >= len(data):
                raise ValueError("levels end in the middle of a run")
            levels[filled : filled + taken] = data[position]
            position += 1
        filled += taken
    if count and levels.max() > most:
        raise ValueError("a level is above the deepest of the schema")
    return levels


def _header(read: Read, start: int, end: int) -> tuple[dict[int, Any], int]:
    """The fields of a page header, and where the page's body starts."""
    look = _FIRST_LOOK
    while True:
        window = min(look, end - start)
        if window <= 0:
            raise ValueError("a column ends before its rows")
        data = read(start, window)
        try:
            fields, used = _struct(data, 0, 0)
        except IndexError:
            # Statistics may make a header long; nothing makes it longer than this.
            if window == end - start or look >= _LONGEST_HEADER:
                raise ValueError("a page header does not end") from None
            look *= 8
        else:
            return fields, start + used


def _within(fields: dict[int, Any], number: int, most: int) -> int:
    value = fields.get(number)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(f"field {number} of a page header is {value}, not in 0..{most}")
    return value


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data):
            raise IndexError("a number is cut off")
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def thrift_struct(data: bytes) -> dict[int, Any]:
    """Field number -> value of a struct in the compact protocol of Thrift.

    Raises:
        IndexError: it is cut off. ValueError: it is none.
    """
    return _struct(data, 0, 0)[0]


def _struct(data: bytes, position: int, depth: int) -> tuple[dict[int, Any], int]:
    """Field number -> value of a Thrift struct in the compact protocol, and the position behind it."""
    fields: dict[int, Any] = {}
    number = 0
    while True:
        head, position = data[position], position + 1
        if head == 0:
            return fields, position
        if head >> 4:
            number += head >> 4
        else:
            raw, position = _varint(data, position)
            number = (raw >> 1) ^ -(raw & 1)
        fields[number], position = _value(data, position, head & 15, depth)


def _value(data: bytes, position: int, kind: int, depth: int) -> tuple[Any, int]:
    if depth > _DEEPEST:
        raise ValueError("a page header is nested too deeply")
    if kind in (_TRUE, _FALSE):
        return kind == _TRUE, position
    if kind == _BYTE:
        return data[position], position + 1
    if kind in _INTEGERS:
        raw, position = _varint(data, position)
        return (raw >> 1) ^ -(raw & 1), position
    if kind == _DOUBLE:
        return struct.unpack("<d", _slice(data, position, 8))[0], position + 8
    if kind == _BINARY:
        length, position = _varint(data, position)
        return _slice(data, position, length), position + length
    if kind in (_LIST, _SET):
        return _items(data, position, depth + 1)
    if kind == _STRUCT:
        return _struct(data, position, depth + 1)
    raise ValueError(f"a page header holds a value of kind {kind}")


def _items(data: bytes, position: int, depth: int) -> tuple[list[Any], int]:
    head, position = data[position], position + 1
    count, kind = head >> 4, head & 15
    if count == 15:
        count, position = _varint(data, position)
    found = []
    for _ in range(count):
        if kind in (_TRUE, _FALSE):  # inside lists a truth value takes a byte
            item, position = data[position] == _TRUE, position + 1
        else:
            item, position = _value(data, position, kind, depth)
        found.append(item)
    return found, position


def _slice(data: bytes, position: int, length: int) -> bytes:
    if position + length > len(data):
        raise IndexError("bytes are cut off")
    return data[position : position + length]
