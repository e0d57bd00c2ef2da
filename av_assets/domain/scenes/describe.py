"""A scene in one English sentence.

Belongs here: words. Does not belong here: finding out what happened (`rows`). What is not known is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

MANY_EVENTS: Final = 4

Evidence = Mapping[str, Any]


@dataclass(frozen=True)
class Happening:
    """An event as far as it is told; `peak` is the figure that decided."""

    kind: str
    level: int | None
    peak: float | None = None
    evidence: Evidence = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """Where and when: whatever is not known is None. Speed in m/s."""

    light: str | None = None
    weather: str | None = None
    road_class: str | None = None
    speed_mps: float | None = None


def describe(
    setting: Setting,
    happenings: Sequence[Happening],
    vehicles: int | None,
    pedestrians: int | None,
    occluded_pedestrians: int | None,
) -> str:
    """`Night, rain, residential road at 38 km/h: a vehicle cuts in from the left 6.2 m ahead; 3 vehicles.`

    Happenings come in order of time; of many, the first few are told. Counts of zero are left out.
    """
    where, what = _where(setting), _what(happenings)
    text = f"{where}: {what}" if where else what
    objects = _objects(vehicles, pedestrians, occluded_pedestrians)
    text = f"{text}; {objects}" if objects else text
    return text[0].upper() + text[1:] + "."


def _where(setting: Setting) -> str:
    road = None if setting.road_class is None else _road(setting.road_class)
    parts = [p for p in (setting.light, setting.weather, road) if p is not None]
    if setting.speed_mps is not None:
        speed = "standing" if setting.speed_mps < 0.5 else f"at {setting.speed_mps * 3.6:.0f} km/h"
        if road is not None and speed != "standing":
            parts[-1] += f" {speed}"
        else:
            parts.append(speed)
    return ", ".join(parts)


def _road(road_class: str) -> str:
    words = road_class.replace("_", " ")
    if words.endswith(" link"):
        return f"slip road of a {words[:-5]}"
    return words if words in ("motorway", "living street", "track") else f"{words} road"


def _what(happenings: Sequence[Happening]) -> str:
    if not happenings:
        return "no event"
    told = [_SENTENCES.get(h.kind, _unknown)(h) for h in happenings[:MANY_EVENTS]]
    rest = len(happenings) - len(told)
    if rest:
        told.append(f"{rest} more event{'s' if rest > 1 else ''}")
    return ", then ".join(told)


def _objects(vehicles: int | None, pedestrians: int | None, occluded: int | None) -> str:
    parts = [_count(vehicles, "vehicle")] if vehicles else []
    if occluded:
        parts.append(_count(occluded, "occluded pedestrian"))
    visible = (pedestrians or 0) - (occluded or 0)
    if visible > 0:
        parts.append(_count(visible, "pedestrian in view" if occluded else "pedestrian"))
    return ", ".join(parts)


def _count(number: int, word: str) -> str:
    if number == 1:
        return f"1 {word}"
    first, *rest = word.split(" in ")
    return " in ".join([f"{number} {first}s", *rest])


def _cut_in(happening: Happening) -> str:
    side, gap = _text(happening, "side"), _number(happening, "gap_m")
    text = "a vehicle cuts in"
    text += f" from the {side}" if side else ""
    text += f" {gap:.1f} m ahead" if gap is not None else ""
    return text + (f" (level {happening.level})" if (happening.level or 1) > 1 else "")


def _harsh_brake(happening: Happening) -> str:
    return "harsh braking" + _level(happening)


def _hazard(happening: Happening) -> str:
    gap = _number(happening, "gap_m")
    return "something stands in the path" + (f" {gap:.1f} m ahead" if gap is not None else "")


def _disengagement(happening: Happening) -> str:
    initiator = _text(happening, "initiator")
    by = {"driver": "the driver takes over", "system": "the automation disengages"}
    return by.get(initiator or "", "the automation is disengaged")


def _lane_change(happening: Happening) -> str:
    side = _text(happening, "side")
    return "a lane change" + (f" to the {side}" if side else "")


def _turn(happening: Happening) -> str:
    side = _text(happening, "side")
    return f"a {side} turn" if side else "a turn"


def _cornering(happening: Happening) -> str:
    side = _text(happening, "side")
    return "hard cornering" + (f" to the {side}" if side else "") + _level(happening)


def _conflict(happening: Happening) -> str:
    measure = {"ttc": "TTC", "pet": "PET"}.get(str(happening.evidence.get("measure")))
    known = measure is not None and happening.peak is not None and math.isfinite(happening.peak)
    return "a conflict" + (f" ({measure} {happening.peak:.1f} s)" if known else _level(happening))


def _rss(happening: Happening) -> str:
    gap, safe = _number(happening, "gap_m"), _number(happening, "safe_gap_m")
    far = f" ({gap:.1f} m instead of {safe:.1f} m)" if gap is not None and safe is not None else ""
    return "the safe distance is violated" + (far or _level(happening))


def _unknown(happening: Happening) -> str:
    return f"an event of kind {happening.kind}" + _level(happening)


def _level(happening: Happening) -> str:
    return f" of level {happening.level}" if happening.level is not None else ""


def _text(happening: Happening, key: str) -> str | None:
    value = happening.evidence.get(key)
    return value if value in ("left", "right", "driver", "system") else None


def _number(happening: Happening, key: str) -> float | None:
    value = happening.evidence.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


_SENTENCES: Final[Mapping[str, Callable[[Happening], str]]] = {
    "cut_in": _cut_in,
    "harsh_brake": _harsh_brake,
    "stationary_hazard": _hazard,
    "disengagement": _disengagement,
    "lane_change": _lane_change,
    "turn": _turn,
    "hard_cornering": _cornering,
    "conflict": _conflict,
    "rss_violation": _rss,
}
