"""Failing clips: how each fails, what it shows, where it is.

A case is a clip, since a clip is what has a vector, and what people are asked to label.
Belongs here: from figures of frames to cases and their tags. Does not belong here: errors (tide), doubt, clusters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from av_assets.domain.failures.tide import KINDS

DOUBTS: Final = ("uncertain", "disagreeing", "flickering")
ALL_KINDS: Final = (*KINDS, *DOUBTS)
TAG_COLUMNS: Final = ("light", "weather", "road_class", "zone")
LIST_COLUMNS: Final = ("events", "tags")
"""Columns of the catalogue that tags come from; a tag is `<column>:<value>`."""
OF_FAILURE: Final = ("kind", "class", "distance")
"""What tags of a failure begin with: clips that do not fail have none of them."""
_SAID_ALREADY: Final = ("light:", "weather:", "road:", "zone:", "event:")
"""Beginnings of the tags of scenes that repeat a column of their own."""

Frame = tuple[str, int]
"""clip_id, ref_ns."""


@dataclass
class Case:
    """One failing clip.

    Attributes:
        kinds: kind of ALL_KINDS -> how often: errors for the kinds of TIDE, frames for uncertain and disagreeing,
            breaks for flickering.
        frames: frames of the clip that were looked at.
        worst: weight of every frame that fails, as the number of its failures.
        about: other tags of the failures ("class:pedestrian") -> how often.
    """

    clip_id: str
    frames: int
    kinds: Counter[str] = field(default_factory=Counter)
    worst: Counter[int] = field(default_factory=Counter)
    about: Counter[str] = field(default_factory=Counter)

    @property
    def drive(self) -> str:
        return self.clip_id.rpartition("/")[0]

    @property
    def worst_ns(self) -> int:
        """Reference time of the frame with the most failures, the earliest of equals."""
        return min(self.worst, key=lambda ns: (-self.worst[ns], ns))

    def own_tags(self) -> set[str]:
        """Kinds, classes and distances of its failures, each at least a third as frequent as the most frequent one."""
        found = {f"kind:{kind}" for kind in _main(self.kinds)}
        for prefix in ("class:", "distance:"):
            held = Counter({tag: n for tag, n in self.about.items() if tag.startswith(prefix)})
            found |= set(_main(held))
        return found


def _main(counts: Counter[str]) -> list[str]:
    most = max(counts.values(), default=0)
    return [name for name, count in counts.items() if count and 3 * count >= most]


def cases_of(
    looked_at: Mapping[str, int], failures: Sequence[tuple[str, int, str, int, Sequence[str]]]
) -> dict[str, Case]:
    """clip -> its case, of the clips that fail, by clip id.

    Args:
        looked_at: clip -> frames of it that were looked at.
        failures: clip, reference time, kind, how often, further tags.
    """
    found: dict[str, Case] = {}
    for clip, ref_ns, kind, count, about in failures:
        case = found.setdefault(clip, Case(clip, looked_at[clip]))
        case.kinds[kind] += count
        case.worst[ref_ns] += count
        case.about.update(dict.fromkeys(about, count))
    return dict(sorted(found.items()))


def context_tags(row: Mapping[str, Any]) -> set[str]:
    """What the catalogue knows of a clip, as tags; `row` is one of `domain.mining.columns.clip_rows`."""
    found = {f"{name}:{row[name]}" for name in TAG_COLUMNS if row.get(name)}
    for name in LIST_COLUMNS:
        found |= {f"{name}:{v}" for v in row.get(name) or () if not v.startswith(_SAID_ALREADY)}
    return found


def distance_tag(distance_m: float | None, ends_m: Sequence[float]) -> str:
    """The band that a distance lies in, as a tag: "distance:below-30m", "distance:from-50m", "distance:unknown"."""
    if distance_m is None or distance_m != distance_m:
        return "distance:unknown"
    end = next((end for end in ends_m if distance_m < end), None)
    return f"distance:from-{ends_m[-1]:g}m" if end is None else f"distance:below-{end:g}m"
