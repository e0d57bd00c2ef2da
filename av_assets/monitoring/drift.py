"""Workflow 25: do new drives still look like the data that the model learnt from?"""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from av_assets.domain.evidence.manifest import Manifest
from av_assets.policies.drift import DriftPolicy
from av_assets.presentation import pictures, table
from av_assets.production import Work, bundle_metadata, code_version, lineage, produce
from partitions.calendar import days
from resources.compute import CPU
from resources.lake import Lake
from sensors.conditions import every_morning

if TYPE_CHECKING:
    import pyarrow as pa

SEED = 25
NEWEST_DRIVES = 50  # a day's report looks at the newest drives that the reference does not hold


@dg.asset(
    partitions_def=days,
    deps=[
        dg.AssetDep(name, partition_mapping=dg.AllPartitionMapping())
        for name in ("drift_baselines", "synced_shards", "auto_labels", "clip_embeddings")
    ],
    automation_condition=every_morning,
    op_tags=CPU.tags,
    pool=CPU.pool,
    code_version="2",
    kinds={"evidently"},
)
def drift_reports(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """Workflow 25 of 36: takes new drives and drift_baselines, gives PSI per feature and an Evidently page."""
    started = time.time_ns()
    weeks = lake.partitions("drift_baselines")
    if not weeks:
        raise dg.Failure("there is no golden dataset to compare with: freeze one first", allow_retries=False)
    baseline = lake.require("drift_baselines", weeks[-1])
    known = set(json.loads(lake.read_bytes(baseline, "reference.json"))["drives"])
    newest = [d for d in _with_pictures(lake) if d not in known][-NEWEST_DRIVES:]
    inputs = {"drift_baselines": baseline} | {
        f"{asset}/{d}": lake.require(asset, d)
        for d in newest
        for asset in ("synced_shards", "auto_labels", "clip_embeddings")
    }
    made_from = lineage(list(inputs.values()), code_version(context), [DriftPolicy.load()])
    made = produce(
        lake, "drift_reports", context.partition_key, made_from, inputs, lambda work: _measure(work, newest)
    )
    return dg.MaterializeResult(
        metadata=bundle_metadata(made, started) | _describe(lake, made.manifest),
        data_version=dg.DataVersion(made.manifest.content),
    )


@dg.asset_check(asset=drift_reports)
def drift_reports_raise_no_alarm(context: dg.AssetCheckExecutionContext, lake: Lake) -> dg.AssetCheckResult:
    """No feature of the new drives has moved away from the golden dataset's."""
    report = json.loads(lake.read_bytes(lake.require("drift_reports", context.partition_key), "report.json"))
    return dg.AssetCheckResult(
        passed=report["state"] != "alarm",
        metadata={"state": report["state"], "drives": report["current_drives"]},
    )


def _with_pictures(lake: Lake) -> list[str]:
    """Drives with embeddings, oldest first."""
    catalog = lake.tables.read("drives")
    rows = [] if catalog is None else catalog.select(["drive", "start_ns"]).to_pylist()
    embedded = {d for d in lake.partitions("clip_embeddings") if not lake.require("clip_embeddings", d).note}
    labelled = set(lake.partitions("auto_labels"))
    return [
        r["drive"]
        for r in sorted(rows, key=lambda r: (r["start_ns"], r["drive"]))
        if r["drive"] in embedded & labelled
    ]


def _measure(work: Work, newest: list[str]) -> str:
    import pyarrow.parquet as pq

    from av_assets.domain.monitoring.drift import drift_report
    from av_assets.domain.monitoring.evidently_page import render_evidently
    from av_assets.domain.monitoring.features import drive_features
    from av_assets.domain.monitoring.pictures import drift_png

    policy, reference = DriftPolicy.load(), work.checkout("drift_baselines")
    baseline = json.loads((reference / "reference.json").read_bytes())
    current: dict[str, pa.Table] = {}
    for drive in newest:
        folder = work.folder / "current" / drive
        for asset in ("synced_shards", "auto_labels", "clip_embeddings"):
            work.lake.checkout(work.inputs[f"{asset}/{drive}"], folder / asset)
        current[drive] = drive_features(
            sorted((folder / "synced_shards" / "clips").glob("*.parquet")),
            policy,
            _if_file(folder / "auto_labels" / "labels.parquet"),
            folder / "clip_embeddings" / "embeddings.parquet",
        )
    report = drift_report(baseline, current, policy, SEED)
    found = {**report.to_json(), "current_drives": sorted(current)}
    (work.out / "report.json").write_text(json.dumps(found, sort_keys=True))
    (work.out / "drift.png").write_bytes(drift_png(report))
    if current:
        frozen = pq.read_table(reference / "features.parquet")
        render_evidently(_frame([frozen]), _frame(list(current.values())), work.out / "evidently.html")
    return "" if current else "no drive is newer than the golden dataset"


def _frame(tables: list["pa.Table"]) -> Any:
    import pyarrow as pa

    rows = pa.concat_tables(tables)
    return rows.drop_columns(
        [c for c in ("drive", "clip_id", "ref_ns", "embedding") if c in rows.column_names]
    ).to_pandas()


def _if_file(path: Path) -> Path | None:
    return path if path.is_file() else None


def _describe(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    report = json.loads(lake.read_bytes(manifest, "report.json"))
    rows = ({k: str(f[k]) for k in ("feature", "state", "psi", "p")} for f in report["features"])
    return {
        "state": report["state"],
        "new_drives": len(report["current_drives"]),
        "features": table(rows),
        **pictures(lake, manifest, "drift.png"),
    }
