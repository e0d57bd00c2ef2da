"""The calibration that a drive is processed with, and where that of each sensor comes from.

Order for each sensor: the log itself; the ledger's entry for that time; the nearest earlier entry, marked stale;
missing. What fails its sanity checks counts as not there, and is flagged. Nothing is ever made up.
Belongs here: choosing and comparing. Does not belong here: the ledger itself (`ledger`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from av_assets.domain.geometry.calibration import Calibration, CameraCalibration, LidarCalibration
from av_assets.domain.geometry.ledger import UNKNOWN_VEHICLE, LedgerEntry, entries_from

if TYPE_CHECKING:
    from collections.abc import Mapping

    from av_assets.domain.geometry.ledger import CalibrationLedger
    from av_assets.policies.calibration import CalibrationPolicy

DAY_NS = 86_400_000_000_000
State = Literal["log", "ledger", "stale", "missing"]


@dataclass(frozen=True)
class SensorResolution:
    """Where the calibration of one sensor comes from.

    flags: stable codes, `rejected_log:...` and `rejected_ledger:...` with the check that failed, `stale`,
    `conflict`, `image_size_differs`, `rotation_rounded`, `no_vehicle`. age_days: since a stale entry ended.
    conflict: {deg, m, focal_share} between log and ledger, where both speak.
    """

    sensor: str
    state: State
    flags: tuple[str, ...] = ()
    entry_source: str = ""
    entry_drive: str = ""
    digest: str = ""
    age_days: float | None = None
    conflict: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ResolvedCalibration:
    """`calibration` is what consumers take; `sensors` (by role) says why."""

    calibration: Calibration
    sensors: dict[str, SensorResolution]

    def to_dict(self) -> dict[str, object]:
        """JSON-able provenance by role, sorted."""
        return {role: {**vars(one), "flags": list(one.flags)} for role, one in sorted(self.sensors.items())}

    @property
    def flagged(self) -> dict[str, tuple[str, ...]]:
        return {role: one.flags for role, one in sorted(self.sensors.items()) if one.flags}


def resolve_calibration(
    calibration_from_log: Calibration,
    ledger: CalibrationLedger,
    vehicle: str,
    at_ns: int,
    policy: CalibrationPolicy,
    image_sizes: Mapping[str, tuple[int, int]] | None = None,
) -> ResolvedCalibration:
    """Resolve every sensor that the log calibrates or lists as missing.

    Args:
        at_ns: first log time of the drive.
        image_sizes: camera role -> (width, height) of its pictures, where known.
    """
    known = vehicle not in ("", UNKNOWN_VEHICLE)
    # What the log itself says needs no vehicle.
    stated = {e.sensor: e for e in entries_from(calibration_from_log, vehicle if known else "-", "", at_ns)}
    cameras: dict[str, CameraCalibration] = {}
    lidars: dict[str, LidarCalibration] = {}
    sensors: dict[str, SensorResolution] = {}
    for role in sorted({*stated, *calibration_from_log.missing}):
        kept = ledger.at(vehicle, role, at_ns) if known else None
        chosen, found = _resolve(role, stated.get(role), kept, at_ns, policy)
        size = (image_sizes or {}).get(role)
        flags = found.flags if known or found.state != "missing" else (*found.flags, "no_vehicle")
        if chosen is not None and chosen.intrinsics is not None:
            lens = chosen.intrinsics
            flags += ("image_size_differs",) if size and size != (lens.width, lens.height) else ()
            cameras[role] = calibration_from_log.cameras[role] if found.state == "log" else chosen.as_camera()
        elif chosen is not None:
            lidars[role] = calibration_from_log.lidars[role] if found.state == "log" else chosen.as_lidar()
        sensors[role] = SensorResolution(**{**vars(found), "flags": flags})
    missing = tuple(role for role, one in sensors.items() if one.state == "missing")
    resolved = Calibration(cameras=cameras, lidars=lidars, source=_source(sensors), missing=missing)
    return ResolvedCalibration(resolved, sensors)


def _source(sensors: Mapping[str, SensorResolution]) -> Literal["log", "ledger", "mixed", "missing"]:
    states = {"log" if one.state == "log" else "ledger" for one in sensors.values() if one.state != "missing"}
    if len(states) == 2:
        return "mixed"
    return "log" if "log" in states else "ledger" if states else "missing"


def _resolve(
    role: str, stated: LedgerEntry | None, kept: LedgerEntry | None, at_ns: int, policy: CalibrationPolicy
) -> tuple[LedgerEntry | None, SensorResolution]:
    flags: list[str] = []
    if kept is not None:
        bad = problems(kept, policy)
        flags += [f"rejected_ledger:{problem}" for problem in bad]
        kept = None if bad else kept
    if stated is not None:
        bad = problems(stated, policy)
        if not bad:
            conflict = difference(stated, kept) if kept is not None and _valid(kept, at_ns) else {}
            flags += ["conflict"] if _conflicts(conflict, policy) else []
            found = SensorResolution(role, "log", tuple(flags), "log", "", stated.digest, None, conflict)
            return stated, found
        flags += [f"rejected_log:{problem}" for problem in bad]
    if kept is None:
        return None, SensorResolution(role, "missing", tuple(flags))
    ended_ns = kept.valid_to_ns
    age_days = 0.0 if ended_ns is None else max(0.0, (at_ns - ended_ns) / DAY_NS)
    if age_days > policy.max_age_days:
        return None, SensorResolution(role, "missing", (*flags, "too_old"), age_days=round(age_days, 3))
    valid = _valid(kept, at_ns)
    flags += [] if valid else ["stale"]
    flags += ["rotation_rounded"] if _roundness(kept) > 1e-4 else []
    state: State = "ledger" if valid else "stale"
    age = None if valid else round(age_days, 3)
    found = SensorResolution(role, state, tuple(flags), kept.source, kept.drive, kept.digest, age)
    return kept, found


def _valid(entry: LedgerEntry, at_ns: int) -> bool:
    return entry.valid_from_ns <= at_ns and (entry.valid_to_ns is None or at_ns < entry.valid_to_ns)


def _roundness(entry: LedgerEntry) -> float:
    rotation = np.array(entry.ego_SE3_sensor)[:3, :3]
    return float(np.abs(rotation @ rotation.T - np.eye(3)).max())


def problems(entry: LedgerEntry, policy: CalibrationPolicy) -> tuple[str, ...]:
    """Codes of the sanity checks that an entry fails; empty: it can be believed."""
    pose = np.array(entry.ego_SE3_sensor)
    tolerance = policy.rotation_tolerance
    found = []
    if _roundness(entry) > tolerance or abs(float(np.linalg.det(pose[:3, :3])) - 1) > tolerance:
        found.append("rotation")
    if np.abs(pose[3] - [0, 0, 0, 1]).max() > tolerance:
        found.append("last_row")
    if float(np.linalg.norm(pose[:3, 3])) > policy.max_translation_m:
        found.append("translation")
    if entry.intrinsics is not None:
        k, lens = np.array(entry.intrinsics.K), entry.intrinsics
        if k[0, 0] <= 0 or k[1, 1] <= 0:
            found.append("focal_length")
        if not (0 <= k[0, 2] < lens.width and 0 <= k[1, 2] < lens.height):
            found.append("principal_point")
        if np.abs(k[2] - [0, 0, 1]).max() > tolerance or abs(k[1, 0]) > tolerance:
            found.append("camera_matrix")
    return tuple(found)


def difference(one: LedgerEntry, two: LedgerEntry) -> dict[str, float]:
    """Rotation (degrees), translation (metres) and focal length (share) between two entries of one sensor."""
    poses = [np.array(entry.ego_SE3_sensor) for entry in (one, two)]
    turn = poses[0][:3, :3].T @ poses[1][:3, :3]
    # The skew part keeps small angles that the arc cosine of the trace would lose (1e-8 rad and below).
    axis = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
    angle = float(np.arctan2(np.linalg.norm(axis), np.trace(turn) - 1))
    away = float(np.linalg.norm(poses[0][:3, 3] - poses[1][:3, 3]))
    found = {"deg": round(float(np.degrees(angle)), 6), "m": round(away, 6)}
    if one.intrinsics is not None and two.intrinsics is not None:
        a, b = (np.array(entry.intrinsics.K)[[0, 1], [0, 1]] for entry in (one, two) if entry.intrinsics)
        found["focal_share"] = round(float(np.abs(a / b - 1).max()), 6)
    return found


def _conflicts(conflict: Mapping[str, float], policy: CalibrationPolicy) -> bool:
    limits = {"deg": policy.conflict_deg, "m": policy.conflict_m, "focal_share": policy.conflict_focal_share}
    return any(value > limits[name] for name, value in conflict.items())
