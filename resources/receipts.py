"""Receipts of erasures: bundles `erasure_receipts/<plan>`, signed as every bundle of evidence is.

Belongs here: publishing, listing, checking. Does not belong here: what a receipt says (domain/erasure/records).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from av_assets.domain.erasure.records import Receipt
from av_assets.domain.errors import AvError, EvidenceError
from av_assets.domain.evidence.manifest import MadeFrom, Manifest
from av_assets.domain.evidence.signatures import check_signature, sign
from resources.signing import signing_key, trusted_keys

if TYPE_CHECKING:
    from resources.lake import Lake

ASSET, FILE = "erasure_receipts", "receipt.json"


def publish(lake: Lake, receipt: Receipt) -> Manifest:
    """Write the receipt once and sign it.

    Raises:
        LandingError: content_conflict, another receipt of this plan exists.
    """
    with lake.workdir() as folder:
        (folder / FILE).write_bytes(receipt.to_json())
        made = lake.publish(
            ASSET,
            receipt.plan,
            folder,
            made_from=MadeFrom(policies={"retention": receipt.policy}),
            write_once=True,
        )
    if lake.signature(made) is None:
        lake.keep_signature(made, sign(signing_key(), made))
    return made


def names(lake: Lake) -> list[str]:
    return lake.partitions(ASSET)


def read(lake: Lake, name: str) -> Receipt:
    """The receipt of a plan, by its id or the beginning of it.

    Raises:
        AvError: no_such_receipt, none or several begin so.
        EvidenceError: damaged_object.
    """
    made = _manifest(lake, name)
    return Receipt.model_validate_json(lake.read_bytes(made, FILE))


def verify(lake: Lake, name: str) -> tuple[Receipt, str]:
    """The receipt and the id of the key that signed it; needs the lake and the trusted keys, and no service.

    Raises:
        EvidenceError: no_signature, broken_signature, untrusted_key, damaged_object.
        AvError: no_such_receipt.
    """
    made = _manifest(lake, name)
    signature = lake.signature(made)
    if signature is None:
        raise EvidenceError(
            "the receipt is not signed", code="no_signature", file=name, remedy="carry its plan out again"
        )
    signer = check_signature(signature, made, trusted_keys())
    return Receipt.model_validate_json(lake.read_bytes(made, FILE)), signer


def _manifest(lake: Lake, name: str) -> Manifest:
    found = [one for one in names(lake) if name and one.startswith(name)]
    if len(found) != 1:
        raise AvError(
            f"{len(found)} receipts begin with {name!r}",
            code="no_such_receipt",
            remedy="see av receipts list",
        )
    return lake.require(ASSET, found[0])
