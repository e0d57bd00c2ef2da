"""Shards exported to Zarr and read back by zarr: the same pictures, points, times and signals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import zarr

from av_assets.domain.geometry.calibration import Calibration
from av_assets.domain.sync.exporters.zarr_export import _CHUNK_BYTES, export_zarr
from av_assets.domain.sync.tracks import Track

if TYPE_CHECKING:
    from pathlib import Path


from tests.domain.sync.exported_shards import (
    CALIBRATION,
    DRIVE,
    FRAMES,
    ROWS,
    SIGNALS,
    START_NS,
    access_unit,
    cloud,
    jpeg,
    signal,
    tracks,
    valid_rows,
    write_shards,
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("shards"))


@pytest.mark.parametrize("small", [False, True])
def test_zarr_arrays_are_the_columns_of_the_shards(
    shards: Path, tmp_path: Path, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if small:  # many shards, of which clips fill parts
        monkeypatch.setattr("av_assets.domain.sync.exporters.zarr_export._SMALL_CHUNK_BYTES", 8)
        monkeypatch.setattr("av_assets.domain.sync.exporters.zarr_export._CHUNKS_PER_SHARD", 3)
        for name in _CHUNK_BYTES:
            monkeypatch.setitem(_CHUNK_BYTES, name, 100)
    shapes = export_zarr(shards, tmp_path / "drive.zarr")
    root = zarr.open_group(tmp_path / "drive.zarr", mode="r")
    assert root.metadata.zarr_format == 3
    assert (root.attrs["drive"], root.attrs["policy"], root.attrs["redacted"]) == (DRIVE, "p" * 64, True)
    assert Calibration.model_validate(root.attrs["calibration"]) == CALIBRATION
    rows = np.arange(FRAMES)
    np.testing.assert_array_equal(root["ref_ns"][:], START_NS + rows * 100_000_000)
    np.testing.assert_array_equal(root["clip"][:], rows // ROWS)
    np.testing.assert_array_equal(root["keyframe"][:], rows % 5 == 0)
    for role, encode in (("camera_front", jpeg), ("camera_rear", jpeg), ("camera_side", access_unit)):
        group = root[role]
        data, offsets = group["data"], group["offsets"][:]
        assert data.shards is not None
        names = [group.attrs["encodings"][code] for code in group["encoding"][:]]
        for row in range(FRAMES):
            expected = encode(row) if row in valid_rows(role) else b""
            assert bytes(data[offsets[row] : offsets[row + 1]]) == expected
            assert bool(names[row]) == bool(expected)
            assert bool(group["valid"][row]) == bool(expected)
        assert offsets[-1] == data.shape[0] == shapes[f"{role}/data"][0]
    group = root["lidar_top"]
    offsets, points = group["offsets"][:], group["points"][:]
    for row in range(FRAMES):
        swept = row - (row % ROWS == ROWS - 1)
        assert points[offsets[row] : offsets[row + 1]].tobytes() == cloud(swept).tobytes()
        assert group["sensor_ns"][row] == START_NS + swept * 100_000_000
    group = root["radar_front"]
    offsets = group["offsets"][:]
    for row in range(FRAMES):
        inside = slice(int(offsets[row]), int(offsets[row + 1]))
        found = [Track(int(i), *map(float, rest)) for i, rest in
                 zip(group["track_id"][inside], group["tracks"][inside], strict=True)]  # fmt: skip
        assert found == (tracks(row) if row in valid_rows("radar_front") else [])
    for name in SIGNALS:
        np.testing.assert_array_equal(root["signals"][name][:], signal(name, rows))
    assert np.array_equal(root["camera_front"]["delta_ns"][:], np.full(FRAMES, 50))
