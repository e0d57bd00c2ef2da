"""Slices that fail more often than they are seen: exact binomial tests, corrected for how many slices are asked.

Belongs here: counting by tag, and the test. Does not belong here: what a tag is (cases), thresholds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from av_assets.domain.monitoring.significance import benjamini_hochberg


@dataclass(frozen=True)
class SliceShare:
    """One tag among all pieces of driving and among those that fail.

    Attributes:
        clips: that have the tag. units, failing: pieces of driving, and those of them that fail.
        lift: share among the failing pieces over share among all.
        p: chance of at least so many failing pieces, were each failing one drawn from all alike (binomial).
        adjusted_p: after Benjamini and Hochberg, over all slices asked. drifted: adjusted_p <= alpha.
    """

    tag: str
    clips: int
    units: int
    failing: int
    lift: float
    p: float
    adjusted_p: float
    drifted: bool

    def to_json(self) -> dict[str, Any]:
        return {k: round(v, 6) if isinstance(v, float) else v for k, v in asdict(self).items()}


def slice_shares(
    tags: Mapping[str, Collection[str]],
    units: Mapping[tuple[str, int], bool],
    alpha: float,
    min_clips: int,
) -> list[SliceShare]:
    """Every tag of at least `min_clips` clips that not all clips have, the least likely first.

    Pieces of driving and not frames are counted: neighbouring frames show nearly the same, and would each count as
    evidence.

    Args:
        tags: clip -> its tags, of all clips that the model looked at.
        units: clip and number of the piece -> whether it fails.
    """
    from scipy.stats import binom

    clips = Counter(tag for held in tags.values() for tag in set(held))
    everywhere = Counter(tag for clip, _ in units for tag in set(tags[clip]))
    among = Counter(tag for (clip, _), fails in units.items() if fails for tag in set(tags[clip]))
    total, failed = len(units), sum(units.values())
    asked = sorted(tag for tag, count in clips.items() if min_clips <= count < len(tags))
    if not asked or not failed:
        return []
    p = [float(binom.sf(among[tag] - 1, failed, everywhere[tag] / total)) for tag in asked]
    found = [
        SliceShare(
            tag, clips[tag], everywhere[tag], among[tag], (among[tag] / failed) / (everywhere[tag] / total), raw, fixed,
            fixed <= alpha,
        )
        for tag, raw, fixed in zip(asked, p, benjamini_hochberg(p), strict=True)
    ]  # fmt: skip
    return sorted(found, key=lambda one: (one.p, one.tag))
