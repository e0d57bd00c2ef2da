"""Datasheet and Croissant: from evidence only, the same on every day, and readable by the official library."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING

import mlcroissant
import pyarrow as pa
import pyarrow.parquet as pq

from av_assets.domain.datasets.croissant import croissant
from av_assets.domain.datasets.datasheet import NOT_RECORDED, datasheet
from av_assets.domain.datasets.frames import INDEX
from av_assets.domain.evidence.digests import sha256_file

if TYPE_CHECKING:
    from pathlib import Path

COUNTS = {"drives": 1, "frames": 2, "objects": {"cone": 3}}
DATASET = {
    "week": "2025-06-02", "version": "ab" * 32, "classes": ["cone"], "camera": "camera_front",
    "members": [{"drive": "d"}], "counts": {"train": COUNTS, "test": {**COUNTS, "frames": 5}},
    "slice_counts": {"night": {"test": {"drives": 0, "frames": 0, "objects": 0}}},
    "thin_slices": {"night": "0 of 1 drives"}, "left_out": {"e": "0 of 1 labelled frames"},
    "spec": {"split_by": "drive", "train_share": 0.55, "val_share": 0.15, "only": "", "version": "1.1.0",
             "policy_digest": "cd" * 32},
}  # fmt: skip
EVIDENCE = {
    "dataset": DATASET,
    "leaks": {"kinds": {"near_duplicate": {"action": "refuse", "pairs": 0}}, "dropped": {}},
    "drives": [
        {"drive": "d", "vehicle": "veh1", "start_ns": 5, "end_ns": 9, "duration_s": 1800.0, "light": "day"}
    ],
    "reports": {"d": {"labels": 6, "kappa": 0.8, "annotators": {"anna": {}}}},
    "made_by": {"synced_shards": {("policy sync", "ef" * 32)}},
}
SECTIONS = (
    "Motivation",
    "Composition",
    "Collection",
    "Preprocessing",
    "Labelling",
    "Uses",
    "Distribution",
    "Maintenance",
)


def test_the_datasheet_has_all_sections_and_only_what_is_known() -> None:
    text = datasheet(EVIDENCE)
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == list(SECTIONS)
    for said in ("7 labelled frames of camera_front", "- Hours: 0.50", "- Vehicles: 1", "policy sync efefefefefef",
                 "- Agreement, Cohen's kappa: 0.800 to 0.800 over 1 drives", "night (0 of 1 drives)",
                 "e (0 of 1 labelled frames)"):  # fmt: skip
        assert said in text
    for unknown in (
        "Licence",
        "Purpose",
        "Kilometres",
        "Agreement, Krippendorff's alpha",
        "People and consent",
    ):
        assert f"- {unknown}: {NOT_RECORDED}" in text
    assert datasheet(EVIDENCE) == text


def test_croissant_is_read_by_the_official_library(tmp_path: Path) -> None:
    row = {"drive": "d", "split": "train", "clip_id": "d/00000", "ref_ns": 1_748_852_100_000_000_000,
           "camera": "camera_front", "shard": "s", "shard_sha256": "0" * 64, "row": 3, "boxes": 2,
           "slices": ["night", "rain"]}  # fmt: skip
    pq.write_table(pa.Table.from_pylist([row], INDEX), tmp_path / "index.parquet")
    size, digest = (tmp_path / "index.parquet").stat().st_size, sha256_file(tmp_path / "index.parquet")
    described = croissant(DATASET, {"index.parquet": (size, digest)})
    (tmp_path / "croissant.json").write_text(json.dumps(described))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library's own dependencies
        dataset = mlcroissant.Dataset(jsonld=tmp_path / "croissant.json")
        assert not dataset.metadata.ctx.issues.errors
        [found] = list(dataset.records(record_set="frames"))
    assert found["frames/ref_ns"] == row["ref_ns"]
    assert found["frames/clip_id"] == b"d/00000"
    assert list(found["frames/slices"]) in ([b"night", b"rain"], ["night", "rain"])
