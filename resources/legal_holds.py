"""Legal holds: records that are written once, each with a record of its own when it is lifted.

Layout under the lake's root: holds/<id>.json, holds/lifted/<id>.json.
Belongs here: adding, lifting, listing. Does not belong here: what a hold covers (domain/erasure/requests).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from av_assets.domain.erasure.requests import Hold, Lift, Scope
from av_assets.domain.errors import AvError
from av_assets.domain.evidence.digests import canonical_json, sha256_json

if TYPE_CHECKING:
    from resources.lake import Lake

ROOT = "holds"
LIFTED = f"{ROOT}/lifted"


def add(lake: Lake, scope: Scope, *, by: str, reason: str, now_ns: int) -> Hold:
    """Place a hold; it stands until it is lifted."""
    said = {"scope": scope.model_dump(mode="json"), "by": by, "reason": reason, "at_ns": now_ns}
    hold = Hold(id=sha256_json(said)[:12], scope=scope, by=by, reason=reason, at_ns=now_ns)
    lake.store.put(f"{ROOT}/{hold.id}.json", canonical_json(hold.model_dump(mode="json")), create=True)
    return hold


def lift(lake: Lake, hold: str, *, by: str, reason: str, now_ns: int) -> Lift:
    """End a hold. The hold itself stays on record.

    Raises:
        AvError: no_such_hold; hold_was_lifted, earlier.
    """
    if hold not in {one.id for one in every(lake)}:
        raise AvError(f"there is no hold {hold}", code="no_such_hold", remedy="see av hold list")
    made = Lift(hold=hold, by=by, reason=reason, at_ns=now_ns)
    written = lake.store.put(
        f"{LIFTED}/{hold}.json", canonical_json(made.model_dump(mode="json")), create=True
    )
    if not written:
        raise AvError(f"hold {hold} was lifted before", code="hold_was_lifted", remedy="see av hold list")
    return made


def every(lake: Lake) -> list[Hold]:
    """All holds there ever were, oldest first."""
    keys = [key for key in lake.store.keys(f"{ROOT}/") if not key.startswith(f"{LIFTED}/")]
    found = [Hold.model_validate_json(data) for key in keys if (data := lake.store.get(key)) is not None]
    return sorted(found, key=lambda hold: (hold.at_ns, hold.id))


def lifted(lake: Lake) -> dict[str, Lift]:
    """Hold -> how it ended."""
    read = (lake.store.get(key) for key in list(lake.store.keys(f"{LIFTED}/")))
    found = [Lift.model_validate_json(data) for data in read if data is not None]
    return {one.hold: one for one in found}


def standing(lake: Lake) -> list[Hold]:
    """The holds that keep drives now."""
    over = lifted(lake)
    return [hold for hold in every(lake) if hold.id not in over]
