"""Signals on disk: any window gives what all samples in memory would give, and late ones are told apart."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.errors import SyncError
from av_assets.domain.sync import signal_log
from av_assets.domain.sync.resample import Resampler
from av_assets.domain.sync.signal_log import SignalLog, SignalStore, StampFile
from av_assets.domain.sync.stamps import TopicClock, lags_ns, stamps_of
from av_assets.policies.sync import SyncPolicy

if TYPE_CHECKING:
    from pathlib import Path

POLICY = SyncPolicy.load()
MS = 1_000_000
START = 1_748_764_800_123_456_789


def _store(
    folder: Path,
    series: dict[str, tuple[np.ndarray, np.ndarray]],
    policy: SyncPolicy = POLICY,
    piece: int = 7,
) -> SignalStore:
    """Signals of a topic each, added in pieces; log time is one millisecond after sensor time at its latest."""
    log = SignalLog(folder)
    for name, (stamps, values) in series.items():
        log_ns = np.maximum.accumulate(stamps) + MS
        for at in range(0, len(stamps), piece):
            part = slice(at, at + piece)
            log.add(f"/{name}", [name], stamps[part], log_ns[part], values[part, None])
    log.close()
    topics = [f"/{name}" for name in series]
    return SignalStore(folder, topics, dict.fromkeys(topics, TopicClock()), policy)


times = st.lists(st.integers(0, 400), min_size=1, max_size=60).map(
    lambda v: np.array(v, np.int64) * MS + START
)


@settings(max_examples=40)
@given(times, st.integers(0, 400), st.integers(0, 100), st.integers(1, 9))
def test_a_window_holds_the_samples_of_its_time_wherever_they_were_recorded(
    tmp_path_factory: pytest.TempPathFactory, stamps: np.ndarray, start: int, length: int, piece: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signal_log, "BUFFER_BYTES", 100)  # many blocks
        store = _store(
            tmp_path_factory.mktemp("s"), {"a": (stamps, np.arange(len(stamps)) * 1.0)}, POLICY, piece
        )
    first, last = START + start * MS, START + (start + length) * MS
    found, values = store.reader(first, last)("a")
    inside = (stamps >= first) & (stamps <= last)
    np.testing.assert_array_equal(found, stamps[inside])
    np.testing.assert_array_equal(values, np.flatnonzero(inside))


@settings(max_examples=40)
@given(times, st.integers(2, 12), st.sampled_from(["linear", "hold"]))
def test_windows_do_not_show_in_resampled_signals(
    tmp_path_factory: pytest.TempPathFactory, stamps: np.ndarray, parts: int, mode: str
) -> None:
    policy = POLICY.model_copy(update={"hold_signals": ("a",) if mode == "hold" else ()})
    store = _store(tmp_path_factory.mktemp("s"), {"a": (stamps, np.sin(stamps / 1e8))}, policy)
    ref = np.arange(40, dtype=np.int64) * 10 * MS + START
    resampler = Resampler(store, policy)
    whole = resampler.rows(ref).values["a"]
    pieces = np.concatenate([resampler.rows(part).values["a"] for part in np.array_split(ref, parts)])
    np.testing.assert_array_equal(whole, pieces)


STEADY = np.arange(0, 1000, 10, dtype=np.int64) * MS + START
REF = np.array([-600, 0, 505, 990, 1100, 1900], np.int64) * MS + START


@pytest.mark.parametrize(
    ("rule", "known"),
    [("null", [0, 1, 1, 1, 0, 0]), ("hold", [0, 1, 1, 1, 1, 0]), ("drop", [0, 1, 1, 1, 0, 0])],
)
def test_rows_beyond_the_samples_follow_the_boundary_policy(
    tmp_path: Path, rule: str, known: list[int]
) -> None:
    policy = POLICY.model_copy(update={"boundary": {**POLICY.boundary, "linear": rule}})
    values = STEADY.astype(np.float64) - START
    found = Resampler(_store(tmp_path, {"a": (STEADY, values)}, policy), policy).rows(REF)
    np.testing.assert_array_equal(np.isfinite(found.values["a"]), np.array(known, np.bool_))
    np.testing.assert_array_equal(found.keep, np.isfinite(found.values["a"]) | (rule != "drop"))
    assert found.counts["a"] == {"valid": sum(known), "boundary": 3, "held": sum(known) - 3}
    if rule == "hold":
        assert found.values["a"][4] == values[-1]


def test_a_boundary_may_be_refused(tmp_path: Path) -> None:
    policy = POLICY.model_copy(update={"boundary": {**POLICY.boundary, "linear": "error"}})
    resampler = Resampler(_store(tmp_path, {"a": (STEADY, np.ones(len(STEADY)))}, policy), policy)
    assert np.isfinite(resampler.rows(REF[1:4]).values["a"]).all()
    with pytest.raises(SyncError, match="3 rows"):
        resampler.rows(REF)


def test_a_gap_limit_can_be_set_by_signal(tmp_path: Path) -> None:
    stamps = STEADY[::30]  # every 300 ms
    resampled = {}
    for limit in ({"a": 0.2}, {"a": 0.4}):
        folder = tmp_path / str(limit["a"])
        folder.mkdir()
        policy = POLICY.model_copy(update={"max_gap_s": limit})
        store = _store(folder, {"a": (stamps, np.ones(len(stamps)))}, policy)
        resampled[limit["a"]] = Resampler(store, policy).rows(STEADY[:60]).values["a"]
    assert np.isfinite(resampled[0.2]).sum() == 2
    assert np.isfinite(resampled[0.4]).all()


def test_samples_behind_the_watermark_are_sorted_in_or_dropped(tmp_path: Path) -> None:
    late = np.concatenate([STEADY[:60], STEADY[:5] + MS, STEADY[60:]])
    seen = {}
    for rule in ("sort", "drop"):
        (tmp_path / rule).mkdir()
        policy = POLICY.model_copy(update={"out_of_order": rule, "watermark_s": 0.3})
        store = _store(tmp_path / rule, {"a": (late, np.arange(len(late)) * 1.0)}, policy)
        seen[rule] = len(store.reader(START, START + 10**10)("a")[0])
        assert store.groups[0].late == 5
    assert seen == {"sort": 105, "drop": 100}


def test_one_stamp_from_the_future_makes_nothing_late() -> None:
    used = STEADY.copy()
    used[10] += 3600 * 10**9
    lag, _ = lags_ns(used, STEADY + MS, 2 * 10**9)
    assert lag.max() <= 2 * 10**9 + MS


@given(times, st.integers(1, 59))
def test_lags_do_not_depend_on_where_a_stream_is_cut(stamps: np.ndarray, at: int) -> None:
    log_ns = np.sort(stamps) + MS
    whole, reach = lags_ns(stamps, log_ns, 50 * MS)
    first, before = lags_ns(stamps[:at], log_ns[:at], 50 * MS)
    second, end = lags_ns(stamps[at:], log_ns[at:], 50 * MS, before)
    np.testing.assert_array_equal(whole, np.concatenate([first, second]))
    assert end == reach


def test_a_late_payload_is_kept_dropped_or_refused() -> None:
    sensor = STEADY.copy()
    sensor[50] -= 400 * MS
    rules: dict[str, Any] = {
        r: POLICY.model_copy(update={"out_of_order": r, "watermark_s": 0.2})
        for r in ("sort", "drop", "error")
    }
    plain = stamps_of("/a", sensor, STEADY, TopicClock(), rules["sort"])
    assert (len(plain.kept), plain.late) == (100, 1)
    assert 50 not in stamps_of("/a", sensor, STEADY, TopicClock(), rules["drop"]).kept
    with pytest.raises(SyncError) as caught:
        stamps_of("/a", sensor, STEADY, TopicClock(), rules["error"])
    assert caught.value.code == "out_of_order"


def test_the_first_topic_of_the_contract_names_a_signal(tmp_path: Path) -> None:
    log = SignalLog(tmp_path)
    for number, topic in enumerate(("/second", "/first", "/first")):
        names = ["speed", "x"] if number < 2 else ["speed"]
        log.add(topic, names, STEADY[:3] + number, STEADY[:3], np.full((3, len(names)), float(number)))
    log.close()
    clocks = dict.fromkeys(("/first", "/second"), TopicClock())
    store = SignalStore(tmp_path, ["/first", "/second"], clocks, POLICY)
    stamps, values = store.reader(START, START + 10**10)("speed")
    assert (store.source("speed"), sorted(set(values.tolist())), len(stamps)) == ("/first", [1.0, 2.0], 6)
    assert replace(TopicClock(), name="log_time").used_ns(STEADY, STEADY + 1)[0] == START + 1


def test_a_long_file_of_stamps_is_judged_by_runs_of_neighbours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal_log, "SAMPLE_ROWS", 64)
    np.stack([STEADY, STEADY + MS], axis=1).tofile(tmp_path / "a.stamps")
    sensor_ns, log_ns = StampFile(tmp_path / "a.stamps").sample()
    assert len(sensor_ns) == 64
    assert set(sensor_ns.tolist()) <= set(STEADY.tolist())
    assert (sensor_ns[0], sensor_ns[-1]) == (STEADY[0], STEADY[-1])
    np.testing.assert_array_equal(log_ns - sensor_ns, np.full(64, MS))
