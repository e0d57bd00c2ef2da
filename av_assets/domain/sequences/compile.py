"""From a checked tree to DuckDB SQL.

Belongs here: one SELECT per node. Does not belong here: running it (`search`), names and types (`vocabulary`).

Every SELECT gives drive, start_ns, end_ns and proof (a list of rows kind, start_ns, end_ns, clip_id), without
repetitions. Values are bound as parameters. Identifiers are columns that the vocabulary holds, in quotes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

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
    walk,
)
from av_assets.domain.sequences.intervals import Relation
from av_assets.domain.sequences.literals import parent_masks
from av_assets.domain.sequences.vocabulary import WEATHER_COLUMNS, Field, Source, Type, Vocabulary

Parameter = str | int | float | bool

_EARLIER: Final = "a.start_ns < b.start_ns AND a.end_ns < b.end_ns"
_LATER: Final = "a.start_ns > b.start_ns AND a.end_ns > b.end_ns"
RELATIONS: Final = {
    Relation.BEFORE: "a.end_ns < b.start_ns",
    Relation.MEETS: f"a.end_ns = b.start_ns AND {_EARLIER}",
    Relation.OVERLAPS: f"a.end_ns > b.start_ns AND {_EARLIER}",
    Relation.STARTS: "a.start_ns = b.start_ns AND a.end_ns < b.end_ns",
    Relation.DURING: "a.start_ns > b.start_ns AND a.end_ns < b.end_ns",
    Relation.FINISHES: "a.start_ns > b.start_ns AND a.end_ns = b.end_ns",
    Relation.EQUALS: "a.start_ns = b.start_ns AND a.end_ns = b.end_ns",
    Relation.FINISHED_BY: "a.start_ns < b.start_ns AND a.end_ns = b.end_ns",
    Relation.CONTAINS: "a.start_ns < b.start_ns AND a.end_ns > b.end_ns",
    Relation.STARTED_BY: "a.start_ns = b.start_ns AND a.end_ns > b.end_ns",
    Relation.OVERLAPPED_BY: f"a.start_ns < b.end_ns AND {_LATER}",
    Relation.MET_BY: f"a.start_ns = b.end_ns AND {_LATER}",
    Relation.AFTER: "a.start_ns > b.end_ns",
}
_KEEPS: Final = {
    Keep.DURING: "a.start_ns >= b.start_ns AND a.end_ns <= b.end_ns",
    Keep.CONTAINS: "a.start_ns <= b.start_ns AND a.end_ns >= b.end_ns",
    Keep.WHILE: "a.start_ns <= b.end_ns AND b.start_ns <= a.end_ns",
}
_HULL: Final = ("least(a.start_ns, b.start_ns)", "greatest(a.end_ns, b.end_ns)")
_LEFT: Final = ("a.start_ns", "a.end_ns")
_SHARED: Final = ("greatest(a.start_ns, b.start_ns)", "least(a.end_ns, b.end_ns)")

# A clip lasts until the next one begins, where that follows closely. A row that occurs twice changes no stretch.
_SPANS: Final = """SELECT drive, clip_id, start_ns, CASE WHEN next_ns > end_ns AND next_ns - end_ns <= ?
  THEN next_ns - 1 ELSE end_ns END AS until_ns{columns}
  FROM (SELECT *, lead(start_ns) OVER (PARTITION BY drive ORDER BY start_ns, end_ns, clip_id) AS next_ns FROM clips
    WHERE drive IS NOT NULL AND start_ns <= end_ns)"""
_STRETCHES: Final = """WITH held AS ({held}),
marked AS (SELECT *, CASE WHEN start_ns <= 1 + max(until_ns) OVER (PARTITION BY drive
  ORDER BY start_ns, until_ns, clip_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) THEN 0 ELSE 1 END AS fresh
  FROM held),
numbered AS (SELECT *, sum(fresh) OVER (PARTITION BY drive ORDER BY start_ns, until_ns, clip_id
  ROWS UNBOUNDED PRECEDING) AS stretch FROM marked),
joined AS (SELECT drive, min(start_ns) AS start_ns, max(until_ns) AS end_ns,
  first(clip_id ORDER BY start_ns, until_ns, clip_id) AS clip_id FROM numbered GROUP BY drive, stretch)
SELECT drive, start_ns, end_ns, {proof} AS proof FROM joined"""
_JSON_TYPES: Final = {
    Type.NUMBER: "('DOUBLE', 'BIGINT', 'UBIGINT', 'HUGEINT')",
    Type.TEXT: "('VARCHAR')",
    Type.TRUTH: "('BOOLEAN')",
}
_SQL_TYPES: Final = {Type.NUMBER: "DOUBLE", Type.TEXT: "VARCHAR", Type.TRUTH: "BOOLEAN"}


@dataclass(frozen=True)
class Step:
    """One SELECT; those that it reads come before it and are called by their names."""

    name: str
    node: Expression
    sql: str
    parameters: tuple[Parameter, ...]


@dataclass
class _Text:
    """SQL with its parameters in the order of their question marks."""

    sql: str
    parameters: list[Parameter]


def compile_steps(expression: Expression, vocabulary: Vocabulary, clip_gap_s: float) -> list[Step]:
    """The steps in order; the last one gives the matches.

    Args:
        vocabulary: has passed the expression (`Vocabulary.check`).
        clip_gap_s: clips farther apart than this are not one stretch.
    """
    names: dict[int, str] = {}
    steps = []
    for number, node in enumerate(walk(expression)):
        names[id(node)] = name = f"step_{number}"
        if isinstance(node, Atom):
            text = _atom(node, vocabulary, round(clip_gap_s * 1e9))
        elif isinstance(node, Similar):
            text = _similar(node, round(clip_gap_s * 1e9))
        else:
            text = _pair(node, names[id(node.left)], names[id(node.right)])
        steps.append(Step(name, node, text.sql, tuple(text.parameters)))
    return steps


def as_query(steps: list[Step]) -> tuple[str, list[Parameter]]:
    """All steps as one statement with its parameters."""
    parts = ",\n".join(f"{step.name} AS MATERIALIZED ({step.sql})" for step in steps)
    return f"WITH {parts}\nSELECT * FROM {steps[-1].name}", [p for step in steps for p in step.parameters]


def _proof(kind: str, end: str = "end_ns") -> str:
    row = f"kind := CAST({kind} AS VARCHAR), start_ns := CAST(start_ns AS BIGINT), end_ns := CAST({end} AS BIGINT)"
    return f"[struct_pack({row}, clip_id := CAST(clip_id AS VARCHAR))]"


def _atom(atom: Atom, vocabulary: Vocabulary, gap_ns: int) -> _Text:
    if atom.table is Table.CLIPS:
        return _stretches(atom, vocabulary, gap_ns)
    where = [_condition(compare, vocabulary.find(atom, compare)) for compare in atom.filters]
    parameters: list[Parameter] = []
    if atom.table is Table.EVENTS:
        source, proof = "events", _proof("kind")
        where.insert(0, _Text("kind = ?", [atom.label]))
    else:
        source, proof = "(SELECT *, clip_ids[1] AS clip_id FROM scenes)", _proof("'scene'")
    conditions = " AND ".join(["drive IS NOT NULL", "start_ns <= end_ns", *(w.sql for w in where)])
    parameters += [p for w in where for p in w.parameters]
    select = f"SELECT DISTINCT drive, start_ns, end_ns, {proof} AS proof FROM {source} WHERE {conditions}"
    return _Text(select, parameters)


def _stretches(atom: Atom, vocabulary: Vocabulary, gap_ns: int) -> _Text:
    found = [vocabulary.find(atom, compare) for compare in atom.filters]
    own = sorted({f.name for f in found if f.source is Source.COLUMN} - {"clip_id", "start_ns", "drive"})
    spans = _SPANS.format(columns="".join(f", {_quoted(name)}" for name in own))
    where = [_condition(c, f, vocabulary) for c, f in zip(atom.filters, found, strict=True)]
    held = f"SELECT s.drive, s.clip_id, s.start_ns, s.until_ns FROM ({spans}) s"
    if any(f.source in (Source.CONTEXT, Source.WEATHER) for f in found):
        held += " JOIN clip_context x ON x.drive = s.drive AND x.clip_id = s.clip_id"
    if where:
        held += " WHERE " + " AND ".join(w.sql for w in where)
    parameters = [gap_ns, *(p for w in where for p in w.parameters), atom.label]
    return _Text(_STRETCHES.format(held=held, proof=_proof("?")), parameters)


def _similar(node: Similar, gap_ns: int) -> _Text:
    proof = _proof("'similar'", "until_ns")
    sql = (
        f"SELECT DISTINCT drive, start_ns, until_ns AS end_ns, {proof} AS proof FROM ({_SPANS.format(columns='')})"
        " WHERE clip_id IN (SELECT clip_id FROM similarities WHERE reference = ? AND similarity > ?)"
    )
    return _Text(sql, [gap_ns, node.clip, node.above])


def _condition(compare: Compare, found: Field, vocabulary: Vocabulary | None = None) -> _Text:
    """True where the row holds a value that satisfies the comparison; a missing one satisfies none."""
    if compare.op == "has":
        return _Text(f"list_contains({_quoted(found.name)}, ?)", [compare.value])
    if compare.op == "in cell":
        return _in_cell(found, str(compare.value))
    kind = _kind_of(compare.value)
    if found.source is Source.EVIDENCE:
        return _evidence(compare, found, kind)
    expression = _expression(found, vocabulary)
    bound = f"{expression} {_operator(compare.op)} CAST(? AS {_SQL_TYPES[kind]})"
    if kind is Type.NUMBER:  # DuckDB holds NaN to be greater than any number
        bound += f" AND NOT isnan(CAST({expression} AS DOUBLE))"
    return _Text(f"({bound})", [compare.value])


def _expression(found: Field, vocabulary: Vocabulary | None) -> str:
    """`vocabulary` is given for clips, which stand beside their context."""
    if found.source is Source.DURATION:
        return "((end_ns - start_ns) / 1e9)"
    if found.source is Source.WEATHER:
        held = vocabulary.tables["clip_context"] if vocabulary else {}
        return f"coalesce({', '.join(f'x.{_quoted(c)}' for c in WEATHER_COLUMNS if c in held)})"
    table = {Source.CONTEXT: "x."}.get(found.source, "s." if vocabulary else "")
    return table + _quoted(found.name)


def _evidence(compare: Compare, found: Field, kind: Type) -> _Text:
    path = f'$."{found.name}"'
    value = f"TRY_CAST(json_extract_string(evidence, ?) AS {_SQL_TYPES[kind]})"
    test = f"json_type(evidence, ?) IN {_JSON_TYPES[kind]} AND {value} {_operator(compare.op)}"
    sql = f"CASE WHEN json_valid(evidence) THEN coalesce({test} CAST(? AS {_SQL_TYPES[kind]}), false) ELSE false END"
    return _Text(sql, [path, path, compare.value])


def _in_cell(found: Field, text: str) -> _Text:
    cell = int(text, 16)
    keep, ones = parent_masks(cell)
    held = f"TRY_CAST('0x' || {_quoted(found.name)} AS UBIGINT)"
    return _Text(
        f"(({held} & CAST(? AS UBIGINT)) | CAST(? AS UBIGINT)) = CAST(? AS UBIGINT)", [keep, ones, cell]
    )


def _pair(node: Pair, left: str, right: str) -> _Text:
    if isinstance(node, Either):
        return _Text(f"SELECT * FROM {left} UNION SELECT * FROM {right}", [])
    if isinstance(node, Without):
        touching = "b.start_ns <= a.end_ns + CAST(? AS BIGINT) AND b.end_ns >= a.start_ns - CAST(? AS BIGINT)"
        sql = f"SELECT a.* FROM {left} a ANTI JOIN {right} b ON a.drive = b.drive AND {touching}"
        return _Text(sql, [node.margin_ns, node.margin_ns])
    (start, end), on, parameters = _join(node)
    times = f"{start} AS start_ns, {end} AS end_ns"
    select = f"SELECT DISTINCT a.drive, {times}, list_concat(a.proof, b.proof) AS proof"
    return _Text(f"{select} FROM {left} a JOIN {right} b ON a.drive = b.drive AND {on}", parameters)


def _join(node: Then | Allen | Kept | Both) -> tuple[tuple[str, str], str, list[Parameter]]:
    """Interval of the match, condition, parameters."""
    if isinstance(node, Kept):
        return _LEFT, _KEEPS[node.how], []
    if isinstance(node, Both):
        return _SHARED, _KEEPS[Keep.WHILE], []
    if isinstance(node, Allen):
        return _LEFT if node.relation is Relation.DURING else _HULL, RELATIONS[node.relation], []
    edge = "start_ns" if node.of_start else "end_ns"
    on = "b.start_ns > a.start_ns" if node.of_start else f"b.start_ns >= a.end_ns AND {_EARLIER}"
    if node.within_ns is None:
        return _HULL, on, []
    return _HULL, f"{on} AND b.start_ns - a.{edge} <= CAST(? AS BIGINT)", [node.within_ns]


def _operator(op: str) -> str:
    return {"!=": "<>"}.get(op, op)


def _kind_of(value: Parameter) -> Type:
    if isinstance(value, bool):
        return Type.TRUTH
    return Type.TEXT if isinstance(value, str) else Type.NUMBER


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
