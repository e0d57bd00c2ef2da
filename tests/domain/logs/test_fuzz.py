"""Logs broken at random places: a typed error, or messages that are all genuine and an account of the others.

The outcome may never be another exception, a hang, memory that follows a claimed length, or a silent loss.
`--hypothesis-profile=nightly` runs ten times as many cases, others each time.
"""

from __future__ import annotations

import resource
import time
import tracemalloc
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from log_writers import drive, store, write_rosbag2

from av_assets.domain.errors import AvError, LogError
from av_assets.domain.logs.inspect import inspect_log
from av_assets.domain.logs.reader import LogReader
from av_assets.domain.logs.recover import salvage_log

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from hypothesis.strategies import DrawFn

NIGHTLY = settings.get_current_profile_name() == "nightly"
CASES = 2000 if NIGHTLY else 200
MAX_SECONDS = 10
MAX_PYTHON_BYTES = 96 << 20  # the logs are below 1 MB
MAX_GROWTH_BYTES = 768 << 20  # of the process over all cases, decoders outside of Python included

# Chunks of these carry checksums: no byte of theirs may change unnoticed.
CHECKED = ("mcap_none", "mcap_lz4", "mcap_zstd", "mcap_ros1")
# These carry none, and store messages as they are: a changed byte shows where it stands.
PLAIN = ("bag_none", "mcap_unchunked", "rosbag2_mcap", "db3")
# The stream has checksums, the names of the connections beside it have none.
STREAM_CHECKED = ("bag_bz2",)
# No checksums, and not stored as they are: only how many messages are touched can be told.
PACKED = ("bag_lz4", "db3_per_message", "mcap_per_message", "mcap_file", "db3_file")
NAMES = (*CHECKED, *PLAIN, *STREAM_CHECKED, *PACKED)
REAL = ("bags/fox_example_lz4.bag", "bags/fox_example_bz2.bag", "bags/ouster_512x10_raw.bag")
MIN_BYTES = 64  # less is another test's business
NEAR_BYTES = 256  # a record header stands before its message, and says whose it is and when it came
PAGE_BYTES = 4096  # of a database, and how many small messages one of them holds
MAX_ROWS = 64

Key = tuple[str, int, bytes]


class Change(NamedTuple):
    kind: str
    at: float
    length: int
    other: float
    value: int


@dataclass
class Broken:
    """A damaged copy. `touched` are ranges of it that are not as they were."""

    data: bytearray
    touched: list[tuple[int, int]] = field(default_factory=list)
    only_cut: bool = True

    def apply(self, change: Change) -> None:
        size = len(self.data)
        if size < MIN_BYTES:
            return
        at = min(size - 1, int(change.at * size))
        end = min(size, at + change.length)
        other = min(size - 1, int(change.other * size))
        block = bytes(self.data[at:end])
        self.only_cut &= change.kind == "cut"
        if change.kind == "cut":
            del self.data[max(MIN_BYTES, at) :]
        elif change.kind == "flip":
            self._set(at, bytes([self.data[at] ^ (change.value % 255 + 1)]))
        elif change.kind == "zero":
            self._set(at, bytes(end - at))
        elif change.kind == "noise":
            self._set(at, bytes((b * 31 + change.value) % 256 for b in block))
        elif change.kind == "claim":  # a length that promises the moon
            self._set(at, (1 << (change.value % 63)).to_bytes(8, "little")[: 4 + 4 * (change.value % 2)])
        elif change.kind == "copy":
            self._set(other, block)
        elif change.kind == "swap":
            there = bytes(self.data[other : other + len(block)])
            self._set(at, there)
            self._set(other, block)
        elif change.kind == "repeat":
            self._insert(other, block)
        else:
            self._remove(at, end)

    def _set(self, at: int, block: bytes) -> None:
        block = block[: len(self.data) - at]
        self.data[at : at + len(block)] = block
        self.touched.append((at, at + len(block)))

    def _insert(self, at: int, block: bytes) -> None:
        self.data[at:at] = block
        self.touched = [(a + len(block), b + len(block)) if a >= at else (a, b) for a, b in self.touched]
        self.touched.append((at, at + len(block)))

    def _remove(self, at: int, end: int) -> None:
        del self.data[at:end]
        self.touched = [(max(at, a - (end - at)), max(at, b - (end - at))) if a >= at else (a, b)
                        for a, b in self.touched]  # fmt: skip
        self.touched.append((at, at + 1))

    def shows(self, data: bytes) -> bool:
        """Whether a message with these bytes stands where something was changed, its header included."""
        near = ((max(0, a - len(data)), b + NEAR_BYTES + len(data)) for a, b in self.touched)
        return any(data in self.data[start:end] for start, end in near)

    def blocks(self, size: int) -> int:
        """How many blocks of at least that size the changes can have reached."""
        return sum((b - a) // size + 2 for a, b in self.touched)


KINDS = ("cut", "flip", "zero", "noise", "claim", "copy", "swap", "repeat", "remove")


@st.composite
def changes(draw: DrawFn, places: Sequence[float], size: int) -> list[Change]:
    """One to three changes, a third of them where the structure of the file is."""
    # Scattered, because small numbers come more often and most of a file is not its beginning.
    anywhere = st.integers(0, (1 << 32) - 1).map(lambda n: (n + 1) * 2654435761 % (1 << 32) / (1 << 32))
    somewhere = st.one_of(anywhere, anywhere, st.sampled_from(list(places)))
    one = st.builds(
        Change,
        st.sampled_from(KINDS),
        somewhere,
        st.one_of(st.integers(1, 64), st.integers(1, size // 20)),
        somewhere,
        st.integers(0, 1 << 16),
    )
    return draw(st.lists(one, min_size=1, max_size=3))


class Whole(NamedTuple):
    """A log as it was."""

    path: Path
    data: bytes
    keys: Counter[Key]
    places: list[float]
    block_bytes: int
    per_block: int


def read(path: Path) -> tuple[Counter[Key], set[str]]:
    """All messages, and the codes of the damage that was noted."""
    with LogReader(path) as reader:
        found = Counter((raw.topic, raw.log_ns, raw.data) for raw in reader.messages())
        codes = {code for damage in reader.damage.values() for code in damage.reasons}
    return found, codes


def whole(path: Path) -> Whole:
    if path.is_dir():
        path = next(p for p in path.iterdir() if p.suffix != ".yaml")
    data = path.read_bytes()
    with LogReader(path) as reader:
        blocks = [block for source in reader.sources for block in source.blocks if block.length]
        times = [raw.log_ns for raw in reader.messages()]
    starts = [block.offset for block in blocks]
    inside = [sum(block.start_ns <= log_ns <= block.end_ns for log_ns in times) for block in blocks]
    places = [(start + step) / len(data) for start in starts[:40] for step in (0, 1, 9, 25, 33, 41)]
    ends = [(len(data) - back) / len(data) for back in (8, 20, 29, 37, 200)]
    begins = [at / len(data) for at in (8, 13, 17, 60)]
    size = min((block.length for block in blocks), default=PAGE_BYTES)
    per_block = max(inside, default=MAX_ROWS)
    return Whole(path, data, read(path)[0], [*places, *ends, *begins], size, per_block)


@pytest.fixture(scope="module")
def logs(small_logs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Whole]:
    folder, types = tmp_path_factory.mktemp("packed"), store()
    sent = drive(types, 1.0)
    packed = {
        "mcap_per_message": write_rosbag2(folder / "mcap_message", sent, types, "MCAP", "MESSAGE"),
        "mcap_file": write_rosbag2(folder / "mcap_file", sent, types, "MCAP", "FILE"),
        "db3_file": write_rosbag2(folder / "db3_file", sent, types, "SQLITE3", "FILE"),
    }
    return {name: whole({**small_logs, **packed}[name]) for name in NAMES}


@pytest.fixture(scope="module", autouse=True)
def memory_is_bounded() -> Iterator[None]:
    """Of the process: what decoders take outside of Python counts as well."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    yield
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    assert grown < MAX_GROWTH_BYTES


def judge(name: str, log: Whole, broken: Broken, found: Counter[Key], codes: set[str]) -> None:
    """Every message is genuine, but for the narrow cases that no reader could tell."""
    false = [key for key in (found - log.keys).elements() if key not in log.keys]
    # The checksum of a chunk that ends early is gone with its end or its length.
    unproven = bool(codes & {"cut_chunk", "cut_record"}) and not broken.only_cut
    if name in CHECKED and not unproven:
        assert not false
    elif name in STREAM_CHECKED and not unproven:
        contents = {(log_ns, data) for _, log_ns, data in log.keys}
        assert all((log_ns, data) in contents for _, log_ns, data in false)
    elif name in PLAIN:
        contents = {data for _, _, data in log.keys}
        for _, _, data in false:
            split = name == "db3" and data not in broken.data  # rows of more than a page are stored in pieces
            assert data in contents or split or broken.shows(data)
    elif name in PACKED:
        assert len(false) <= log.per_block * broken.blocks(log.block_bytes)
    if broken.only_cut:
        assert not false
    # A message that was changed where nothing can tell is there, and so not lost.
    missing = sum((log.keys - found).values()) - len(false)
    assert missing <= 0 or codes, f"{missing} messages went without a word"


def examine(name: str, log: Whole, broken: Broken, folder: Path) -> None:
    path, out = folder / f"broken{log.path.suffix}", folder / "out.mcap"
    path.write_bytes(broken.data)
    started = time.process_time()
    tracemalloc.start()
    try:
        verdict = inspect_log(path)
        try:
            found, codes = read(path)
        except AvError as error:
            assert verdict.state == "quarantined"
            found, codes = Counter(), {error.code}
        try:
            report = salvage_log(path, out, overwrite=True)
            recovered, lost = read(out)[0], set(report.codes)
        except LogError as error:
            recovered, lost = Counter(), {error.code}
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < MAX_SECONDS
    assert peak < MAX_PYTHON_BYTES
    assert recovered or lost == {"nothing_to_salvage"}
    told = codes if verdict.state == "ok" else {*codes, verdict.code}
    judge(name, log, broken, found, told)
    judge(name, log, broken, recovered, lost)
    genuine = sum((found & log.keys).values())
    assert sum((recovered & log.keys).values()) >= genuine, "recovery gives less than reading does"


def fuzz(name: str, kind: str, log: Whole, folder: Path, cases: int) -> None:
    """The same cases at every run, others for every log; nightly ones are others each time."""

    @settings(
        max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],  # a case is three changes at most; making them smaller takes minutes
    )  # fmt: skip
    @given(changes(log.places, len(log.data)))
    def run(drawn: list[Change]) -> None:
        broken = Broken(bytearray(log.data))
        for change in drawn:
            broken.apply(change)
        examine(kind, log, broken, folder)

    (run if NIGHTLY else seed(zlib.crc32(name.encode()))(run))()


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_log_never_lies(
    name: str, logs: dict[str, Whole], tmp_path_factory: pytest.TempPathFactory
) -> None:
    fuzz(name, name, logs[name], tmp_path_factory.mktemp("fuzz"), -(-CASES // len(NAMES)))


@pytest.mark.parametrize("name", REAL)
def test_a_broken_real_log_never_lies(
    name: str, real_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kind = "bag_bz2" if "bz2" in name else "bag_lz4" if "lz4" in name else "bag_none"
    fuzz(name, kind, whole(real_data / name), tmp_path_factory.mktemp("fuzz"), CASES // 40)
