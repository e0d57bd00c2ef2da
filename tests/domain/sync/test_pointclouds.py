"""Clouds of odd layouts, with holes, and with damage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from av_assets.domain.errors import SyncError
from av_assets.domain.logs.blocks import RawMessage
from av_assets.domain.simulation import messages
from av_assets.domain.sync.phase import offsets_s, phases_in_cloud
from av_assets.domain.sync.pointclouds import CloudReader

TYPE = "sensor_msgs/msg/PointCloud2"
KINDS = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}


def _raw(points: np.ndarray, *, height: int = 1, padding: int = 0, bigendian: bool = False) -> RawMessage:
    """A cloud with the fields of a structured array; `padding` bytes follow each row."""
    types = messages.typestore().types
    dtype = points.dtype
    fields = [
        types["sensor_msgs/msg/PointField"](
            name=name, offset=offset, datatype=KINDS[kind.str[1:]], count=1
        )
        for name, (kind, offset) in ((n, dtype.fields[n][:2]) for n in dtype.names)
    ]  # fmt: skip
    width = len(points) // height
    rows = points.reshape(height, width)
    data = b"".join(row.tobytes() + b"\xff" * padding for row in rows)
    cloud = types[TYPE](
        header=messages.header(1_700_000_000_000_000_000, "lidar"), height=height, width=width, fields=fields,
        is_bigendian=bigendian, point_step=dtype.itemsize, row_step=dtype.itemsize * width + padding,
        data=np.frombuffer(data, np.uint8), is_dense=False,
    )  # fmt: skip
    return RawMessage("/lidar", TYPE, 0, bytes(messages.typestore().serialize_cdr(cloud, TYPE)))


def _points(kind: Any, count: int = 6) -> np.ndarray:
    points = np.zeros(count, np.dtype(kind))
    for axis, name in enumerate("xyz"):
        points[name] = np.arange(count) + 10 * axis
    return points


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("height", "padding"), [(1, 0), (2, 0), (2, 5)])
def test_any_layout_gives_x_y_z_and_intensity(order: str, height: int, padding: int) -> None:
    names = ["ring", "z", "intensity", "y", "x"]
    formats = [f"{order}u2", f"{order}f4", f"{order}u2", f"{order}f8", f"{order}f4"]
    points = _points({"names": names, "formats": formats, "offsets": [0, 4, 8, 16, 30], "itemsize": 40})
    points["intensity"] = 65535
    found = CloudReader().read(_raw(points, height=height, padding=padding, bigendian=order == ">"))
    assert found.dtype == np.dtype("<f4")
    expected = np.stack([np.arange(6), np.arange(6) + 10, np.arange(6) + 20, np.ones(6)], axis=1)
    np.testing.assert_array_equal(found, expected)


def test_points_without_coordinates_are_left_out() -> None:
    points = _points([("x", "<f4"), ("y", "<f4"), ("z", "<f4")])
    points["y"][1], points["z"][3], points["x"][4] = np.nan, np.inf, -np.inf
    found = CloudReader().read(_raw(points))
    assert found[:, 0].tolist() == [0.0, 2.0, 5.0]
    assert found[:, 3].tolist() == [0.0, 0.0, 0.0]


def test_the_scale_of_float_intensities_is_settled_by_the_first_cloud() -> None:
    bright, dark = (_points([(n, "<f4") for n in ("x", "y", "z", "intensity")]) for _ in range(2))
    bright["intensity"], dark["intensity"] = 200.0, 0.5
    reader = CloudReader()
    assert reader.read(_raw(bright))[0, 3] == pytest.approx(200 / 255)
    assert reader.read(_raw(dark))[0, 3] == pytest.approx(0.5 / 255)
    assert CloudReader().read(_raw(dark))[0, 3] == pytest.approx(0.5)


def test_an_empty_cloud_has_no_points() -> None:
    assert CloudReader().read(_raw(_points([("x", "<f4"), ("y", "<f4"), ("z", "<f4")], 0))).shape == (0, 4)


def test_a_cut_cloud_is_refused_wherever_it_is_cut() -> None:
    raw = _raw(_points([("x", "<f4"), ("y", "<f4"), ("z", "<f4")]))
    for length in range(4, len(raw.data) - 1):
        with pytest.raises(SyncError):
            CloudReader().read(raw._replace(data=raw.data[:length]))


def test_a_cloud_without_coordinates_is_refused() -> None:
    points = np.zeros(3, [("x", "<f4"), ("y", "<f4"), ("range", "<f4")])
    with pytest.raises(SyncError) as caught:
        CloudReader().read(_raw(points))
    assert caught.value.code == "bad_point_cloud"


@pytest.mark.parametrize(("unit", "kind"), [(1e9, "<u4"), (1e6, "<u4"), (1.0, "<f4")])
def test_cameras_are_due_when_the_beam_looks_their_way(unit: float, kind: str) -> None:
    """A turn of 0.1 s that starts behind: forward half a turn later, backward at the seam."""
    share = (np.arange(3600) + 0.5) / 3600
    azimuth = -np.pi + 2 * np.pi * share
    points = np.zeros(3600, [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("t", kind)])
    points["x"], points["y"], points["t"] = np.cos(azimuth), np.sin(azimuth), share * 0.1 * unit
    phases = phases_in_cloud(_raw(points), 100_000_000, {"front": 0.0, "rear": np.pi, "left": np.pi / 2})
    assert phases["front"] == pytest.approx(50_000_000, abs=100_000)
    assert phases["left"] == pytest.approx(-25_000_000, abs=100_000) or phases["left"] == pytest.approx(
        75_000_000, abs=100_000
    )
    assert phases["rear"] == pytest.approx(0, abs=100_000)


def test_times_that_fit_no_unit_are_not_believed() -> None:
    assert offsets_s(np.zeros(10), 0.1) is None
    assert offsets_s(np.linspace(0, 42, 10), 0.1) is None
