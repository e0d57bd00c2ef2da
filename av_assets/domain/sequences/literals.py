"""The smallest parts of a sentence: numbers with units, texts, cells, comparisons, bare words.

Belongs here: their values and the errors in them. Does not belong here: grammar, or whether a name exists.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

from av_assets.domain.sequences.expressions import Atom, Compare, Place, Table, Value, mistake
from av_assets.domain.sequences.lark_trees import only, token, tree_of, trees

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lark import Token, Tree

MAX_WITHIN_S: Final = 86_400.0
CELL_RESOLUTION: Final = 9  # of the column h3_cell
SECONDS: Final = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
METRES: Final = {"m": 1.0, "km": 1000.0}
SPEEDS: Final = {"m/s": 1.0, "km/h": 1 / 3.6}
CONTEXT_WORDS: Final = {
    **dict.fromkeys(("day", "twilight", "night"), "light"),
    **dict.fromkeys(("clear", "cloudy", "rain", "snow", "fog", "storm"), "weather"),
}
_EXACT: Final = 2**53
_TABLES: Final = {"clip": Table.CLIPS, "scene": Table.SCENES}


def place_of(word: Token) -> Place:
    return Place(word.line or 1, word.column or 1)


def unquoted(word: Token) -> str:
    text = str(word)
    return text[1:-1] if text[0] in "\"'" else text


def number_of(word: Token) -> int | float:
    value = float(word)
    if not math.isfinite(value):
        raise mistake(place_of(word), "the number is too large", "sequence_syntax")
    return int(value) if value.is_integer() and abs(value) < _EXACT else value


def gap_ns(within: Tree[Token] | None) -> int:
    """The time of `within 5 s` in ns; 0 without one."""
    if within is None:
        return 0
    amount = only(within)
    seconds = _quantity(amount, SECONDS, "a time, such as 500 ms, 5 s or 2 min")
    if seconds > MAX_WITHIN_S:
        at = place_of(token(amount.children[0]))
        raise mistake(at, f"longer than {MAX_WITHIN_S / 3600:g} h", "sequence_syntax")
    return round(seconds * 1e9)


def distance_m(amount: Tree[Token]) -> float:
    return _quantity(amount, METRES, "a distance, such as 50 m")


def _quantity(amount: Tree[Token], units: Mapping[str, float], expected: str) -> float:
    number, at = token(amount.children[0]), place_of(token(amount.children[0]))
    unit = str(amount.children[1]) if len(amount.children) > 1 else ""
    value = number_of(number)
    if unit not in units or value < 0:
        raise mistake(at, f"found {number} {unit}".rstrip() + f", expected {expected}", "sequence_syntax")
    return value * units[unit]


def comparison_of(tree: Tree[Token]) -> Compare:
    """`name op value`; the value in SI units, the unit kept for the check of its kind."""
    name, op = token(tree.children[0]), token(tree.children[1])
    value, unit = _value(tree_of(tree.children[2]))
    return Compare(str(name), str(op), value, place_of(name), unit)


def _value(tree: Tree[Token]) -> tuple[Value, str]:
    if inner := trees(tree):
        number, *units = inner[0].children
        unit = str(units[0]) if units else ""
        factor = {"": 1, **SECONDS, **METRES, **SPEEDS}[unit]
        value = number_of(token(number))
        return (value if factor == 1 else value * factor), unit
    word = token(tree.children[0])
    if word.type == "NAME" and str(word) in ("true", "false"):
        return str(word) == "true", ""
    return unquoted(word), ""


def cell_of(word: Token) -> Compare:
    """An H3 index of 15 hexadecimal digits, as coarse as wanted but not finer than the tables hold."""
    text, at = unquoted(word), place_of(word)
    valid = re.fullmatch(r"8[0-9a-f]{14}", text) is not None
    if not valid or resolution_of(int(text, 16)) > CELL_RESOLUTION:
        reason = f"{text[:40]!r} is no H3 cell of resolution 0 to {CELL_RESOLUTION}: 15 hexadecimal digits"
        raise mistake(at, reason, "sequence_syntax")
    return Compare("h3_cell", "in cell", text, at)


def resolution_of(cell: int) -> int:
    """Bits 52 to 55 of an H3 index."""
    return cell >> 52 & 0xF


def parent_masks(cell: int) -> tuple[int, int]:
    """(and, or) masks that turn any finer H3 index into its parent at the resolution of `cell`.

    The parent's digits beyond its resolution are all ones, and bits 52 to 55 hold the resolution: H3 index format 1.
    """
    resolution = resolution_of(cell)
    unused = (1 << 3 * (15 - resolution)) - 1
    return ~(0xF << 52) & (1 << 64) - 1, resolution << 52 | unused


def named(word: str, filters: tuple[Compare, ...], at: Place) -> Atom:
    """A word, alone or before a list of filters: clips, scenes, a word of the context, or a kind of event."""
    if word in _TABLES:
        return Atom(_TABLES[word], word, filters, at)
    if word in CONTEXT_WORDS:
        return Atom(Table.CLIPS, word, (Compare(CONTEXT_WORDS[word], "=", word, at), *filters), at)
    return Atom(Table.EVENTS, word, filters, at)
