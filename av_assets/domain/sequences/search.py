"""Looking for a sentence in the tables of a DuckDB connection.

Belongs here: reading names and types, running the steps one after another, counting them. Does not belong here: SQL of
the nodes (`compile`), where the tables come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from av_assets.domain.errors import AvError
from av_assets.domain.sequences.compile import Step, compile_steps
from av_assets.domain.sequences.expressions import Atom, Expression, Similar, Table, Without, name_of, walk
from av_assets.domain.sequences.language import parse
from av_assets.domain.sequences.vocabulary import Type, Vocabulary

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from av_assets.policies.scenes import ScenesPolicy

TABLES: Final = ("events", "clips", "clip_context", "scenes")
_NUMBERS: Final = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "FLOAT",
    "DOUBLE",
    "UBIGINT",
    "UINTEGER",
)
_TYPES: Final = {"VARCHAR": Type.TEXT, "BOOLEAN": Type.TRUTH, "VARCHAR[]": Type.LIST} | dict.fromkeys(
    _NUMBERS, Type.NUMBER
)
_JSON_TYPES: Final = {"VARCHAR": Type.TEXT, "BOOLEAN": Type.TRUTH} | dict.fromkeys(_NUMBERS, Type.NUMBER)


class Proof(NamedTuple):
    """The row behind an atom; for a stretch of clips, its first clip."""

    kind: str
    start_ns: int
    end_ns: int
    clip_id: str | None


class Match(NamedTuple):
    """Where the sentence holds; one proof per atom, in the order of the text."""

    drive: str
    start_ns: int
    end_ns: int
    proof: tuple[Proof, ...]


@dataclass(frozen=True)
class Count:
    """How many intervals an atom or operator gave."""

    part: str
    line: int
    column: int
    matches: int


@dataclass(frozen=True)
class Found:
    """Matches in the order of drive and time; `total` counts those beyond the limit as well."""

    matches: tuple[Match, ...]
    total: int
    counts: tuple[Count, ...]
    emptied_by: str
    notes: tuple[str, ...]

    @property
    def limited(self) -> bool:
        return len(self.matches) < self.total

    def to_dict(self) -> dict[str, Any]:
        return {
            "matches": [
                {**m._asdict(), "proof": [proof._asdict() for proof in m.proof]} for m in self.matches
            ],
            "total": self.total,
            "limited": self.limited,
            "counts": [asdict(count) for count in self.counts],
            "emptied_by": self.emptied_by,
            "notes": list(self.notes),
        }


def find(
    connection: duckdb.DuckDBPyConnection,
    text: str,
    policy: ScenesPolicy,
    limit: int = 100,
    similarities: pa.Table | None = None,
) -> Found:
    """The first `limit` matches of a sentence.

    Args:
        connection: holds those of TABLES that there are; temporary tables come and go in it.
        similarities: rows (reference, clip_id, similarity) for every clip that the sentence names by `similar to`.

    Raises:
        AvError: the text is wrong (codes of `language` and `vocabulary`), `no_similarities`, or `too_many_matches`
            where one operator alone gives more than the policy's max_matches.
    """
    expression = parse(text, policy.search.near_junction_m)
    vocabulary = read_vocabulary(connection)
    vocabulary.check(expression)
    _require_similarities(expression, similarities)
    steps = compile_steps(expression, vocabulary, policy.windows.clip_gap_s)
    if similarities is not None:
        connection.register("similarities", similarities)
    try:
        counts = [_run(connection, step, policy.search.max_matches) for step in steps]
        matches = _fetch(connection, steps[-1].name, limit)
    finally:
        for step in steps:
            connection.execute(f"DROP TABLE IF EXISTS temp.{step.name}")
        if similarities is not None:
            connection.unregister("similarities")
    shown = [_count(step, number) for step, number in zip(steps, counts, strict=True)]
    notes = _notes(connection, vocabulary, expression)
    return Found(matches, counts[-1], tuple(shown), _emptied_by(steps, counts), notes)


def named_clips(text: str, policy: ScenesPolicy) -> list[str]:
    """The clips that a sentence names by `similar to`: `find` needs the similarities of all clips to them."""
    expression = parse(text, policy.search.near_junction_m)
    return sorted({node.clip for node in walk(expression) if isinstance(node, Similar)})


def read_vocabulary(connection: duckdb.DuckDBPyConnection) -> Vocabulary:
    """Names and types of what the connection holds."""
    tables: dict[str, dict[str, Type]] = {}
    rows = connection.execute(
        "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_name IN (?, ?, ?, ?)",
        list(TABLES),
    ).fetchall()
    for table, column, kind in rows:
        if kind.split("(")[0] in _TYPES:
            tables.setdefault(table, {})[column] = _TYPES[kind.split("(")[0]]
    return Vocabulary(tables, _evidence(connection) if "events" in tables else {})


def _evidence(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, frozenset[Type]]]:
    kinds = connection.execute("SELECT DISTINCT kind FROM events WHERE kind IS NOT NULL").fetchall()
    found: dict[str, dict[str, frozenset[Type]]] = {kind: {} for (kind,) in kinds}
    rows = connection.execute(
        """SELECT DISTINCT kind, key, json_type(evidence, '$."' || key || '"') FROM
        (SELECT kind, evidence, unnest(json_keys(evidence)) AS key FROM events
         WHERE kind IS NOT NULL AND CASE WHEN json_valid(evidence) THEN json_type(evidence) = 'OBJECT' ELSE false END)
        WHERE regexp_full_match(key, '[A-Za-z_][A-Za-z0-9_]*') ORDER BY ALL"""
    ).fetchall()
    for kind, key, json_type in rows:
        if json_type not in _JSON_TYPES and json_type != "NULL":  # lists and objects cannot be compared
            continue
        types = found[kind].get(key, frozenset())
        found[kind][key] = types | ({_JSON_TYPES[json_type]} if json_type in _JSON_TYPES else set())
    return found


def _require_similarities(expression: Expression, similarities: pa.Table | None) -> None:
    asked = [node for node in walk(expression) if isinstance(node, Similar)]
    known = set() if similarities is None else set(similarities["reference"].to_pylist())
    for node in asked:
        if node.clip not in known:
            raise AvError(
                f"{node.at}: nothing is known of what is similar to {node.clip}",
                code="no_similarities",
                remedy="give the similarities of all clips to this one; it needs clip_embeddings",
            )


def _run(connection: duckdb.DuckDBPyConnection, step: Step, most: int) -> int:
    """Keep what the step gives in a temporary table of its name; gives the number of its rows."""
    select = f"CREATE OR REPLACE TEMP TABLE {step.name} AS SELECT * FROM ({step.sql}) LIMIT {most + 1}"
    connection.execute(select, list(step.parameters))
    [(count,)] = connection.execute(f"SELECT count(*) FROM {step.name}").fetchall()
    if count > most:
        raise AvError(
            f"{step.node.at}: {name_of(step.node)!r} alone has more than {most} matches",
            code="too_many_matches",
            remedy="ask for less: a filter, a shorter 'within', or a part of the drives",
        )
    return int(count)


def _fetch(connection: duckdb.DuckDBPyConnection, name: str, limit: int) -> tuple[Match, ...]:
    query = f"SELECT drive, start_ns, end_ns, proof FROM {name} ORDER BY ALL LIMIT ?"
    rows = connection.execute(query, [limit]).fetchall()
    return tuple(
        Match(drive, start_ns, end_ns, tuple(Proof(**row) for row in proof))
        for drive, start_ns, end_ns, proof in rows
    )


def _count(step: Step, matches: int) -> Count:
    return Count(name_of(step.node), step.node.at.line, step.node.at.column, matches)


def _emptied_by(steps: Sequence[Step], counts: Sequence[int]) -> str:
    """The part that gave nothing although what it is made of gave something; '' where there are matches."""
    if counts[-1]:
        return ""
    by_node = {id(step.node): count for step, count in zip(steps, counts, strict=True)}
    node = steps[-1].node
    while not isinstance(node, Atom | Similar):
        parts = [node.left] if isinstance(node, Without) else [node.left, node.right]
        empty = [part for part in parts if not by_node[id(part)]]
        if not empty:
            break
        node = empty[0]
    return f"{node.at}: {name_of(node)!r} gives nothing"


def _notes(
    connection: duckdb.DuckDBPyConnection, vocabulary: Vocabulary, expression: Expression
) -> tuple[str, ...]:
    """What was left out of the search, so that nothing is lost silently."""
    asked = {
        getattr(node, "table", Table.CLIPS).value for node in walk(expression) if not hasattr(node, "left")
    }
    notes = []
    for table in sorted(asked):
        bad = "drive IS NULL OR start_ns IS NULL OR end_ns IS NULL OR start_ns > end_ns"
        [(count,)] = connection.execute(f"SELECT count(*) FROM {table} WHERE {bad}").fetchall()
        if count:
            notes.append(f"{count} rows of {table} have no drive or no time and were left out")
    if "clip_context" not in vocabulary.tables and Table.CLIPS.value in asked:
        notes.append("there is no table clip_context yet: nothing is known of roads and weather")
    return tuple(notes)
