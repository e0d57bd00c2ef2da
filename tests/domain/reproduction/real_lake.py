"""Bundles in a lake, with the manifests that the platform gives them.

Belongs here: publishing what a test has made. Does not belong here: tests.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from av_assets.domain.evidence.manifest import MadeFrom, Manifest, bundle_name
from partitions.releases import release_id
from resources.datasets import GOLDEN, record
from resources.lake import Lake

WEEK, LATER = "2025-06-02", "2025-06-09"


def publish(
    lake: Lake, asset: str, partition: str, source: Path, inputs: list[Manifest], **origin: Any
) -> Manifest:
    """A copy of the folder as a bundle, since publishing takes the files away."""
    made_from = MadeFrom(inputs={bundle_name(m.asset, m.partition): m.digest for m in inputs}, **origin)
    with lake.workdir() as folder:
        shutil.copytree(source, folder / "out")
        return lake.publish(asset, partition, folder / "out", made_from=made_from)


def freeze(lake: Lake, week: str, source: Path) -> Manifest:
    """The folder as the dataset of a week, recorded as a version."""
    made = publish(lake, "golden_slices", week, source, [])
    record(lake, GOLDEN, made)
    return made


def release_of(dataset: Manifest) -> str:
    return release_id(dataset.partition, dataset.content)
