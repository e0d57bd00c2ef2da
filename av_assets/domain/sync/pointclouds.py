"""Point clouds of any field layout as N x 4 float32: x, y, z in metres (sensor frame) and intensity 0..1.

Belongs here: the layout of sensor_msgs/PointCloud2. Does not belong here: transforms, or motion compensation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from av_assets.domain.errors import SyncError
from av_assets.domain.sync.wire import Cursor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from av_assets.domain.logs.blocks import RawMessage

_KINDS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
_INTENSITY_NAMES = ("intensity", "intensities", "i", "reflectivity", "signal")
FLOAT_INTENSITY_MAX = 255.0
MAX_FIELDS = 256


class Layout(NamedTuple):
    """Where things lie in one cloud."""

    fields: dict[str, tuple[int, str]]
    point_step: int
    row_step: int
    height: int
    width: int
    data: memoryview


def layout(raw: RawMessage) -> Layout:
    """The header of a sensor_msgs/PointCloud2; the points are not touched.

    Raises:
        SyncError: bad_message for cut bytes, bad_point_cloud for a layout that does not fit its own bytes.
    """
    cursor = Cursor(raw)
    cursor.header()
    height, width, count = cursor.uint(), cursor.uint(), cursor.uint()
    if count > MAX_FIELDS:
        raise _bad(raw, f"{count} fields")
    fields = {}
    for _ in range(count):
        name, offset, kind = cursor.text(), cursor.uint(), int(cursor.numbers("B")[0])
        cursor.uint()
        fields[name] = (offset, _KINDS.get(kind, ""))
    order = ">" if cursor.numbers("B")[0] else "<"
    point_step, row_step = cursor.uint(), cursor.uint()
    data = cursor.blob()
    fields = {name: (offset, order + kind) for name, (offset, kind) in fields.items() if kind}
    _check(raw, fields, point_step, row_step, height, width, data)
    return Layout(fields, point_step, row_step, height, width, data)


def _bad(raw: RawMessage, reason: str) -> SyncError:
    return SyncError(f"{raw.topic}: {reason}", code="bad_point_cloud")


def _check(
    raw: RawMessage, fields: dict[str, tuple[int, str]], point_step: int, row_step: int,
    height: int, width: int, data: memoryview,
) -> None:  # fmt: skip
    if not {"x", "y", "z"} <= fields.keys():
        raise _bad(raw, "the cloud has no x, y, z")
    reach = max(offset + np.dtype(kind).itemsize for offset, kind in fields.values())
    if height * width and (reach > point_step or row_step < point_step * width):
        raise _bad(raw, "fields reach beyond their point, or points beyond their row")
    if height * width and len(data) < row_step * (height - 1) + point_step * width:
        raise _bad(raw, "the cloud holds fewer bytes than points")


class CloudReader:
    """Reads the clouds of one stream. The scale of float intensities is settled once, by the first cloud.

    Drivers write floats as 0..1 or as 0..255 without saying which; a decision per cloud would flicker.
    """

    def __init__(self) -> None:
        self._float_scale: float | None = None

    def read(self, raw: RawMessage) -> NDArray[np.float32]:
        """(N, 4) little-endian float32; points with NaN or infinite coordinates are left out.

        Raises:
            SyncError: as `layout`.
        """
        cloud = layout(raw)
        if not cloud.height * cloud.width:
            return np.empty((0, 4), "<f4")
        points = np.empty((cloud.height * cloud.width, 4), "<f4")
        for axis, name in enumerate("xyz"):
            points[:, axis] = column(cloud, name).ravel()
        points[:, 3] = self._intensity(cloud)
        with np.errstate(invalid="ignore", over="ignore"):
            finite = np.isfinite(
                points[:, 0] + points[:, 1] + points[:, 2]
            )  # any NaN or infinity spoils the sum
        return points if finite.all() else points[finite]

    def _intensity(self, cloud: Layout) -> NDArray:
        name = next((n for n in _INTENSITY_NAMES if n in cloud.fields), None)
        if name is None:
            return np.zeros(cloud.height * cloud.width, np.float32)
        values = column(cloud, name).ravel()
        if values.dtype.kind in "iu":
            return np.clip(values / np.float32(np.iinfo(values.dtype).max), 0, 1)
        values = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        if self._float_scale is None:
            self._float_scale = FLOAT_INTENSITY_MAX if values.max(initial=0.0) > 1.0 else 1.0
        return np.clip(values / np.float32(self._float_scale), 0, 1)


def column(cloud: Layout, name: str) -> NDArray:
    """(height, width) strided view of one field."""
    offset, kind = cloud.fields[name]
    return np.ndarray(
        (cloud.height, cloud.width), kind, cloud.data, offset, strides=(cloud.row_step, cloud.point_step)
    )
