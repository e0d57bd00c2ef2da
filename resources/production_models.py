"""Which model is in production: the newest release that passed its evaluation, else the newest that there is.

Releases are ordered by the week that they learn from, and those of one week by name.
Belongs here: that choice, and laying the model out. Does not belong here: releasing, evaluating, running models.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from av_assets.domain.errors import EvidenceError

if TYPE_CHECKING:
    from av_assets.domain.evidence.manifest import Manifest
    from resources.lake import Lake

BUNDLES, REPORTS = "model_bundles", "eval_reports"


def production_model(lake: Lake) -> Manifest | None:
    """The bundle that predicts; None where no model was packed yet."""
    there = sorted(
        lake.partitions(BUNDLES), key=lambda release: (release.partition("-")[0], release), reverse=True
    )
    passed = next((release for release in there if _passed(lake, release)), None)
    chosen = passed or (there[0] if there else None)
    return None if chosen is None else lake.manifest(BUNDLES, chosen)


def require_production_model(lake: Lake) -> Manifest:
    """Raises EvidenceError (no_model)."""
    found = production_model(lake)
    if found is None:
        raise EvidenceError(
            "no model was packed yet",
            code="no_model",
            remedy="materialize checkpoints and model_bundles of a release first",
        )
    return found


def facts_of(model: Manifest | None) -> list[dict[str, Any]]:
    """The row that a bundle which depends on the model notes."""
    return [] if model is None else [{"release": model.partition, "content": model.content}]


def _passed(lake: Lake, release: str) -> bool:
    """Whether its evaluation says pass, and is one of the bundle that there is now."""
    report, bundle = lake.manifest(REPORTS, release), lake.manifest(BUNDLES, release)
    if (
        report is None
        or bundle is None
        or report.made_from.inputs.get(f"{BUNDLES}/{release}") != bundle.digest
    ):
        return False
    return bool(json.loads(lake.read_bytes(report, "report.json"))["verdict"]["state"] == "pass")
