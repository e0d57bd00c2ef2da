"""Clouds of odd layouts, with holes, and with damage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from av_assets.domain.errors import SyncError
from av_assets.domain.logs.files.blocks import RawMessage
from av_assets.domain.simulation import messages
from av_assets.domain.sync.phase import phases_in_cloud
from av_assets.domain.sync.pointclouds import CloudReader, layout

TYPE = "sensor_msgs/msg/PointCloud2"
STAMP_NS = 1_700_000_000_000_000_000
PERIOD_NS = 100_000_000
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
        header=messages.header(STAMP_NS, "lidar"), height=height, width=width, fields=fields,
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


@st.composite
def _random_points(draw: st.DrawFn) -> tuple[np.ndarray, int, int]:
    """Points of any layout, the number of rows, and bytes of padding after each row."""
    extras = draw(st.lists(st.sampled_from(["intensity", "ring", "foo", "rgb"]), unique=True, max_size=3))
    names = draw(st.permutations(["x", "y", "z", *extras]))
    formats, offsets, at = [], [], 0
    for name in names:
        kinds = (
            ["f4", "f8"] if name in "xyz" else ["u1", "u2", "u4", "f4"] if name != "ring" else ["u1", "u2"]
        )
        formats.append(draw(st.sampled_from("<>")) + draw(st.sampled_from(kinds)))
        at += draw(st.integers(0, 5))
        offsets.append(at)
        at += np.dtype(formats[-1]).itemsize
    order = draw(st.sampled_from("<>"))
    formats = [order + kind[1:] for kind in formats]
    dtype = np.dtype(
        {"names": names, "formats": formats, "offsets": offsets, "itemsize": at + draw(st.integers(0, 7))}
    )
    height, width = draw(st.integers(1, 4)), draw(st.integers(0, 6))
    raw = draw(hnp.arrays(np.uint8, height * width * dtype.itemsize))
    return raw.view(dtype) if len(raw) else np.zeros(0, dtype), height, draw(st.integers(0, 9))


@settings(max_examples=100)
@given(
    hnp.arrays("<f4", st.tuples(st.integers(1, 12), st.just(4))), st.integers(0, 5), st.sampled_from([1, 2])
)
def test_numbers_that_lie_together_are_read_as_those_that_do_not(
    numbers: np.ndarray, gap: int, height: int
) -> None:
    names = ["x", "y", "z", "intensity"]
    numbers = np.repeat(numbers, height, axis=0)
    together = {"names": names, "formats": ["<f4"] * 4, "offsets": [0, 4, 8, 12], "itemsize": 16 + gap}
    apart = {"names": names, "formats": ["<f4"] * 4, "offsets": [12, 5, 22, 0], "itemsize": 26}
    found = []
    for layout_of in (together, apart):
        points = np.zeros(len(numbers), np.dtype(layout_of))
        for axis, name in enumerate(names):
            points[name] = numbers[:, axis]
        found.append(CloudReader().read(_raw(points, height=height)))
    assert found[0].tobytes() == found[1].tobytes()


@settings(max_examples=150)
@given(_random_points())
def test_clouds_of_any_layout_come_through(made: tuple[np.ndarray, int, int]) -> None:
    points, height, padding = made
    kind = points.dtype["x"].str
    raw = _raw(points, height=height, padding=padding, bigendian=kind[0] == ">")
    with np.errstate(all="ignore"):
        xyz = np.stack([points[axis].astype(np.float32) for axis in "xyz"], axis=1)
        kept = np.isfinite(xyz.sum(axis=1, dtype=np.float64)) & np.isfinite(xyz[:, 0] + xyz[:, 1] + xyz[:, 2])
    found = CloudReader().read_timed(raw)
    np.testing.assert_array_equal(found.points[:, :3], xyz[kept])
    assert np.isfinite(found.points).all()
    assert ((found.points[:, 3] >= 0) & (found.points[:, 3] <= 1)).all()
    np.testing.assert_array_equal(found.points, CloudReader().read(raw))
    assert found.offset_ns is None
    if "ring" in points.dtype.names:
        np.testing.assert_array_equal(found.ring, points["ring"][kept])
    else:
        assert found.ring is None


def test_of_two_fields_with_one_name_the_first_counts() -> None:
    raw = _raw(_points([(name, "<f4") for name in ("x", "y", "z", "u", "w")]))
    twice = raw._replace(data=raw.data.replace(b"\x02\0\0\0u\0", b"\x02\0\0\0x\0"))
    assert layout(twice).fields.keys() == {"x", "y", "z", "w"}
    np.testing.assert_array_equal(CloudReader().read(twice), CloudReader().read(raw))


def _timed(times: np.ndarray, name: str = "t", holes: bool = False) -> RawMessage:
    points = np.zeros(len(times), [(n, "<f4") for n in "xyz"] + [(name, times.dtype.str), ("ring", "<u2")])
    points[name], points["ring"] = times, np.arange(len(times)) % 64
    if holes:
        points["x"][::3] = np.nan
    return _raw(points)


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("period_ns", [PERIOD_NS, 0])
@pytest.mark.parametrize(
    ("kind", "per_s", "origin_s"),
    [
        ("<u4", 1e9, 0.0), ("<u4", 1e6, 0.0), ("<f4", 1e3, 0.0), ("<f4", 1.0, 0.0), ("<f4", 1.0, -0.1),
        ("<f8", 1.0, STAMP_NS / 1e9), ("<f8", 1e6, STAMP_NS / 1e9), ("<f8", 1e9, STAMP_NS / 1e9),
    ],
)  # fmt: skip
def test_times_of_any_unit_are_ns_after_the_stamp(
    kind: str, per_s: float, origin_s: float, period_ns: int, holes: bool
) -> None:
    offsets = np.linspace(0, 0.0999, 500)
    raw = _timed(((offsets + origin_s) * per_s).astype(kind), holes=holes)
    found = CloudReader(period_ns).read_timed(raw)
    assert found.offset_ns is not None
    assert found.ring is not None
    assert found.offset_ns.dtype == np.int64
    assert found.ring.dtype == np.uint16
    kept = np.arange(500) % 3 != 0 if holes else np.ones(500, bool)
    expected = (offsets + (origin_s if abs(origin_s) < 1 else 0.0)) * 1e9
    np.testing.assert_allclose(found.offset_ns, expected[kept], atol=2000)
    np.testing.assert_array_equal(found.ring, (np.arange(500) % 64)[kept])


def test_times_of_another_clock_count_from_the_first_point() -> None:
    times = 3600.0 + np.linspace(0.02, 0.1, 100)
    found = CloudReader(PERIOD_NS).read_timed(_timed(times, "timestamp"))
    np.testing.assert_allclose(found.offset_ns, np.linspace(0, 0.08, 100) * 1e9, atol=2)


def test_the_unit_of_times_is_settled_by_the_first_cloud_that_shows_it() -> None:
    reader = CloudReader(PERIOD_NS)
    assert reader.read_timed(_timed(np.zeros(9, "<u4"))).offset_ns is None
    assert reader.read_timed(_timed(np.linspace(0, 99_000, 9).astype("<u4"))).offset_ns[-1] == 99_000_000
    # One beam of the next sweep, which by itself could be anything.
    assert reader.read_timed(_timed(np.array([50], "<u4"))).offset_ns.tolist() == [50_000]
    assert reader.read_timed(_timed(np.array([0, 900_000_000], "<u4"))).offset_ns is None


def test_points_without_a_time_take_the_stamp() -> None:
    times = np.array([0.0, np.nan, 0.05, 0.09], "<f4")
    found = CloudReader().read_timed(_timed(times))
    np.testing.assert_allclose(found.offset_ns, [0, 0, 50_000_000, 90_000_000], atol=10)


def test_rings_that_are_no_rings_are_not_told() -> None:
    points = _points([(n, "<f4") for n in ("x", "y", "z", "ring")])
    points["ring"][2] = -1
    assert CloudReader().read_timed(_raw(points)).ring is None
    points["ring"][2] = np.nan
    assert CloudReader().read_timed(_raw(points)).ring is None


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
