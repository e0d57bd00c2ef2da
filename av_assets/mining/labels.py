"""Workflow 10: labels that people have drawn, looked over and agreed on."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import dagster as dg

from av_assets.gates import checked_drives
from av_assets.mining.autolabels import auto_labels
from av_assets.mining.label_views import (
    describe_submissions,
    describe_tasks,
    describe_verified,
)
from av_assets.policies.annotation import AnnotationPolicy
from av_assets.presentation import table
from av_assets.production import Rows, Work, each_drive
from partitions.drives import BATCH, drives
from resources.compute import LIGHT
from resources.labeling import Annotators, file_facts
from resources.lake import Lake
from sensors.conditions import on_changed_content

SEED = 10
NOBODY = "no annotator knows this drive: its labels wait for people"


@dg.asset(
    partitions_def=drives,
    deps=["synced_shards", auto_labels],
    automation_condition=on_changed_content,
    output_required=False,
    backfill_policy=BATCH,
    op_tags=LIGHT.tags,
    pool=LIGHT.pool,
    code_version="1",
    kinds={"parquet"},
)
def label_tasks(
    context: dg.AssetExecutionContext, lake: Lake, annotators: Annotators
) -> Iterator[dg.MaterializeResult]:
    """Workflow 10 of 36: takes auto_labels, gives the frames that people shall label, most valuable first."""
    policy = AnnotationPolicy.load()
    yield from each_drive(
        context,
        lake,
        ["synced_shards", "auto_labels"],
        [policy],
        partial(_plan, annotators, policy),
        describe_tasks,
        guarded=["synced_shards"],
        read_rows=lambda drive, _: _answers(annotators, drive),
    )


@dg.asset(
    partitions_def=drives,
    deps=[auto_labels, label_tasks],
    automation_condition=on_changed_content,
    output_required=False,
    backfill_policy=BATCH,
    op_tags=LIGHT.tags,
    pool=LIGHT.pool,
    code_version="1",
    kinds={"parquet"},
)
def label_submissions(
    context: dg.AssetExecutionContext, lake: Lake, annotators: Annotators
) -> Iterator[dg.MaterializeResult]:
    """Workflow 10 of 36: takes label_tasks and returned files, gives what people drew, each row judged."""
    policy = AnnotationPolicy.load()
    yield from each_drive(
        context,
        lake,
        ["auto_labels", "label_tasks"],
        [policy],
        partial(_collect, annotators, policy),
        describe_submissions,
        read_rows=lambda drive, _: {
            "returned_labels": [file_facts(path) for path in annotators.returned(drive)],
            **_answers(annotators, drive),
        },
    )


@dg.asset(
    partitions_def=drives,
    deps=[auto_labels, label_tasks, label_submissions],
    automation_condition=on_changed_content,
    output_required=False,
    backfill_policy=BATCH,
    op_tags=LIGHT.tags,
    pool=LIGHT.pool,
    code_version="3",
    kinds={"parquet", "delta"},
)
def verified_labels(context: dg.AssetExecutionContext, lake: Lake) -> Iterator[dg.MaterializeResult]:
    """Workflow 10 of 36: takes label_submissions, gives boxes and cuboids of frames that people agreed on."""
    policy = AnnotationPolicy.load()
    yield from each_drive(
        context,
        lake,
        ["auto_labels", "label_tasks", "label_submissions"],
        [policy],
        partial(_verify, policy),
        describe_verified,
    )


@dg.asset_check(asset=label_submissions)
def returned_rows_are_all_accounted_for(
    context: dg.AssetCheckExecutionContext, lake: Lake
) -> dg.AssetCheckResult:
    """Every row of every returned file is accepted or rejected by a named constraint; accepted boxes keep them all."""
    from av_assets.domain.labels.exchange.returned import read_returned
    from av_assets.domain.labels.people.account import miscounted
    from av_assets.mining.constrained_frames import accepted_boxes_problem

    rejected, wrong = 0, []
    for drive in checked_drives(context):
        manifest = lake.manifest("label_submissions", drive)
        if manifest is None:
            continue
        with lake.workdir() as folder:
            bundle = lake.checkout(manifest, folder / "bundle")
            tasks = lake.checkout(lake.require("label_tasks", drive), folder / "tasks", "tasks.parquet")
            found = miscounted(bundle, read_returned)
            found |= accepted_boxes_problem(bundle, tasks, AnnotationPolicy.load())
        rejected += len(lake.rows_of(manifest, "rejected.parquet"))
        wrong += [{"drive": drive, "file": name, "reason": reason} for name, reason in sorted(found.items())]
    return dg.AssetCheckResult(passed=not wrong, metadata={"rejected rows": rejected, "wrong": table(wrong)})


@dg.asset_check(asset=verified_labels)
def verified_labels_are_agreed_on(context: dg.AssetCheckExecutionContext, lake: Lake) -> dg.AssetCheckResult:
    """People who drew the same frame agree beyond chance (Cohen's kappa, Krippendorff's alpha), drive by drive."""
    reports = _reports(context, lake)
    policy = AnnotationPolicy.load()
    low = [d for d, r in reports.items() if r["kappa_ok"] is False or r["alpha_verdict"] == "refused"]
    rows = [
        {"drive": d} | {k: str(r[k]) for k in ("kappa", "alpha", "alpha_verdict")} for d, r in reports.items()
    ]
    limits = {
        "kappa": policy.min_kappa,
        "alpha": policy.alpha_tentative,
        "accepted from": policy.alpha_accept,
    }
    return dg.AssetCheckResult(
        passed=not low,
        metadata={
            "drives": table(rows),
            "low": ", ".join(low) or "none",
            "required": dg.MetadataValue.json(limits),
        },
    )


@dg.asset_check(asset=verified_labels)
def gold_tasks_are_answered_well(context: dg.AssetCheckExecutionContext, lake: Lake) -> dg.AssetCheckResult:
    """Nobody's answers to tasks with a known answer are below the floor; single work of who is below does not count."""
    people = [
        {
            "drive": d,
            "annotator": name,
            "F1": str(p["gold_f1"]),
            "frames": p["gold_frames"],
            "standing": p["standing"],
        }
        for d, r in _reports(context, lake).items()
        for name, p in r["annotators"].items()
        if p["gold_frames"]
    ]
    low = [p for p in people if p["standing"] == "below floor"]
    return dg.AssetCheckResult(
        passed=not low,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"below floor": len(low), "people": table(people)},
    )


@dg.asset_check(asset=verified_labels)
def nobody_reviews_their_own_work(context: dg.AssetCheckExecutionContext, lake: Lake) -> dg.AssetCheckResult:
    """No final frame was drawn, looked over or decided by the same person twice, and each has two people at least."""
    from av_assets.domain.labels.people.account import own_reviews

    wrong = []
    for drive in checked_drives(context):
        manifest = lake.manifest("verified_labels", drive)
        if manifest is not None:
            wrong += [
                {"task_id": t, "reason": r} for t, r in own_reviews(lake.rows_of(manifest, "audit.parquet"))
            ]
    return dg.AssetCheckResult(passed=not wrong, metadata={"frames": len(wrong), "wrong": table(wrong[:50])})


@dg.asset_check(asset=verified_labels)
def label_budget_is_kept(context: dg.AssetCheckExecutionContext, lake: Lake) -> dg.AssetCheckResult:
    """People spent no more minutes than the budget of each drive, and no frame with a safety class waits beyond it."""
    rows = []
    for drive, report in _reports(context, lake).items():
        planned = lake.json_of(lake.manifest("label_tasks", drive), "plan.json").get("budget", {})
        waiting = planned.get("safety_beyond_budget", 0)
        rows.append({"drive": drive, **report["budget"], "safety_beyond_budget": waiting})
    over = [r for r in rows if r["spent_minutes"] > r["minutes"] or r["safety_beyond_budget"]]
    return dg.AssetCheckResult(
        passed=not over,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"over": ", ".join(r["drive"] for r in over) or "none", "drives": table(rows)},
    )


def _answers(annotators: Annotators, drive: str) -> dict[str, Rows]:
    """Where known answers come from: another file, or truth that arrives later, is another input."""
    gold = annotators.gold_of(drive)
    return {"gold": [file_facts(gold)] if gold else [], "simulated": [{"known": annotators.knows(drive)}]}


def _plan(annotators: Annotators, policy: AnnotationPolicy, work: Work) -> str:
    from av_assets.domain.labels.exchange.returned import read_returned
    from av_assets.domain.labels.people.handing_in import gold_tasks
    from av_assets.domain.labels.people.task_planning import plan_drive

    drive, gold = work.partition, annotators.gold_of(work.partition)
    known = set(gold_tasks(gold, read_returned)) if gold else None if annotators.knows(drive) else set()
    clips = sorted((work.checkout("synced_shards", "clips/*") / "clips").glob("*.parquet"))
    plan = plan_drive(drive, work.checkout("auto_labels"), clips, policy, SEED, known, work.out, work.watch)
    return str(plan["reason"])


def _collect(annotators: Annotators, policy: AnnotationPolicy, work: Work) -> str:
    from av_assets.domain.labels.exchange.returned import read_returned
    from av_assets.domain.labels.people.handing_in import People, collect
    from av_assets.mining.constrained_frames import judge_boxes

    drive = work.partition
    people = People(
        partial(judge_boxes, policy),
        read_returned,
        annotators.truth_of(drive),
        annotators.returned(drive),
        annotators.gold_of(drive),
    )
    report = collect(
        work.checkout("label_tasks"), work.checkout("auto_labels"), people, policy, SEED, work.out, work.watch
    )
    return "" if report["returned"] or report["simulated"] else _nobody(people.returned)


def _verify(policy: AnnotationPolicy, work: Work) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from av_assets.domain.labels.people.verify import verify_drive

    submissions = work.checkout("label_submissions")
    report = verify_drive(
        work.checkout("auto_labels"), work.checkout("label_tasks"), submissions, policy, work.out, work.watch
    )
    frames = pq.read_table(work.out / "frames.parquet")
    drive = pa.array([work.partition] * frames.num_rows, pa.string())
    work.write_table("label_frames", frames.add_column(0, "drive", drive).replace_schema_metadata(None))
    (work.out / "label_frames.parquet").unlink()  # the bundle has these rows as frames.parquet
    counts = json.loads((submissions / "report.json").read_text("utf-8"))
    if counts["returned"] or counts["simulated"]:
        return str(report["reason"])
    for path in work.out.iterdir():  # a bundle without files says that there is nothing to learn from
        path.unlink()
    return _nobody(list(counts["files"]))


def _nobody(files: Any) -> str:
    return NOBODY + (f"; {len(files)} returned files hold nothing that can be accepted" if files else "")


def _reports(context: dg.AssetCheckExecutionContext, lake: Lake) -> dict[str, dict[str, Any]]:
    """Reports of the drives of the run that have labels."""
    found = {
        d: lake.json_of(lake.manifest("verified_labels", d), "report.json") for d in checked_drives(context)
    }
    return {drive: report for drive, report in found.items() if report}
