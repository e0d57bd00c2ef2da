"""What every exporter of shards does alike: equal bytes, no silent overwriting, no half output, bounded memory."""

from __future__ import annotations

import resource
import shutil
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

from av_assets.domain.errors import LogError, SyncError, TransientError
from av_assets.domain.logs.inspect import inspect_log
from av_assets.domain.sync.exporters.clips import Clip, Shards
from av_assets.domain.sync.exporters.mcap_export import export_mcap
from av_assets.domain.sync.exporters.webdataset_export import export_webdataset
from av_assets.domain.sync.exporters.zarr_export import export_zarr
from av_assets.domain.sync.shards import (
    clip_path,
    clip_table,
    keyframes,
    write_clip,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


from tests.domain.sync.exported_shards import CLIPS, DRIVE, START_NS, write_shards


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("shards"))


EXPORTERS: dict[str, Callable[..., Any]] = {
    "mcap": export_mcap, "webdataset": export_webdataset, "zarr": export_zarr,
}  # fmt: skip


def files_of(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


@pytest.fixture(params=EXPORTERS)
def export(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return EXPORTERS[request.param]


def test_equal_shards_give_equal_bytes(export: Callable[..., Any], shards: Path, tmp_path: Path) -> None:
    export(shards, tmp_path / "one")
    export(shards, tmp_path / "two")
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_an_output_is_never_overwritten_unasked(
    export: Callable[..., Any], shards: Path, tmp_path: Path
) -> None:
    export(shards, tmp_path / "out")
    before = files_of(tmp_path / "out")
    with pytest.raises(LogError) as error:
        export(shards, tmp_path / "out")
    assert error.value.code == "output_exists"
    export(shards, tmp_path / "out", overwrite=True)
    assert files_of(tmp_path / "out") == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_leaves_nothing_behind(export: Callable[..., Any], shards: Path, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(TransientError) as error:
            export(shards, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.value.code == "disk_full"
    assert not list(tmp_path.iterdir())


def test_broken_and_absent_shards_are_named(export: Callable[..., Any], shards: Path, tmp_path: Path) -> None:
    with pytest.raises(SyncError) as error:
        export(tmp_path, tmp_path / "out")
    assert error.value.code == "no_shards"
    shutil.copytree(shards, tmp_path / "cut")
    last = clip_path(tmp_path / "cut", CLIPS - 1)
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(SyncError) as error:
        export(tmp_path / "cut", tmp_path / "out")
    assert (error.value.code, error.value.file) == ("bad_shard", str(last))
    pq.write_table(pa.table({"a": [1]}), clip_path(tmp_path / "cut", 0))
    with pytest.raises(SyncError) as error:
        export(tmp_path / "cut", tmp_path / "out")
    assert error.value.code == "bad_shard"
    assert [path.name for path in tmp_path.iterdir()] == ["cut"]


def test_shards_without_sensors_are_exported(export: Callable[..., Any], tmp_path: Path) -> None:
    ref_ns = START_NS + np.arange(3) * 10
    table = clip_table(DRIVE, 0, 0, ref_ns, keyframes(ref_ns, 10), {})
    write_clip(table, clip_path(tmp_path / "bare", 0), 3, 1, 1 << 20)
    export(tmp_path / "bare", tmp_path / "out")
    assert (tmp_path / "out").exists()


def test_one_clip_is_in_memory_at_a_time(
    export: Callable[..., Any], shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[weakref.ref[Clip]] = []
    most: list[int] = []
    clips = Shards.clips

    def watched(self: Shards) -> Iterator[Clip]:
        for clip in clips(self):
            alive.append(weakref.ref(clip))
            most.append(sum(one() is not None for one in alive))
            yield clip
            del clip

    monkeypatch.setattr(Shards, "clips", watched)
    export(shards, tmp_path / "out")
    assert len(most) == CLIPS
    assert max(most) <= 2  # the one that comes, and the one that the loop still names


def test_a_synchronized_drive_is_exported(
    export: Callable[..., Any], synced: tuple[Any, Path], tmp_path: Path
) -> None:
    """Shards as synchronization writes them: counts of the report against counts of the export."""
    summary, folder = synced
    counts = export(folder, tmp_path / "out")
    matched = {role: stream["matched"] for role, stream in summary.report["streams"].items()}
    if export is export_mcap:
        assert inspect_log(tmp_path / "out").state == "ok"
        assert counts["/camera_front/image/compressed"] == matched["camera_front"]
        assert counts["/camera_rear/image/compressed"] == counts["/camera_rear/camera_info"]
        assert counts["/signals"] == summary.frames
    elif export is export_webdataset:
        assert counts["samples"] == summary.frames
    else:
        root = zarr.open_group(tmp_path / "out", mode="r")
        assert {role: int(root[role]["valid"][:].sum()) for role in matched} == matched
