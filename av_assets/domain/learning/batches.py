"""The batches of a run: which samples it learns from and which ones it is validated on.

Belongs here: opening both splits of a dataset for one process. Does not belong here: reading, decoding, shuffling
(`loading`), what a network is given (`models`).
"""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from av_assets.domain.errors import DatasetError
from av_assets.domain.learning.distributed import World
from av_assets.domain.loading.loader import Loader
from av_assets.domain.loading.sample_index import SampleIndex
from av_assets.domain.loading.sources import FolderSource, ShardSource
from av_assets.domain.models.examples import MakeExample
from av_assets.domain.models.golden import GoldenSpec, dataset_digest, read_spec
from av_assets.policies.training import TrainingPolicy


class Lessons:
    """The train split, shuffled and varied, and the val split in order and as it is; both this process's share.

    Attributes:
        train, val: loaders; `val` is None where no val frame is labelled.
        train_index, val_index: what their `sample` counts.
        spec, digest: of the dataset.

    Raises:
        DatasetError: the folder is no dataset, or the train split is empty.
    """

    def __init__(
        self, root: Path, config: TrainingPolicy, seed: int, world: World, source: ShardSource | None
    ) -> None:
        self.root, self.config, self.seed, self.world = root, config, seed, world
        # libjpeg reads damaged pictures without a word: every shard is compared with its digest once
        self.source: ShardSource = source or FolderSource(root, verify="sha256")
        self.spec: GoldenSpec = read_spec(root)
        self.digest = dataset_digest(root)
        self.train_index = SampleIndex.of_golden(root, "train")
        self.val_index = _evenly(SampleIndex.of_golden(root, "val"), config.max_val_frames)
        if not len(self.train_index):
            raise DatasetError("train split has no labelled frame", code="empty_split", file=root)
        per_process = config.batch_size * world.accumulation(config)
        self.train = self._loader(self.train_index, per_process, config.last_batch, learns=True)
        self.val = (
            self._loader(self.val_index, config.batch_size, "keep", learns=False)
            if len(self.val_index)
            else None
        )
        if not len(self.train):
            raise DatasetError(
                f"{len(self.train_index)} samples do not fill one step of {config.effective_batch}",
                code="empty_epoch",
                file=root,
                remedy="set last_batch to pad, or lower batch_size",
            )

    def _loader(
        self, index: SampleIndex, batch_size: int, last_batch: Literal["drop", "keep", "pad"], learns: bool
    ) -> Loader:
        make = MakeExample(self.root, self.spec, self.config, augment=learns)
        return Loader(
            index,
            self.source,
            make,
            columns=make.columns,
            batch_size=batch_size,
            seed=self.seed,
            rank=self.world.rank,
            world_size=self.world.size,
            workers=self.config.loader_workers,
            prefetch=self.config.prefetch,
            shuffle=learns,
            last_batch=last_batch,
            on_bad=self.config.on_bad_sample,
            calibrations=_calibrations(self.root, index),
        )

    @property
    def classes(self) -> tuple[str, ...]:
        return self.spec.classes

    def name(self, position: int) -> str:
        """What a training sample is called in an error: drive, time, shard and row."""
        key = self.train_index.key(position)
        return f"{key.drive} {key.ref_ns} ({self.train_index.name(position)})"

    def slices(self) -> dict[str, set[int]]:
        """Positions of the val frames of each slice, `tag=value` of their drives."""
        tags = {member.drive: member.tags for member in self.spec.members}
        found: dict[str, set[int]] = {}
        for position in range(len(self.val_index)):
            for tag, value in tags[self.val_index.key(position).drive].items():
                found.setdefault(f"{tag}={value}", set()).add(position)
        return dict(sorted(found.items()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for loader in (self.train, self.val):
            if loader is not None:
                loader.close()


def _evenly(index: SampleIndex, most: int) -> SampleIndex:
    if len(index) <= most:
        return index
    return index.subset(np.linspace(0, len(index) - 1, most).round().astype(np.int64))


def _calibrations(root: Path, index: SampleIndex) -> dict[str, dict[str, Any]]:
    found = {}
    for drive in index.drives:
        path = root / "drives" / drive / "calibration.json"
        try:
            found[drive] = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise DatasetError(
                f"no readable calibration: {error}", code="no_calibration", file=path, drive=drive
            ) from error
    return found
