"""Which calibration a sensor of a vehicle had, and when we know that.

An entry is one statement: this sensor was mounted so from here to there. Statements of logs hold while the log
ran, and between two logs of the same vehicle that say the same; statements of files and people hold as long as
they declare, or until a later one differs. The ledger is a function of the set of statements: neither their
order nor their repetition changes it, so that a drive that is processed late closes the right interval.
Belongs here: entries and their intervals. Does not belong here: choosing one for a drive (`resolution`), files
and tables (`ledger_files`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from itertools import groupby, zip_longest
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from av_assets.domain.geometry.calibration import (
    Calibration,
    CameraCalibration,
    LidarCalibration,
    Matrix3,
    Matrix4,
)
from av_assets.domain.geometry.transforms import matrices_to_quaternions, quaternions_to_matrices, se3

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

UNKNOWN_VEHICLE = "unknown"
SensorKind = Literal["camera", "lidar"]
EntrySource = Literal["log", "file", "person"]
Name = Annotated[str, Field(min_length=1, max_length=128)]
Ns = Annotated[int, Field(ge=0, lt=1 << 63)]
_RANK: dict[EntrySource, int] = {"log": 0, "file": 1, "person": 2}
# Text of an entry is compared, not numbers: 1e-9 m and rad are beyond what anyone measures.
_DIGITS = 9
_OPEN_NS = 1 << 63


class Intrinsics(BaseModel):
    """Picture size in pixels, camera matrix and plumb_bob coefficients."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    width: Annotated[int, Field(gt=0, le=1 << 16)]
    height: Annotated[int, Field(gt=0, le=1 << 16)]
    K: Matrix3
    D: Annotated[tuple[float, ...], Field(max_length=5)] = ()


class LedgerEntry(BaseModel):
    """One statement about one sensor. Times are half-open, None is open; `drive` is the log that says so.

    `ego_SE3_sensor` maps points of the sensor (cameras: optical frame) to the ego frame; its rotation may be off
    by rounding, see `rotation_tolerance` of the policy, and is brought back to a rotation when it is used.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    vehicle: Name
    sensor: Name
    kind: SensorKind
    frame: Annotated[str, Field(max_length=128)] = ""
    intrinsics: Intrinsics | None = None
    ego_SE3_sensor: Matrix4  # noqa: N815
    valid_from_ns: Ns
    valid_to_ns: Ns | None = None
    source: EntrySource
    drive: Annotated[str, Field(max_length=128)] = ""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.kind == "camera") != (self.intrinsics is not None):
            raise ValueError("a camera, and nothing else, has intrinsics")
        if self.valid_to_ns is not None and self.valid_to_ns <= self.valid_from_ns:
            raise ValueError("valid_to_ns must lie after valid_from_ns")
        return self

    @property
    def digest(self) -> str:
        """sha256 of what is stated, without when and by whom: equal calibrations have equal digests."""
        stated: dict[str, object] = {
            "kind": self.kind,
            "ego_SE3_sensor": self.ego_SE3_sensor,
            "intrinsics": None,
        }
        if self.intrinsics is not None:
            stated["intrinsics"] = self.intrinsics.model_dump(mode="json")
        text = json.dumps(_rounded(stated), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def as_camera(self) -> CameraCalibration:
        """What projection takes."""
        assert self.intrinsics is not None
        pose = proper_pose(self.ego_SE3_sensor)
        return CameraCalibration(**self.intrinsics.model_dump(), ego_SE3_camera=pose)

    def as_lidar(self) -> LidarCalibration:
        return LidarCalibration(ego_SE3_lidar=proper_pose(self.ego_SE3_sensor))


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return round(value, _DIGITS) + 0.0 if isinstance(value, float) else value


def proper_pose(matrix: Matrix4) -> Matrix4:
    """The same pose with the nearest rotation; one that is exact to 1e-9 is left as it is."""
    pose = np.array(matrix)
    rotation = pose[:3, :3]
    if np.abs(rotation @ rotation.T - np.eye(3)).max() <= 1e-9 and matrix[3] == (0, 0, 0, 1):
        return matrix
    nearest = se3(quaternions_to_matrices(matrices_to_quaternions(rotation)), pose[:3, 3])
    a, b, c, d = (tuple(float(value) for value in row) for row in nearest)
    return a, b, c, d  # type: ignore[return-value]  # four rows of four


@dataclass(frozen=True)
class CalibrationLedger:
    """All statements, sorted and each once. Build it with `of`."""

    entries: tuple[LedgerEntry, ...]

    @classmethod
    def of(cls, entries: Iterable[LedgerEntry]) -> CalibrationLedger:
        """The ledger of these statements, whatever their order and however often one is given."""
        return cls(tuple(sorted({_order(entry): entry for entry in entries}.values(), key=_order)))

    def with_entries(self, entries: Iterable[LedgerEntry]) -> CalibrationLedger:
        return CalibrationLedger.of([*self.entries, *entries])

    def without_drive(self, drive: str) -> CalibrationLedger:
        """As if that log had never been there: intervals that it closed are open again."""
        return CalibrationLedger(tuple(entry for entry in self.entries if entry.drive != drive))

    def intervals(self) -> tuple[LedgerEntry, ...]:
        """The statements with their validity closed: at most one is valid for a sensor at any time."""
        found: list[LedgerEntry] = []
        for _, group in groupby(self.entries, key=lambda entry: (entry.vehicle, entry.sensor)):
            found += _closed(list(group))
        return tuple(found)

    def at(self, vehicle: str, sensor: str, at_ns: int) -> LedgerEntry | None:
        """The statement that is valid at a time, else the nearest earlier one, its validity closed; None where
        there is none. Later statements say nothing about earlier times."""
        group = [entry for entry in self.entries if (entry.vehicle, entry.sensor) == (vehicle, sensor)]
        earlier = [entry for entry in _closed(group) if entry.valid_from_ns <= at_ns]
        return earlier[-1] if earlier else None


def _order(entry: LedgerEntry) -> tuple[str, str, int, int, str, int, str, str]:
    until = _OPEN_NS if entry.valid_to_ns is None else entry.valid_to_ns
    key = (entry.vehicle, entry.sensor, entry.valid_from_ns, _RANK[entry.source])
    return (*key, entry.digest, until, entry.drive, entry.frame)


def _closed(entries: list[LedgerEntry]) -> list[LedgerEntry]:
    """Intervals of one sensor: of statements that begin together a person's counts, then a file's; each ends
    where the next begins. One that says the same as the one before cuts nothing off that, and logs that say the
    same leave no gap between them."""
    winners = [list(group)[-1] for _, group in groupby(entries, key=lambda entry: entry.valid_from_ns)]
    closed: list[LedgerEntry] = []
    declared_ns, before = 0, ""
    for entry, later in zip_longest(winners, winners[1:]):
        until_ns = _OPEN_NS if entry.valid_to_ns is None else entry.valid_to_ns
        declared_ns = max(until_ns, declared_ns if entry.digest == before else 0)
        before, until_ns = entry.digest, declared_ns
        if later is not None:
            confirmed = entry.source == later.source == "log" and entry.digest == later.digest
            until_ns = later.valid_from_ns if confirmed else min(until_ns, later.valid_from_ns)
        end_ns = None if until_ns == _OPEN_NS else until_ns
        closed.append(entry.model_copy(update={"valid_to_ns": end_ns}))
    return closed


def entries_from(
    calibration: Calibration,
    vehicle: str,
    drive: str,
    at_ns: int,
    until_ns: int | None = None,
    frames: Mapping[str, str] | None = None,
) -> list[LedgerEntry]:
    """What a log states about its vehicle, from the drive's first to its last message.

    Args:
        calibration: as found in the log; what was taken from a ledger is no new statement, so give that not.
        at_ns, until_ns: the drive's span; without its end, one nanosecond.
        frames: role -> frame_id.

    Empty for a vehicle without a name: its calibration is nobody's.
    """
    if vehicle == UNKNOWN_VEHICLE:
        return []
    span = {"valid_from_ns": at_ns, "valid_to_ns": max(at_ns + 1, until_ns or 0)}
    found: list[tuple[str, SensorKind, Intrinsics | None, Matrix4]] = []
    for role, camera in calibration.cameras.items():
        lens = Intrinsics(width=camera.width, height=camera.height, K=camera.K, D=camera.D)
        found.append((role, "camera", lens, camera.ego_SE3_camera))
    for role, lidar in calibration.lidars.items():
        found.append((role, "lidar", None, lidar.ego_SE3_lidar))
    return [
        LedgerEntry(
            vehicle=vehicle, sensor=role, kind=kind, intrinsics=lens, ego_SE3_sensor=pose,
            frame=(frames or {}).get(role, ""), source="log", drive=drive, **span,
        )
        for role, kind, lens, pose in sorted(found, key=lambda row: row[0])
    ]  # fmt: skip
