"""Workflow 9: labels that a machine proposes, each with its provenance."""

import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import dagster as dg

from av_assets.domain.errors import LabelError
from av_assets.domain.evidence.manifest import Manifest
from av_assets.policies.autolabels import AutolabelPolicy
from av_assets.policies.label_fusion import LabelFusionPolicy
from av_assets.presentation import table
from av_assets.production import Rows, Work, each_drive
from partitions.drives import BATCH, drives
from resources.compute import DETECT
from resources.lake import Lake
from sensors.conditions import on_changed_content

READ = ("synced_shards", "drive_catalog")
SHOWN = {
    "labels": "labels",
    "labels bridged": "bridged",
    "candidates": "candidates",
    "cuboids": "cuboids",
    "tracks": "tracks",
    "labelled frames": "frames",
    "tracked frames": "frames_tracked",
    "labelled is every n-th frame": "every_kth_frame",
    "masks of drivable area": "drivable",
    "camera": "camera",
    "lidar": "lidar",
    "rules": "rules",
    "labeller_digest": "labeller_digest",
    "why there is nothing": "reason",
}
"""What the asset's page shows -> where the report has it, in this order."""


@dg.asset(
    partitions_def=drives,
    deps=[*READ, "pretrained_models"],
    automation_condition=on_changed_content,
    output_required=False,
    backfill_policy=BATCH,
    op_tags=DETECT.tags,
    pool=DETECT.pool,
    code_version="2",
    kinds={"parquet", "onnx"},
)
def auto_labels(context: dg.AssetExecutionContext, lake: Lake) -> Iterator[dg.MaterializeResult]:
    """Workflow 9 of 36: takes synced_shards, drive_catalog and pretrained_models, gives boxes, cuboids, tracks and
    drivable area that lidar and cameras propose together.

    Where the policy names a teacher, its bundle is an input too: another one makes the labels anew.
    """
    from resources.policies import active

    yield from each_drive(
        context,
        lake,
        READ,
        lambda drive: [AutolabelPolicy.load(), active(lake, LabelFusionPolicy)],
        _label,
        _describe,
        shared=["pretrained_models"],
        guarded=["synced_shards"],
        read_rows=partial(_teacher, lake),
    )


def _teacher(lake: Lake, drive: str, inputs: Mapping[str, Manifest]) -> Mapping[str, Rows]:
    """The bundle of the model that teaches, as the policy names it; none where it names none."""
    from resources.policies import active

    release = active(lake, LabelFusionPolicy).teacher
    if not release:
        return {}
    made = lake.manifest("model_bundles", release)
    return {"teacher": [{"release": release, "content": made.content if made else None}]}


def _label(work: Work) -> str:
    from av_assets.domain.labels.automatic.autolabel import Labeller, auto_label_drive
    from av_assets.domain.labels.sensing.camera_objects import detectors_of

    policy, fusion = (work.policies[p.name] for p in (AutolabelPolicy, LabelFusionPolicy))
    assert isinstance(policy, AutolabelPolicy)
    assert isinstance(fusion, LabelFusionPolicy)
    shards = work.checkout("synced_shards", "clips/*", "calibration.json")
    with work.watch("load"):
        models = work.checkout("pretrained_models", "object*")
        detectors = detectors_of(models, _teacher_folder(work), fusion)
    report = auto_label_drive(
        sorted((shards / "clips").glob("*.parquet")),
        json.loads((shards / "calibration.json").read_bytes()),
        Labeller(policy, fusion, detectors, _slices(work)),
        work.out,
        work.watch,
    )
    return str(report["reason"])


def _teacher_folder(work: Work) -> Any:
    """The teacher's bundle as a local folder; None where there is no teacher."""
    named = work.rows.get("teacher")
    if not named:
        return None
    release = str(named[0]["release"])
    made = work.lake.manifest("model_bundles", release)
    if made is None:
        raise LabelError(
            f"no model bundle of the teacher {release}",
            code="no_teacher",
            drive=work.partition,
            remedy="name a release with a model bundle in the label_fusion policy, or none",
        )
    folder = work.folder / "in" / "teacher"
    folder.mkdir(parents=True)
    return work.lake.checkout(made, folder)


def _slices(work: Work) -> Any:
    """Clip -> light and weather, as in "night-rain"; what the catalog does not know is not named."""
    import pyarrow.parquet as pq

    from av_assets.domain.labels.automatic.autolabel import slice_of_clip

    catalog = work.checkout("drive_catalog", "clips.parquet", "drives.parquet")
    clips = pq.read_table(catalog / "clips.parquet", columns=["clip_id", "light"]).to_pylist()
    weather = pq.read_table(catalog / "drives.parquet", columns=["weather"])["weather"].to_pylist()
    names = {c["clip_id"]: slice_of_clip(c["light"], weather[0] if weather else None) for c in clips}
    return lambda clip_id: names.get(clip_id, slice_of_clip(None, None))


def _report(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lake.read_bytes(manifest, "report.json"))
    return found


def _describe(lake: Lake, manifest: Any) -> dict[str, Any]:
    from av_assets.mining.label_pictures import auto_label_pictures

    report = _report(lake, manifest)
    agree = {k: v for k, v in report["self_consistency"].items() if v is not None}
    return {
        **{name: report[key] for name, key in SHOWN.items() if report.get(key) not in (None, "")},
        **{f"self_consistency/{k}": dg.MetadataValue.float(v) for k, v in agree.items()},
        "by_source": table({"source": name, **one} for name, one in report["sources"].items()),
        **auto_label_pictures(lake, manifest),
        "report": dg.MetadataValue.json(report),
    }
