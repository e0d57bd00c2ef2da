"""The account of a model's way through a drive: which shard was done, from what, and what came out.

An output is named by what it was made from (`Origin.key`): a shard's bytes, the model, the calibration, code, policy
and environment. Where a key is known already its output is taken as it is, so a run that goes on, and one that comes
again with a few other shards, do only what is missing.
Belongs here: that account, and what it says of the whole drive. Does not belong here: running a model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from av_assets.domain.errors import EvidenceError
from av_assets.domain.evidence.digests import canonical_json, sha256_json

LEDGER_FILE: Final = "ledger.json"
PARTIAL: Final = "partial"
"""What the note of a bundle begins with that lacks something."""
Status = Literal["done", "damaged", "failed"]


@dataclass(frozen=True)
class Origin:
    """What all predictions of a drive are made from, apart from the shards.

    Attributes:
        release: name of the model, for people. model: content of its bundle.
        calibration: sha256 of calibration.json. policy: digest of the inference policy.
    """

    release: str
    model: str
    calibration: str
    code_version: str
    policy: str
    environment: str

    def key(self, shard_sha256: str) -> str:
        """Names the output of a shard; what the release is called changes no output."""
        return sha256_json({**asdict(self), "release": "", "shard": shard_sha256})


class Entry(BaseModel):
    """One shard.

    Attributes:
        shard: its path in the bundle of shards. key: see `Origin.key`.
        status: done; damaged: some rows could not be read, and say so; failed: there is no output.
        output, output_sha256: file of predictions; empty where it failed.
        frames: rows. predicted: those of them that the model saw. unreadable: those that could not be read.
        boxes: detections. span_s: seconds of driving.
        code, reason: why it is not done.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    shard: str
    sha256: str
    key: str
    status: Status
    output: str = ""
    output_sha256: str = ""
    frames: int = 0
    predicted: int = 0
    unreadable: int = 0
    boxes: int = 0
    span_s: float = 0.0
    code: str = ""
    reason: str = ""


class Ledger(BaseModel):
    """ledger.json: every shard of the drive, by path."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    schema_version: int = 1
    release: str
    model: str
    model_sha256: str
    camera: str
    classes: tuple[str, ...]
    entries: tuple[Entry, ...]

    def to_json(self) -> bytes:
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def from_json(cls, data: bytes, file: str = LEDGER_FILE) -> Ledger:
        """Raises EvidenceError (bad_ledger)."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise EvidenceError(f"not a ledger: {error}", code="bad_ledger", file=file) from error

    @property
    def incomplete(self) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.status != "done")

    def reusable(self) -> dict[str, Entry]:
        """key -> what is done; damaged and failed shards are looked at again."""
        return {entry.key: entry for entry in self.entries if entry.status == "done"}

    def note(self) -> str:
        """What the bundle says of itself: nothing, where every frame of every shard was predicted."""
        if bad := self.incomplete:
            first = f"{bad[0].shard}: {bad[0].reason}"
            more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
            return f"{PARTIAL}: {len(bad)} of {len(self.entries)} shards are not done ({first}{more})"
        if not self.entries:
            return "no shard in this drive: nothing to predict"
        if not any(entry.predicted for entry in self.entries):
            return f"no picture of {self.camera} in this drive: nothing to predict"
        return ""


def totals(entries: Iterable[Entry]) -> dict[str, float | int]:
    """Sums over shards: shards by status, frames, predicted, unreadable, boxes, span_s."""
    held = list(entries)
    found: dict[str, float | int] = {"shards": len(held)}
    for status in ("done", "damaged", "failed"):
        found[status] = sum(entry.status == status for entry in held)
    for name in ("frames", "predicted", "unreadable", "boxes"):
        found[name] = sum(getattr(entry, name) for entry in held)
    return {**found, "span_s": round(sum(entry.span_s for entry in held), 6)}
