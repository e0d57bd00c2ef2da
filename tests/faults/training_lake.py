"""A lake with one tiny golden dataset, and a policy that teaches a tiny network in a second."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
from golden_folder import golden_folder

from av_assets.domain.evidence.digests import sha256_file
from av_assets.domain.evidence.manifest import Manifest
from av_assets.policies.training import TrainingPolicy
from partitions.releases import release_id, releases
from resources.datasets import GOLDEN, record
from resources.lake import Lake

WEEK = "2025-06-02"
DRIVES = {"drive-a": "train", "drive-b": "val"}


def tiny_policy(**changes: object) -> TrainingPolicy:
    tiny = {
        **{
            "input_width": 96,
            "input_height": 64,
            "widths": (8, 8, 16, 16, 16),
            "feature_width": 8,
            "head_width": 8,
        },
        **{"bev_cell_m": 3.0, "bev_widths": (8, 8, 8), "bev_camera_width": 4, "max_objects": 16},
        **{"batch_size": 4, "micro_batches": 1, "epochs": 3, "precision": "float32", "num_threads": 1},
        **{"loader_workers": 0, "sanity_steps": 0, "max_val_frames": 4, "learning_rate": 0.005},
    }
    return TrainingPolicy.model_validate(TrainingPolicy.load().model_dump() | tiny | changes)


def golden_lake(folder: Path, frames: int = 8) -> tuple[Lake, Manifest]:
    """A lake in `folder` that holds golden_slices of WEEK, recorded as a version of its dataset."""
    lake = Lake(uri=(folder / "lake").as_uri(), scratch=str(folder / "scratch"))
    (folder / "golden").mkdir()
    root = golden_folder(folder / "golden", DRIVES, frames)
    golden = lake.publish("golden_slices", WEEK, root)
    record(lake, GOLDEN, golden)
    return lake, golden


def indexed(root: Path, drives: Mapping[str, str]) -> Path:
    """The dataset with an index that names its shards by digest, as a frozen one has it."""
    rows = []
    for drive, split in drives.items():
        shard = f"drives/{drive}/clips/00000.parquet"
        stamps = pq.read_table(root / shard)["ref_ns"].to_pylist()
        one = {"drive": drive, "split": split, "clip_id": f"{drive}/00000", "camera": "camera_front"}
        one |= {"shard": shard, "shard_sha256": sha256_file(root / shard)}
        rows += [{**one, "ref_ns": ns, "row": row} for row, ns in enumerate(stamps)]
    pq.write_table(pa.Table.from_pylist(rows), root / "index.parquet")
    return root


def release_of(golden: Manifest, instance: dg.DagsterInstance) -> str:
    release = release_id(WEEK, golden.content)
    assert releases.name is not None
    instance.add_dynamic_partitions(releases.name, [release])
    return release
