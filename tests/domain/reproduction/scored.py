"""Predictions as a network would give them, and the evaluation that they would have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from av_assets.domain.metrics.evaluate import ALL
from av_assets.domain.metrics.predictions import SCHEMA, outcome_of
from av_assets.domain.metrics.slices import slice_report
from av_assets.domain.models.golden import read_labels, read_spec
from av_assets.domain.reproduction.rescoring import Evaluation
from av_assets.policies.evaluation import EvaluationPolicy

QUICK = EvaluationPolicy.load().model_copy(update={"bootstrap_rounds": 1})


def predict(root: Path, path: Path, seed: int, shift_px: float, found_share: float) -> Path:
    """Predictions as a network would give them: the truth, moved, with misses and wrong scores."""
    spec, rng = read_spec(root), np.random.default_rng(seed)
    rows = []
    for drive in spec.drives("test"):
        for item in read_labels(root, drive, spec):
            seen = rng.random(len(item.boxes)) < found_share
            boxes = item.boxes[seen] + rng.normal(0, shift_px, (int(seen.sum()), 4)).astype(np.float32)
            rows.append(
                {
                    "drive": drive,
                    "ref_ns": item.ref_ns,
                    "boxes": boxes.ravel(),
                    "scores": rng.uniform(0.1, 1, len(boxes)),
                    "classes": item.classes[seen],
                    "boxes3d": None,
                    "scores3d": None,
                    "classes3d": None,
                    "pixels": None,
                }
            )
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path)
    return path


def evaluation(
    root: Path, predictions: Path, policy: EvaluationPolicy = QUICK, lie: float = 0.0
) -> Evaluation:
    """An evaluation with the report that it would have; `lie` is what other code had made of it."""
    spec = read_spec(root)
    outcome = outcome_of(pq.read_table(predictions), root, spec, policy)
    slices = {}
    for name, names in {ALL: spec.drives("test"), **spec.slices}.items():
        slices[name] = slice_report(outcome, names, spec.classes, policy).model_dump(mode="json")
        if slices[name]["map50"] is not None:
            slices[name]["map50"] += lie
    return Evaluation({"slices": slices}, predictions, root, policy)
