"""What mining and the coverage ledger read from the lake, for the assets and the command line alike.

Belongs here: from tables and bundles to the plain values that domain/mining takes. Does not belong here: any decision
of it, assets.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from av_assets.domain.errors import AvError
from av_assets.domain.evidence.manifest import Manifest
from resources.lake import Lake

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from av_assets.domain.mining.explain import Answer
    from av_assets.domain.mining.pipeline import Evidence, Search, Sifted
    from av_assets.domain.privacy.frames import RedactedFrame
    from av_assets.policies.mining import MiningPolicy, MiningSpec

BUNDLES = ("clip_embeddings", "synced_shards", "auto_labels", "verified_labels")
ROAD_USERS = ("vehicle", "pedestrian")


def table_versions(lake: Lake) -> list[dict[str, Any]]:
    """Which versions of the tables an answer was made from."""
    from av_assets.domain.mining.columns import TABLES

    return [{"table": name, "version": lake.tables.version(name)} for name in TABLES]


def catalogue(lake: Lake, labels: Mapping[str, Manifest] | None = None) -> pa.Table:
    """One row per clip of the whole lake; `labels` (drive -> auto_labels) gives the road users, null without."""
    from av_assets.domain.mining.columns import TABLES, clip_rows

    tables = {name: lake.tables.read(name) for name in TABLES}
    return clip_rows(tables, road_users(lake, labels or {}))


def automatic_labels(lake: Lake) -> dict[str, Manifest]:
    """drive -> its auto_labels."""
    return {
        d: m for d in lake.partitions("auto_labels") if (m := lake.manifest("auto_labels", d)) is not None
    }


def road_users(lake: Lake, labels: Mapping[str, Manifest]) -> dict[str, float]:
    """clip -> mean number of labelled vehicles and pedestrians per labelled frame."""
    boxes: Counter[str] = Counter()
    frames: dict[str, set[int]] = {}
    for manifest in labels.values():
        held = lake.rows_of(manifest, "labels.parquet", ["clip_id", "cls"])
        boxes.update(row["clip_id"] for row in held if row["cls"] in ROAD_USERS)
        for row in lake.rows_of(manifest, "drivable.parquet", ["clip_id", "ref_ns"]):
            frames.setdefault(row["clip_id"], set()).add(row["ref_ns"])
    return {clip: boxes[clip] / len(times) for clip, times in frames.items()}


def training_drives(lake: Lake) -> dict[str, str]:
    """drive -> the first golden dataset that holds it, and in which split. No split may be labelled again."""
    held: dict[str, str] = {}
    for week in lake.partitions("golden_slices"):
        dataset = json.loads(lake.read_bytes(lake.require("golden_slices", week), "dataset.json"))
        for member in dataset["members"]:
            held.setdefault(member["drive"], f"golden_slices/{week}, split {member['split']}")
    return held


def uses_road_users(specs: Iterable[MiningSpec]) -> bool:
    """Whether a spec asks for what only the labels of all drives can tell."""
    return any(
        "road_users" in where
        for spec in specs
        for where in (spec.where, *(q.where for q in spec.quotas.values()))
    )


def sift_all(
    lake: Lake, specs: Sequence[MiningSpec], rows: pa.Table, training: Mapping[str, str]
) -> list[Sifted]:
    from av_assets.domain.mining.pipeline import sift

    text, sequence = _text_search(lake), _sequence_search(lake, rows)
    return [sift(spec, rows, text, sequence, training) for spec in specs]


def bundles_of(lake: Lake, sifted: Sequence[Sifted]) -> dict[str, Manifest]:
    """The bundles with pictures' figures of the drives that passed, and of the clips that specs name, by name."""
    drives = {drive for one in sifted for drive in one.rows["drive"].to_pylist()}
    drives |= {one.spec.like.rpartition("/")[0] for one in sifted if one.spec.like}
    found = {f"{asset}/{d}": lake.manifest(asset, d) for d in sorted(drives - {""}) for asset in BUNDLES}
    return {name: manifest for name, manifest in found.items() if manifest is not None}


def evidence_of(lake: Lake, inputs: Mapping[str, Manifest], policy: MiningPolicy) -> Evidence:
    """Vectors, label scores and disagreement of the clips of these bundles; hashes when they are asked for."""
    from av_assets.domain.mining.pipeline import Evidence

    scores: dict[str, list[float]] = {}
    disagreement: dict[str, float] = {}
    for manifest in _of(inputs, "auto_labels").values():
        automatic = lake.rows_of(manifest, "labels.parquet", ["clip_id", "score"])
        for row in automatic:
            scores.setdefault(row["clip_id"], []).append(float(row["score"]))
        verified = inputs.get(f"verified_labels/{manifest.partition}")
        if verified is not None:
            disagreement |= _disagreement(
                automatic, lake.rows_of(verified, "labels.parquet", ["clip_id", "status"])
            )
    noted = _noted_hashes(lake, inputs, policy)
    known: dict[str, list[int]] = {}

    def hashes(clips: Sequence[str]) -> Mapping[str, Sequence[int]]:
        from av_assets.domain.mining.dhash import frame_hash

        for clip in clips:
            if clip in known:
                continue
            known[clip] = noted.get(_shard_of(inputs, clip), [])
            if not known[clip]:
                known[clip] = [
                    frame_hash(f) for f in frames_of(lake, inputs, clip, policy.camera, policy.keyframes)
                ]
        return {clip: known[clip] for clip in clips if known[clip]}

    return Evidence(vectors_of(lake, inputs, policy.camera), hashes, scores, disagreement)


def frames_of(
    lake: Lake, inputs: Mapping[str, Manifest], clip: str, camera: str, count: int
) -> list[RedactedFrame]:
    """Keyframes of a clip; none where it has no such camera."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from av_assets.domain.privacy.frames import frames_from_shard
    from av_assets.domain.search.embedding import keyframes

    drive, _, number = clip.rpartition("/")
    shards, path = inputs.get(f"synced_shards/{drive}"), f"clips/{number}.parquet"
    if shards is None or not shards.holds(path):
        return []
    with pq.ParquetFile(pa.BufferReader(lake.read_bytes(shards, path))) as source:
        if camera not in source.schema_arrow.names:
            return []
        frames = [f for f in frames_from_shard(source.read(columns=[camera]), camera) if f is not None]
    return keyframes(frames, count)


def why_not(lake: Lake, subject: str, asked: str, day: str | None) -> list[Answer]:
    """Why a drive or clip is (not) in `scenario_candidates`, in one spec of it, or in `golden_slices`.

    Raises:
        AvError: no_such_set, no_such_day, no_such_subject.
    """
    if asked == "golden_slices":
        return [_why_not_golden(lake, subject, day)]
    import pyarrow.parquet as pq

    from av_assets.domain.mining import explain

    newest = _newest(lake, "scenario_candidates", day)
    import pyarrow as pa

    rows = pq.read_table(pa.BufferReader(lake.read_bytes(newest, "funnel.parquet"))).to_pylist()
    specs = sorted({row["spec"] for row in rows})
    if asked not in ("scenario_candidates", *specs):
        gaps = [spec for spec in specs if spec.startswith("gap-")]
        known = ", ".join(["scenario_candidates", "golden_slices", *(s for s in specs if s not in gaps)])
        known += f" and {len(gaps)} gap specs" if gaps else ""
        raise AvError(f"there is no set {asked}", code="no_such_set", remedy=f"choose from {known}")
    answers = explain.why_not(subject, [r for r in rows if asked in ("scenario_candidates", r["spec"])])
    if not answers:
        raise AvError(
            f"{subject} was not in the catalogue when {newest.partition} was mined",
            code="no_such_subject",
            remedy="name a drive or a clip id, e.g. veh001-20250601t080000z/00003",
        )
    return answers


def _why_not_golden(lake: Lake, subject: str, week: str | None) -> Answer:
    from av_assets.domain.mining.membership import DriveFacts, why_not_member
    from resources import quarantine

    frozen = _newest(lake, "golden_slices", week)
    drive = subject.partition("/")[0]
    catalog = lake.tables.read("drives", [("drive", "=", drive)])
    rows = catalog.to_pylist() if catalog is not None else []
    labels = lake.manifest("verified_labels", drive)
    aside = next((row for row in quarantine.listing(lake) if row["drive"] == drive), None)
    note = None if labels is None else labels.note if labels.note or labels.files else "no files"
    facts = DriveFacts(
        rows[0]["start_ns"] if rows else None,
        note,
        f"{aside['stage']}: {aside['code']}: {aside['reason']}" if aside else None,
    )
    dataset = json.loads(lake.read_bytes(frozen, "dataset.json"))
    start_ns = int(datetime.fromisoformat(dataset["week"]).replace(tzinfo=UTC).timestamp()) * 10**9
    return why_not_member(subject, drive, dataset, start_ns, facts)


def _newest(lake: Lake, asset: str, partition: str | None) -> Manifest:
    there = lake.partitions(asset)
    chosen = partition or (there[-1] if there else None)
    if chosen is None or chosen not in there:
        what = f"{asset}/{partition}" if partition else asset
        remedy = f"there are {', '.join(there[-5:])}" if there else f"materialize {asset} first"
        raise AvError(f"{what} was not materialized", code="no_such_day", remedy=remedy)
    return lake.require(asset, chosen)


def _text_search(lake: Lake) -> Search:
    from av_assets.domain.mining.text import matching_clips

    def search(words: str) -> Sequence[str]:
        scenes = lake.tables.read("scenes")
        if scenes is None:
            raise AvError(
                "there are no scenes to read", code="no_scenes", remedy="materialize the scenes first"
            )
        rows = scenes.select(["clip_ids", "description"]).to_pylist()
        texts = [(clip, row["description"] or "") for row in rows for clip in row["clip_ids"] or ()]
        return matching_clips(texts, words)

    return search


def _sequence_search(lake: Lake, rows: pa.Table) -> Search:
    def search(expression: str) -> Sequence[str]:
        from av_assets.domain.sequences.search import TABLES, find
        from av_assets.policies.scenes import ScenesPolicy

        policy = ScenesPolicy.load()
        with lake.tables.connect(*TABLES) as connection:
            found = find(connection, expression, policy, limit=policy.search.max_matches)
        windows: dict[str, list[tuple[int, int]]] = {}
        for match in found.matches:
            windows.setdefault(match.drive, []).append((match.start_ns, match.end_ns))
        clips = rows.select(["clip_id", "drive", "start_ns", "end_ns"]).to_pylist()
        return [
            clip["clip_id"]
            for clip in clips
            if any(a <= clip["end_ns"] and b >= clip["start_ns"] for a, b in windows.get(clip["drive"], ()))
        ]

    return search


def _noted_hashes(lake: Lake, inputs: Mapping[str, Manifest], policy: MiningPolicy) -> dict[str, list[int]]:
    """sha256 of a clip's file -> hashes of its keyframes, where the embedding looked at as many as the policy asks."""
    from av_assets.domain.search.keyframe_hashes import HASHES_FILE, keyframe_hashes
    from av_assets.mining.gathering import read

    found: dict[str, list[int]] = {}
    for made in _of(inputs, "clip_embeddings").values():
        rows = read(lake, made, HASHES_FILE)
        found |= keyframe_hashes(rows, policy.camera, policy.keyframes) if rows is not None else {}
    return found


def _shard_of(inputs: Mapping[str, Manifest], clip: str) -> str:
    """sha256 of the clip's file; empty where it has none."""
    drive, _, number = clip.rpartition("/")
    shards = inputs.get(f"synced_shards/{drive}")
    found = shards.matching(f"clips/{number}.parquet") if shards is not None else ()
    return found[0].sha256 if found else ""


def vectors_of(lake: Lake, inputs: Mapping[str, Manifest], camera: str) -> dict[str, np.ndarray]:
    """clip -> vector of the camera, by the maker that made most: vectors of two makers cannot be compared."""
    import numpy as np

    rows = [
        row
        for manifest in _of(inputs, "clip_embeddings").values()
        for row in lake.rows_of(manifest, "embeddings.parquet", None)
        if row["camera"] == camera
    ]
    makers = Counter((row["model_digest"], row["preproc_digest"]) for row in rows)
    if not makers:
        return {}
    maker = min(makers, key=lambda m: (-makers[m], m))
    return {
        row["clip_id"]: np.asarray(row["embedding"], np.float32)
        for row in rows
        if (row["model_digest"], row["preproc_digest"]) == maker
    }


def _disagreement(
    automatic: Sequence[Mapping[str, Any]], verified: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    from av_assets.domain.mining.ranking import disagreement

    given = Counter(row["clip_id"] for row in automatic)
    by_status = Counter((row["clip_id"], row["status"]) for row in verified)
    found = {}
    for clip in given.keys() | {row["clip_id"] for row in verified}:
        accepted, corrected, added = (by_status[clip, s] for s in ("accepted", "corrected", "added"))
        matched = accepted + corrected
        value = disagreement(given[clip], matched + added, matched, accepted)
        if value is not None:
            found[clip] = value
    return found


def _of(inputs: Mapping[str, Manifest], asset: str) -> dict[str, Manifest]:
    return {name: manifest for name, manifest in inputs.items() if manifest.asset == asset}
