"""Workflow 36: other numbers for the detectors, shown on history before they decide anything."""

import json
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import dagster as dg

from av_assets.domain.errors import AvError
from av_assets.domain.evidence.digests import canonical_json
from av_assets.domain.evidence.manifest import Manifest, bundle_name
from av_assets.domain.evidence.signatures import sign
from av_assets.domain.triggers.backtest import Adjudication, Backtest, Replay
from av_assets.domain.triggers.versions import changes, least_bump, split_key, touched
from av_assets.policies.triggers import TriggersPolicy
from av_assets.presentation import pictures, table
from av_assets.production import Made, Work, bundle_metadata, code_version, lineage, produce
from partitions.policies import policies
from resources import quarantine
from resources.adjudications import adjudications
from resources.compute import CPU, LIGHT
from resources.lake import Lake
from resources.policies import Rollout, compared, rollout
from resources.policy_versions import REPORT_FILE, Proposal, model_of, proposal
from resources.signing import signing_key
from sensors.conditions import until_present

WEEK_NS = 7 * 86400 * 10**9
KINDS, CHANGES, CELLS = "policy_backtest_kinds", "policy_backtest_changes", "policy_backtest_cells"
_ALL_DRIVES = dg.AllPartitionMapping()

# Nothing is requested while the version itself could not be validated; drives that are missing hold up nobody.
_until_present_and_valid = (
    until_present
    & ~dg.AutomationCondition.any_deps_missing().allow(dg.AssetSelection.assets("trigger_policies"))
).with_label("until_present_and_valid")


class Candidate(NamedTuple):
    """A drive of history on which the numbers differ, under both."""

    drive: str
    before: Any
    after: Any


@dg.asset(
    partitions_def=policies,
    automation_condition=until_present,
    op_tags=LIGHT.tags,
    pool=LIGHT.pool,
    code_version="1",
    kinds={"yaml"},
)
def trigger_policies(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """Workflow 36 of 36: takes a proposed version of a policy, gives it validated, signed and beside the active one."""
    started, key = time.time_ns(), context.partition_key
    found = proposal(lake, key)
    before = getattr(rollout(lake), split_key(key)[0])
    made_from = lineage([found.manifest], code_version(context), [before])
    inputs = {found.manifest.asset: found.manifest}
    made = produce(
        lake,
        "trigger_policies",
        key,
        made_from,
        inputs,
        lambda work: _validate(work, found, before),
        run_id=context.run.run_id,
    )
    diff = json.loads(lake.read_bytes(made.manifest, "diff.json"))
    rows = ({name: str(row[name]) for name in ("key", "active", "proposed")} for row in diff["changes"])
    return _result(
        lake,
        made,
        started,
        {
            "author": found.author,
            "digest": found.policy.digest,
            "bump": diff["bump"],
            "changes": table(rows),
            "notes": table({"note": note} for note in found.notes),
        },
    )


@dg.asset(
    partitions_def=policies,
    deps=[
        trigger_policies,
        dg.AssetDep("synced_shards", partition_mapping=_ALL_DRIVES),
        dg.AssetDep("drive_catalog", partition_mapping=_ALL_DRIVES),
    ],
    automation_condition=_until_present_and_valid,
    op_tags=CPU.tags,
    pool=CPU.pool,
    code_version="1",
    kinds={"parquet"},
)
def policy_backtests(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """Workflow 36 of 36: takes a version and the drives of the last weeks, gives what it would have done to alerts."""
    started, key, policy = time.time_ns(), context.partition_key, TriggersPolicy.load()
    found, now = proposal(lake, key), rollout(lake)
    version = lake.require("trigger_policies", key)
    known = _history(lake, policy)
    chosen = _candidates(known, now, now.with_version(found.policy))
    shards = {bundle_name("synced_shards", c.drive): lake.require("synced_shards", c.drive) for c in chosen}
    judged = adjudications(lake, [c.drive for c in chosen])
    rows = {"drives": list(known.values()), "adjudicated_events": [vars(row) for row in judged]}
    inputs = {"trigger_policies": version, **shards}
    made_from = lineage(list(inputs.values()), code_version(context), [*now, policy], rows)
    made = produce(
        lake,
        "policy_backtests",
        key,
        made_from,
        inputs,
        lambda work: _replay(work, policy, found, now, chosen, judged, len(known)),
        rows=rows,
        run_id=context.run.run_id,
    )
    return _result(lake, made, started, _describe(lake, made.manifest, policy.max_listed))


@dg.asset_check(asset=policy_backtests)
def policy_backtests_hold_their_limits(
    context: dg.AssetCheckExecutionContext, lake: Lake
) -> dg.AssetCheckResult:
    """The version loses no adjudicated event beyond the margin and raises no more alerts than are allowed."""
    made = lake.require("policy_backtests", context.partition_key)
    report = json.loads(lake.read_bytes(made, REPORT_FILE))
    failed = report["state"] == "fail"
    return dg.AssetCheckResult(
        passed=report["state"] == "pass",
        severity=dg.AssetCheckSeverity.ERROR if failed else dg.AssetCheckSeverity.WARN,
        metadata={"state": report["state"], "reasons": table({"reason": r} for r in report["reasons"])},
    )


def _validate(work: Work, found: Proposal, before: Any) -> str:
    old, new = compared(before, found.policy)
    shown = [{"key": c.key, "active": c.before, "proposed": c.after} for c in changes(old, new)]
    diff = {"changes": shown, "active": before.version, "bump": least_bump(old, new)}
    model = model_of(split_key(found.key)[0])
    (work.out / "diff.json").write_bytes(canonical_json(diff))
    (work.out / "policy.json").write_bytes(canonical_json(found.policy.model_dump(mode="json")))
    (work.out / "schema.json").write_bytes(canonical_json(model.model_json_schema()))
    return "" if shown else "nothing but the version changes"


def _history(lake: Lake, policy: TriggersPolicy) -> dict[str, dict[str, Any]]:
    """Rows of the catalog for the drives of the last weeks that have shards; the newest drive ends the last week.

    What waits in quarantine has no events, and so no part in their rates.
    """
    rows = lake.tables.read("drives")
    wanted = [
        "drive",
        "vehicle",
        "start_ns",
        *(f"{side}_{axis}_deg" for side in ("min", "max") for axis in ("longitude", "latitude")),
    ]
    found = [] if rows is None else rows.select(wanted).to_pylist()
    newest = max((row["start_ns"] for row in found), default=0)
    made = set(lake.partitions("synced_shards")) - {row["drive"] for row in quarantine.listing(lake)}
    since = newest - policy.weeks * WEEK_NS
    kept = [row for row in found if row["start_ns"] > since and row["drive"] in made]
    return {row["drive"]: row for row in sorted(kept, key=lambda row: row["drive"])}


def _candidates(known: dict[str, dict[str, Any]], now: Rollout, then: Rollout) -> list[Candidate]:
    before, after = now.of_rows(known), then.of_rows(known)
    every = [Candidate(drive, before[drive], after[drive]) for drive in known]
    return [c for c in every if touched(c.before.model_dump(mode="json"), c.after.model_dump(mode="json"))]


def _replay(
    work: Work,
    policy: TriggersPolicy,
    found: Proposal,
    now: Rollout,
    chosen: list[Candidate],
    judged: list[Adjudication],
    drives: int,
) -> str:
    from av_assets.domain.triggers.backtest import backtest
    from av_assets.domain.triggers.heatmap import heat_png
    from av_assets.domain.triggers.replay import kinds_touched, sections_reached

    sections = sections_reached(now, now.with_version(found.policy))
    kinds = kinds_touched(sections, policy.sections)
    replayed: list[str] = []
    result = backtest(_replays(work, policy, chosen, replayed), judged, kinds, policy)
    report = {
        "key": found.key,
        "digest": found.policy.digest,
        "proposal": found.manifest.content,
        "baseline": now.digests,
        "state": result.state,
        "reasons": list(result.reasons),
        "sections": sections,
        "kinds": kinds,
        "hours": result.hours,
        "drives": drives,
        "replayed": replayed,
        "left_alone": drives - len(replayed),
    }
    (work.out / REPORT_FILE).write_bytes(canonical_json(report))
    (work.out / "heat.png").write_bytes(heat_png(result.cells))
    _write_tables(work, result)
    return "" if sections else "nothing but the version changes"


def _replays(
    work: Work, policy: TriggersPolicy, chosen: list[Candidate], replayed: list[str]
) -> Iterator[Replay]:
    """One drive after another, each laid out and cleared away; drives that lack the signals are left alone."""
    import shutil

    from av_assets.domain.triggers.replay import available, can_change, replay

    for one in chosen:
        folder = work.folder / "drive"
        work.lake.checkout(work.inputs[bundle_name("synced_shards", one.drive)], folder, "clips/*")
        clips = sorted((folder / "clips").glob("*.parquet"))
        sections = touched(one.before.model_dump(mode="json"), one.after.model_dump(mode="json"))
        if can_change(sections, policy.sections, available(clips)):
            replayed.append(one.drive)
            with work.watch("compute"):
                yield replay(one.drive, clips, one.before, one.after, policy.cell_resolution)
        shutil.rmtree(folder, ignore_errors=True)


def _write_tables(work: Work, result: Backtest) -> None:
    import pyarrow as pa

    from av_assets.domain.triggers.tables import CELL_SCHEMA, CHANGE_SCHEMA, KIND_SCHEMA

    for name, rows, schema in (
        (KINDS, result.kinds, KIND_SCHEMA),
        (CHANGES, result.changes, CHANGE_SCHEMA),
        (CELLS, result.cells, CELL_SCHEMA),
    ):
        made = pa.Table.from_pylist([{"policy": work.partition, **row} for row in rows], schema=schema)
        work.write_table(name, made, key="policy")


def _result(lake: Lake, made: Made, started: int, described: dict[str, Any]) -> dg.MaterializeResult:
    if lake.signature(made.manifest) is None:
        lake.keep_signature(made.manifest, sign(signing_key(), made.manifest))
    return dg.MaterializeResult(
        metadata=bundle_metadata(made, started) | described,
        data_version=dg.DataVersion(made.manifest.content),
    )


def _describe(lake: Lake, manifest: Manifest, listed: int) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def shown(name: str) -> Any:
        rows = pq.read_table(pa.BufferReader(lake.read_bytes(manifest, f"{name}.parquet"))).to_pylist()
        return table({k: "" if v is None else str(v) for k, v in row.items()} for row in rows[:listed])

    report = json.loads(lake.read_bytes(manifest, REPORT_FILE))
    return {
        "state": report["state"],
        "reasons": table({"reason": reason} for reason in report["reasons"]),
        "replayed": len(report["replayed"]),
        "left_alone": report["left_alone"],
        "hours": report["hours"],
        "kinds": shown(KINDS),
        "changes": shown(CHANGES),
        "cells": shown(CELLS),
        **pictures(lake, manifest, "heat.png"),
    }


def run_backtest(
    defs: dg.Definitions, instance: dg.DagsterInstance, lake: Lake, key: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Validate and back-test a version in this process; returns its report and the rows per kind.

    Raises:
        PolicyError: no_such_version.
        AvError: backtest_failed, the run ended early; its log says why.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    proposal(lake, key)
    instance.add_dynamic_partitions(policies.name or "", [key])
    run = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        run_config={"loggers": {"console": {"config": {"log_level": "WARNING"}}}},
        instance=instance,
        partition_key=key,
        asset_selection=[dg.AssetKey("trigger_policies"), dg.AssetKey("policy_backtests")],
        raise_on_error=False,
    )
    made = lake.manifest("policy_backtests", key)
    if not run.success or made is None:
        raise AvError(
            f"the run {run.run_id[:8]} did not succeed", code="backtest_failed", remedy="read its log"
        )
    rows = pq.read_table(pa.BufferReader(lake.read_bytes(made, f"{KINDS}.parquet"))).to_pylist()
    return json.loads(lake.read_bytes(made, REPORT_FILE)), rows
