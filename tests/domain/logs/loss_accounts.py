"""What a reader says that it lost, held against what of a log is still in its broken copy.

A message whose bytes are still in the file, and which is not given, has to be in the account: either by the bytes that
the reader notes as lost, or by a number of messages that it says are missing. That some damage was noted
somewhere is not enough.
Belongs here: that rule. Does not belong here: breaking logs (`broken_logs`), whether messages are genuine.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from av_assets.domain.logs.reader import LogReader

if TYPE_CHECKING:
    from broken_logs import Broken

    from av_assets.domain.logs.recovery.report import SalvageReport

Key = tuple[str, int, bytes]
PAGE_BYTES = 4096  # of a database, and how many small messages one of them holds
MAX_ROWS = 64
# Of a compressed chunk nobody knows which bytes hold which message; the head of a chunk holds none.
NEARLY = 0.9
HEAD_BYTES = 25  # before the size of a chunk, with the first and last log time of it
CHUNK_HEAD_BYTES = 128
# What alone says nothing about messages: an index can be missing and all of them be there.
OF_THE_INDEX = frozenset({"no_footer", "no_index", "bad_index", "bad_data_crc", "bad_magic", "hot_journal"})


class Place(NamedTuple):
    """Where a message stands in its file: bytes [start, end), by estimate in what is compressed."""

    start: int
    end: int
    estimated: bool


class Whole(NamedTuple):
    """A log as it was. `at` has no message of a file that is packed as a whole, and none of a database."""

    path: Path
    data: bytes
    keys: Counter[Key]
    at: dict[Key, Place]
    places: list[float]
    block_bytes: int
    per_block: int


class Account(NamedTuple):
    """What was said: reason codes, bytes lost, and how many messages are told to be missing."""

    codes: set[str]
    bytes_lost: int
    missing: int


def whole(path: Path) -> Whole:
    if path.is_dir():
        path = next(p for p in path.iterdir() if p.suffix != ".yaml")
    data = path.read_bytes()
    with LogReader(path) as reader:
        blocks = [block for source in reader.sources for block in source.blocks if block.length]
        keys = Counter((raw.topic, raw.log_ns, raw.data) for raw in reader.messages())
        at = _places(reader, data)
    times = [log_ns for _, log_ns, _ in keys.elements()]
    starts = [block.offset for block in blocks]
    inside = [sum(block.start_ns <= log_ns <= block.end_ns for log_ns in times) for block in blocks]
    places = [(start + step) / len(data) for start in starts[:40] for step in (0, 1, 9, 25, 33, 41)]
    ends = [(len(data) - back) / len(data) for back in (8, 20, 29, 37, 200)]
    begins = [place / len(data) for place in (8, 13, 17, 60)]
    size = min((block.length for block in blocks), default=PAGE_BYTES)
    per_block = max(inside, default=MAX_ROWS)
    return Whole(path, data, keys, at, [*places, *ends, *begins], size, per_block)


def _places(reader: LogReader, data: bytes) -> dict[Key, Place]:
    """Each message where its bytes are found, else where its part of its block would be."""
    found: dict[Key, Place] = {}
    for source in reader.sources:
        for block in source.blocks:
            end = block.offset + block.length
            if not block.length or end > len(data):
                continue
            raws = list(source.read(block, frozenset(source.channels)))
            alone = _each(data, [raw.data for raw in raws], block.offset, end)
            # Compressed by itself, a message is not found, but its head is.
            heads = _each(data, [raw.log_ns.to_bytes(8, "little") for raw in raws], block.offset, end)
            scale, before = block.length / max(1, sum(len(raw.data) for raw in raws)), 0
            for number, raw in enumerate(raws):
                start, after = (block.offset + int(size * scale) for size in (before, before + len(raw.data)))
                place = Place(start, after, True)
                if alone[number] >= 0:
                    place = Place(alone[number], alone[number] + len(raw.data), False)
                elif min(heads) >= 0:
                    place = Place(heads[number], heads[number] + 8, False)
                found[raw.topic, raw.log_ns, raw.data] = place
                before += len(raw.data)
    return found


def _each(data: bytes, wanted: list[bytes], start: int, end: int) -> list[int]:
    """Where each of these stands behind the head of its block, each at a place of its own; -1 where none is."""
    behind: dict[bytes, int] = {}
    places = []
    for one in wanted:
        at = data.find(one, behind.get(one, start + HEAD_BYTES), end)
        behind[one] = at + len(one) if at >= 0 else end
        places.append(at)
    return places


def read(path: Path, log: Whole) -> tuple[Counter[Key], Account]:
    """All messages, and what the reader says about those that it does not give."""
    with LogReader(path) as reader:
        found = Counter((raw.topic, raw.log_ns, raw.data) for raw in reader.messages())
        damage = list(reader.damage.values())
        # What an index promised and reading did not give, the caller sees; a scan promises nothing.
        indexed = all(source.indexed for source in reader.sources)
        missing = max(0, reader.message_count - sum(found.values())) if indexed else 0
        codes = {code for one in damage for code in one.reasons}
        if "count_mismatch" in codes:
            missing += max(0, sum(log.keys.values()) - reader.message_count)
    return found, Account(codes, sum(one.bytes_lost for one in damage), missing)


def of_report(report: SalvageReport, log: Whole) -> Account:
    missing = report.lost or 0
    if "count_mismatch" in report.codes:
        missing = max(missing, sum(log.keys.values()) - report.messages)
    lost = sum(int(str(file.damage["bytes_lost"])) for file in report.files)
    return Account(set(report.codes), lost, missing)


def check_loss(log: Whole, broken: Broken, found: Counter[Key], false: list[Key], account: Account) -> None:
    """Nothing went without a word: not one message, and not fewer bytes than are there and were not given."""
    missing = list((log.keys - found).elements())
    for key in false:  # a message that was changed where nothing can tell is there, and so not lost
        same = [k for k in missing if k[:2] == key[:2] or k[2] == key[2]] or missing
        if same:
            missing.remove(max(same, key=lambda k: len(k[2])))
    # A message that is there twice hides one that is not there, in every count.
    twice = sum((found - log.keys).values()) - len(false)
    if not missing or account.missing >= max(1, len(missing) - twice):
        return
    assert account.codes, f"{len(missing)} messages went without a word"
    if not log.at:
        assert broken.only_cut or account.codes - OF_THE_INDEX, f"{len(missing)} messages: {account}"
        return
    there = broken.survivors()
    places = [log.at[key] for key in missing]
    lost = sum(int(there[place.end] - there[place.start]) for place in places)
    if any(place.estimated for place in places):
        lost = int(lost * NEARLY) - CHUNK_HEAD_BYTES
    assert account.bytes_lost >= lost, f"{len(missing)} messages, {lost} bytes: {account}"
