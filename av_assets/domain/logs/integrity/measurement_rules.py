"""Measurements that cannot be: NaN, empty clouds, gravity in the wrong unit, turns that no vehicle makes.

Belongs here: looking into decoded messages of IMU, lidar, radar and poses. Does not belong here: pictures
(`picture_rules`), fixes (`position_rules`), CAN (`can_rules`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.logs.integrity.picture_rules import FrameProbe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from av_assets.domain.logs.files.blocks import RawMessage
    from av_assets.domain.logs.integrity.findings import Finding
    from av_assets.domain.logs.integrity.probes import StreamJudge
    from av_assets.policies.integrity import IntegrityPolicy

MAX_DEPTH = 6
MAX_VALUES = 10_000
UNITS_OF_G = (0.7, 1.3)  # nine tenths of the samples between these: gravity, measured in g
FLOATS = {7: "f4", 8: "f8"}  # sensor_msgs/PointField


class ValueProbe:
    """Whether sampled messages hold numbers that are numbers."""

    wants_all = False

    def __init__(self) -> None:
        self.looked, self.not_finite = 0, 0

    def glance(self, raw: RawMessage) -> None:
        pass

    def look(self, raw: RawMessage, message: Any) -> None:
        self.looked += 1
        self.not_finite += not all(math.isfinite(value) for value in _numbers(message, MAX_DEPTH))

    def findings(self, judge: StreamJudge) -> Iterator[Finding]:
        bad = self.not_finite
        reason = f"{bad} of {self.looked} sampled messages hold NaN or infinity"
        yield judge.judge("values_are_finite", "error", not bad, bad, 0, reason)


def _numbers(value: Any, depth: int) -> Iterable[float]:
    """The floating point numbers of a message, covariances left out: unknown ones may be NaN."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, np.ndarray):
        if value.dtype.kind == "f" and value.size:
            yield float(np.abs(value[:MAX_VALUES]).max())
    elif isinstance(value, list):
        for item in value[:MAX_VALUES]:
            yield from _numbers(item, depth - 1)
    elif depth and hasattr(value, "__dict__"):
        for name, item in vars(value).items():
            if "covariance" not in name:
                yield from _numbers(item, depth - 1)


class ImuProbe(ValueProbe):
    """Acceleration and angular rate of sampled messages, as magnitudes."""

    def __init__(self, policy: IntegrityPolicy) -> None:
        super().__init__()
        self.policy = policy
        self.accel_mps2: list[float] = []
        self.rate_radps: list[float] = []

    def look(self, raw: RawMessage, message: Any) -> None:
        """Orientation is left out: drivers without a compass give NaN for it."""
        self.looked += 1
        finite = True
        for name, values in (("linear_acceleration", self.accel_mps2), ("angular_velocity", self.rate_radps)):
            vector = getattr(message, name, None)
            covariance = getattr(message, f"{name}_covariance", (0.0,))
            if vector is None or covariance[0] == -1:  # the message says that it is not measured
                continue
            length = math.hypot(vector.x, vector.y, vector.z)
            finite = finite and math.isfinite(length)
            if math.isfinite(length):
                values.append(length)
        self.not_finite += not finite

    def findings(self, judge: StreamJudge) -> Iterator[Finding]:
        yield from super().findings(judge)
        yield self._gravity(judge)
        if not self.rate_radps:
            yield judge.skip("turn_rate_is_possible", "warn", "angular rates are not measured")
            return
        fast, limit = float(np.percentile(self.rate_radps, 99)), self.policy.max_turn_rate_radps
        reason = f"one in a hundred samples turns faster than {fast:.2f} rad/s"
        yield judge.judge("turn_rate_is_possible", "warn", fast <= limit, fast, limit, reason)

    def _gravity(self, judge: StreamJudge) -> Finding:
        rule = "acceleration_includes_gravity"
        if not any(self.accel_mps2):
            return judge.skip(rule, "warn", "accelerations are not measured")
        low, median, high = np.percentile(self.accel_mps2, [5, 50, 95])
        least, most = self.policy.min_gravity_mps2, self.policy.max_gravity_mps2
        in_g = UNITS_OF_G[0] < low and high < UNITS_OF_G[1]
        guess = "it looks like units of g" if in_g else "gravity is missing, or the unit is wrong"
        limit = least if median < least else most
        reason = f"the median acceleration is {median:.2f} m/s2: {guess}"
        return judge.judge(
            rule, "error" if in_g else "warn", least <= median <= most, float(median), limit, reason
        )


class CloudProbe(FrameProbe):
    """Points of sampled clouds, beside sizes and freezes."""

    def __init__(self, policy: IntegrityPolicy) -> None:
        super().__init__(policy)
        self.looked, self.empty = 0, 0
        self.points = {True: 0, False: 0}
        self.nan = {True: 0, False: 0}

    def look(self, raw: RawMessage, message: Any) -> None:
        if not hasattr(message, "point_step"):
            return
        self.looked += 1
        points = coordinates(message)
        if not len(points):
            self.empty += 1
            return
        dense = bool(message.is_dense)
        self.points[dense] += len(points)
        self.nan[dense] += int((~np.isfinite(points).all(axis=1)).sum())

    def findings(self, judge: StreamJudge) -> Iterator[Finding]:
        yield from super().findings(judge)
        if not self.looked:
            yield judge.skip("clouds_hold_points", "error", "no cloud was decoded")
            return
        share, limit = self.empty / self.looked, self.policy.max_empty_clouds
        reason = f"{self.empty} of {self.looked} sampled clouds are empty"
        yield judge.judge("clouds_hold_points", "error", share <= limit, share, limit, reason)
        yield self._finite(judge)

    def _finite(self, judge: StreamJudge) -> Finding:
        """Judged where it is worse against its limit: clouds that may hold gaps, or those that declare none."""
        limits = {True: self.policy.max_nan_points_dense, False: self.policy.max_nan_points}
        shares = {dense: self.nan[dense] / max(1, self.points[dense]) for dense in (True, False)}
        worse = max(shares, key=lambda dense: shares[dense] - limits[dense])
        share, limit = shares[worse], limits[worse]
        what = "clouds that declare to have no gaps" if worse else "clouds"
        reason = f"{share:.1%} of the points of sampled {what} are no numbers"
        return judge.judge("points_are_finite", "error", share <= limit, share, limit, reason)


def coordinates(cloud: Any) -> np.ndarray[Any, Any]:
    """x, y, z of a PointCloud2 as (N, 3) float64; (0, 3) where it has no such fields or no whole point."""
    order = ">" if cloud.is_bigendian else "<"
    fields = {field.name: field for field in cloud.fields}
    chosen = [fields.get(name) for name in ("x", "y", "z")]
    count = min(int(cloud.width) * int(cloud.height), len(cloud.data) // max(1, int(cloud.point_step)))
    ends = [f.offset + int(FLOATS[f.datatype][1]) for f in chosen if f is not None and f.datatype in FLOATS]
    if count <= 0 or len(ends) != 3 or max(ends) > cloud.point_step:
        return np.empty((0, 3))
    layout = np.dtype(
        {
            "names": ["x", "y", "z"],
            "formats": [order + FLOATS[field.datatype] for field in chosen if field is not None],
            "offsets": [field.offset for field in chosen if field is not None],
            "itemsize": int(cloud.point_step),
        }
    )
    raw = np.ascontiguousarray(cloud.data[: count * int(cloud.point_step)])
    points = raw.view(layout)
    return np.stack([points[name].astype(np.float64) for name in ("x", "y", "z")], axis=1)
