"""Shards exported to tar files and read back by webdataset: the same pictures, points, times and signals."""

from __future__ import annotations

import gc
import hashlib
import io
import json
import tarfile
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import webdataset as wds

from av_assets.domain.errors import SyncError
from av_assets.domain.geometry.calibration import Calibration
from av_assets.domain.sync.exporters.webdataset_export import export_webdataset

if TYPE_CHECKING:
    from pathlib import Path


from tests.domain.sync.exported_shards import (
    CALIBRATION,
    DRIVE,
    FRAMES,
    ROWS,
    START_NS,
    access_unit,
    cloud,
    jpeg,
    tracks,
    write_shards,
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("shards"))


def tar_samples(tars: list[Path]) -> list[dict[str, Any]]:
    """As webdataset reads them, which leaves its files to the garbage collector."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        found = list(wds.WebDataset([str(path) for path in tars], shardshuffle=False, empty_check=False))
        gc.collect()
    return found


def test_tar_samples_are_the_rows_of_the_shards(shards: Path, tmp_path: Path) -> None:
    index = export_webdataset(shards, tmp_path / "wds", max_tar_bytes=60_000)
    assert len(index["tars"]) > 2
    assert index["samples"] == FRAMES
    tars = [tmp_path / "wds" / entry["file"] for entry in index["tars"]]
    for path, entry in zip(tars, index["tars"], strict=True):
        assert path.stat().st_size == entry["bytes"] <= 60_000
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
    samples = tar_samples(tars)
    assert [sample["__key__"] for sample in samples] == [f"{DRIVE}-{row:06d}" for row in range(FRAMES)]
    for row, sample in enumerate(samples):
        about = json.loads(sample["json"])
        assert sample["camera_front.jpg"] == jpeg(row)
        assert ("camera_rear.png" in sample) == (row % 2 == 0)
        assert sample["camera_side.h264"] == access_unit(row)
        swept = row - (row % ROWS == ROWS - 1)
        points = np.load(io.BytesIO(sample["lidar_top.points.npy"]))
        assert (points.dtype, points.tobytes()) == (np.float32, cloud(swept).tobytes())
        assert about["keyframe"] == (row % 5 == 0)
        assert (about["frame_index"], about["ref_ns"]) == (row, START_NS + row * 100_000_000)
        assert about["sensors"]["camera_front"] == {
            "sensor_ns": START_NS + row * 100_000_000 + 50,
            "log_ns": START_NS + row * 100_000_000 + 5_000_050,
            "delta_ns": 50,
            "valid": True,
        }
        assert about["sensors"]["camera_rear"]["valid"] == (row % 2 == 0)
        if row % 3 == 2:
            assert about["tracks"]["radar_front"] is None
        else:
            assert about["tracks"]["radar_front"] == [track._asdict() for track in tracks(row)]
        expected = None if row % 5 == 0 else row * 0.5 + len("speed_mps")
        assert about["signals"]["speed_mps"] == expected
    assert Calibration.load(tmp_path / "wds" / "calibration.json") == CALIBRATION


def test_tar_headers_hold_names_and_sizes_only(shards: Path, tmp_path: Path) -> None:
    index = export_webdataset(shards, tmp_path / "wds")
    with tarfile.open(tmp_path / "wds" / index["tars"][0]["file"]) as tar:
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar} == {(0, 0, 0, "", "", 0o644)}


def test_a_sample_beyond_the_bound_is_refused(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(SyncError) as error:
        export_webdataset(shards, tmp_path / "wds", max_tar_bytes=12_000)
    assert error.value.code == "sample_too_large"
    assert not list(tmp_path.iterdir())
