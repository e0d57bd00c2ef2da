"""Calibration in the log: present, possible, and made for the pictures beside it.

Belongs here: judging camera_info and static transforms as recorded. Does not belong here: which calibration is used
when the log has none.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.logs.integrity.findings import Finding
from av_assets.domain.logs.integrity.picture_rules import PictureProbe
from av_assets.domain.logs.integrity.probes import CAMERA_INFO, TRANSFORMS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from av_assets.domain.logs.drive_spec import StreamSpec
    from av_assets.domain.logs.files.blocks import RawMessage
    from av_assets.domain.logs.integrity.probes import StreamJudge
    from av_assets.domain.logs.integrity.rules import Severity
    from av_assets.domain.logs.integrity.stream_stats import StreamStats
    from av_assets.policies.integrity import IntegrityPolicy

MOUNTED = ("camera", "lidar", "radar")
QUATERNION_TOLERANCE = 0.01
ROTATION_TOLERANCE = 1e-3
MAX_TRANSFORMS = 10_000


class IntrinsicsProbe:
    """Sizes and matrices of sampled camera_infos."""

    wants_all = False

    def __init__(self) -> None:
        self.looked, self.zero = 0, 0
        self.sizes: set[tuple[int, int]] = set()
        self.wrong: list[str] = []

    def glance(self, raw: RawMessage) -> None:
        pass

    def look(self, raw: RawMessage, message: Any) -> None:
        if not hasattr(message, "distortion_model"):
            return
        self.looked += 1
        camera = _matrix(message, "k")
        if not camera.any():
            self.zero += 1
            return
        if not (message.binning_x > 1 or message.binning_y > 1 or message.roi.width):
            self.sizes.add((int(message.width), int(message.height)))
        focal = (camera[0, 0], camera[1, 1])
        if not (np.isfinite(camera).all() and min(focal) > 0):
            self.wrong.append(f"focal lengths {focal[0]:g} and {focal[1]:g} px")
        turn = _matrix(message, "r")
        if turn.any() and not is_rotation(turn):
            self.wrong.append("the rectification is no rotation")

    def findings(self, judge: StreamJudge) -> Iterator[Finding]:
        if not self.looked:
            return
        severity: Severity = "error" if self.wrong else "warn"
        bad = len(self.wrong) + self.zero
        reason = "; ".join(dict.fromkeys(self.wrong)) or "all zeros: the camera is not calibrated"
        yield judge.judge("intrinsics_are_valid", severity, not bad, bad, 0, reason)


def _matrix(message: Any, name: str) -> np.ndarray[Any, Any]:
    """K or R as (3, 3); ROS 1 writes the names large."""
    values = getattr(message, name, None)
    values = getattr(message, name.upper(), np.zeros(9)) if values is None else values
    return np.asarray(values, dtype=np.float64).reshape(3, 3)


def is_rotation(matrix: np.ndarray[Any, Any]) -> bool:
    """Whether a (3, 3) matrix is orthonormal and right-handed."""
    if not np.isfinite(matrix).all():
        return False
    close = np.allclose(matrix @ matrix.T, np.eye(3), atol=ROTATION_TOLERANCE)
    return bool(close and np.linalg.det(matrix) > 0)


class TransformProbe:
    """Frames and rigidity of transforms of one topic."""

    wants_all = False

    def __init__(self, policy: IntegrityPolicy, is_static: bool) -> None:
        self.limit_m, self.is_static = policy.max_mount_distance_m, is_static
        self.frames: set[str] = set()
        self.looked = 0
        self.wrong: dict[str, str] = {}
        self.far: dict[str, str] = {}

    def glance(self, raw: RawMessage) -> None:
        pass

    def look(self, raw: RawMessage, message: Any) -> None:
        for one in getattr(message, "transforms", [])[:MAX_TRANSFORMS]:
            self.looked += 1
            child = one.child_frame_id.lstrip("/")
            self.frames |= {child, one.header.frame_id.lstrip("/")}
            turn, shift = one.transform.rotation, one.transform.translation
            norm = math.sqrt(turn.x**2 + turn.y**2 + turn.z**2 + turn.w**2)
            distance = math.sqrt(shift.x**2 + shift.y**2 + shift.z**2)
            if not abs(norm - 1) <= QUATERNION_TOLERANCE:
                self.wrong[child] = f"{child}: quaternion of length {norm:.3f}"
            elif self.is_static and not distance <= self.limit_m:
                self.far[child] = f"{child}: {distance:.1f} m away"

    def findings(self, judge: StreamJudge) -> Iterator[Finding]:
        if self.looked:
            found = {**self.far, **self.wrong}
            severity: Severity = "error" if self.wrong else "warn"  # far away may be the map
            reason = "; ".join(list(found.values())[:5])
            yield judge.judge("extrinsics_are_rigid", severity, not found, len(found), 0, reason)


def calibration_probe(topic: str, msgtype: str, policy: IntegrityPolicy) -> tuple[Any, int] | None:
    """The probe and samples of a topic that carries calibration, else None."""
    if msgtype == CAMERA_INFO:
        return IntrinsicsProbe(), 0
    if msgtype == TRANSFORMS:
        static = topic.rsplit("/", 1)[-1] == "tf_static"
        return TransformProbe(policy, static), policy.value_samples
    return None


def calibration_findings(
    streams: Mapping[str, StreamSpec], stats: Mapping[str, StreamStats]
) -> Iterator[Finding]:
    """Cameras need a camera_info of their size beside them, and mounted sensors a static transform."""
    infos = {topic: one for topic, one in stats.items() if one.msgtype == CAMERA_INFO and one.count}
    cameras = {role: stream for role, stream in streams.items() if stream.kind == "camera"}
    for role, stream in sorted(cameras.items()):
        beside = [t for t in infos if stream.topic.startswith(t.rsplit("/", 1)[0] + "/")]
        if not beside and len(infos) == len(cameras) == 1:
            beside = list(infos)
        reason, found = f"no camera_info beside {stream.topic}", int(bool(beside))
        yield Finding.judge(
            "camera_has_intrinsics", "warn", bool(beside), found, 1, reason, role, stream.topic
        )
        yield from _sizes(role, stream, stats.get(stream.topic), [infos[t] for t in beside])
    mounted = {role: stream for role, stream in streams.items() if stream.kind in MOUNTED}
    if mounted:
        yield _extrinsics(mounted, stats)


def _sizes(
    role: str, stream: StreamSpec, camera: StreamStats | None, infos: list[StreamStats]
) -> Iterator[Finding]:
    shapes = camera.probe.shapes if camera and isinstance(camera.probe, PictureProbe) else set()
    sizes = {s for i in infos if isinstance(i.probe, IntrinsicsProbe) for s in i.probe.sizes}
    if not shapes or not sizes:
        return
    width, height = min(shapes - sizes, default=min(shapes))
    made_for = ", ".join(f"{w} x {h}" for w, h in sorted(sizes))
    reason = f"pictures of {width} x {height}, camera_info for {made_for}"
    good, wanted = shapes <= sizes, min(sizes)[0]
    yield Finding.judge("picture_fits_intrinsics", "warn", good, width, wanted, reason, role, stream.topic)


def _extrinsics(mounted: Mapping[str, StreamSpec], stats: Mapping[str, StreamStats]) -> Finding:
    probes = [s.probe for s in stats.values() if isinstance(s.probe, TransformProbe) and s.probe.is_static]
    frames = {frame for probe in probes for frame in probe.frames}
    missing = []
    for role, stream in sorted(mounted.items()):
        one = stats.get(stream.topic)
        recorded = one.frame_id if one else ""
        if not (one and one.count):
            continue
        if frames.isdisjoint({stream.frame or recorded, recorded} - {""}):
            missing.append(f"{role} ({stream.frame or recorded or 'no frame'})")
    count = len(missing)
    reason = f"no static transform of {', '.join(missing)}" if frames else "no message on /tf_static"
    return Finding.judge("sensors_have_extrinsics", "warn", not count, count, 0, reason)
