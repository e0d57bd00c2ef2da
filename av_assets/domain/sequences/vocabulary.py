"""Which names a sentence may use, and of which type they are.

Belongs here: kinds, columns, evidence keys, and the errors in their use. Does not belong here: reading them from a
database (`search`), or grammar.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from av_assets.domain.sequences.expressions import Atom, Compare, Expression, Table, mistake, walk
from av_assets.domain.sequences.literals import METRES, SECONDS, SPEEDS


class Type(Enum):
    """The value is the word used in errors."""

    NUMBER = "a number"
    TEXT = "a text"
    TRUTH = "true or false"
    LIST = "a list of texts"


class Source(Enum):
    """Where a name is found."""

    COLUMN = "column"
    CONTEXT = "column of clip_context"
    EVIDENCE = "evidence"
    DURATION = "duration"
    WEATHER = "weather"


KINDS: Final = frozenset(
    {"harsh_brake", "cut_in", "stationary_hazard", "disengagement", "lane_change", "turn", "hard_cornering"}
    | {"conflict", "rss_violation"}
)
ALIASES: Final = {"speed": "mean_speed_mps", "speed_limit": "speed_limit_mps"}
WEATHER_COLUMNS: Final = ("weather", "evidence_weather")  # the second where the first is null
_HIDDEN: Final = frozenset({"drive", "evidence", "made_from", "run_id"})
_UNITS: Final = (("_mps", SPEEDS), ("_m", METRES), ("_s", SECONDS))
_ORDERS: Final = frozenset({"<", "<=", ">", ">="})
_MAKERS: Final = {
    "events": "event_windows",
    "clips": "drive_catalog",
    "clip_context": "enriched_clips",
    "scenes": "scenes",
}

Columns = Mapping[str, Type]


@dataclass(frozen=True)
class Field:
    """A name that was found: `name` is an identifier of the table, or the key of the evidence."""

    source: Source
    name: str
    types: frozenset[Type]


@dataclass(frozen=True)
class Vocabulary:
    """What the tables of one database offer.

    Attributes:
        tables: table -> column -> type, for the tables that there are; columns of other types are left out.
        evidence: kind of the events that there are -> evidence key -> types of its values.
    """

    tables: Mapping[str, Columns]
    evidence: Mapping[str, Mapping[str, frozenset[Type]]] = field(default_factory=dict)

    def check(self, expression: Expression) -> None:
        """Every name is known and every comparison compares alike with alike.

        Raises:
            AvError: codes `table_missing`, `unknown_kind`, `unknown_name`, `type_mismatch`, `unit_mismatch`.
        """
        for node in walk(expression):
            if isinstance(node, Atom):
                self._check_atom(node)
            elif not hasattr(node, "left"):
                self._require(Table.CLIPS, node)

    def _check_atom(self, atom: Atom) -> None:
        self._require(atom.table, atom)
        if atom.table is Table.EVENTS and atom.label not in KINDS | set(self.evidence):
            known = sorted(KINDS | set(self.evidence))
            raise mistake(
                atom.at,
                f"no kind of event is called {atom.label!r}{_like(atom.label, known)}",
                "unknown_kind",
            )
        for compare in atom.filters:
            _check_types(compare, self.find(atom, compare))

    def _require(self, table: Table, node: Expression) -> None:
        if table.value not in self.tables:
            reason = f"there is no table {table.value} yet"
            raise mistake(node.at, reason, "table_missing", f"materialize {_MAKERS[table.value]}")

    def find(self, atom: Atom, compare: Compare) -> Field:
        """What the name of a comparison stands for in its atom."""
        columns, name = self.tables[atom.table.value], ALIASES.get(compare.name, compare.name)
        if atom.table is Table.CLIPS and name == "weather":
            if set(WEATHER_COLUMNS) & set(self.tables.get("clip_context", {})):
                return Field(Source.WEATHER, name, frozenset({Type.TEXT}))
        elif name == "duration_s":
            return Field(Source.DURATION, name, frozenset({Type.NUMBER}))
        if name in columns and name not in _HIDDEN:
            return Field(Source.COLUMN, name, frozenset({columns[name]}))
        found = self._beyond(atom, name, compare)
        if found is None:
            raise self._unknown(atom, compare)
        return found

    def _beyond(self, atom: Atom, name: str, compare: Compare) -> Field | None:
        if atom.table is Table.CLIPS:
            context = self.tables.get("clip_context", {})
            return Field(Source.CONTEXT, name, frozenset({context[name]})) if name in context else None
        if atom.table is Table.SCENES:
            return None
        if (
            atom.label not in self.evidence
        ):  # a known kind without an event: nothing matches, whatever is asked
            return Field(Source.EVIDENCE, name, frozenset({_type_of(compare)}))
        types = self.evidence[atom.label].get(name)
        return None if types is None else Field(Source.EVIDENCE, name, types)

    def _unknown(self, atom: Atom, compare: Compare) -> Exception:
        names = set(self.tables[atom.table.value]) - _HIDDEN | {"duration_s"}
        where = f"{atom.label} events" if atom.table is Table.EVENTS else atom.table.value
        if atom.table is Table.EVENTS:
            names |= set(self.evidence.get(atom.label, {}))
        if atom.table is Table.CLIPS:
            names = names - {"duration_s"} | set(ALIASES) | set(self.tables.get("clip_context", {})) - _HIDDEN
            if "clip_context" not in self.tables:
                where += ", and there is no table clip_context yet"
        reason = f"{compare.name!r} is not known of {where}{_like(compare.name, sorted(names))}"
        return mistake(compare.at, reason, "unknown_name", f"known: {', '.join(sorted(names))}")


def _like(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _type_of(compare: Compare) -> Type:
    if compare.op == "has":
        return Type.LIST
    if isinstance(compare.value, bool):
        return Type.TRUTH
    return Type.TEXT if isinstance(compare.value, str) else Type.NUMBER


def _check_types(compare: Compare, found: Field) -> None:
    if (
        not found.types
    ):  # an evidence key that is null wherever it occurs matches nothing, whatever it is asked
        return
    given = Type.TEXT if compare.op == "has" else _type_of(compare)
    wanted = sorted(t.value for t in found.types)
    text = f"{compare.name!r} is {' or '.join(wanted)}"
    if (compare.op == "has") != (found.types == {Type.LIST}):
        raise mistake(compare.at, f"{text}: lists, and only lists, are asked by 'has'", "type_mismatch")
    if compare.op == "has":
        if not isinstance(compare.value, str):
            raise mistake(compare.at, f"{text}: 'has' takes a text", "type_mismatch")
        return
    if given not in found.types:
        raise mistake(compare.at, f"{text}, and was compared with {given.value}", "type_mismatch")
    if compare.op in _ORDERS and given is not Type.NUMBER:
        raise mistake(compare.at, f"{text}: only numbers have an order, use = or !=", "type_mismatch")
    _check_unit(compare, ALIASES.get(compare.name, compare.name))


def _check_unit(compare: Compare, name: str) -> None:
    if not compare.unit:
        return
    units = next((units for suffix, units in _UNITS if name.endswith(suffix)), {})
    if compare.unit not in units:
        wanted = f"takes {', '.join(units)}" if units else "takes no unit"
        raise mistake(compare.at, f"{compare.name!r} {wanted}, not {compare.unit}", "unit_mismatch")
