"""The index of a dataset names the rows that its labels are about."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from golden_folder import golden_folder
from toy_shards import write_shards

from av_assets.domain.datasets.frames import INDEX
from av_assets.domain.errors import DatasetError
from av_assets.domain.evidence.digests import sha256_file
from av_assets.domain.loading.sample_index import SampleIndex
from av_assets.domain.loading.sources import FolderSource
from av_assets.domain.models.golden import read_scenes, read_spec

SPLITS = {"drive-a": "train", "drive-b": "val", "drive-c": "test"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return golden_folder(tmp_path / "golden", SPLITS, frames=6)


def with_index(folder: Path, with_rows: bool = True) -> None:
    """The index that freezing writes; every second frame of it is labelled."""
    rows = []
    for drive, split in SPLITS.items():
        name = f"drives/{drive}/clips/00000.parquet"
        stamps = pq.read_table(folder / name, columns=["ref_ns"])["ref_ns"].to_pylist()
        rows += [
            {"drive": drive, "split": split, "clip_id": f"{drive}/00000", "ref_ns": ref_ns, "camera": camera,
             "shard": name, "shard_sha256": sha256_file(folder / name), "row": row if with_rows else None,
             "boxes": 3, "slices": ["all"]}
            for row, ref_ns in enumerate(stamps) if row % 2
            for camera in ("camera_front", "camera_rear")
        ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, INDEX), folder / "index.parquet")


@pytest.mark.parametrize("split", ["train", "val", "test", None])
def test_without_an_index_the_labels_say_which(folder: Path, split: str | None) -> None:
    index = SampleIndex.of_golden(folder, split)
    spec = read_spec(folder)
    drives = [drive for s in ("train", "val", "test") if split in (None, s) for drive in spec.drives(s)]
    scenes = [scene for drive in drives for scene in read_scenes(folder, drive, spec)]
    keys = {(scene.drive, scene.labels.clip_id, scene.labels.ref_ns) for scene in scenes}
    assert {index.key(position) for position in range(len(index))} == keys
    assert len(index) == len(keys)


@pytest.mark.parametrize("with_rows", [True, False])
def test_the_index_of_the_dataset_says_which(folder: Path, with_rows: bool) -> None:
    with_index(folder, with_rows)
    index = SampleIndex.of_golden(folder, None)
    assert index.row.tolist() == [1, 3, 5] * 3
    assert [index.place(n)[0].path for n in (0, 3, 8)] == [f"drives/{d}/clips/00000.parquet" for d in SPLITS]
    for ref in index.shards:
        assert (ref.sha256, ref.bytes) == (sha256_file(folder / ref.path), (folder / ref.path).stat().st_size)
    assert len(SampleIndex.of_golden(folder, "val")) == 3
    assert len(SampleIndex.of_golden(folder, "val", "camera_side")) == 0


def test_a_time_that_the_shard_does_not_have(folder: Path) -> None:
    with_index(folder, with_rows=False)
    table = pq.read_table(folder / "index.parquet")
    moved = table.set_column(3, INDEX.field("ref_ns"), pa.array(np.asarray(table["ref_ns"]) + 1))
    pq.write_table(moved, folder / "index.parquet")
    with pytest.raises(DatasetError) as caught:
        SampleIndex.of_golden(folder, "train")
    assert (caught.value.code, caught.value.drive) == ("no_such_row", "drive-a")


def test_a_folder_that_is_no_dataset(folder: Path) -> None:
    with_index(folder)
    (folder / "index.parquet").write_bytes(b"no table")
    with pytest.raises(DatasetError) as caught:
        SampleIndex.of_golden(folder, "train")
    assert caught.value.code == "no_labels"
    (folder / "dataset.json").write_text(json.dumps({}))
    with pytest.raises(DatasetError) as caught:
        SampleIndex.of_golden(folder, "train")
    assert caught.value.code == "bad_dataset_json"


def test_all_rows_of_shards(tmp_path: Path) -> None:
    index = write_shards(tmp_path, [3, 5, 1])
    assert index.shard.tolist() == [0] * 3 + [1] * 5 + [2]
    assert index.row.tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 0]
    assert index.key(4) == ("drive-1", "drive-1/00001", 1004)
    assert index.name(4) == "00001.parquet row 1"


def test_digests_tell_samples_apart(tmp_path: Path, folder: Path) -> None:
    index = write_shards(tmp_path / "shards", [3, 2])
    again = write_shards(tmp_path / "again", [3, 2])
    others = [
        index.subset([0, 1]),
        index.subset([1, 0]),
        index.subset(range(4)),
        write_shards(tmp_path / "s2", [2, 3]),
    ]
    assert index.digest == again.digest == index.subset(range(5)).digest
    assert len({index.digest, *(other.digest for other in others)}) == 5
    shutil.copytree(folder, tmp_path / "moved")
    assert (
        SampleIndex.of_golden(folder, None).digest == SampleIndex.of_golden(tmp_path / "moved", None).digest
    )


def test_indexes_of_single_shards_joined_are_the_index_of_them_all(tmp_path: Path) -> None:
    whole, source = write_shards(tmp_path, [4, 1, 7]), FolderSource(tmp_path)
    parts = [SampleIndex.of_shards([ref], source) for ref in whole.shards]
    joined = SampleIndex.joined(parts)
    assert joined.digest == whole.digest
    assert [joined.place(n) for n in range(len(joined))] == [whole.place(n) for n in range(len(whole))]
