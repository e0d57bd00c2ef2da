"""Workflow 12, first half: the production model over everything that was recorded."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from av_assets.domain.errors import AvError, EvidenceError, ModelError, TransientError
from av_assets.domain.evidence.manifest import Manifest
from av_assets.gates import checked_drives
from av_assets.policies.inference import InferencePolicy
from av_assets.presentation import picture, table
from av_assets.production import Rows, Work, code_version, each_drive, environment_digest
from partitions.drives import BATCH, drives
from resources.compute import DETECT
from resources.lake import Lake
from resources.production_models import facts_of, production_model, require_production_model

if TYPE_CHECKING:
    from av_assets.domain.inference.ledger import Entry, Ledger, Origin
    from av_assets.domain.inference.predicting import Predictor

ASSET = "pool_predictions"
CALIBRATION = "calibration.json"
_BAD_MODEL = "pack the model again, or put another one into production"


@dg.asset(
    partitions_def=drives,
    deps=[
        "synced_shards",
        *(
            dg.AssetDep(name, partition_mapping=dg.AllPartitionMapping())
            for name in ("model_bundles", "eval_reports")
        ),
    ],
    output_required=False,
    backfill_policy=BATCH,
    op_tags=DETECT.tags,
    pool=DETECT.pool,
    code_version="2",
    kinds={"parquet", "onnx"},
)
def pool_predictions(context: dg.AssetExecutionContext, lake: Lake) -> Iterator[dg.MaterializeResult]:
    """Workflow 12 of 36: takes synced_shards and the production model, gives what the model sees in every frame, shard
    by shard, and a ledger of the shards.

    Which drives are predicted again, and when, says sensors/pool.py. A drive with a shard that cannot be read is
    partial: the others are done, and who makes it again makes only what is missing.
    """
    policy = InferencePolicy.load()
    run = PoolRun(lake, policy, code_version(context))
    yield from each_drive(
        context,
        lake,
        ["synced_shards"],
        [policy],
        run.predict,
        partial(describe, run),
        guarded=["synced_shards"],
        read_rows=run.depends_on,
    )


@dg.asset_check(asset=pool_predictions)
def pool_predictions_cover_every_shard(
    context: dg.AssetCheckExecutionContext, lake: Lake
) -> dg.AssetCheckResult:
    """Every shard of each drive of the run was predicted from the bytes that it has now, and no file was lost."""
    rows = [row for drive in checked_drives(context) for row in uncovered(lake, drive)]
    return dg.AssetCheckResult(passed=not rows, metadata={"uncovered": table(rows)})


def uncovered(lake: Lake, drive: str) -> list[dict[str, str]]:
    """Shards of the drive without whole predictions, each with the reason; none where nothing was predicted yet."""
    made, shards = lake.manifest(ASSET, drive), lake.manifest("synced_shards", drive)
    if made is None or shards is None:
        return []
    entries = {entry.shard: entry for entry in ledger_of(lake, made).entries}
    files = {entry.path: entry.sha256 for entry in made.files}
    found = []
    for shard in shards.matching("clips/*"):
        entry = entries.get(shard.path)
        if entry is None or entry.sha256 != shard.sha256:
            reason = "it has changed since" if entry else "it is not in the ledger"
        elif entry.status != "done":
            reason = f"{entry.code}: {entry.reason}"
        elif files.get(entry.output) != entry.output_sha256:
            reason = "its predictions are not those of the ledger"
        else:
            continue
        found.append({"drive": drive, "shard": shard.path, "reason": reason})
    return found


def ledger_of(lake: Lake, made: Manifest) -> "Ledger":
    from av_assets.domain.inference.ledger import LEDGER_FILE, Ledger

    return Ledger.from_json(
        lake.read_bytes(made, LEDGER_FILE), f"{made.asset}/{made.partition}/{LEDGER_FILE}"
    )


@dataclass
class PoolRun:
    """One run over some drives: the model is loaded once.

    Attributes:
        code: version of the asset's code, part of what predictions are made from.
        pictures: drive -> where its time went; times are no part of a bundle.
    """

    lake: Lake
    policy: InferencePolicy
    code: str
    pictures: dict[str, bytes] = field(default_factory=dict)
    _loaded: dict[str, "Predictor"] = field(default_factory=dict)
    _partial: dict[str, Rows] = field(default_factory=dict)

    def depends_on(self, drive: str, inputs: Mapping[str, Manifest]) -> Mapping[str, Rows]:
        """The model, and a bundle that is partial: it is not what the drive is to be left with."""
        if drive not in self._partial:
            made = self.lake.manifest(ASSET, drive)
            whole = made is None or not is_partial(made)
            self._partial[drive] = [] if whole or made is None else [{"partial": made.digest}]
        found: dict[str, Rows] = {"production_model": facts_of(production_model(self.lake))}
        return found | ({"partial": self._partial[drive]} if self._partial[drive] else {})

    def predict(self, work: Work) -> str:
        """What the asset makes; a model that is no good is no fault of the drive, and quarantines none."""
        try:
            return self._predict(work)
        except ModelError as error:
            raise AvError(error.reason, code=error.code, file=error.file, remedy=_BAD_MODEL) from error

    def _predict(self, work: Work) -> str:
        from av_assets.domain.inference.ledger import totals
        from av_assets.domain.inference.pace import bottleneck_png, progress
        from av_assets.domain.inference.predicting import predict_drive
        from av_assets.domain.loading.sources import FolderSource, ShardRef

        with work.watch("load"):
            predictor, model = self._predictor(work)
        shards = work.inputs["synced_shards"]
        refs = [ShardRef(f.sha256, f.bytes, f.path) for f in shards.matching("clips/*")]
        root, origin = self._lay_out(work, shards), self._origin(model, shards)
        known = self._known(work, {origin.key(ref.sha256): ref.path for ref in refs})
        started = time.perf_counter()
        ledger = predict_drive(
            sorted(refs, key=lambda ref: ref.path),
            FolderSource(root, "sha256"),
            json.loads(work.lake.read_bytes(shards, CALIBRATION)),
            predictor,
            origin,
            work.out,
            work.segments,
            known,
            work.watch,
        )
        new = totals(entry for entry in ledger.entries if entry.key not in known)
        found = progress(
            float(new["span_s"]) if new["predicted"] else 0.0,
            time.perf_counter() - started,
            work.watch.seconds,
            self.policy.bottleneck_share,
        )
        work.facts.update(pace_facts(found.to_json()) | {"frames_predicted_now": new["predicted"]})
        self.pictures[work.partition] = bottleneck_png(found, work.partition)
        return ledger.note()

    def _predictor(self, work: Work) -> "tuple[Predictor, Manifest]":
        """The production model that the bundle is to be made from, loaded once per run."""
        from av_assets.domain.inference.predicting import Predictor
        from av_assets.domain.inference.seeing import look_of
        from av_assets.domain.models.runtime import OnnxPerception

        model = require_production_model(self.lake)
        if list(work.rows["production_model"]) != facts_of(model):
            raise TransientError("another model went into production meanwhile", code="model_changed")
        if model.content not in self._loaded:
            folder = work.folder / "in" / "model"
            folder.mkdir(parents=True)
            loaded = OnnxPerception(self.lake.checkout(model, folder), self.policy.num_threads)
            see = look_of(loaded.config, self.policy.camera, self.policy.lidars, self.policy.radars)
            streams = self.policy.streams or max(1, (os.cpu_count() or 1) // self.policy.num_threads)
            self._loaded = {model.content: Predictor(loaded, self.policy, see, streams)}
        return self._loaded[model.content], model

    def _origin(self, model: Manifest, shards: Manifest) -> "Origin":
        from av_assets.domain.inference.ledger import Origin

        return Origin(
            release=model.partition,
            model=model.content,
            calibration=shards.entry(CALIBRATION).sha256,
            code_version=self.code,
            policy=self.policy.digest,
            environment=environment_digest(),
        )

    def _lay_out(self, work: Work, shards: Manifest) -> Path:
        """The shards as files. One that the lake has lost stays away: reading it says so, and the others go on."""
        root = work.folder / "in" / "shards"
        root.mkdir(parents=True)
        with work.watch("read"):
            for entry in shards.matching("clips/*"):
                try:
                    work.lake.checkout(shards, root, entry.path)
                except EvidenceError:
                    (root / entry.path).unlink(missing_ok=True)
        return root

    def _known(self, work: Work, wanted: Mapping[str, str]) -> "dict[str, Entry]":
        """Outputs of the bundle before this one that are still right, linked into the new one (key -> shard)."""
        from av_assets.domain.inference.predicting import output_of

        before = work.lake.manifest(ASSET, work.partition)
        if before is None:
            return {}
        held, files = ledger_of(work.lake, before).reusable(), {entry.path: entry for entry in before.files}
        good = {}
        for key, shard in wanted.items():
            entry = held.get(key)
            file = files.get(entry.output) if entry else None
            if entry and file and file.sha256 == entry.output_sha256 and work.lake.holds(file):
                good[key] = entry
                work.links.append(file.model_copy(update={"path": output_of(shard)}))
        return good


def is_partial(made: Manifest) -> bool:
    from av_assets.domain.inference.ledger import PARTIAL

    return made.note.startswith(f"{PARTIAL}:")


def pace_facts(found: Mapping[str, Any]) -> dict[str, Any]:
    """Figures that differ from run to run: the catalog shows them, the bundle does not hold them."""
    seconds = {f"pace/{name}_s": value for name, value in found["seconds"].items()}
    realtime = {} if found["realtime"] is None else {"pace/x_realtime": found["realtime"]}
    return {
        **realtime,
        **seconds,
        "pace/wall_s": found["wall_s"],
        "pace/bottleneck": found["bottleneck"] or "none",
    }


def describe(run: PoolRun, lake: Lake, manifest: Manifest) -> dict[str, Any]:
    from av_assets.domain.inference.ledger import totals

    ledger = ledger_of(lake, manifest)
    counted = totals(ledger.entries)
    shown = ("shard", "status", "frames", "predicted", "unreadable", "boxes", "reason")
    drawn = run.pictures.pop(manifest.partition, None)
    return {
        "dagster/row_count": int(counted["frames"]),
        "model": ledger.release,
        **{
            name: counted[name]
            for name in ("shards", "done", "damaged", "failed", "predicted", "boxes", "span_s")
        },
        "ledger": table({name: str(getattr(entry, name)) for name in shown} for entry in ledger.entries),
        **({} if drawn is None else {"bottleneck": picture(drawn)}),
    }
