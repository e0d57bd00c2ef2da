"""A frozen dataset as batches of tensors.

Belongs here: decoding once, keeping in memory what fits, order and augmentation as functions of (seed, step).
Does not belong here: the layout of the dataset (`golden`), the definition of targets (`targets`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from av_assets.domain.errors import DatasetError
from av_assets.domain.models.golden import Scene, Split, dataset_digest, read_scenes, read_spec
from av_assets.domain.models.inputs import PLANES, prepare
from av_assets.domain.models.targets import STRIDE, Example, augment, make_targets
from av_assets.policies.training import TrainingPolicy


@dataclass(frozen=True)
class Batch:
    """picture (N, 5, H, W) uint8 in channels-last memory; the rest as in `Targets`, plus drivable (N, 1, h,
    w) in
    0..1 with drivable_known (N, 1, 1, 1) 0 or 1."""

    picture: torch.Tensor
    heatmap: torch.Tensor
    distances: torch.Tensor
    weight: torch.Tensor
    care: torch.Tensor
    drivable: torch.Tensor
    drivable_known: torch.Tensor


class GoldenFrames:
    """The labelled frames of one split.

    Attributes:
        digest: of the dataset, written into checkpoints and bundles.
        drives: drive of each frame.

    Raises:
        DatasetError: the folder is no dataset, or the train split is empty.
    """

    def __init__(
        self, root: Path, split: Split, config: TrainingPolicy, max_frames: int | None = None
    ) -> None:
        self.root, self.split, self.config = root, split, config
        self.spec = read_spec(root)
        self.digest = dataset_digest(root)
        self._cache: list[Example] = []
        self._refs: list[tuple[str, int]] = []
        bytes_left = config.max_cache_mb * 2**20
        for scene in (s for drive in self.spec.drives(split) for s in read_scenes(root, drive, self.spec)):
            self._refs.append((scene.drive, scene.labels.ref_ns))
            bytes_left -= config.input_width * config.input_height * len(PLANES)
            if bytes_left >= 0:
                self._cache.append(self._example(scene))
        if split == "train" and not self._refs:
            raise DatasetError("train split has no labelled frame", code="empty_split", file=root)
        if max_frames is not None and len(self) > max_frames:
            keep = np.linspace(0, len(self) - 1, max_frames).round().astype(int)
            cached = len(self._cache)
            self._cache = [self._cache[i] for i in keep if i < cached]
            self._refs = [self._refs[i] for i in keep]

    def __len__(self) -> int:
        return len(self._refs)

    @property
    def drives(self) -> list[str]:
        return [drive for drive, _ in self._refs]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.spec.classes

    def example(self, index: int) -> Example:
        """The frame at `index` without augmentation; beyond the cache it is decoded again."""
        if index < len(self._cache):
            return self._cache[index]
        drive, ref_ns = self._refs[index]
        scenes = read_scenes(self.root, drive, self.spec)
        return self._example(next(s for s in scenes if s.labels.ref_ns == ref_ns))

    def _example(self, scene: Scene) -> Example:
        import cv2

        width, height = self.config.input_width, self.config.input_height
        pixels = scene.frame.pixels()
        to_input = np.array([width / pixels.shape[1], height / pixels.shape[0]] * 2, np.float32)
        boxes = scene.labels.boxes * to_input
        short_px = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf)
        mask = scene.drivable()
        if mask is not None:
            cells = (width // STRIDE, height // STRIDE)
            mask = cv2.resize(mask * np.uint8(255), cells, interpolation=cv2.INTER_AREA)
        return Example(
            prepare(pixels, scene.points_ego, scene.view, width, height),
            boxes,
            scene.labels.classes,
            (short_px < self.config.min_box_px) | (scene.labels.occlusion > self.config.max_occlusion),
            mask,
        )

    def order(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """(n,) the frames of one epoch: a permutation that depends on nothing but seed and epoch."""
        return np.random.default_rng([seed, epoch]).permutation(len(self))

    def batch(
        self, indices: Sequence[int] | NDArray[np.int64], rng: np.random.Generator | None = None
    ) -> Batch:
        """The frames at `indices`, augmented where `rng` is given."""
        examples = [self.example(int(i)) for i in indices]
        if rng is not None:
            examples = [augment(e, self.config, rng) for e in examples]
        targets = [make_targets(e, len(self.classes), self.config.gaussian_share) for e in examples]
        cells = targets[0].weight.shape
        masks = [np.zeros(cells, np.uint8) if e.drivable is None else e.drivable for e in examples]
        pictures = torch.from_numpy(np.stack([e.picture for e in examples]))
        return Batch(
            picture=pictures.permute(0, 3, 1, 2),
            heatmap=torch.from_numpy(np.stack([t.heatmap for t in targets])),
            distances=torch.from_numpy(np.stack([t.distances for t in targets])),
            weight=torch.from_numpy(np.stack([t.weight for t in targets])),
            care=torch.from_numpy(np.stack([t.care for t in targets])),
            drivable=torch.from_numpy(np.stack(masks)[:, None]).float() / 255,
            drivable_known=torch.tensor([e.drivable is not None for e in examples]).float().view(-1, 1, 1, 1),
        )

    def in_order(self, batch_size: int) -> Iterator[tuple[list[int], Batch]]:
        """All frames once, in time order, without augmentation."""
        for start in range(0, len(self), batch_size):
            indices = list(range(start, min(start + batch_size, len(self))))
            yield indices, self.batch(indices)
