"""Pairs, counts, intervals and verdicts of back-tests, each against a second way to them."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.events.detectors import detect_events
from av_assets.domain.simulation import signals
from av_assets.domain.simulation.adjudications import adjudications_from_truth
from av_assets.domain.simulation.samples import sample_drives
from av_assets.domain.simulation.truth import event_windows
from av_assets.domain.simulation.world import World, build_world
from av_assets.domain.triggers.backtest import Adjudication, Alert, Backtest, Replay, backtest
from av_assets.domain.triggers.heatmap import heat_png
from av_assets.domain.triggers.intervals import rate_interval, share_interval
from av_assets.domain.triggers.matching import admissible, iou, match
from av_assets.domain.triggers.replay import available, can_change, kinds_touched, replay, track_of
from av_assets.policies.events import EventsPolicy
from av_assets.policies.triggers import TriggersPolicy

if TYPE_CHECKING:
    from pathlib import Path

    from av_assets.domain.simulation.script import DriveScript

POLICY = TriggersPolicy.load()
SHIPPED = EventsPolicy.load()
S = 10**9
windows = st.tuples(st.integers(0, 12), st.integers(0, 4)).map(lambda w: (w[0] * S, (w[0] + w[1]) * S))


@settings(max_examples=150)
@given(st.lists(windows, max_size=5), st.lists(windows, max_size=5))
def test_pairs_are_the_best_of_all_ways_to_pair(first: list[Any], second: list[Any]) -> None:
    """Brute force over all assignments: as many pairs as possible, then as much overlap as possible."""
    limits = POLICY.matching
    found = match(first, second, limits)
    assert len({p.first for p in found}) == len({p.second for p in found}) == len(found)
    assert all(admissible(first[p.first], second[p.second], limits) for p in found)
    small, large = (first, second) if len(first) <= len(second) else (second, first)
    best = (0, 0.0)
    for chosen in permutations(range(len(large)), len(small)):
        pairs = [(small[i], large[j]) for i, j in enumerate(chosen) if admissible(small[i], large[j], limits)]
        best = max(best, (len(pairs), sum(iou(a, b) for a, b in pairs)))
    total = sum(iou(first[p.first], second[p.second]) for p in found)
    assert len(found) == best[0]
    assert total == pytest.approx(best[1])
    assert len(match(second, first, limits)) == len(found)


@given(windows, windows)
def test_overlap_is_symmetric_and_full_only_for_the_same(
    one: tuple[int, int], other: tuple[int, int]
) -> None:
    assert iou(one, other) == iou(other, one)
    assert 0 <= iou(one, other) <= 1
    assert (iou(one, other) == 1) == (one == other)


@given(st.integers(0, 40), st.integers(0, 40))
def test_intervals_are_those_of_the_binomial_tails(hits: int, more: int) -> None:
    """Clopper and Pearson by definition: at each end the tail of the binomial holds half of what is left."""
    from scipy.stats import binom, poisson

    total = hits + more
    low, high = share_interval(hits, total, 0.95)
    assert 0 <= low <= (hits / total if total else 0.5) <= high <= 1
    if hits:
        assert binom.sf(hits - 1, total, low) == pytest.approx(0.025)
    if more:
        assert binom.cdf(hits, total, high) == pytest.approx(0.025)
    least, most = rate_interval(hits, 2.0, 0.95)
    assert poisson.cdf(hits, most * 2.0) == pytest.approx(0.025)
    if hits:
        assert poisson.sf(hits - 1, least * 2.0) == pytest.approx(0.025)


def test_a_published_interval_is_reproduced() -> None:
    """81 of 263, 95 %: (0.2527, 0.3676); Newcombe (1998), Statistics in Medicine 17, table I, method 5."""
    low, high = share_interval(81, 263, 0.95)
    assert (round(low, 4), round(high, 4)) == (0.2527, 0.3676)


def alert(start_s: float, kind: str = "harsh_brake", level: int = 1, cell: str | None = None) -> Alert:
    return Alert(kind, level, round(start_s * S), round((start_s + 2) * S), cell)


def judged(start_s: float, said: bool, drive: str = "d") -> Adjudication:
    return Adjudication(drive, "harsh_brake", round(start_s * S), round((start_s + 2) * S), said)


def run(active: list[Alert], proposed: list[Alert], rows: list[Adjudication], hours: float = 1.0) -> Backtest:
    return backtest([Replay("d", hours, tuple(active), tuple(proposed))], rows, ["harsh_brake"], POLICY)


def test_every_alert_is_true_false_or_unjudged_once() -> None:
    found = run(
        [alert(10), alert(20), alert(30)],
        [alert(10.5), alert(30, level=2), alert(40)],
        [judged(10, True), judged(20, False)],
    )
    (row,) = found.kinds
    assert (row["active_alerts"], row["active_unjudged"]) == (3, 1)
    assert (row["proposed_alerts"], row["proposed_unjudged"]) == (3, 2)
    assert (row["active_precision"], row["proposed_precision"]) == (0.5, 1.0)
    assert [
        (c["change"], c["start_ns"] / S, c["active_level"], c["proposed_level"], c["verdict"])
        for c in found.changes
    ] == [
        ("changed", 10.5, 1, 1, True),
        ("removed", 20.0, 1, None, False),
        ("changed", 30.0, 1, 2, None),
        ("added", 40.0, None, 1, None),
    ]


@given(st.lists(st.integers(0, 30), unique=True, max_size=12), st.data())
def test_the_lists_lead_from_the_active_alerts_to_the_proposed(
    starts: list[int], data: st.DataObject
) -> None:
    kept = [s for s in starts if data.draw(st.booleans())]
    active, proposed = [alert(10 * s) for s in starts], [alert(10 * s) for s in kept]
    found = run(active, proposed, [])
    assert {c["change"] for c in found.changes} <= {"removed"}
    assert len(found.changes) == len(starts) - len(kept)
    back = run(proposed, active, [])
    assert {c["change"] for c in back.changes} <= {"added"}
    same = run(active, active, [])
    assert same.changes == ()


def test_a_broken_limit_outweighs_lacking_evidence() -> None:
    many = [alert(10 * n) for n in range(8)]
    rows = [judged(10 * n, True) for n in range(8)]
    assert run(many, many, rows).state == "pass"
    assert run(many, many[:7], rows).state == "fail"
    assert run(many, many, rows[:4]).state == "insufficient"
    assert run(many, many, rows, hours=0.01).reasons == (
        "harsh_brake: 800.0 alerts/h, at most 400 are allowed",
        "0.010 h replayed of 0.02",
    )
    assert run(many, many, rows, hours=0.01).state == "fail"
    assert run([], [], [], hours=0.0).state == "insufficient"


def test_losing_every_judged_alert_is_told_though_precision_is_not_known() -> None:
    rows = [judged(10 * n, True) for n in range(5)]
    found = run([alert(10 * n) for n in range(5)], [alert(500)], rows)
    assert found.state == "fail"
    assert any("recall 1.000 -> 0.000" in reason for reason in found.reasons)
    assert any("no alert that was judged is left" in reason for reason in found.reasons)


def test_cells_hold_every_alert_once_under_each_version() -> None:
    cell = "891f8d7a49bffff"
    found = run([alert(1, cell=cell), alert(20)], [alert(1, cell=cell)], [])
    assert {(c["h3_cell"], c["active"], c["proposed"]) for c in found.cells} == {(cell, 1, 1), (None, 1, 0)}
    assert heat_png(found.cells)[:4] == heat_png(())[:4] == b"\x89PNG"
    assert heat_png(found.cells) == heat_png(found.cells)


def write_clip(folder: Path, depths: list[float], radar: bool = False, place: bool = True) -> list[Path]:
    """The n-th braking begins 8 + 10 n s after the start."""
    t = np.arange(10 * (20 + 10 * len(depths))) / 10
    accel = np.zeros(len(t))
    for n, depth in enumerate(depths):
        at = 8 + 10 * n
        accel -= depth * np.clip(np.minimum(t - at, at + 2 - t) / 0.2, 0, 1)
    signals = {"accel_mps2": accel, "speed_mps": np.full(len(t), 20.0)}
    if place:
        signals |= {"latitude_deg": np.full(len(t), 48.0), "longitude_deg": 11.0 + t / 1000}
    columns: dict[str, Any] = {
        "clip_id": pa.array(["d/0"] * len(t)),
        "ref_ns": pa.array(np.rint(t * S).astype(np.int64)),
        "signals": pa.StructArray.from_arrays([pa.array(v) for v in signals.values()], list(signals)),
    }
    if radar:
        columns["radar_front"] = pa.array(
            [{"tracks": [{"track_id": 1, "x_m": 1.0, "y_m": 0.0, "vx_mps": 0.0, "vy_mps": 0.0}]}] * len(t)
        )
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), folder / "00000.parquet")
    return [folder / "00000.parquet"]


def with_levels(*levels: float) -> EventsPolicy:
    brake = SHIPPED.brake.model_copy(update={"levels_mps2": levels})
    return SHIPPED.model_copy(update={"brake": brake})


@settings(max_examples=15)
@given(
    st.lists(st.floats(0.5, 9), min_size=1, max_size=4),
    st.tuples(st.floats(1.5, 6), st.floats(1.5, 6)).filter(lambda t: abs(t[0] - t[1]) > 0.01),
)
def test_a_lower_threshold_never_loses_a_braking(
    tmp_path_factory: pytest.TempPathFactory, depths: list[float], both: tuple[float, float]
) -> None:
    clips = write_clip(tmp_path_factory.mktemp("clips") / "d", depths)
    low, high = sorted(both)
    found = replay("d", clips, with_levels(high, 10.0, 11.0), with_levels(low, 10.0, 11.0), 9)
    few, many = ([a for a in side if a.kind == "harsh_brake"] for side in (found.active, found.proposed))
    assert len(few) <= len(many)
    assert all(any(m.start_ns <= f.start_ns and f.end_ns <= m.end_ns for m in many) for f in few)


def test_a_replay_knows_hours_and_cells(tmp_path: Path) -> None:
    import h3

    clips = write_clip(tmp_path / "d", [4.0])
    found = replay("d", clips, SHIPPED, SHIPPED, 9)
    assert found.hours == pytest.approx(29.9 / 3600)
    assert found.active == found.proposed
    (braking,) = [a for a in found.active if a.kind == "harsh_brake"]
    assert braking.cell == h3.latlng_to_cell(48.0, 11.0 + braking.start_ns / S / 1000, 9)
    assert track_of(clips).bbox == pytest.approx((11.0, 48.0, 11.0299, 48.0))
    (lost,) = [
        a
        for a in replay("d", write_clip(tmp_path / "e", [4.0], place=False), SHIPPED, SHIPPED, 9).active
        if a.kind == "harsh_brake"
    ]
    assert lost.cell is None
    assert replay("d", [], SHIPPED, SHIPPED, 9) == Replay("d", 0.0, (), ())


def test_what_a_drive_has_decides_what_can_change(tmp_path: Path) -> None:
    with_radar = available(write_clip(tmp_path / "a", [], radar=True))
    without = available(write_clip(tmp_path / "b", []))
    assert (
        can_change(["cut_in"], POLICY.sections, with_radar),
        can_change(["cut_in"], POLICY.sections, without),
    ) == (True, False)
    assert can_change(["brake", "cut_in"], POLICY.sections, without)
    assert can_change(["exit_share"], POLICY.sections, frozenset())
    assert not can_change([], POLICY.sections, with_radar)
    assert kinds_touched(["cut_in"], POLICY.sections) == ["cut_in"]
    assert {"cut_in", "harsh_brake"} <= set(kinds_touched(["exit_share"], POLICY.sections))


def test_scripted_truth_is_true_and_what_it_does_not_tell_of_is_false(
    short_truth: Path, tmp_path: Path
) -> None:
    folder = next(path for path in short_truth.iterdir() if path.is_dir())
    truth = pq.read_table(folder / "events.parquet").to_pylist()
    far = {"kind": "harsh_brake", "start_ns": 1, "end_ns": 2}
    near = [dict(event) for event in truth]
    rows = adjudications_from_truth(folder, [far, *near, {**far, "kind": "turn"}])
    assert [r["verdict"] for r in rows] == [True] * len(truth) + [False]
    assert {r["drive"] for r in rows} == {folder.name}
    clips = write_clip(tmp_path / "d", [4.0])
    told = tmp_path / "veh001-a"
    told.mkdir()
    events = [e for e in detect_events(clips, SHIPPED).to_pylist() if e["kind"] == "harsh_brake"]
    pq.write_table(
        pa.Table.from_pylist([{k: events[0][k] for k in ("kind", "start_ns", "end_ns")}]),
        told / "events.parquet",
    )
    assert [r["verdict"] for r in adjudications_from_truth(told, events)] == [True]


def measured_clip(folder: Path, script: DriveScript, world: World) -> Path:
    """What synchronization would give of the drive: signals and radar tracks with sensor noise at 10 Hz."""
    rng = np.random.default_rng(3)
    t = np.arange(round(script.seconds * 10)) / 10
    names = ("speed_mps", "accel_mps2", "yaw_rate_radps", "steering_rad", "brake", "engaged")
    values = {name: world.ego.at(name, t) for name in names}
    values["accel_mps2"] = values["accel_mps2"] + rng.normal(0, 0.04, len(t))
    tracks = [
        [
            {"track_id": int(i), "x_m": x + signals.RADAR_MOUNT_M[0], "y_m": y, "vx_mps": vx, "vy_mps": vy}
            for i, x, y, vx, vy in signals.radar(world, float(at), rng)
        ]
        for at in t
    ]
    kind = pa.struct(
        [("track_id", pa.int32()), *((name, pa.float32()) for name in ("x_m", "y_m", "vx_mps", "vy_mps"))]
    )
    columns = {
        "clip_id": pa.array([f"{script.drive}/00000"] * len(t)),
        "ref_ns": pa.array(script.start_ns + np.rint(t * S).astype(np.int64)),
        "radar_front": pa.StructArray.from_arrays([pa.array(tracks, pa.list_(kind))], ["tracks"]),
        "signals": pa.StructArray.from_arrays([pa.array(v) for v in values.values()], list(values)),
    }
    pq.write_table(pa.table(columns), folder / f"{script.drive}.parquet")
    return folder / f"{script.drive}.parquet"


def test_on_simulated_drives_recall_is_what_the_script_says(tmp_path: Path) -> None:
    """The script is the judge: all of its events are found, and without brakings none of its brakings is."""
    replays, rows = [], []
    without = with_levels(90.0, 91.0, 92.0)
    for script in sample_drives()[:4]:
        world = build_world(script)
        clip = measured_clip(tmp_path, script, world)
        replays.append(replay(script.drive, [clip], SHIPPED, without, 9))
        rows += [Adjudication(script.drive, w.kind, w.start_ns, w.end_ns, True) for w in event_windows(world)]
    kinds = sorted({row.kind for row in rows})
    found = backtest(replays, rows, kinds, POLICY)
    assert {row["kind"]: row["active_recall"] for row in found.kinds if row["judged_true"]} == dict.fromkeys(
        kinds, 1.0
    )
    lost = {row["kind"]: row["proposed_recall"] for row in found.kinds if row["judged_true"]}
    assert lost == {kind: 0.0 if kind == "harsh_brake" else 1.0 for kind in kinds}
    assert {c["change"] for c in found.changes} == {"removed"}
    assert {c["kind"] for c in found.changes} == {"harsh_brake"}
    assert all(c["verdict"] for c in found.changes)
