"""Is what the lake holds of a drive what was made, from what it says, and signed by somebody we trust?

Reads everything again and asks nobody but the lake and the key files. The first broken link is named.
Belongs here: walking the bundles of one drive. Does not belong here: printing, signing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from av_assets.domain.errors import AvError, EvidenceError
from av_assets.domain.evidence.manifest import Manifest
from av_assets.domain.evidence.signatures import check_signature
from av_assets.drives import STAGES
from av_assets.gates import record_of
from resources.lake import Lake


@dataclass(frozen=True)
class Link:
    """One bundle of the chain.

    Attributes:
        state: whole or broken.
        reason: what is broken.
        checks: passed, failed or none.
        key: id of the key that signed it; empty where bundles of this asset are not signed.
    """

    asset: str
    state: str
    files: int
    bytes: int
    checks: str
    key: str
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def verify_drive(lake: Lake, drive: str, trusted: Collection[str]) -> list[Link]:
    """Every bundle of `drive`, in the order of the chain.

    Raises:
        EvidenceError: missing_bundle, the lake holds nothing of the drive.
    """
    links = [link for asset in STAGES if (link := _verify(lake, asset, drive, trusted)) is not None]
    if not links:
        lake.require("raw_logs", drive)
    return links


def _verify(lake: Lake, asset: str, drive: str, trusted: Collection[str]) -> Link | None:
    try:
        manifest = lake.manifest(asset, drive)
        if manifest is None:
            return None
        key, checks = "", "none"
        problems = list(_broken_links(lake, manifest))
        record = record_of(lake, manifest) if not problems else None
        if record is not None:
            checks = "passed" if record.passed else "failed"
            key = _signer(lake, manifest, trusted)
    except AvError as error:
        return Link(asset, "broken", 0, 0, "none", "", f"{error.code}: {error.reason}")
    state = "broken" if problems else "whole"
    return Link(asset, state, len(manifest.files), manifest.size_bytes, checks, key, "; ".join(problems[:3]))


def _broken_links(lake: Lake, manifest: Manifest) -> Iterator[str]:
    """Files whose bytes are others, and inputs whose manifests are not held."""
    for path in lake.verify(manifest):
        yield f"{path} is not what its digest says"
    for name, digest in sorted(manifest.made_from.inputs.items()):
        held = lake.past_manifest(name, digest)
        if held is None or held.digest != digest:
            yield f"it was made from {name} {digest[:12]}, which is not held"


def _signer(lake: Lake, manifest: Manifest, trusted: Collection[str]) -> str:
    signature = lake.signature(manifest)
    if signature is None:
        raise EvidenceError("it is not signed", code="unsigned", drive=manifest.partition)
    return check_signature(signature, manifest, trusted)
