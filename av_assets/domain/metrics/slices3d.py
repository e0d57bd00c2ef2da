"""3D metrics of one slice: nuScenes' numbers, by class and by distance, with an interval over drives.

A class without objects in the slice is left out of its means; see `nuscenes.map3d`.
Belongs here: adding up over a slice. Does not belong here: the metrics (`nuscenes`), which cuboids count (`judged3d`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from av_assets.domain.metrics.boxes3d import Boxes3d
from av_assets.domain.metrics.nuscenes import (
    DISTANCES_M,
    ERRORS,
    ClassMatches,
    ClassRule,
    class_aps,
    map3d,
    match_classes,
    nuscenes_scores,
    rules_of,
)
from av_assets.policies.evaluation import EvaluationPolicy


class Band(BaseModel):
    """One ring around the vehicle; `map3d` is None without objects in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    objects: int
    map3d: float | None


class Scores3d(BaseModel):
    """3D part of a slice's report; None where there is no 3D truth, or the model has no 3D head.

    `ap3d_by_class` gives AP by threshold in metres; `tp_errors` are those of what is found within 2 m, as a mean over
    classes; `map3d_interval` is a 95 % interval over drives, None with fewer than two.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    objects3d: int | None = None
    map3d: float | None = None
    map3d_interval: tuple[float, float] | None = None
    nds: float | None = None
    tp_errors: dict[str, float | None] | None = None
    tp_errors_by_class: dict[str, dict[str, float | None]] | None = None
    ap3d_by_class: dict[str, dict[str, float] | None] | None = None
    map3d_by_distance: dict[str, Band] | None = None


def scores3d(
    truth: Boxes3d, found: Boxes3d, drives: Sequence[str], classes: Sequence[str], policy: EvaluationPolicy
) -> Scores3d:
    """Scores over the frames of a slice.

    Args:
        truth, found: as `judged3d.judged` gives them. drives: of all frames, by frame id.

    Raises:
        DatasetError: class_without_rule.
    """
    rules = rules_of(classes, policy.nuscenes_classes)
    matches = match_classes(truth, found, rules)
    held = [index for index, one in enumerate(matches) if len(one.objects)]
    aps = class_aps(matches)
    by_class: dict[str, dict[str, float] | None] = {
        name: {f"{d:g}": float(ap) for d, ap in zip(DISTANCES_M, aps[i], strict=True)} if i in held else None
        for i, name in enumerate(classes)
    }
    bands = _bands(truth, found, rules, policy)
    if not held:
        return Scores3d(objects3d=0, ap3d_by_class=by_class, map3d_by_distance=bands)
    scores = nuscenes_scores([matches[i] for i in held], [rules[i] for i in held])
    return Scores3d(
        objects3d=len(truth),
        map3d=scores.mean_ap,
        map3d_interval=map3d_interval([matches[i] for i in held], drives, policy),
        nds=scores.nds,
        tp_errors=scores.mean_errors,
        tp_errors_by_class={classes[i]: _known(row) for i, row in zip(held, scores.errors, strict=True)},
        ap3d_by_class=by_class,
        map3d_by_distance=bands,
    )


def _known(errors: NDArray[np.float64]) -> dict[str, float | None]:
    return {name: None if np.isnan(e) else float(e) for name, e in zip(ERRORS, errors, strict=True)}


def _bands(
    truth: Boxes3d, found: Boxes3d, rules: Sequence[ClassRule], policy: EvaluationPolicy
) -> dict[str, Band]:
    """Rings between neighbouring distances of the policy; both sides by their own distance."""
    result = {}
    for near_m, far_m in zip((0.0, *policy.distance_bands_m), policy.distance_bands_m, strict=False):
        inside, told = (b.where((b.distance_m >= near_m) & (b.distance_m < far_m)) for b in (truth, found))
        result[f"{near_m:g}-{far_m:g}"] = Band(objects=len(inside), map3d=map3d(inside, told, rules))
    return result


def map3d_interval(
    matches: Sequence[ClassMatches], drives: Sequence[str], policy: EvaluationPolicy
) -> tuple[float, float] | None:
    """95 % percentile interval of the mean AP when whole drives are drawn with replacement."""
    drive_of: NDArray[np.int64] = np.unique(np.asarray(drives), return_inverse=True)[1]
    seen = np.concatenate([part for m in matches for part in (m.objects, m.frame)])
    present = np.unique(drive_of[seen])
    if len(present) < 2:
        return None
    rng, values = np.random.default_rng(policy.bootstrap_seed), []
    for _ in range(policy.bootstrap_rounds):
        times = np.bincount(rng.choice(present, len(present)), minlength=int(drive_of.max()) + 1)
        drawn = [m.resampled(times[drive_of]) for m in matches]
        held = [m for m in drawn if len(m.objects)]
        if held:
            values.append(float(class_aps(held).mean()))
    low, high = np.percentile(values or [0.0], [2.5, 97.5])
    return float(low), float(high)
