"""Workflow 12, second half: where the production model fails, in named buckets, and what to label next."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from av_assets.domain.evidence.manifest import Manifest
from av_assets.mining import failing, failure_files, pools
from av_assets.mining.failing import Pool
from av_assets.mining.failure_files import TABLE
from av_assets.policies.failures import FailurePolicy
from av_assets.presentation import pictures, table
from av_assets.production import Work, bundle_metadata, code_version, lineage, produce
from partitions.calendar import days
from resources.compute import CPU
from resources.lake import Lake
from resources.production_models import require_production_model
from sensors.conditions import every_night

if TYPE_CHECKING:
    from av_assets.domain.failures.buckets import Bucket
    from av_assets.domain.failures.cases import Case
    from av_assets.domain.failures.finding import Findings

READ = ("pool_predictions", "verified_labels", "auto_labels", "clip_embeddings", "synced_shards", "drive_catalog",
        "enriched_clips", "event_windows", "scenes", "golden_slices", "model_bundles", "eval_reports")  # fmt: skip


@dg.asset(
    partitions_def=days,
    deps=[dg.AssetDep(name, partition_mapping=dg.AllPartitionMapping()) for name in READ],
    automation_condition=every_night,
    op_tags=CPU.tags,
    pool=CPU.pool,
    code_version="1",
    kinds={"delta", "parquet"},
)
def failure_buckets(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """Workflow 12 of 36: takes pool_predictions, labels and the catalogue, gives the production model's failures in
    named buckets, what each kind costs, slices that fail too often, and mining specs for what to label next.

    Frames that a golden dataset teaches with are left out. A person accepts a spec with av failures DAY --accept NAME.
    """
    started, day = time.time_ns(), context.partition_key
    policy, pool = FailurePolicy.load(), Pool.of(lake, require_production_model(lake))
    rows = {
        "tables": pools.table_versions(lake),
        "production_model": [{"release": pool.model.partition, "content": pool.model.content}],
    }
    made_from = lineage(list(pool.inputs.values()), code_version(context), [policy], rows)
    made = produce(
        lake,
        "failure_buckets",
        day,
        made_from,
        pool.inputs,
        lambda work: _search(work, policy, pool),
        rows=rows,
        run_id=context.run.run_id,
    )
    return dg.MaterializeResult(
        metadata=bundle_metadata(made, started) | _describe(lake, made.manifest),
        data_version=dg.DataVersion(made.manifest.content),
    )


@dg.asset_check(asset=failure_buckets)
def failure_buckets_hold_every_failure(
    context: dg.AssetCheckExecutionContext, lake: Lake
) -> dg.AssetCheckResult:
    """Every clip with a hard frame is in exactly one bucket, and no bucket holds a clip that does not fail."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    made = lake.require("failure_buckets", context.partition_key)
    errors, cases = (
        pq.read_table(pa.BufferReader(lake.read_bytes(made, name))).to_pylist()
        for name in ("errors.parquet", f"{TABLE}.parquet")
    )
    held = [clip for one in _buckets(lake, made) for clip in one["clips"]]
    lost = {row["clip_id"] for row in errors if row["hard"]} - set(held)
    twice = sorted({clip for clip in held if held.count(clip) > 1})
    other = sorted(set(held) ^ {row["clip_id"] for row in cases})
    return dg.AssetCheckResult(
        passed=not (lost or twice or other),
        metadata={"lost": len(lost), "twice": len(twice), "other": len(other), "clips": len(held)},
    )


@dg.asset_check(asset=failure_buckets)
def next_specs_can_be_mined(context: dg.AssetCheckExecutionContext, lake: Lake) -> dg.AssetCheckResult:
    """Every spec that was written is one that mining reads, and leaves clips of the catalogue to choose from."""
    from av_assets.domain.mining.where import stopped_by

    made = lake.require("failure_buckets", context.partition_key)
    specs, rows = failure_files.specs_of(lake, made), pools.catalogue(lake)
    empty = [spec.name for spec in specs if all(stop is not None for stop in stopped_by(rows, spec.where))]
    return dg.AssetCheckResult(passed=not empty, metadata={"specs": len(specs), "empty": ", ".join(empty)})


def _search(work: Work, policy: FailurePolicy, pool: Pool) -> str:
    from av_assets.domain.failures.asking import specs_of
    from av_assets.domain.failures.buckets import buckets_of
    from av_assets.domain.failures.cases import cases_of
    from av_assets.domain.failures.finding import find_failures
    from av_assets.domain.failures.slices import slice_shares

    lake, classes = work.lake, failing.classes_of(work.lake, pool)
    with work.watch("compute"):
        found = find_failures(failing.evidence(lake, pool), classes, policy)
        cases = cases_of(found.looked_at, found.failures)
        tags = failing.context(lake, sorted(found.looked_at))
        slices = slice_shares(tags, found.units, policy.slice_alpha, policy.slice_min_clips)
        buckets = buckets_of(cases, failing.vectors(lake, pool), tags, policy)
        specs = specs_of(buckets, pool.model.partition, policy)
    with work.watch("write"):
        failure_files.write(work, pool, found, cases, buckets, slices, tags)
        failure_files.write_specs(work.out, specs)
        _draw(work, policy, pool, found, cases, buckets, classes)
    if not pool.predictions:
        left = f"; {len(pool.left_out)} drives are left out" if pool.left_out else ""
        return f"no drive was predicted by {pool.model.partition} yet{left}"
    return "" if cases else "no failure was found"


def _draw(
    work: Work,
    policy: FailurePolicy,
    pool: Pool,
    found: "Findings",
    cases: "Mapping[str, Case]",
    buckets: "Sequence[Bucket]",
    classes: Sequence[str],
) -> None:
    """A sheet for each of the largest buckets: the worst frame of each clip, with what was seen and what was missed."""
    from av_assets.domain.labels.sheets import overlay_sheet

    for number, bucket in enumerate(buckets[: policy.sheets]):
        shown = []
        for clip in bucket.clips[: policy.sheet_frames]:
            at_ns = cases[clip].worst_ns
            frame = failing.frame_at(work.lake, pool, clip, at_ns)
            if frame is not None:
                boxes = failing.shown_boxes(
                    work.lake, pool, (clip, at_ns), classes, found.rows, policy.sure_score
                )
                kinds = ", ".join(f"{kind} {count}" for kind, count in cases[clip].kinds.most_common(3))
                shown.append((f"{clip}: {kinds}", frame, boxes))
        if shown:
            sheet = overlay_sheet(shown, title=f"{bucket.name}: {len(bucket.clips)} clips", dashed="missed")
            (work.out / f"bucket_{number + 1}.png").write_bytes(sheet)


def _buckets(lake: Lake, made: Manifest) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(lake.read_bytes(made, "buckets.json"))
    return found


def _describe(lake: Lake, made: Manifest) -> dict[str, Any]:
    report = json.loads(lake.read_bytes(made, "report.json"))
    buckets = _buckets(lake, made)
    sheets = [entry.path for entry in made.matching("bucket_*.png")]
    figures = (
        "frames",
        "frames_labelled",
        "frames_trained_on",
        "clips",
        "clips_failing",
        "drives",
        "left_out",
    )
    return {
        "dagster/row_count": report["clips_failing"],
        "model": report["release"],
        **{name: report[name] for name in figures},
        "mAP50": "unknown" if report["map50"] is None else report["map50"],
        "errors": table(
            {
                "kind": kind,
                "sure": one["sure"],
                "all": one["all"],
                "AP50 lost": "-" if one["dap"] is None else f"{one['dap']:.3f}",
            }
            for kind, one in report["kinds"].items()
        ),
        "doubts": table({"doubt": kind, **one} for kind, one in report["doubts"].items()),
        "slices": table(
            {
                "slice": one["tag"],
                "clips": one["clips"],
                "failing": f"{one['failing']} of {one['units']} pieces",
                "lift": f"{one['lift']:.2f}",
                "adjusted p": f"{one['adjusted_p']:.2g}",
                "drifted": "yes" if one["drifted"] else "no",
            }
            for one in report["slices"][:30]
        ),
        "buckets": table(
            {
                "bucket": one["name"],
                "clips": len(one["clips"]),
                "fails by": ", ".join(f"{kind} {count}" for kind, count in one["kinds"].items()),
                "told by": ", ".join(f"{t['tag']} {t['lift']:.1f}x" for t in one["tags"][:5]),
            }
            for one in buckets
        ),
        "next_specs": table(
            {"spec": spec.name, "why": spec.why, "budget": spec.budget}
            for spec in failure_files.specs_of(lake, made)
        ),
        **pictures(lake, made, "kinds.png", *sheets),
    }
