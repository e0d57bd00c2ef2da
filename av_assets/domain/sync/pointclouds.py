"""Point clouds of any field layout as N x 4 float32: x, y, z in metres (sensor frame) and intensity 0..1.

Belongs here: the layouts of sensor_msgs/PointCloud2 and foxglove.PointCloud. Does not belong here: the meaning of
times (point_times), transforms, or motion compensation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from av_assets.domain.errors import CalibrationError, SyncError
from av_assets.domain.geometry.transforms import quaternions_to_matrices
from av_assets.domain.logs.messages import foxglove
from av_assets.domain.sync.point_times import RING_FIELDS, TIME_FIELDS, offsets_ns, sweep_unit_s
from av_assets.domain.sync.wire import Cursor, by_name, pose7

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from av_assets.domain.logs.files.blocks import RawMessage

_KINDS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
_FOXGLOVE_KINDS = {1: "u1", 2: "i1", 3: "u2", 4: "i2", 5: "u4", 6: "i4", 7: "f4", 8: "f8"}
_FOXGLOVE_TYPES = ("foxglove.PointCloud", "foxglove_msgs/msg/PointCloud")
_IDENTITY = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
_INTENSITY_NAMES = ("intensity", "intensities", "i", "reflectivity", "signal")
FLOAT_INTENSITY_MAX = 255.0
MAX_FIELDS = 256
MAX_RING = 65535
_FAR = 1e38


class Layout(NamedTuple):
    """Where things lie in one cloud. `pose` is x, y, z, qx, qy, qz, qw of the cloud in its frame, where it has one."""

    fields: dict[str, tuple[int, str]]
    point_step: int
    row_step: int
    height: int
    width: int
    data: memoryview
    stamp_ns: int = 0
    pose: tuple[float, ...] | None = None


class TimedCloud(NamedTuple):
    """One sweep with what motion compensation needs.

    points: (N, 4) float32 x, y, z in m and intensity 0..1. offset_ns: (N,) int64 ns after the header stamp, None
    where the cloud has no times that make sense. ring: (N,) uint16 beam of each point, None where it is not told.
    """

    points: NDArray[np.float32]
    offset_ns: NDArray[np.int64] | None
    ring: NDArray[np.uint16] | None


def layout(raw: RawMessage) -> Layout:
    """The header of a point cloud; the points are not touched. Of fields with one name the first counts.

    Raises:
        SyncError: bad_message for cut bytes, bad_point_cloud for a layout that does not fit its own bytes.
    """
    cloud = _foxglove_layout(raw) if raw.msgtype in _FOXGLOVE_TYPES else _ros_layout(raw)
    _check(raw, cloud)
    return cloud


def _ros_layout(raw: RawMessage) -> Layout:
    cursor = Cursor(raw)
    stamp_ns = cursor.stamp_ns()
    cursor.text()
    height, width = cursor.uint(), cursor.uint()
    found = [(cursor.text(), cursor.uint(), _element_kind(cursor)) for _ in range(_field_count(cursor))]
    order = ">" if cursor.numbers("B")[0] else "<"
    point_step, row_step = cursor.uint(), cursor.uint()
    if height == 1:  # drivers leave the step of the only row at zero
        row_step = point_step * width
    fields = _first_of_each(found, _KINDS, order)
    return Layout(fields, point_step, row_step, height, width, cursor.blob(), stamp_ns)


def _element_kind(cursor: Cursor) -> int:
    kind = int(cursor.numbers("B")[0])
    cursor.uint()  # elements: of an array field the first one is taken
    return kind


def _field_count(cursor: Cursor) -> int:
    count = cursor.uint()
    if count > MAX_FIELDS:
        raise _bad(cursor.raw, f"{count} fields")
    return count


def _foxglove_layout(raw: RawMessage) -> Layout:
    if foxglove.is_encoded(raw):
        found = by_name(raw)
        elements = [(e["name"], e["offset"], e["type"]) for e in found["fields"][:MAX_FIELDS]]
        step, data, stamp_ns = found["point_stride"], found["data"], found["timestamp"]
        pose = None if found["pose"] is None else pose7(found["pose"])
    else:
        cursor = Cursor(raw)
        stamp_ns = cursor.stamp_ns()
        cursor.text()
        pose, step, count = cursor.numbers("d", 7), cursor.uint(), _field_count(cursor)
        elements = [(cursor.text(), cursor.uint(), int(cursor.numbers("B")[0])) for _ in range(count)]
        data = cursor.blob()
    fields = _first_of_each(elements, _FOXGLOVE_KINDS, "<")
    width = len(data) // step if step else 0
    return Layout(fields, step, step * width, 1, width, data, stamp_ns, pose)


def _first_of_each(
    found: list[tuple[str, int, int]], kinds: dict[int, str], order: str
) -> dict[str, tuple[int, str]]:
    fields: dict[str, tuple[int, str]] = {}
    for name, offset, kind in found:
        if kind in kinds:
            fields.setdefault(name, (offset, order + kinds[kind]))
    return fields


def _bad(raw: RawMessage, reason: str) -> SyncError:
    return SyncError(f"{raw.topic}: {reason}", code="bad_point_cloud")


def _check(raw: RawMessage, cloud: Layout) -> None:
    if not {"x", "y", "z"} <= cloud.fields.keys():
        raise _bad(raw, "the cloud has no x, y, z")
    if not cloud.height * cloud.width:
        return
    reach = max(offset + np.dtype(kind).itemsize for offset, kind in cloud.fields.values())
    if reach > cloud.point_step or cloud.row_step < cloud.point_step * cloud.width:
        raise _bad(raw, "fields reach beyond their point, or points beyond their row")
    if len(cloud.data) < cloud.row_step * (cloud.height - 1) + cloud.point_step * cloud.width:
        raise _bad(raw, "the cloud holds fewer bytes than points")


class CloudReader:
    """Reads the clouds of one stream. What clouds do not say is settled once, by the first cloud that shows it.

    Drivers write float intensities as 0..1 or as 0..255, and times in ns, us, ms or s, without saying which; a
    decision per cloud would flicker.
    """

    def __init__(self, period_ns: int = 0) -> None:
        """`period_ns`: time between sweeps, where known; it makes the guess of the unit of times stricter."""
        self._period_ns = period_ns
        self._float_scale: float | None = None
        self._unit_s: float | None = None

    def read(self, raw: RawMessage) -> NDArray[np.float32]:
        """(N, 4) little-endian float32; points with NaN or infinite coordinates are left out.

        Raises:
            SyncError: as `layout`.
        """
        points, finite = self._points(layout(raw))
        return points if finite is None else points[finite]

    def read_timed(self, raw: RawMessage) -> TimedCloud:
        """The points of `read` with their times and beams.

        Raises:
            SyncError: as `layout`.
        """
        cloud = layout(raw)
        points, finite = self._points(cloud)
        offsets, ring = self._offsets(cloud), _ring(cloud)
        if finite is None:
            return TimedCloud(points, offsets, ring)
        offsets = None if offsets is None else offsets[finite]
        return TimedCloud(points[finite], offsets, None if ring is None else ring[finite])

    def _points(self, cloud: Layout) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
        """All points, and which of them are finite (None: all)."""
        points = _packed(cloud)
        if points is not None:
            points[:, 3] = self._scaled(points[:, 3])
            finite = None
        else:
            points = np.empty((cloud.height * cloud.width, 4), "<f4")
            if not len(points):
                return points, None
            grid = points.reshape(cloud.height, cloud.width, 4)
            with np.errstate(invalid="ignore", over="ignore"):
                for axis, name in enumerate("xyz"):
                    grid[..., axis] = column(cloud, name)
                # Any NaN or infinity spoils the sum.
                finite = np.isfinite(points[:, 0] + points[:, 1] + points[:, 2])
            points[:, 3] = self._intensity(cloud)
        if cloud.pose is not None and cloud.pose != _IDENTITY:
            _place(points, cloud.pose)
        return points, None if finite is None or finite.all() else finite

    def _intensity(self, cloud: Layout) -> NDArray:
        name = _intensity_name(cloud)
        if name is None:
            return np.zeros(cloud.height * cloud.width, np.float32)
        values = column(cloud, name).reshape(-1)
        if values.dtype.kind in "iu":
            return np.clip(values / np.float32(np.iinfo(values.dtype).max), 0, 1)
        with np.errstate(over="ignore"):
            values = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        return self._scaled(values)

    def _scaled(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Finite float intensities as 0..1."""
        if self._float_scale is None:
            self._float_scale = FLOAT_INTENSITY_MAX if values.max(initial=0.0) > 1.0 else 1.0
        return np.asarray(np.clip(values / np.float32(self._float_scale), 0, 1))

    def _offsets(self, cloud: Layout) -> NDArray[np.int64] | None:
        name = next((field for field in TIME_FIELDS if field in cloud.fields), None)
        if name is None or not cloud.height * cloud.width:
            return None
        times = column(cloud, name).reshape(-1).astype(np.float64)
        if self._unit_s is None:
            self._unit_s = sweep_unit_s(times[np.isfinite(times)], self._period_ns)
        if self._unit_s is None:
            return None
        return offsets_ns(times, self._unit_s, cloud.stamp_ns, self._period_ns)


def _intensity_name(cloud: Layout) -> str | None:
    return next((name for name in _INTENSITY_NAMES if name in cloud.fields), None)


def _packed(cloud: Layout) -> NDArray[np.float32] | None:
    """The points in one copy where x, y, z and intensity lie together as little-endian float32, all of them finite."""
    start, kind = cloud.fields["x"]
    names = ("x", "y", "z", _intensity_name(cloud) or "")
    together = all(cloud.fields.get(name) == (start + 4 * k, kind) for k, name in enumerate(names))
    if kind != "<f4" or not together or not cloud.height * cloud.width:
        return None
    shape, strides = (cloud.height, cloud.width), (cloud.row_step, cloud.point_step)
    found = np.ndarray(shape, "V16", cloud.data, start, strides).copy()
    points = found.view("<f4").reshape(-1, 4)
    # False for NaN too; smaller than what three of them could overflow by.
    return points if points.min() > -_FAR and points.max() < _FAR else None


def _ring(cloud: Layout) -> NDArray[np.uint16] | None:
    name = next((field for field in RING_FIELDS if field in cloud.fields), None)
    if name is None:
        return None
    values = column(cloud, name).reshape(-1)
    with np.errstate(invalid="ignore"):
        fits = bool(((values >= 0) & (values <= MAX_RING)).all())
    return values.astype(np.uint16) if fits else None


def _place(points: NDArray[np.float32], pose: tuple[float, ...]) -> None:
    """Moves a cloud from its own pose into its frame, in place."""
    try:
        rotation = quaternions_to_matrices(pose[3:])
    except CalibrationError:
        rotation = np.eye(3)
    with np.errstate(invalid="ignore", over="ignore"):
        points[:, :3] = points[:, :3] @ rotation.T + pose[:3]


def column(cloud: Layout, name: str) -> NDArray:
    """(height, width) strided view of one field."""
    offset, kind = cloud.fields[name]
    if not cloud.height * cloud.width:
        return np.empty((cloud.height, cloud.width), kind)
    return np.ndarray(
        (cloud.height, cloud.width), kind, cloud.data, offset, strides=(cloud.row_step, cloud.point_step)
    )
