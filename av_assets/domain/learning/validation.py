"""The score on the val split after each epoch, as a whole and for each slice of it.

Boxes are compared at input size and cuboids up to any distance; ignored ones count neither way. A quick score to choose
a checkpoint by, and to see a slice fall behind while there is time.
Belongs here: that score. Does not belong here: the evaluation that decides over a release (`metrics.evaluate`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from av_assets.domain.learning.batches import Lessons
from av_assets.domain.learning.distributed import World
from av_assets.domain.metrics.boxes import Boxes
from av_assets.domain.metrics.boxes3d import Boxes3d
from av_assets.domain.metrics.matching import map50
from av_assets.domain.metrics.nuscenes import ClassRule, map3d
from av_assets.domain.models.network import Decoded, PerceptionNet, decode
from av_assets.policies.training import TrainingPolicy

Arrays = dict[str, NDArray[Any]]


class Frame(NamedTuple):
    """What was found and what is true in one val frame; names as in `MakeExample` and `Decoded`."""

    found: Arrays
    truth: Arrays


def validate(net: PerceptionNet, lessons: Lessons, config: TrainingPolicy, world: World) -> dict[str, Any]:
    """{val_map50, val_map3d, slices: {slice: {val_map50, val_map3d}}}; None where there is nothing to score.

    Each process looks at its share of the frames; all of them get the scores.
    """
    frames: dict[int, Frame] = {}
    for share in world.gather(_look(net, lessons, config, world)):
        frames |= share
    scores = _scores(frames, lessons)
    by_slice = {
        name: _scores({at: frames[at] for at in positions if at in frames}, lessons)
        if len(positions) < len(lessons.val_index)
        else scores
        for name, positions in lessons.slices().items()
    }
    return {**scores, "slices": by_slice, **_skipped(lessons, world)}


def _skipped(lessons: Lessons, world: World) -> dict[str, list[str]]:
    """Names of the samples that were left out so far, on any process, where the policy allows it."""
    mine = [name for loader in (lessons.train, lessons.val) if loader is not None for name in loader.skipped]
    found = sorted({name for names in world.gather(mine) for name in names})
    return {"skipped_samples": found} if found else {}


def _look(net: PerceptionNet, lessons: Lessons, config: TrainingPolicy, world: World) -> dict[int, Frame]:
    frames: dict[int, Frame] = {}
    if lessons.val is None:
        return frames
    lessons.val.set_epoch(0)
    for batch in lessons.val:
        if not len(batch["sample"]):
            continue  # "keep" leaves some processes without a last batch
        given = {name: batch[name].to(world.device) for name in net.layout.shapes}
        with torch.no_grad():
            decoded = decode(net(**given), config)
        for row in np.flatnonzero(
            batch["real"].numpy()
        ).tolist():  # what stands in for a bad sample does not count
            frames[int(batch["sample"][row])] = Frame(_found(decoded, row), _truth(batch, row))
    return frames


def _found(decoded: Decoded, row: int) -> Arrays:
    kept = {name: value for name, value in decoded._asdict().items() if name != "drivable"}
    return {name: value[row].cpu().numpy() for name, value in kept.items() if value is not None}


def _truth(batch: Mapping[str, Tensor], row: int) -> Arrays:
    # copied: the batch's memory goes back to the loader
    return {name: value[row].numpy().copy() for name, value in batch.items() if name.startswith("truth_")}


def _scores(frames: Mapping[int, Frame], lessons: Lessons) -> dict[str, float | None]:
    chosen = dict(sorted(frames.items()))
    scores = {"val_map50": _map50(chosen, len(lessons.classes)) if chosen else None}
    if any("boxes3d" in frame.found for frame in chosen.values()):
        scores["val_map3d"] = _map3d(chosen, len(lessons.classes))
    return scores


def _map50(frames: Mapping[int, Frame], num_classes: int) -> float | None:
    truth, found, ignored = [], [], []
    for at, (seen, real) in frames.items():
        there = real["truth_classes"] >= 0
        found.append(Boxes.of_frame(at, seen["boxes"], seen["classes"], seen["scores"]))
        truth.append(Boxes.of_frame(at, real["truth_boxes"][there], real["truth_classes"][there]))
        ignored.append(real["truth_ignored"][there])
    return map50(Boxes.concat(truth), Boxes.concat(found), np.concatenate(ignored), num_classes)


def _map3d(frames: Mapping[int, Frame], num_classes: int) -> float | None:
    """nuScenes AP by centre distance, mean over distances and the classes that are there; measured frames only."""
    truth, found = [], []
    for at, (seen, real) in frames.items():
        if not real["truth_known3d"]:
            continue
        there = (real["truth_classes3d"] >= 0) & ~real["truth_ignored3d"]
        found.append(Boxes3d.of_frame(at, seen["boxes3d"], seen["classes3d"], seen["scores3d"]))
        truth.append(Boxes3d.of_frame(at, real["truth_boxes3d"][there], real["truth_classes3d"][there]))
    # up to any distance: the grid ends what can be found, and the truth beyond it is ignored
    return map3d(Boxes3d.concat(truth), Boxes3d.concat(found), [ClassRule(np.inf)] * num_classes)
