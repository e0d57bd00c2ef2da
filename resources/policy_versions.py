"""Versions of policies and their activations as they lie in the lake, checked whenever they are read.

    policy_proposals/<kind>-<version>       the file as it was proposed and who did; written once
    policy_activations/<kind>-<number>      who activated what and on which evidence; written once
Belongs here: finding and checking. Does not belong here: what is active (`policies`), changing that (`activations`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import yaml
from pydantic import ValidationError

from av_assets.domain.errors import EvidenceError, PolicyError
from av_assets.domain.evidence.manifest import Manifest, bundle_name
from av_assets.domain.evidence.signatures import check_signature
from av_assets.domain.triggers.versions import fit, split_key
from av_assets.policies import Policy
from av_assets.policies.events import EventsPolicy
from av_assets.policies.label_fusion import LabelFusionPolicy
from av_assets.policies.training import TrainingPolicy
from av_assets.policies.triggers import GeofencesPolicy
from resources.signing import trusted_keys

if TYPE_CHECKING:
    from resources.lake import Lake

PROPOSALS: Final = "policy_proposals"
BACKTESTS: Final = "policy_backtests"
ACTIVATIONS: Final = "policy_activations"
POLICY_FILE, PROPOSAL_FILE, ACTIVATION_FILE = "policy.yaml", "proposal.json", "activation.json"
REPORT_FILE: Final = "report.json"
LABELLER_REPORTS, THRESHOLDS_FILE = "labeller_reports", "thresholds.json"
SWEEP_REPORTS, SWEPT_FILE = "sweep_reports", "training.yaml"
STEADY: Final = ("stable", "not_asked")
"""What a sweep says of its winner under other seeds when it may be adopted."""
SHIPPED: Final = "shipped"
MODELS: Final[Mapping[str, type[Policy]]] = {
    EventsPolicy.name: EventsPolicy,
    GeofencesPolicy.name: GeofencesPolicy,
    LabelFusionPolicy.name: LabelFusionPolicy,
    TrainingPolicy.name: TrainingPolicy,
}
BACKTESTED: Final = frozenset({EventsPolicy.name, GeofencesPolicy.name})
"""Kinds that a back-test speaks for; for labels the report of the labeller does, for training a sweep's."""
NO_GEOFENCES: Final = GeofencesPolicy(version="0.0.0", changes="events", base="0" * 64)


class Proposal(NamedTuple):
    """A version that lies in the lake, checked: its signature, its bytes, its model.

    Attributes:
        notes: what was done so that this reader can take it, in words.
    """

    key: str
    policy: Policy
    manifest: Manifest
    author: str
    notes: tuple[str, ...] = ()


def proposal(lake: Lake, key: str) -> Proposal:
    """A proposed version, everything about it checked again.

    Raises:
        PolicyError: no_such_version, or the reader cannot take it (policy_needs_newer_reader, policy_of_older_shape).
        EvidenceError: unsigned, broken_signature, untrusted_key, damaged_object; naming the bundle.
    """
    kind, version = split_key(key)
    model = model_of(kind)
    manifest = lake.manifest(PROPOSALS, key)
    if manifest is None:
        raise PolicyError(f"{key} was never proposed", code="no_such_version", remedy="see av policy list")
    require_intact(lake, manifest)
    document = json.loads(lake.read_bytes(manifest, PROPOSAL_FILE))
    data = yaml.safe_load(lake.read_bytes(manifest, POLICY_FILE))
    notes: tuple[str, ...] = ()
    if model is EventsPolicy:
        data, notes = fit(data, EventsPolicy.load().model_dump(mode="json"))
    try:
        policy = model.model_validate(data)
    except ValidationError as error:
        raise PolicyError(
            f"{key}: {error.error_count()} fields are refused", code="policy_invalid"
        ) from error
    if policy.version != version or (not notes and policy.digest != document["digest"]):
        raise EvidenceError(f"{key} holds another version", code="broken_evidence", file=f"{PROPOSALS}/{key}")
    return Proposal(key, policy, manifest, document["author"], notes)


def proposals(lake: Lake, kind: str | None = None) -> list[str]:
    """Keys of all versions in the lake, sorted."""
    return [key for key in lake.partitions(PROPOSALS) if kind is None or key.startswith(f"{kind}-")]


def model_of(kind: str) -> type[Policy]:
    """Raises PolicyError: unknown_policy_kind."""
    if kind not in MODELS:
        raise PolicyError(
            f"{kind[:64]!r} is no kind of policy that can be proposed",
            code="unknown_policy_kind",
            remedy=f"choose from {', '.join(MODELS)}",
        )
    return MODELS[kind]


def shipped(kind: str) -> Policy:
    """What holds where nothing was activated."""
    return NO_GEOFENCES if kind == GeofencesPolicy.name else model_of(kind).load()


def history(lake: Lake, kind: str) -> list[dict[str, Any]]:
    """Every activation of the kind, oldest first."""
    names = [key for key in lake.partitions(ACTIVATIONS) if key.startswith(f"{kind}-")]
    return [json.loads(lake.read_bytes(lake.require(ACTIVATIONS, name), ACTIVATION_FILE)) for name in names]


def latest(lake: Lake, kind: str) -> dict[str, Any] | None:
    names = [key for key in lake.partitions(ACTIVATIONS) if key.startswith(f"{kind}-")]
    if not names:
        return None
    record: dict[str, Any] = json.loads(
        lake.read_bytes(lake.require(ACTIVATIONS, names[-1]), ACTIVATION_FILE)
    )
    return record


def require_intact(lake: Lake, manifest: Manifest) -> None:
    """Its signature is by a trusted key, and every file is what the manifest says.

    Raises:
        EvidenceError: unsigned, broken_signature, untrusted_key, damaged_object; naming the bundle.
    """
    name = bundle_name(manifest.asset, manifest.partition)
    held = lake.signature(manifest)
    if held is None:
        raise EvidenceError(
            "the bundle is not signed",
            code="unsigned",
            file=name,
            remedy="make it again, or propose it again",
        )
    check_signature(held, manifest, trusted_keys())
    if broken := lake.verify(manifest):
        raise EvidenceError(
            f"{', '.join(broken)} of {name} is missing or damaged", code="damaged_object", file=name
        )


def person(name: str) -> str:
    name = name.strip()
    if not name or len(name) > 200 or not name.isprintable():
        raise PolicyError(
            "a version is proposed and activated by somebody", code="no_name", remedy="use --by"
        )
    return name


def numbered(kind: str, number: int) -> str:
    return f"{kind}-{number:06d}"
