"""Bundles in a lake, with the manifests that the platform gives them.

Belongs here: publishing what a test has made. Does not belong here: tests.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from av_assets.domain.evidence.manifest import MadeFrom, Manifest, bundle_name
from resources.lake import Lake

WEEK, FIRST, SECOND = "2025-06-02", "w20250602-aaaaaaaa", "w20250602-bbbbbbbb"


def publish(
    lake: Lake, asset: str, partition: str, source: Path, inputs: list[Manifest], **origin: Any
) -> Manifest:
    """A copy of the folder as a bundle, since publishing takes the files away."""
    made_from = MadeFrom(inputs={bundle_name(m.asset, m.partition): m.digest for m in inputs}, **origin)
    with lake.workdir() as folder:
        shutil.copytree(source, folder / "out")
        return lake.publish(asset, partition, folder / "out", made_from=made_from)
