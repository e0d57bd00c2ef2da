"""Rows of events out of clip files: clip, policy, evidence, and stamps that are not what they should be."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from av_assets.domain.errors import SyncError
from av_assets.domain.events.detectors import KINDS, detect_events, events_under
from av_assets.policies.events import EventsPolicy

if TYPE_CHECKING:
    from pathlib import Path

POLICY = EventsPolicy.load()
S = 1_000_000_000


def _times(rate_hz: float, seconds: float = 20.0) -> np.ndarray:
    return np.rint(np.arange(round(seconds * rate_hz)) * (S / rate_hz)).astype(np.int64)


def _dip(t: np.ndarray, start_s: float, length_s: float, depth: float) -> np.ndarray:
    """A braking with ramps of 0.2 s."""
    s = t / S
    return -depth * np.clip(np.minimum(s - start_s, start_s + length_s - s) / 0.2, 0.0, 1.0)


def _clips(folder: Path, stamps: np.ndarray, accel: np.ndarray) -> list[Path]:
    for number in range(len(stamps) // 50):
        rows = slice(number * 50, number * 50 + 50)
        signals = pa.StructArray.from_arrays([pa.array(accel[rows])], names=["accel_mps2"])
        columns = {"clip_id": [f"d/{number:05d}"] * 50, "ref_ns": stamps[rows], "signals": signals}
        pq.write_table(pa.table(columns), folder / f"{number:05d}.parquet")
    return sorted(folder.iterdir(), reverse=True)


def test_events_of_clip_files_carry_clip_policy_and_evidence(tmp_path: Path) -> None:
    t = _times(10)
    table = detect_events(_clips(tmp_path, t, _dip(t, 8.0, 2.0, 4.0)), POLICY)
    (row,) = table.to_pylist()
    assert (row["kind"], row["clip_id"], row["policy_digest"]) == ("harsh_brake", "d/00001", POLICY.digest)
    assert {row["start_ns"], row["end_ns"]} <= set(t.tolist())
    evidence = json.loads(row["evidence"])
    assert evidence["min_accel_mps2"] < -3.0
    assert 0 < len(evidence["samples"]) <= 20
    assert min(value for _, value in evidence["samples"]) == pytest.approx(-row["peak"], abs=1e-3)
    assert row["tags"] == ["lone_source"]
    assert set(json.loads(table.schema.metadata[b"reasons"])) == set(KINDS) - {"harsh_brake"}


def test_an_event_over_a_border_belongs_to_the_clip_that_it_starts_in(tmp_path: Path) -> None:
    t = _times(10)
    (row,) = detect_events(_clips(tmp_path, t, _dip(t, 9.0, 7.0, 4.0)), POLICY).to_pylist()
    assert row["clip_id"] == "d/00001"
    assert json.loads(row["evidence"])["also_in"] == ["d/00002", "d/00003"]
    assert len(json.loads(row["evidence"])["samples"]) == 20


def test_frames_out_of_order_are_sorted_and_repeated_stamps_refused(tmp_path: Path) -> None:
    t = _times(10)
    accel = _dip(t, 8.0, 2.0, 4.0)
    (expected,) = detect_events(_clips(tmp_path, t, accel), POLICY).to_pylist()
    order = np.random.default_rng(0).permutation(len(t))
    (shuffled,) = detect_events(_clips(tmp_path, t[order], accel[order]), POLICY).to_pylist()
    assert {k: shuffled[k] for k in ("start_ns", "end_ns", "peak")} == {
        k: expected[k] for k in ("start_ns", "end_ns", "peak")
    }
    t[7] = t[8]
    with pytest.raises(SyncError) as caught:
        detect_events(_clips(tmp_path, t, accel), POLICY)
    assert caught.value.code == "duplicate_stamps"


def test_a_back_test_is_the_detection_itself(tmp_path: Path) -> None:
    t = _times(10)
    clips = _clips(tmp_path, t, _dip(t, 8.0, 2.0, 4.0))
    assert events_under(clips, POLICY).equals(detect_events(clips, POLICY))
    strict = POLICY.model_copy(
        update={"brake": POLICY.brake.model_copy(update={"levels_mps2": (4.5, 5.0, 6.4)})}
    )
    assert events_under(clips, strict).num_rows == 0
    assert strict.digest != POLICY.digest


def test_no_clips_give_an_empty_table() -> None:
    assert detect_events([], POLICY).num_rows == 0
