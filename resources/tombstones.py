"""Tombstones: which drives were erased, or are being erased. They hold the id, which is a pseudonym, and no content.

Belongs here: putting, reading, and the refusal to take an erased drive in again. Does not belong here: erasing.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from av_assets.domain.errors import LandingError
from av_assets.domain.evidence.digests import canonical_json

if TYPE_CHECKING:
    from resources.lake import Lake

ROOT = "tombstones"


def put(lake: Lake, drive: str, plan: str, at_ns: int) -> bool:
    """Mark the drive; an earlier tombstone stays. Returns whether this call wrote it."""
    data = canonical_json({"drive": drive, "plan": plan, "at_ns": at_ns})
    return lake.store.put(_key(drive), data, create=True)


def take_back(lake: Lake, drive: str, plan: str) -> None:
    """Take a tombstone away that `plan` put, before anything of the drive was removed."""
    held = of(lake, drive)
    if held is not None and held["plan"] == plan:
        lake.store.delete(_key(drive))


def of(lake: Lake, drive: str) -> dict[str, Any] | None:
    data = lake.store.get(_key(drive))
    return None if data is None else dict(json.loads(data))


def listing(lake: Lake) -> set[str]:
    """Every drive with a tombstone; one listing."""
    return {key.rsplit("/", 1)[1].removesuffix(".json") for key in lake.store.keys(f"{ROOT}/")}


def refusal(drive: str) -> LandingError:
    """Why an erased drive is not taken in again."""
    return LandingError(
        "this drive was erased and is not taken in again",
        code="erased_drive",
        drive=drive,
        remedy="remove it from the landing area; av receipts list says who asked for its erasure",
    )


def _key(drive: str) -> str:
    return f"{ROOT}/{drive}.json"
