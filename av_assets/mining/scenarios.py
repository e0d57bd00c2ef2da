"""Workflow 8: which clips to label next, and which parts of the operational domain are still missing."""

import json
import time
from typing import TYPE_CHECKING, Any

import dagster as dg

from av_assets.domain.evidence.manifest import Manifest
from av_assets.mining import pools
from av_assets.mining.accepted import accepted_specs
from av_assets.policies.coverage import CoveragePolicy
from av_assets.policies.mining import MiningPolicy, MiningSpec
from av_assets.presentation import pictures, table
from av_assets.production import Work, bundle_metadata, code_version, lineage, produce
from partitions.calendar import days
from resources.compute import CPU
from resources.lake import Lake
from sensors.conditions import every_night

if TYPE_CHECKING:
    import pyarrow as pa

    from av_assets.domain.mining.pipeline import Mined, Sifted

SHEET_FRAMES = 30


@dg.asset(
    partitions_def=days,
    deps=[
        dg.AssetDep(name, partition_mapping=dg.AllPartitionMapping())
        for name in ("drive_catalog", "enriched_clips", "event_windows", "scenes", "golden_slices")
    ]
    + ["similarity_index", "coverage_ledgers"],
    automation_condition=every_night,
    op_tags=CPU.tags,
    pool=CPU.pool,
    code_version="1",
    kinds={"delta", "parquet"},
)
def scenario_candidates(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """Workflow 8 of 36: takes the catalogue and clip vectors, gives per mining spec the clips to label next and why."""
    started, day = time.time_ns(), context.partition_key
    policy = MiningPolicy.load()
    specs = [*policy.specs, *_gap_specs(lake), *accepted_specs()]
    labels = pools.automatic_labels(lake) if pools.uses_road_users(specs) else {}
    rows, training = pools.catalogue(lake, labels), pools.training_drives(lake)
    sifted = pools.sift_all(lake, specs, rows, training)
    inputs = {f"auto_labels/{d}": m for d, m in labels.items()} | pools.bundles_of(lake, sifted)
    read = {
        "tables": pools.table_versions(lake),
        "training": [training],
        "specs": [spec.model_dump(mode="json") for spec in specs],
    }
    made_from = lineage(list(inputs.values()), code_version(context), [policy], read)
    drives = dict(zip(rows["clip_id"].to_pylist(), rows["drive"].to_pylist(), strict=True))
    made = produce(
        lake,
        "scenario_candidates",
        day,
        made_from,
        inputs,
        lambda work: _mine(work, policy, sifted, drives),
        run_id=context.run.run_id,
    )
    return dg.MaterializeResult(
        metadata=bundle_metadata(made, started) | _describe(lake, made.manifest),
        data_version=dg.DataVersion(made.manifest.content),
    )


@dg.asset_check(asset=scenario_candidates)
def candidates_respect_budget_and_quotas(
    context: dg.AssetCheckExecutionContext, lake: Lake
) -> dg.AssetCheckResult:
    """No spec chose more clips than its budget or a slice's quota, and none twice."""
    from av_assets.domain.mining.selection import broken_limits

    manifest = lake.require("scenario_candidates", context.partition_key)
    specs = [MiningSpec.model_validate(one["spec"]) for one in _report(lake, manifest)]
    broken = broken_limits(_parquet(lake, manifest, "candidates.parquet").to_pylist(), specs)
    return dg.AssetCheckResult(passed=not broken, metadata={"broken": dg.MetadataValue.json(broken)})


@dg.asset(
    partitions_def=days,
    deps=[
        dg.AssetDep(name, partition_mapping=dg.AllPartitionMapping())
        for name in ("drive_catalog", "enriched_clips", "event_windows", "auto_labels", "golden_slices")
    ],
    automation_condition=every_night,
    op_tags=CPU.tags,
    pool=CPU.pool,
    code_version="1",
    kinds={"delta", "parquet"},
)
def coverage_ledgers(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """Workflow 8 of 36: takes the catalogue, gives exposure per operational-domain cell and specs for gaps."""
    started, day = time.time_ns(), context.partition_key
    policy = CoveragePolicy.load()
    labels = pools.automatic_labels(lake)
    inputs = {f"auto_labels/{drive}": manifest for drive, manifest in labels.items()}
    training = pools.training_drives(lake)
    read = {"tables": pools.table_versions(lake), "training": [training]}
    made_from = lineage(list(inputs.values()), code_version(context), [policy], read)
    made = produce(
        lake,
        "coverage_ledgers",
        day,
        made_from,
        inputs,
        lambda work: _count(work, policy, pools.catalogue(lake, labels), set(training)),
        run_id=context.run.run_id,
    )
    return dg.MaterializeResult(
        metadata=bundle_metadata(made, started) | _describe_coverage(lake, made.manifest),
        data_version=dg.DataVersion(made.manifest.content),
    )


@dg.asset_check(asset=coverage_ledgers)
def coverage_gaps_are_listed(context: dg.AssetCheckExecutionContext, lake: Lake) -> dg.AssetCheckResult:
    """Every pair of values that training has too little of is in the list of gaps, and no other."""
    from av_assets.domain.mining.coverage import pairs

    manifest = lake.require("coverage_ledgers", context.partition_key)
    cells = _parquet(lake, manifest, "coverage.parquet")
    report = json.loads(lake.read_bytes(manifest, "coverage.json"))
    found = pairs(_of_scope(cells, report["gaps_of"]), CoveragePolicy.model_validate(report["policy"]))
    missing = {tuple(sorted(p.values.items())) for p in found if not p.seen}
    listed = {tuple(sorted(gap["values"].items())) for gap in report["gaps"]}
    return dg.AssetCheckResult(
        passed=missing == listed,
        metadata={"gaps": len(listed), "pairs": len(found), "differing": len(missing ^ listed)},
    )


def _gap_specs(lake: Lake) -> list[MiningSpec]:
    """What the newest coverage ledger asks for."""
    from av_assets.policies.mining import load_specs

    there = lake.partitions("coverage_ledgers")
    if not there:
        return []
    newest = lake.require("coverage_ledgers", there[-1])
    if not newest.matching("next_specs.yaml"):
        return []
    with lake.workdir() as folder:
        return list(load_specs(lake.checkout(newest, folder, "next_specs.yaml") / "next_specs.yaml"))


def _mine(work: Work, policy: MiningPolicy, sifted: "list[Sifted]", drives: dict[str, str]) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from av_assets.domain.mining.funnel import FUNNEL
    from av_assets.domain.mining.pipeline import settle
    from av_assets.domain.mining.reports import CANDIDATES, candidate_rows, report_of

    evidence = pools.evidence_of(work.lake, work.inputs, policy)
    with work.watch("compute"):
        mined = [settle(one, evidence, policy) for one in sifted]
    with pq.ParquetWriter(work.out / "funnel.parquet", FUNNEL, compression="zstd") as file:
        for one in mined:
            file.write_table(one.funnel.to_table(drives))
    report = [report_of(one) for one in mined]
    (work.out / "specs.json").write_text(json.dumps(report, sort_keys=True, indent=1), "utf-8")
    rows = [row for one in mined for row in candidate_rows(one, work.partition)]
    _draw(work, policy, mined)
    work.write_table("candidates", pa.Table.from_pylist(rows, schema=CANDIDATES), key="day")
    return "" if rows else "; ".join(f"{one['name']}: {one['empty']}" for one in report) or "there is no spec"


def _draw(work: Work, policy: MiningPolicy, mined: "list[Mined]") -> None:
    """The first chosen clips of every spec in turn, so that each is seen."""
    from av_assets.domain.mining.reports import first_in_turn
    from av_assets.domain.privacy.contact_sheet import contact_sheet

    clips = first_in_turn([[row["clip_id"] for row in one.chosen] for one in mined], SHEET_FRAMES)
    frames = [f for c in clips for f in pools.frames_of(work.lake, work.inputs, c, policy.camera, 1)]
    if frames:
        (work.out / "contact_sheet.png").write_bytes(contact_sheet(frames))


def _describe(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    rows = _parquet(lake, manifest, "candidates.parquet").to_pylist()
    report = _report(lake, manifest)
    shown = ("spec", "rank", "clip_id", "score", "gain", "rarity", "uncertainty")
    return {
        "dagster/row_count": len(rows),
        "candidates": table({k: str(row[k]) for k in shown} for row in rows),
        "funnel": table({"spec": one["name"], **stage} for one in report for stage in one["stages"]),
        "empty": table({"spec": o["name"], "why": o["empty"]} for o in report if o["empty"]),
        **pictures(lake, manifest, "contact_sheet.png"),
    }


def _count(work: Work, policy: CoveragePolicy, rows: "pa.Table", training: set[str]) -> str:
    import pyarrow as pa

    from av_assets.domain.mining.coverage_pictures import coverage_png
    from av_assets.domain.mining.reports import coverage_report, events_per_clip, ledgers, scoped
    from av_assets.domain.viewing.drives import event_cells_png
    from av_assets.policies.mining import dump_specs

    events = events_per_clip(work.lake.tables.read("events"))
    cells = ledgers(rows, events, training, policy)
    report, specs = coverage_report(cells, policy)
    (work.out / "coverage.json").write_text(json.dumps(report, sort_keys=True, indent=1), "utf-8")
    if specs:
        (work.out / "next_specs.yaml").write_text(dump_specs(specs), "utf-8")
    for scope, counted in cells.items():
        if counted.num_rows:
            (work.out / f"{scope}.png").write_bytes(coverage_png(counted, policy, scope))
    if (drawn := event_cells_png(rows, events)) is not None:
        (work.out / "event_cells.png").write_bytes(drawn)
    found = scoped(cells)
    day = pa.array([work.partition] * found.num_rows, pa.string())
    work.write_table("coverage", found.add_column(0, "day", day), key="day")
    return "" if found.num_rows else "the catalogue holds no clip"


def _describe_coverage(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    report = json.loads(lake.read_bytes(manifest, "coverage.json"))
    gaps = (
        {**gap, "values": ", ".join(f"{k} {v}" for k, v in gap["values"].items())} for gap in report["gaps"]
    )
    return {
        **{f"pairwise_coverage/{scope}": share for scope, share in report["pairwise"].items()},
        "gaps": len(report["gaps"]),
        "first_gaps": table(list(gaps)[:50]),
        **pictures(lake, manifest, "fleet.png", "training.png", "event_cells.png"),
    }


def _report(lake: Lake, manifest: Manifest) -> list[dict[str, Any]]:
    report: list[dict[str, Any]] = json.loads(lake.read_bytes(manifest, "specs.json"))
    return report


def _of_scope(cells: "pa.Table", scope: str) -> "pa.Table":
    import pyarrow.compute as pc

    return cells.filter(pc.equal(cells["scope"], scope))


def _parquet(lake: Lake, manifest: Manifest, path: str) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pq.read_table(pa.BufferReader(lake.read_bytes(manifest, path)))
