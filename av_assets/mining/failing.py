"""What the search for hard cases reads from the lake, for the asset and the command line alike.

Belongs here: from bundles and tables to the plain values that domain/failures takes. Does not belong here: any decision
of it, assets, what is written (failure_files).
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from av_assets.domain.errors import AvError
from av_assets.domain.evidence.digests import sha256_json
from av_assets.domain.evidence.manifest import Manifest
from av_assets.mining import pools
from av_assets.mining.pool import ASSET
from resources.lake import Lake
from resources.production_models import facts_of

if TYPE_CHECKING:
    import numpy as np

    from av_assets.domain.failures.doubt import Seen
    from av_assets.domain.failures.finding import DriveEvidence
    from av_assets.domain.privacy.frames import RedactedFrame

READ = ("synced_shards", "verified_labels", "auto_labels", "clip_embeddings")
Frame = tuple[str, int]


@dataclass(frozen=True)
class Pool:
    """The drives that a model has looked at.

    Attributes:
        predictions: drive -> its predictions by this model.
        left_out: drive -> why its predictions do not count.
        inputs: all bundles that are read, by name.
    """

    model: Manifest
    predictions: Mapping[str, Manifest]
    left_out: Mapping[str, str]
    inputs: Mapping[str, Manifest]

    @classmethod
    def of(cls, lake: Lake, model: Manifest) -> "Pool":
        wanted, good, bad = sha256_json(facts_of(model)), {}, {}
        for drive in lake.partitions(ASSET):
            made, shards = lake.require(ASSET, drive), lake.manifest("synced_shards", drive)
            if made.made_from.rows.get("production_model") != wanted:
                bad[drive] = "predicted by another model"
            elif shards is None or made.made_from.inputs.get(f"synced_shards/{drive}") != shards.digest:
                bad[drive] = "predicted from other shards than there are now"
            else:
                good[drive] = made
        inputs = {f"{ASSET}/{drive}": made for drive, made in good.items()}
        for drive in good:
            found = {f"{asset}/{drive}": lake.manifest(asset, drive) for asset in READ}
            inputs |= {name: made for name, made in found.items() if made is not None}
        for week in lake.partitions("golden_slices"):
            inputs[f"golden_slices/{week}"] = lake.require("golden_slices", week)
        return cls(model, good, bad, inputs)

    def bundle(self, asset: str, drive: str) -> Manifest | None:
        return self.inputs.get(f"{asset}/{drive}")

    @property
    def camera(self) -> str:
        from av_assets.policies.inference import InferencePolicy

        return InferencePolicy.load().camera


def evidence(lake: Lake, pool: Pool) -> "Iterator[DriveEvidence]":
    """Drive after drive, by name: only one is in memory at a time."""
    from av_assets.domain.failures.finding import DriveEvidence

    trained = trained_frames(lake, pool)
    for drive, made in sorted(pool.predictions.items()):
        yield DriveEvidence(
            drive,
            _seen(lake, made),
            frozenset(trained.get(drive, ())),
            _labelled(lake, pool, drive),
            _others(lake, pool, drive),
        )


def classes_of(lake: Lake, pool: Pool) -> tuple[str, ...]:
    """Of the model; all its predictions have the same."""
    return tuple(json.loads(lake.read_bytes(pool.model, "inference_config.json"))["classes"])


def trained_frames(lake: Lake, pool: Pool) -> dict[str, set[Frame]]:
    """drive -> frames that a golden dataset teaches with."""
    found: dict[str, set[Frame]] = defaultdict(set)
    for made in pool.inputs.values():
        if made.asset == "golden_slices" and made.matching("index.parquet"):
            for row in lake.rows_of(made, "index.parquet"):
                if row["split"] == "train":
                    found[row["drive"]].add((row["clip_id"], row["ref_ns"]))
    return found


def _seen(lake: Lake, made: Manifest, which: str = "predictions/*") -> "dict[Frame, Seen]":
    import numpy as np
    import pyarrow as pa

    from av_assets.domain.failures.doubt import Seen
    from av_assets.domain.inference.rows import read_rows as predictions

    found = {}
    for entry in made.matching(which):
        for row in predictions(pa.BufferReader(lake.read_bytes(made, entry.path)), entry.path):
            if row["reason"] is None:
                found[row["clip_id"], row["ref_ns"]] = Seen(
                    row["ref_ns"],
                    np.array(row["boxes"], np.float32).reshape(-1, 4),
                    np.array(row["scores"], np.float32),
                    np.array(row["classes"], np.int64),
                )
    return found


def _labelled(lake: Lake, pool: Pool, drive: str) -> dict[Frame, list[Mapping[str, Any]]]:
    """Objects of the frames that people are done with."""
    made = pool.bundle("verified_labels", drive)
    if made is None or not made.matching("frames.parquet"):
        return {}
    frames = lake.rows_of(made, "frames.parquet")
    done: dict[Frame, list[Mapping[str, Any]]] = {
        (row["clip_id"], row["ref_ns"]): []
        for row in frames
        if row["state"] == "final" and row["camera"] == pool.camera
    }
    return _filled(done, lake.rows_of(made, "labels.parquet"), pool.camera)


def _others(lake: Lake, pool: Pool, drive: str) -> dict[Frame, list[Mapping[str, Any]]]:
    """Boxes of the automatic labels, of the frames that they looked at."""
    made = pool.bundle("auto_labels", drive)
    if made is None or not made.matching("drivable.parquet"):
        return {}
    looked = lake.rows_of(made, "drivable.parquet")
    frames = {(row["clip_id"], row["ref_ns"]): [] for row in looked if row["camera"] == pool.camera}
    return _filled(frames, lake.rows_of(made, "labels.parquet"), pool.camera)


def _filled(
    frames: dict[Frame, list[Mapping[str, Any]]], rows: Sequence[Mapping[str, Any]], camera: str
) -> dict[Frame, list[Mapping[str, Any]]]:
    for row in rows:
        key = (row["clip_id"], row["ref_ns"])
        if row["camera"] == camera and key in frames and row["x1"] is not None:
            frames[key].append(row)
    return frames


def context(lake: Lake, clips: Sequence[str]) -> dict[str, set[str]]:
    """clip -> tags of the catalogue, of all these clips; no tags where the catalogue does not know one."""
    from av_assets.domain.failures.cases import context_tags

    wanted = set(clips)
    rows = (row for row in pools.catalogue(lake).to_pylist() if row["clip_id"] in wanted)
    return {clip: set[str]() for clip in clips} | {row["clip_id"]: context_tags(row) for row in rows}


def vectors(lake: Lake, pool: Pool) -> "dict[str, np.ndarray]":
    """clip -> picture vector of the camera."""
    from av_assets.mining.pools import vectors_of

    return vectors_of(lake, pool.inputs, pool.camera)


def frame_at(lake: Lake, pool: Pool, clip: str, ref_ns: int) -> "RedactedFrame | None":
    """The picture of one frame; None where the clip has no such camera, row or picture."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from av_assets.domain.privacy.frames import frames_from_shard

    drive, _, number = clip.rpartition("/")
    shards, path = pool.bundle("synced_shards", drive), f"clips/{number}.parquet"
    if shards is None or not shards.matching(path):
        return None
    with pq.ParquetFile(pa.BufferReader(lake.read_bytes(shards, path))) as source:
        if pool.camera not in source.schema_arrow.names:
            return None
        table = source.read(columns=["ref_ns", pool.camera])
    chosen = table.filter(pc.equal(table["ref_ns"], ref_ns))
    return next(frames_from_shard(chosen, pool.camera), None) if chosen.num_rows else None


def shown_boxes(
    lake: Lake,
    pool: Pool,
    frame: Frame,
    classes: Sequence[str],
    errors: Sequence[Mapping[str, Any]],
    least: float,
) -> list[dict[str, Any]]:
    """Boxes to draw in one frame: sure detections, and dashed what was missed."""
    made = pool.predictions[frame[0].rpartition("/")[0]]
    seen = _seen(lake, made, f"predictions/{frame[0].rpartition('/')[2]}.parquet").get(frame)
    rows: list[dict[str, Any]] = []
    if seen is not None:
        sure = seen.sure(least)
        for box, score, cls in zip(
            sure.boxes.tolist(), sure.scores.tolist(), sure.classes.tolist(), strict=True
        ):
            corners = dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))
            rows.append({"cls": classes[cls], "score": score, **corners})
    missed = [row for row in errors if (row["clip_id"], row["ref_ns"]) == frame and row["kind"] == "missed"]
    return rows + [{**row, "state": "bridged", "score": None} for row in missed]


def newest(lake: Lake, day: str | None) -> Manifest:
    """The buckets of a day, or of the newest one.

    Raises:
        AvError: no_such_day.
    """
    there = lake.partitions("failure_buckets")
    chosen = day or (there[-1] if there else None)
    if chosen is None or chosen not in there:
        remedy = f"there are {', '.join(there[-5:])}" if there else "av request failure_buckets DAY"
        raise AvError("there are no such failure buckets", code="no_such_day", remedy=remedy)
    return lake.require("failure_buckets", chosen)
