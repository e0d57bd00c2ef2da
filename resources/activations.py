"""Changing what is active: one activation after another, each a bundle that is written once and signed.

Of two who activate at the same time one wins and the other is told. The table `policy_activations` says the same, one
row per activation, to be asked by SQL.
Belongs here: the conditions under which a version becomes active. Does not belong here: finding what is active.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml

from av_assets.domain.errors import LandingError, PolicyError
from av_assets.domain.evidence.digests import canonical_json
from av_assets.domain.evidence.manifest import MadeFrom, Manifest, bundle_name
from av_assets.domain.evidence.signatures import sign
from av_assets.domain.triggers.backtest import PASS
from av_assets.domain.triggers.rollout import refuse_bad_geofences
from av_assets.domain.triggers.versions import policy_key, split_key
from av_assets.policies.events import EventsPolicy
from av_assets.policies.label_fusion import LabelFusionPolicy
from av_assets.policies.training import TrainingPolicy
from av_assets.policies.triggers import GeofencesPolicy, TriggersPolicy
from resources.policies import active, rollout
from resources.policy_versions import (
    ACTIVATION_FILE,
    ACTIVATIONS,
    BACKTESTS,
    LABELLER_REPORTS,
    REPORT_FILE,
    SHIPPED,
    STEADY,
    SWEEP_REPORTS,
    SWEPT_FILE,
    THRESHOLDS_FILE,
    Proposal,
    history,
    latest,
    model_of,
    numbered,
    person,
    proposal,
    require_intact,
    shipped,
)
from resources.signing import signing_key

if TYPE_CHECKING:
    from resources.lake import Lake


def activate(lake: Lake, kind: str, version: str, by: str, now_ns: int) -> dict[str, Any]:
    """Make a version the active one; returns the record that was kept.

    A version that was not active before needs a back-test that passed: of these very numbers, against what is active
    now. Thresholds of labels need the labeller's report that chose them instead, numbers of training the report of a
    sweep. One that was active before is a rollback; `shipped` is the kill switch: neither waits for evidence.

    Raises:
        PolicyError: no_backtest, backtest_not_passed, backtest_outdated, no_labeller_report, no_sweep_report,
            report_not_passed, report_outdated, same_person, base_not_active, already_active, activation_conflict
            (somebody else activated meanwhile).
        EvidenceError: the proposal or the back-test is not intact; names the bundle.
    """
    model_of(kind)
    last = latest(lake, kind)
    if version == SHIPPED:
        policy, found, evidence, how = shipped(kind), None, None, "shipped"
    else:
        found = proposal(lake, policy_key(kind, version))
        policy = found.policy
        evidence, how = _evidence(lake, found, by)
    if last is not None and last["version"] == version and _is_signed(lake, last):
        raise PolicyError(
            f"{kind} {version} is active already", code="already_active", remedy="nothing to do"
        )
    if isinstance(policy, GeofencesPolicy) and version != SHIPPED:
        refuse_bad_geofences(policy, active(lake, EventsPolicy))
    number = 1 if last is None else last["number"] + 1
    record = {
        "kind": kind,
        "number": number,
        "version": version,
        "digest": policy.digest,
        "proposal": found.manifest.content if found else "",
        "how": how,
        "by": person(by),
        "at_ns": now_ns,
        "previous": last["version"] if last else SHIPPED,
        "previous_digest": last["digest"] if last else shipped(kind).digest,
        "backtest": evidence.content if evidence else "",
    }
    _keep(lake, record, [m for m in (found.manifest if found else None, evidence) if m])
    return record


def _is_signed(lake: Lake, record: dict[str, Any]) -> bool:
    """An activation that ended before it was signed may be repeated."""
    made = lake.require(ACTIVATIONS, numbered(record["kind"], record["number"]))
    return lake.signature(made) is not None


def _evidence(lake: Lake, found: Proposal, by: str) -> tuple[Manifest | None, str]:
    """The bundle that allows the version and what it is, or None where it was active before."""
    kind, version = split_key(found.key)
    for record in history(lake, kind):
        if record["version"] == version and record["proposal"] == found.manifest.content:
            require_intact(lake, lake.require(ACTIVATIONS, numbered(kind, record["number"])))
            return None, "rollback"
    if TriggersPolicy.load().second_person and person(by) == found.author:
        raise PolicyError(
            f"{person(by)} wrote {found.key} and does not activate it",
            code="same_person",
            remedy="let somebody else look at the evidence and activate it",
        )
    if kind == LabelFusionPolicy.name:
        return _labeller_report(lake, found), "report"
    if kind == TrainingPolicy.name:
        return _sweep_report(lake, found), "sweep"
    return _backtest(lake, found), "backtest"


def _labeller_report(lake: Lake, found: Proposal) -> Manifest:
    """The report of the labeller that chose these very numbers on top of the active ones."""
    remedy = "remake labeller_reports, then av labels thresholds --propose"
    made = lake.manifest(LABELLER_REPORTS, "all")
    if made is None:
        raise PolicyError("there is no report of the labeller", code="no_labeller_report", remedy=remedy)
    require_intact(lake, made)
    report = json.loads(lake.read_bytes(made, THRESHOLDS_FILE))
    if report["digest"] != found.policy.digest:
        raise PolicyError(f"the report of the labeller did not choose the numbers of {found.key}",
                          code="report_outdated", remedy=remedy)  # fmt: skip
    if report["base"] != active(lake, LabelFusionPolicy).digest:
        raise PolicyError("the report of the labeller was made under another active version",
                          code="report_outdated", remedy=remedy)  # fmt: skip
    if report["missed"]:
        raise PolicyError(
            f"on the drives kept for judging, {', '.join(report['missed'])} would miss the target",
            code="report_not_passed",
            remedy="have more drives verified, and remake labeller_reports",
        )
    return made


def _sweep_report(lake: Lake, found: Proposal) -> Manifest:
    """The report of a sweep that chose these numbers, whatever their version is, on top of the active ones."""
    for sweep in lake.partitions(SWEEP_REPORTS):
        made = lake.require(SWEEP_REPORTS, sweep)
        if not made.matching(SWEPT_FILE):
            continue  # nothing won
        chosen = TrainingPolicy.model_validate(yaml.safe_load(lake.read_bytes(made, SWEPT_FILE)))
        if chosen.model_copy(update={"version": found.policy.version}) != found.policy:
            continue
        require_intact(lake, made)
        if made.made_from.policies.get(TrainingPolicy.name) != active(lake, TrainingPolicy).digest:
            raise PolicyError(f"sweep {sweep} started from other numbers than are active now",
                              code="report_outdated", remedy="start another sweep")  # fmt: skip
        steady = json.loads(lake.read_bytes(made, REPORT_FILE))["stability"]["state"]
        if steady not in STEADY:
            raise PolicyError(f"sweep {sweep}: other seeds do not give the same order ({steady})",
                              code="report_not_passed", remedy="confirm with more epochs or frames")  # fmt: skip
        return made
    raise PolicyError(
        f"no sweep chose the numbers of {found.key}", code="no_sweep_report", remedy="av sweeps start FILE"
    )


def _backtest(lake: Lake, found: Proposal) -> Manifest:
    made = lake.manifest(BACKTESTS, found.key)
    if made is None:
        raise PolicyError(
            f"{found.key} has no back-test", code="no_backtest", remedy=f"av policy backtest {found.key}"
        )
    require_intact(lake, made)
    report = json.loads(lake.read_bytes(made, REPORT_FILE))
    if (report["digest"], report["proposal"]) != (found.policy.digest, found.manifest.content):
        raise _outdated(found.key, "is of other numbers")
    if report["baseline"] != rollout(lake).digests:
        raise _outdated(found.key, "was made against another active version")
    if report["state"] != PASS:
        raise PolicyError(
            f"the back-test of {found.key} says {report['state']}: {'; '.join(report['reasons'])}",
            code="backtest_not_passed",
            remedy="change the numbers, or adjudicate more events and repeat it",
        )
    return made


def _keep(lake: Lake, record: dict[str, Any], inputs: list[Manifest]) -> None:
    import pyarrow as pa

    kind, number = record["kind"], record["number"]
    if number > 1:
        inputs = [*inputs, lake.require(ACTIVATIONS, numbered(kind, number - 1))]
    read = {bundle_name(m.asset, m.partition): m.digest for m in inputs}
    with lake.workdir() as folder:
        (folder / ACTIVATION_FILE).write_bytes(canonical_json(record))
        try:
            manifest = lake.publish(
                ACTIVATIONS, numbered(kind, number), folder, made_from=MadeFrom(inputs=read), write_once=True
            )
        except LandingError as error:
            raise PolicyError(
                "somebody else activated a version meanwhile",
                code="activation_conflict",
                remedy=f"look at av policy history {kind} and decide again",
            ) from error
    lake.keep_signature(manifest, sign(signing_key(), manifest))
    row = pa.Table.from_pylist([{"activation": manifest.partition, **record}])
    lake.tables.replace(ACTIVATIONS, row, key="activation", value=manifest.partition)


def _outdated(key: str, why: str) -> PolicyError:
    return PolicyError(
        f"the back-test of {key} {why}", code="backtest_outdated", remedy=f"av policy backtest {key}"
    )
