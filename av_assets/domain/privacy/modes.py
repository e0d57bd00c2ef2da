"""What a mode of redaction covers: findings alone, or also the places where a finding may have been missed.

Belongs here: which kinds a mode needs, and the bands of vehicles and people. Does not belong here: time (tracks),
pixels (hiding).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from av_assets.domain.errors import RedactionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av_assets.domain.privacy.tracks import Region
    from av_assets.policies.redaction import BandPolicy, RedactionPolicy

FINDINGS: Final = ("face", "plate")
BANDS: Final = {"vehicle": ("plate_band", "plate"), "person": ("head_band", "face")}
"""Kind of the whole -> kind of its band, and the finer kind that stands for the band."""


def covers_bands(policy: RedactionPolicy) -> bool:
    return policy.mode == "strict" or (policy.mode == "solid" and policy.cover == "bands")


def required_kinds(policy: RedactionPolicy) -> tuple[str, ...]:
    """The kinds that a detector must find for this policy."""
    return FINDINGS + (tuple(BANDS) if covers_bands(policy) else ())


def check_detector(kinds: Sequence[str], policy: RedactionPolicy) -> None:
    """Refuse a detector that does not find all that the mode covers.

    Raises:
        RedactionError: `no_detector` without faces or plates, `strict_needs_detector` without whole objects.
    """
    if lacking := [kind for kind in FINDINGS if kind not in kinds]:
        raise RedactionError(
            f"no detector of {', '.join(lacking)}", code="no_detector", remedy="fetch the pretrained weights"
        )
    if lacking := [kind for kind in required_kinds(policy) if kind not in kinds]:
        raise RedactionError(
            f"mode {policy.mode} covers bands and needs a detector of {', '.join(lacking)}",
            code="strict_needs_detector",
            remedy="configure an object detector (object.onnx), or choose mode standard in redaction.yaml",
        )


def to_cover(regions: Sequence[Region], shape: tuple[int, ...], policy: RedactionPolicy) -> list[Region]:
    """The regions to hide in a picture of `shape` (H, W, ...), before dilation.

    Faces and plates as they are; where the mode covers bands, one band for every vehicle and person in which no
    trusted finer finding lies. A finer finding stands for one object only: the smallest whose band holds its centre.
    """
    covered = [region for region in regions if region.kind in FINDINGS]
    if not covers_bands(policy):
        return covered
    for whole, (band_kind, finer_kind) in BANDS.items():
        rule = policy.plate_band if whole == "vehicle" else policy.head_band
        objects = [r for r in regions if r.kind == whole and _has_band(r, shape, rule, policy)]
        bands = [band_of(region.box, shape, rule, policy.border_share) for region in objects]
        answered = _answered(bands, [r for r in regions if r.kind == finer_kind], rule.trust_score)
        covered += [
            replace(region, kind=band_kind, box=band)
            for index, (region, band) in enumerate(zip(objects, bands, strict=True))
            if index not in answered
        ]
    return covered


def band_of(box: np.ndarray, shape: tuple[int, ...], rule: BandPolicy, border_share: float) -> np.ndarray:
    """(4,) band of a box, over its full width; of a box that the picture cuts off, as much as may be the band.

    A box cut off at the top shows an unknown lower share of its object, so the band begins at the border of the
    picture. One cut off at the bottom has its band higher up than its shares say, or out of sight: the band of the
    shares still covers it from above, and `height_of_width` keeps it high enough for a head over a cut body.
    """
    x1, y1, x2, y2 = (float(side) for side in box)
    height = y2 - y1
    least = rule.height_of_width * (x2 - x1)
    top, bottom = y1 + rule.top * height, y1 + rule.bottom * height
    if rule.top > 0:  # a band at the foot of the object grows upwards
        top = min(top, bottom - least)
        if y1 <= border_share * shape[0]:
            top = y1
    else:
        bottom = max(bottom, y1 + least)
    return np.array([x1, max(top, y1), x2, min(bottom, y2)], np.float32)


def _has_band(region: Region, shape: tuple[int, ...], rule: BandPolicy, policy: RedactionPolicy) -> bool:
    """Not for what is too small to show anything, nor for what detectors make of the view out of a vehicle."""
    seen = np.clip(region.box, 0, [shape[1], shape[0]] * 2)
    share = float(np.prod(seen[2:] - seen[:2])) / (shape[0] * shape[1])
    is_sure = share <= policy.oversize_share or region.score >= policy.oversize_score
    return is_sure and region.box[2] - region.box[0] >= rule.min_width_px


def _answered(bands: Sequence[np.ndarray], finer: Sequence[Region], trust_score: float) -> set[int]:
    """Indices of the bands that a finer finding stands for."""
    answered = set()
    for region in finer:
        if region.score < trust_score:
            continue
        x, y = (region.box[:2] + region.box[2:4]) / 2
        inside = [i for i, b in enumerate(bands) if b[0] <= x <= b[2] and b[1] <= y <= b[3]]
        if inside:
            answered.add(min(inside, key=lambda i: (bands[i][2] - bands[i][0]) * (bands[i][3] - bands[i][1])))
    return answered
