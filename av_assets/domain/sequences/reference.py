"""What a sentence means, said in plain loops: the oracle that the SQL is tested against.

Belongs here: the same meaning, the slow and obvious way. Does not belong here: speed. It shares with the SQL the tree
alone, not the conditions, stretches or joins.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from av_assets.domain.sequences.expressions import (
    Allen,
    Atom,
    Both,
    Compare,
    Either,
    Expression,
    Keep,
    Kept,
    Pair,
    Similar,
    Table,
    Then,
    Without,
)
from av_assets.domain.sequences.intervals import Interval, Relation, hull, inside, relation, touches
from av_assets.domain.sequences.search import Match, Proof

Row = Mapping[str, Any]
Rows = Sequence[Row]
_ALIASES: Final = {"speed": "mean_speed_mps", "speed_limit": "speed_limit_mps"}
_TESTS: Final = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def matches(expression: Expression, tables: Mapping[str, Rows], clip_gap_s: float) -> set[Match]:
    """All matches, over tables given as rows.

    Args:
        tables: those of events, clips, clip_context, scenes and similarities that the expression needs.
    """
    if isinstance(expression, Atom):
        return set(_atom(expression, tables, round(clip_gap_s * 1e9)))
    if isinstance(expression, Similar):
        return set(_similar(expression, tables, round(clip_gap_s * 1e9)))
    left = matches(expression.left, tables, clip_gap_s)
    right = matches(expression.right, tables, clip_gap_s)
    return set(_pairs(expression, left, right))


def _pairs(node: Pair, left: set[Match], right: set[Match]) -> Iterable[Match]:
    if isinstance(node, Either):
        yield from left | right
        return
    for a in left:
        others = [b for b in right if b.drive == a.drive]
        if isinstance(node, Without):
            if not any(touches(_interval(a), _interval(b), node.margin_ns) for b in others):
                yield a
            continue
        for b in others:
            found = _joined(node, _interval(a), _interval(b))
            if found is not None:
                yield Match(a.drive, *found, a.proof + b.proof)


def _joined(node: Then | Allen | Kept | Both, a: Interval, b: Interval) -> Interval | None:
    """The interval of the match, None where the two do not match."""
    if isinstance(node, Then):
        return hull(a, b) if _follows(node, a, b) else None
    if isinstance(node, Allen):
        if relation(a, b) is not node.relation:
            return None
        return a if node.relation is Relation.DURING else hull(a, b)
    if isinstance(node, Both):
        shared = Interval(max(a.start_ns, b.start_ns), min(a.end_ns, b.end_ns))
        return shared if shared.start_ns <= shared.end_ns else None
    holds = {Keep.DURING: inside(a, b), Keep.CONTAINS: inside(b, a), Keep.WHILE: touches(a, b)}
    return a if holds[node.how] else None


def _follows(node: Then, a: Interval, b: Interval) -> bool:
    most = math.inf if node.within_ns is None else node.within_ns
    if node.of_start:
        return 0 < b.start_ns - a.start_ns <= most
    return relation(a, b) in (Relation.BEFORE, Relation.MEETS) and b.start_ns - a.end_ns <= most


def _interval(match: Match) -> Interval:
    return Interval(match.start_ns, match.end_ns)


def _atom(atom: Atom, tables: Mapping[str, Rows], gap_ns: int) -> Iterable[Match]:
    if atom.table is Table.CLIPS:
        yield from _stretches(atom, tables, gap_ns)
        return
    for row in _timed(tables[atom.table.value]):
        is_event = atom.table is Table.EVENTS
        if is_event and row["kind"] != atom.label:
            continue
        if all(_holds(compare, _value(row, compare.name)) for compare in atom.filters):
            clip = row["clip_id"] if is_event else (row["clip_ids"] or [None])[0]
            proof = Proof(atom.label if is_event else "scene", row["start_ns"], row["end_ns"], clip)
            yield Match(row["drive"], row["start_ns"], row["end_ns"], (proof,))


def _timed(rows: Rows) -> list[Row]:
    known = [r for r in rows if None not in (r["drive"], r["start_ns"], r["end_ns"])]
    return [r for r in known if r["start_ns"] <= r["end_ns"]]


def _stretches(atom: Atom, tables: Mapping[str, Rows], gap_ns: int) -> Iterable[Match]:
    open_run: Match | None = None
    contexts = tables.get("clip_context", [])
    for row, until_ns in _spans(tables["clips"], gap_ns):
        own = [c for c in contexts if (c["drive"], c["clip_id"]) == (row["drive"], row["clip_id"])] or [{}]
        if not any(all(_holds(f, _of_clip(row, c, f.name)) for f in atom.filters) for c in own):
            continue
        if open_run and open_run.drive == row["drive"] and row["start_ns"] <= open_run.end_ns + 1:
            open_run = _stretch(atom, open_run, max(open_run.end_ns, until_ns))
            continue
        if open_run:
            yield open_run
        first = Proof(atom.label, row["start_ns"], until_ns, row["clip_id"])
        open_run = Match(row["drive"], row["start_ns"], until_ns, (first,))
    if open_run:
        yield open_run


def _stretch(atom: Atom, run: Match, end_ns: int) -> Match:
    proof = Proof(atom.label, run.start_ns, end_ns, run.proof[0].clip_id)
    return Match(run.drive, run.start_ns, end_ns, (proof,))


def _spans(clips: Rows, gap_ns: int) -> list[tuple[Row, int]]:
    """Clips in order, each with the last ns that it stands for."""
    rows = sorted(_timed(clips), key=lambda r: (r["drive"], r["start_ns"], r["end_ns"], r["clip_id"]))
    spans = []
    for number, row in enumerate(rows):
        after = rows[number + 1] if number + 1 < len(rows) else None
        until_ns = row["end_ns"]
        if after and after["drive"] == row["drive"] and 0 < after["start_ns"] - until_ns <= gap_ns:
            until_ns = after["start_ns"] - 1
        spans.append((row, until_ns))
    return sorted(spans, key=lambda s: (s[0]["drive"], s[0]["start_ns"], s[1], s[0]["clip_id"]))


def _similar(node: Similar, tables: Mapping[str, Rows], gap_ns: int) -> Iterable[Match]:
    near = {
        r["clip_id"]
        for r in tables["similarities"]
        if r["reference"] == node.clip and r["similarity"] > node.above
    }
    for row, until_ns in _spans(tables["clips"], gap_ns):
        if row["clip_id"] in near:
            proof = Proof("similar", row["start_ns"], until_ns, row["clip_id"])
            yield Match(row["drive"], row["start_ns"], until_ns, (proof,))


def _value(row: Row, name: str) -> Any:
    if name == "duration_s":
        return (row["end_ns"] - row["start_ns"]) / 1e9
    if name in row:
        return row[name]
    try:
        return json.loads(row["evidence"]).get(name)
    except (ValueError, AttributeError, TypeError):
        return None


def _of_clip(row: Row, context: Row, name: str) -> Any:
    name = _ALIASES.get(name, name)
    if name == "weather":
        first = context.get("weather")
        return context.get("evidence_weather") if first is None else first
    return row[name] if name in row else context.get(name)


def _holds(compare: Compare, value: Any) -> bool:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return False
    if compare.op == "has":
        return compare.value in value
    if compare.op == "in cell":
        return _is_under(value, str(compare.value))
    if isinstance(value, str) != isinstance(compare.value, str):
        return False
    if isinstance(value, bool) != isinstance(compare.value, bool):
        return False
    return bool(_TESTS[compare.op](value, compare.value))


def _is_under(cell: str, ancestor: str) -> bool:
    import h3

    coarse = h3.get_resolution(ancestor)
    if not h3.is_valid_cell(cell) or h3.get_resolution(cell) < coarse:
        return False
    return bool(h3.cell_to_parent(cell, coarse) == ancestor)
