"""Logs broken at random places: a typed error, or messages that are all genuine and an account of the others.

The outcome may never be another exception, a hang, memory that follows a claimed length, or a silent loss. What counts
as told is the business of `loss_accounts`. In the profile `ci` the same 200 cases run each time; others, and as
many as the profile asks for, run with `pytest tests/domain/logs/test_fuzz.py --hypothesis-profile=nightly`.
"""

from __future__ import annotations

import resource
import time
import tracemalloc
import zlib
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from broken_logs import Broken, Change, changes
from hypothesis import HealthCheck, Phase, given, seed, settings
from log_writers import drive, store, write_rosbag2
from loss_accounts import Account, Key, Whole, check_loss, of_report, read, whole

from av_assets.domain.errors import AvError, LogError
from av_assets.domain.logs.inspect import inspect_log
from av_assets.domain.logs.recovery.salvage import salvage_log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NIGHTLY = settings.get_current_profile_name() == "nightly"
CASES = settings.default.max_examples if NIGHTLY else 200  # over all logs together
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


def judge(name: str, log: Whole, broken: Broken, found: Counter[Key], account: Account) -> None:
    """Every message is genuine, but for the narrow cases that no reader could tell, and every loss is told."""
    false = [key for key in (found - log.keys).elements() if key not in log.keys]
    # The checksum of a chunk that ends early is gone with its end or its length.
    unproven = bool(account.codes & {"cut_chunk", "cut_record"}) and not broken.only_cut
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
    check_loss(log, broken, found, false, account)


def examine(name: str, log: Whole, broken: Broken, folder: Path) -> None:
    path, out = folder / f"broken{log.path.suffix}", folder / "out.mcap"
    path.write_bytes(broken.data)
    nothing: Counter[Key] = Counter()
    started = time.process_time()
    tracemalloc.start()
    try:
        verdict = inspect_log(path)
        try:
            found, account = read(path, log)
        except AvError as error:
            assert verdict.state == "quarantined"
            found, account = nothing, Account({error.code}, len(broken.data), 0)
        try:
            told = of_report(salvage_log(path, out, overwrite=True), log)
            recovered = read(out, log)[0]
        except LogError as error:
            recovered, told = nothing, Account({error.code}, len(broken.data), 0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < MAX_SECONDS
    assert peak < MAX_PYTHON_BYTES
    assert recovered or told.codes == {"nothing_to_salvage"}
    assert verdict.code or sum(found.values()) >= sum(log.keys.values())
    judge(name, log, broken, found, account)
    judge(name, log, broken, recovered, told)
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
        broken = Broken(log.data)
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
