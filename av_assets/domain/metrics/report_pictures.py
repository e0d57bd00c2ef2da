"""The pictures of an evaluation report: curves, reliability, and frames with what was there and what was found.

Belongs here: which frames are shown and what of them. Does not belong here: drawing (`pictures`, `pictures3d`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from av_assets.domain.metrics import pictures, pictures3d
from av_assets.domain.metrics.boxes3d import Boxes3d
from av_assets.domain.metrics.matching import Matches, precision_recall
from av_assets.domain.metrics.nuscenes import DISTANCES_M, curve_of, match_classes, rules_of
from av_assets.domain.metrics.slices import Outcome, SliceReport
from av_assets.domain.models.golden import GoldenSpec, Scene, read_scenes
from av_assets.policies.evaluation import EvaluationPolicy

NUM_EXAMPLES: Final = 9


def report_pictures(
    whole: SliceReport,
    reliability: Sequence[Mapping[str, Any]],
    matches: Matches,
    outcome: Outcome,
    golden_dir: Path,
    spec: GoldenSpec,
    policy: EvaluationPolicy,
) -> dict[str, bytes]:
    """File name -> PNG; those of 3D only where there is 3D truth and a model with a 3D head.

    Args:
        whole, reliability: of all frames.
    """
    curves = {
        name: (*precision_recall(matches, index), whole.ap50_by_class[name])
        for index, name in enumerate(spec.classes)
    }
    scenes = _shown(golden_dir, spec, outcome)
    examples = [_example(i, scene, outcome, policy) for i, scene in scenes.items()]
    found = {
        "pr_curves.png": pictures.pr_curves(curves),
        "reliability.png": pictures.reliability_diagram(reliability, whole.ece),
        "examples.png": pictures.example_sheet(examples, spec.classes),
    }
    if outcome.truth3d is None or outcome.found3d is None:
        return found
    return found | _pictures3d(outcome.truth3d, outcome.found3d, scenes, spec, policy)


def _shown(golden_dir: Path, spec: GoldenSpec, outcome: Outcome) -> dict[int, Scene]:
    """Frames spread evenly over the split, by frame id."""
    wanted = np.unique(np.linspace(0, len(outcome.drives) - 1, NUM_EXAMPLES).round().astype(int)).tolist()
    ids = {(outcome.drives[i], outcome.stamps[i]): i for i in wanted}
    found = {}
    for drive in dict.fromkeys(drive for drive, _ in ids):
        stamps = [ref_ns for name, ref_ns in ids if name == drive]
        for scene in read_scenes(golden_dir, drive, spec, stamps):
            found[ids[drive, scene.labels.ref_ns]] = scene
    return found


def _example(index: int, scene: Scene, outcome: Outcome, policy: EvaluationPolicy) -> pictures.Example:
    found = outcome.found.where(
        (outcome.found.frame == index) & (outcome.found.score >= policy.display_score)
    )
    truth = outcome.truth.where((outcome.truth.frame == index) & ~outcome.ignore)
    return pictures.Example(scene.frame, _title(scene), truth, found)


def _pictures3d(
    truth: Boxes3d, found: Boxes3d, scenes: Mapping[int, Scene], spec: GoldenSpec, policy: EvaluationPolicy
) -> dict[str, bytes]:
    matches = match_classes(truth, found, rules_of(spec.classes, policy.nuscenes_classes))
    curves = {
        name: [curve_of(one, d) for d in range(len(DISTANCES_M))]
        for name, one in zip(spec.classes, matches, strict=True)
        if len(one.objects)
    }
    shown = found.where(found.score >= policy.display_score)
    examples = [
        pictures3d.Example3d(
            _title(scene), scene.points_ego, truth.where(truth.frame == i), shown.where(shown.frame == i)
        )
        for i, scene in scenes.items()
    ]
    return {
        "pr_curves_3d.png": pictures3d.pr_curves_3d(curves),
        "bev_examples.png": pictures3d.bev_sheet(examples, spec.classes),
    }


def _title(scene: Scene) -> str:
    at = datetime.fromtimestamp(scene.labels.ref_ns / 1e9, UTC)
    return f"{scene.drive} at {at:%H:%M:%S}.{at.microsecond // 100_000}"
