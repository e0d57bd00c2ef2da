"""The one tree of errors that the platform raises on purpose.

    AvError                  names reason code, file, drive and remedy
    |-- PoisonError          the input is bad: quarantine it, never retry
    |   |-- DriveIdError     an id that the grammar refuses
    |   |-- LandingError     marker, drive.yaml or checksums of a landed folder
    |   |-- LogError         a log that cannot be read or holds nothing
    |   |-- CalibrationError a calibration that is not a calibration
    |   |-- RedactionError   a frame that could not be redacted (and so is not released)
    |   |-- SyncError        streams that cannot be brought onto one grid
    |   |-- LabelError       labels that break their own rules
    |   |-- DatasetError     a dataset that cannot be frozen, or was frozen already
    |   `-- ModelError       a checkpoint or bundle that is not what it says
    |-- EvidenceError        a manifest or object that does not match its digest
    |-- PolicyError          a policy file that its model refuses
    `-- TransientError       the world was busy: retrying is right

Belongs here: exception types. Does not belong here: the handling of them.
"""

from __future__ import annotations

from pathlib import Path


class AvError(Exception):
    """An expected failure.

    Attributes:
        code: stable snake_case reason code, for tables and scripts.
        reason: one sentence for people.
        file: the file that it is about, where there is one.
        drive: the drive that it is about, where it is known.
        remedy: what the reader can do.
    """

    default_code = "error"
    default_remedy = ""

    def __init__(
        self,
        reason: str,
        *,
        code: str | None = None,
        file: str | Path | None = None,
        drive: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code or self.default_code
        self.file = None if file is None else str(file)
        self.drive = drive
        self.remedy = self.default_remedy if remedy is None else remedy

    def __str__(self) -> str:
        parts = [f"[{self.code}] {self.reason}"]
        parts += [f"file: {self.file}"] if self.file else []
        parts += [f"drive: {self.drive}"] if self.drive else []
        parts += [f"remedy: {self.remedy}"] if self.remedy else []
        return "; ".join(parts)

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword-only arguments do not unpickle by themselves, and workers send them home.
        return _rebuild, (type(self), self.reason, self.code, self.file, self.drive, self.remedy)


def _rebuild(
    kind: type[AvError], reason: str, code: str, file: str | None, drive: str | None, remedy: str
) -> AvError:
    return kind(reason, code=code, file=file, drive=drive, remedy=remedy)


class PoisonError(AvError):
    """The input is bad; trying again would give the same answer."""

    default_code = "bad_input"
    default_remedy = "repair or re-record the input and land it again"


class DriveIdError(PoisonError):
    default_code = "invalid_drive_id"
    default_remedy = "use lower-case letters, digits and single hyphens, e.g. veh042-20250602t081500z"


class LandingError(PoisonError):
    default_code = "bad_landing"


class LogError(PoisonError):
    default_code = "bad_log"


class CalibrationError(PoisonError):
    default_code = "bad_calibration"


class RedactionError(PoisonError):
    default_code = "redaction_failed"


class SyncError(PoisonError):
    default_code = "sync_failed"


class LabelError(PoisonError):
    default_code = "bad_labels"


class DatasetError(PoisonError):
    default_code = "bad_dataset"


class ModelError(PoisonError):
    default_code = "bad_model"


class EvidenceError(AvError):
    default_code = "broken_evidence"
    default_remedy = "restore the object from a replica, or rematerialize the asset"


class PolicyError(AvError):
    default_code = "bad_policy"
    default_remedy = "correct the YAML file named here"


class TransientError(AvError):
    default_code = "transient"
    default_remedy = "run it again"
