"""Shards of tar: few, the same bytes every time, readable by others."""

from __future__ import annotations

import itertools
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.datasets.archive import archive_json, plan_shards, write_shard
from av_assets.domain.errors import EvidenceError
from av_assets.domain.evidence.digests import sha256_bytes, sha256_file
from av_assets.domain.evidence.manifest import FileEntry

CONTENTS = {
    "dataset.json": b"{}",
    "drives/veh001-a/clips/00000.parquet": bytes(range(256)) * 40,
    "drives/veh001-a/labels.parquet": b"",
    "drives/" + "long-" * 40 + "name/clips/00000.parquet": b"long names too",
}


def _dataset(folder: Path) -> list[FileEntry]:
    files = []
    for path, data in CONTENTS.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
        files.append(FileEntry(path=path, bytes=len(data), sha256=sha256_bytes(data)))
    return files


@given(st.lists(st.integers(0, 100), max_size=40), st.integers(1, 120), st.randoms())
def test_every_file_is_in_one_shard_and_no_two_neighbours_would_fit_into_one(sizes, target, random) -> None:  # type: ignore[no-untyped-def]
    files = [FileEntry(path=f"{n:03}", bytes=size, sha256="0" * 64) for n, size in enumerate(sizes)]
    mixed = files[:]
    random.shuffle(mixed)
    plans = plan_shards("x", mixed, target)
    assert [f for plan in plans for f in plan.files] == files
    totals = [sum(f.bytes for f in plan.files) for plan in plans]
    assert all(
        total <= target or len(p.files) == 1 or not any(f.bytes for f in p.files[1:])
        for total, p in zip(totals, plans, strict=True)
    )
    for plan, later in itertools.pairwise(plans):
        assert sum(f.bytes for f in plan.files) + later.files[0].bytes > target
    assert [p.name for p in plans] == [f"x-{n:05}.tar" for n in range(len(plans))]


def test_the_same_files_give_the_same_bytes_whenever_and_by_whomever_they_were_written(
    tmp_path: Path,
) -> None:
    found = []
    for name, when in (("one", 1), ("two", 10**9)):
        folder, out = tmp_path / name, tmp_path / f"{name}-out"
        out.mkdir()
        files = _dataset(folder)
        for path in folder.rglob("*"):
            path.chmod(0o700 if when == 1 else 0o755)
            os.utime(path, (when, when))
        [plan] = plan_shards("golden", files, 1 << 20)
        shard = write_shard(plan, folder, out)
        assert sha256_file(out / shard.name) == shard.sha256
        assert (out / shard.name).stat().st_size == shard.bytes
        found.append(archive_json("golden", "0" * 64, "2025-06-02", [shard]))
    assert found[0] == found[1]
    assert found[0]["files"] == len(CONTENTS)


def test_tar_and_webdataset_read_what_was_packed(tmp_path: Path) -> None:
    from webdataset import tariterators

    files = _dataset(tmp_path / "data")
    (tmp_path / "out").mkdir()
    [plan] = plan_shards("golden", files, 1 << 20)
    shard = write_shard(plan, tmp_path / "data", tmp_path / "out")
    with tarfile.open(tmp_path / "out" / shard.name) as tar:
        members = tar.getmembers()
        read = {m.name: tar.extractfile(m).read() for m in members}  # type: ignore[union-attr]
        assert [m.name for m in members] == sorted(CONTENTS)
        assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in members} == {(0, 0, 0, "", 0o644)}
    assert read == CONTENTS
    with (tmp_path / "out" / shard.name).open("rb") as file:
        members_read = tariterators.tar_file_expander([{"stream": file, "url": shard.name}])
        samples = {s["__key__"]: s for s in tariterators.group_by_keys(members_read)}
    clip = "drives/veh001-a/clips/00000"
    assert samples[clip]["parquet"] == CONTENTS[f"{clip}.parquet"]


@pytest.mark.parametrize("change", ["other bytes", "longer", "shorter", "missing"])
def test_a_file_that_is_not_what_its_digest_says_is_not_packed(tmp_path: Path, change: str) -> None:
    files = _dataset(tmp_path)
    path = tmp_path / "dataset.json"
    if change == "missing":
        path.unlink()
    else:
        path.write_bytes({"other bytes": b"[]", "longer": b"{}\n", "shorter": b"{"}[change])
    [plan] = plan_shards("golden", files, 1 << 20)
    with pytest.raises(EvidenceError) as refused:
        write_shard(plan, tmp_path, tmp_path)
    assert (refused.value.code, refused.value.file) == ("damaged_object", "dataset.json")
