"""What another version of a policy would have done on history, beside the active one, against what people judged.

    pass          no limit is broken
    insufficient  no limit is broken, but too little was replayed or judged to say so
    fail          a limit is broken
Belongs here: comparing, counting, the verdict. Does not belong here: running detectors (`replay`), pictures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from av_assets.domain.triggers.intervals import rate_interval, share_interval
from av_assets.domain.triggers.matching import match

if TYPE_CHECKING:
    from av_assets.policies.triggers import BacktestLimits, MatchingLimits, TriggersPolicy

PASS, FAIL, INSUFFICIENT = "pass", "fail", "insufficient"


@dataclass(frozen=True)
class Alert:
    """One event that a detector found; `cell` is of H3, or None where the position is not known."""

    kind: str
    level: int
    start_ns: int
    end_ns: int
    cell: str | None = None

    @property
    def window(self) -> tuple[int, int]:
        return self.start_ns, self.end_ns


@dataclass(frozen=True)
class Replay:
    """One drive under both versions."""

    drive: str
    hours: float
    active: tuple[Alert, ...]
    proposed: tuple[Alert, ...]


@dataclass(frozen=True)
class Adjudication:
    """What a person said of a window of time: whether there was such an event."""

    drive: str
    kind: str
    start_ns: int
    end_ns: int
    verdict: bool


@dataclass
class Tally:
    """Counts of one version for one kind; `unjudged` alerts match nothing that anybody judged."""

    alerts: int = 0
    true: int = 0
    false: int = 0
    unjudged: int = 0


@dataclass(frozen=True)
class Backtest:
    """The comparison.

    Attributes:
        kinds: one row per kind: alerts per hour, recall, precision, each with its exact interval, of both versions.
        changes: alerts that were added, removed or changed, with the verdict where there is one.
        cells: alerts per cell and kind under both versions.
        reasons: why the state is what it is.
    """

    state: str
    reasons: tuple[str, ...]
    hours: float
    drives: int
    kinds: tuple[dict[str, Any], ...]
    changes: tuple[dict[str, Any], ...]
    cells: tuple[dict[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def backtest(
    replays: Iterable[Replay],
    adjudications: Sequence[Adjudication],
    kinds: Sequence[str],
    policy: TriggersPolicy,
) -> Backtest:
    """Compare both versions over all replayed drives.

    Args:
        replays: one drive after another; only counts and changes are kept.
        kinds: those that the change can concern; the limits hold for these and for all kinds that did change.
    """
    judged: dict[tuple[str, str], list[Adjudication]] = {}
    for row in adjudications:
        judged.setdefault((row.drive, row.kind), []).append(row)
    tallies: dict[str, tuple[Tally, Tally]] = {kind: (Tally(), Tally()) for kind in kinds}
    truths: Counter[tuple[str, bool]] = Counter()
    cells: Counter[tuple[str, str, int]] = Counter()
    changed: list[dict[str, Any]] = []
    hours, drives = 0.0, 0
    for replay in replays:
        hours, drives = hours + replay.hours, drives + 1
        found = (replay.active, replay.proposed)
        seen = {alert.kind for alerts in found for alert in alerts} | set(kinds)
        for kind in sorted(seen):
            rows = judged.get((replay.drive, kind), [])
            truths.update((kind, row.verdict) for row in rows)
            both = tallies.setdefault(kind, (Tally(), Tally()))
            ours = tuple([a for a in alerts if a.kind == kind] for alerts in found)
            said = tuple(_judge(alerts, rows, policy.matching, both[i]) for i, alerts in enumerate(ours))
            changed += _changes(replay.drive, ours[0], ours[1], said[0], said[1], policy.matching)
        for side, alerts in enumerate(found):
            cells.update((alert.cell or "", alert.kind, side) for alert in alerts)
    rows_out = tuple(
        _kind(kind, both, truths[kind, True], truths[kind, False], hours, policy.limits)
        for kind, both in sorted(tallies.items())
    )
    concerned = set(kinds) | {row["kind"] for row in changed}
    state, reasons = verdict([r for r in rows_out if r["kind"] in concerned], hours, policy.limits)
    heat = sorted({key[:2] for key in cells})
    return Backtest(
        state,
        reasons,
        hours,
        drives,
        rows_out,
        tuple(changed),
        tuple(
            {
                "h3_cell": cell or None,
                "kind": kind,
                "active": cells[cell, kind, 0],
                "proposed": cells[cell, kind, 1],
            }
            for cell, kind in heat
        ),
    )


def verdict(
    rows: Sequence[Mapping[str, Any]], hours: float, limits: BacktestLimits
) -> tuple[str, tuple[str, ...]]:
    """The state, and every reason for it. A broken limit outweighs lacking evidence."""
    broken, lacking = [], []
    for row in rows:
        kind, rate = row["kind"], row["proposed_per_h"]
        if rate is not None and rate > limits.max_alerts_per_h:
            broken.append(f"{kind}: {rate:.1f} alerts/h, at most {limits.max_alerts_per_h:g} are allowed")
        if row["judged_true"] < limits.min_adjudicated:
            lacking.append(
                f"{kind}: {row['judged_true']} true events adjudicated of {limits.min_adjudicated}"
            )
            continue
        for measure, margin in (("recall", limits.recall_margin), ("precision", limits.precision_margin)):
            before, after = row[f"active_{measure}"], row[f"proposed_{measure}"]
            if before is not None and after is None:
                lacking.append(f"{kind}: no alert that was judged is left to tell its {measure}")
            elif before is not None and after < before - margin - 1e-12:
                broken.append(f"{kind}: {measure} {before:.3f} -> {after:.3f}, {margin:g} less is allowed")
    if rows and hours < limits.min_hours:
        lacking.append(f"{hours:.3f} h replayed of {limits.min_hours:g}")
    if broken:
        return FAIL, tuple(broken + lacking)
    return (INSUFFICIENT, tuple(lacking)) if lacking else (PASS, ())


def _judge(
    alerts: Sequence[Alert], rows: Sequence[Adjudication], limits: MatchingLimits, tally: Tally
) -> list[bool | None]:
    """The verdict on each alert; true events are matched first, and what is left with the false ones."""
    said: list[bool | None] = [None] * len(alerts)
    for wanted in (True, False):
        open_alerts = [i for i, verdict in enumerate(said) if verdict is None]
        truth = [(row.start_ns, row.end_ns) for row in rows if row.verdict is wanted]
        for pair in match([alerts[i].window for i in open_alerts], truth, limits):
            said[open_alerts[pair.first]] = wanted
    tally.alerts += len(alerts)
    tally.true += said.count(True)
    tally.false += said.count(False)
    tally.unjudged += said.count(None)
    return said


def _changes(
    drive: str,
    active: Sequence[Alert],
    proposed: Sequence[Alert],
    said_active: Sequence[bool | None],
    said_proposed: Sequence[bool | None],
    limits: MatchingLimits,
) -> list[dict[str, Any]]:
    """Rows for what is not the same, in the order of time."""
    same = {(a.start_ns, a.end_ns, a.level) for a in active} & {
        (p.start_ns, p.end_ns, p.level) for p in proposed
    }
    before = [i for i, a in enumerate(active) if (a.start_ns, a.end_ns, a.level) not in same]
    after = [i for i, p in enumerate(proposed) if (p.start_ns, p.end_ns, p.level) not in same]
    pairs = match([active[i].window for i in before], [proposed[i].window for i in after], limits)
    rows = [
        _change(
            "changed",
            drive,
            active[before[p.first]],
            proposed[after[p.second]],
            said_proposed[after[p.second]],
        )
        for p in pairs
    ]
    old, new = {p.first for p in pairs}, {p.second for p in pairs}
    rows += [
        _change("removed", drive, active[i], None, said_active[i])
        for n, i in enumerate(before)
        if n not in old
    ]
    rows += [
        _change("added", drive, None, proposed[i], said_proposed[i])
        for n, i in enumerate(after)
        if n not in new
    ]
    return sorted(rows, key=lambda row: (row["start_ns"], row["change"]))


def _change(
    change: str, drive: str, before: Alert | None, after: Alert | None, said: bool | None
) -> dict[str, Any]:
    shown = after or before
    assert shown is not None
    return {
        "change": change,
        "drive": drive,
        "kind": shown.kind,
        "start_ns": shown.start_ns,
        "end_ns": shown.end_ns,
        "active_level": before.level if before else None,
        "proposed_level": after.level if after else None,
        "h3_cell": shown.cell,
        "verdict": said,
    }


def _kind(
    kind: str, both: tuple[Tally, Tally], true: int, false: int, hours: float, limits: BacktestLimits
) -> dict[str, Any]:
    row: dict[str, Any] = {"kind": kind, "hours": hours, "judged_true": true, "judged_false": false}
    for name, tally in zip(("active", "proposed"), both, strict=True):
        row |= {f"{name}_alerts": tally.alerts, f"{name}_unjudged": tally.unjudged}
        rate = rate_interval(tally.alerts, hours, limits.confidence) if hours > 0 else (None, None)
        row |= {f"{name}_per_h": tally.alerts / hours if hours > 0 else None}
        row |= {f"{name}_per_h_low": rate[0], f"{name}_per_h_high": rate[1]}
        for measure, total in (("recall", true), ("precision", tally.true + tally.false)):
            low, high = share_interval(tally.true, total, limits.confidence)
            row |= {f"{name}_{measure}": tally.true / total if total else None}
            row |= {f"{name}_{measure}_low": low, f"{name}_{measure}_high": high}
    return row
