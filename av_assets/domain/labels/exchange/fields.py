"""Fields of values that others wrote: taken with their type, or refused with their name.

Belongs here: types of single fields. Does not belong here: formats; ranges and rules, which are the judge's.
"""

from __future__ import annotations

import math
from typing import Any

MISSING: Any = object()


def text(row: dict[str, Any], name: str, default: Any = MISSING) -> Any:
    """A string; `default` where it is missing or null."""
    return _typed(row, name, str, "text", default)


def whole(row: dict[str, Any], name: str, default: Any = MISSING) -> Any:
    """An integer of 64 bits."""
    value = _typed(row, name, int, "a whole number", default)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{name} does not fit into 64 bits")
    return value


def number(row: dict[str, Any], name: str, default: Any = MISSING) -> Any:
    """A finite number, as a float."""
    value = _typed(row, name, (int, float), "a number", default)
    return finite(value, name) if isinstance(value, (int, float)) else value


def record(row: dict[str, Any], name: str, default: Any = MISSING) -> Any:
    """An object."""
    return _typed(row, name, dict, "an object", default)


def sequence(row: dict[str, Any], name: str, default: Any = MISSING) -> Any:
    """An array."""
    return _typed(row, name, list, "an array", default)


def finite(value: float | str, name: str) -> float:
    """The number that a field holds, be it written as text."""
    try:
        found = float(value)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{name} is not a number: {str(value)[:40]!r}") from error
    if not math.isfinite(found):
        raise ValueError(f"{name} is not finite")
    return found


def _typed(row: Any, name: str, kind: type | tuple[type, ...], said: str, default: Any) -> Any:
    if not isinstance(row, dict):
        raise ValueError(f"an object with the field {name!r} is due, not {type(row).__name__}")
    value = row.get(name)
    if value is None and default is not MISSING:
        return default
    if isinstance(value, bool) or not isinstance(value, kind):
        raise ValueError(f"{name} is not {said}: {str(value)[:40]!r}")
    return value
