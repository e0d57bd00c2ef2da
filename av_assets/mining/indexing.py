"""How the index of clips is brought up to date, judged, maintained and drawn.

Belongs here: the work behind the assets similarity_index and index_maintenance. Does not belong here: the assets and
their checks (embeddings), LanceDB (resources/vectors.py), any search.
"""

import json
from typing import Any

from av_assets.domain.errors import EvidenceError, TransientError
from av_assets.domain.evidence.digests import sha256_json
from av_assets.gates import require_passed
from av_assets.policies.index import IndexPolicy
from av_assets.production import Work
from resources.lake import Lake

READ = ("clip_embeddings", "scenes", "drive_catalog")
"""What a drive's rows are made from: the first is needed, the others add words and facts."""
DRIVES_AT_ONCE = 100


def contents_of(lake: Lake, drive: str) -> dict[str, str]:
    """asset -> content of what a drive's rows are made from; nothing for a drive without vectors."""
    found = {asset: lake.manifest(asset, drive) for asset in READ}
    embedded = found["clip_embeddings"]
    if embedded is None or embedded.note:
        return {}
    return {asset: manifest.content if manifest else "" for asset, manifest in found.items()}


def update(policy: IndexPolicy, wanted: dict[str, dict[str, str]], work: Work) -> str:
    from resources.vector_members import Members
    from resources.vectors import vectors

    members = Members(vectors(work.lake, policy), {d: sha256_json(digests) for d, digests in wanted.items()})
    with work.watch("write"):
        _write_changed(work, members)
    index = members.chosen()
    if index is None:
        _write_json(work, "members.json", {})
        _write_json(work, "report.json", _NOTHING)
        return "no clip has a vector"
    if index.neglected():
        with work.watch("index"):
            index.tend(keep=_served_version(work.lake, index.name))
    ledger = members.counted(index)
    with work.watch("judge"):
        report = _point(work, policy, index)
    report |= {"written": len(members.changed), "other_model": members.elsewhere(index)}
    held = {d: {**wanted[d], "content": c, "rows": n} for d, (c, n) in sorted(ledger.items())}
    _write_json(work, "members.json", held)
    with work.watch("pictures"):
        report["sheet"] = _draw(work, policy, index)
    _write_json(work, "report.json", report)
    return ""


_NOTHING = {"rows": 0, "queries": 0, "found_themselves": 0, "recall": None, "served_recall": None, "exact": True,
            "other_model": [], "written": 0}  # fmt: skip


def _write_changed(work: Work, members: Any) -> None:
    """The rows of the changed drives, some drives a commit: each costs a file and a version."""
    import pyarrow as pa

    from av_assets.domain.search.rows import index_rows

    for first in range(0, len(members.changed), DRIVES_AT_ONCE):
        batch: dict[tuple[str, str], list[Any]] = {}
        for drive in members.changed[first : first + DRIVES_AT_ONCE]:
            manifests = {asset: work.lake.manifest(asset, drive) for asset in READ}
            embeddings = rows_of(work.lake, manifests["clip_embeddings"], "embeddings")
            clips, scenes = (
                rows_of(work.lake, m, name).to_pylist() if m and m.matching(f"{name}.parquet") else []
                for m, name in ((manifests["drive_catalog"], "clips"), (manifests["scenes"], "scenes"))
            )
            maker = tuple(embeddings[c][0].as_py() for c in ("model_digest", "preproc_digest"))
            rows = index_rows(drive, embeddings, clips, scenes, members.contents[drive])
            batch.setdefault(maker, []).append(rows)
        for maker, tables in batch.items():
            members.write(*maker, pa.concat_tables(tables))


def _point(work: Work, policy: IndexPolicy, index: Any) -> dict[str, Any]:
    """Judge the index, point readers to this version of it, and give the report."""
    from av_assets.domain.search.judging import judge
    from resources.vector_pointer import Pointer

    judged = judge(index, index.sample(policy.sampled_queries, policy.seed), policy.recall_at)
    facts = index.statistics() | judged
    recall = facts["recall"]
    exact = "vector_index" not in facts or (recall is not None and recall < policy.min_recall)
    points_to = Pointer(index.name, index.version, exact)
    (work.out / "pointer.json").write_bytes(points_to.to_json())
    served = 1.0 if exact and recall is not None else recall
    return facts | {"table": index.name, "version": index.version, "exact": exact, "served_recall": served}


def _served_version(lake: Lake, name: str) -> int | None:
    from resources.vector_pointer import pointer

    held = pointer(lake)
    return held.version if held and held.table == name else None


def maintain(policy: IndexPolicy, work: Work) -> str:
    from av_assets.domain.search.judging import judge
    from resources.vector_members import Members
    from resources.vectors import vectors

    held = work.checkout("similarity_index", "*.json")
    if not (held / "pointer.json").is_file():
        _write_json(work, "report.json", {"before": {}, "after": {}})
        return "there is nothing to maintain"
    points_to = json.loads((held / "pointer.json").read_bytes())
    ledger = json.loads((held / "members.json").read_bytes())
    store = vectors(work.lake, policy)
    members = Members(store, {drive: member["content"] for drive, member in ledger.items()})
    index = store.open(points_to["table"])
    if index is None:
        raise EvidenceError("the index is gone", code="index_lost", remedy="materialize similarity_index")
    _require_still(index, ledger)
    before = index.statistics() | judge(
        index, index.sample(policy.sampled_queries, policy.seed), policy.recall_at
    )
    retrain = before["recall"] is not None and before["recall"] < policy.min_recall
    with work.watch("index"):
        index.tend(keep=points_to["version"], retrain=retrain)
    _require_still(index, ledger)
    after = _point(work, policy, index)
    dropped = members.drop_unused(index.name)
    _write_json(
        work, "report.json", {"before": before, "after": after, "retrained": retrain, "dropped": dropped}
    )
    return ""


def _require_still(index: Any, ledger: dict[str, Any]) -> None:
    """The table holds what similarity_index said, or that is at work right now."""
    held, wanted = index.ledger(), {d: (m["content"], m["rows"]) for d, m in ledger.items()}
    if held != wanted:
        raise TransientError(
            f"the index holds {len(held)} drives that are not all as similarity_index left them: {len(wanted)}",
            code="index_is_written",
            remedy="wait for similarity_index, then maintain again",
        )


def _draw(work: Work, policy: IndexPolicy, index: Any) -> list[list[str]]:
    """The map of clips and the sheet of neighbours; gives the clips of the sheet, row by row."""
    from av_assets.domain.search.embedding import vectors_of
    from av_assets.domain.search.pictures import Tile, contact_sheet, projection

    shown = index.sample(policy.projected_clips, policy.seed)
    facts = {name: shown[name].to_pylist() for name in ("light", "weather")}
    (work.out / "projection.png").write_bytes(projection(vectors_of(shown["vector"]), facts))
    sheet = []
    for row in index.sample(policy.sheet_queries, policy.seed).to_pylist():
        near = index.near(row["vector"], 16 * policy.sheet_neighbours)
        sheet.append([{**row, "similarity": 1.0}, *_neighbours(row, near)[: policy.sheet_neighbours]])
    tiles = [[Tile(_title(r), _keyframe(work, r)) for r in line] for line in sheet]
    (work.out / "neighbours.png").write_bytes(contact_sheet(tiles))
    return [[r["clip_id"] for r in line] for line in sheet]


def _neighbours(row: dict[str, Any], near: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a clip, those of other drives first: that a clip looks like the next one of its drive is no news."""
    best: dict[str, dict[str, Any]] = {}
    for other in near:
        if other["clip_id"] != row["clip_id"]:
            best.setdefault(other["clip_id"], other)
    return sorted(best.values(), key=lambda other: other["clip_id"].rsplit("/", 1)[0] == row["drive"])


def _title(row: dict[str, Any]) -> str:
    return f"{row['clip_id']}\n{row['camera']}  {row['similarity']:.3f}"


def _keyframe(work: Work, row: dict[str, Any]) -> Any:
    """The middle redacted frame of the clip's camera; None where the shard is gone or not passed."""
    import pyarrow.parquet as pq

    from av_assets.domain.privacy.frames import frames_from_shard
    from av_assets.domain.search.embedding import keyframes

    drive, number = row["clip_id"].rsplit("/", 1)
    manifest = work.lake.manifest("synced_shards", drive)
    if manifest is None or not manifest.matching(f"clips/{number}.parquet"):
        return None
    try:
        require_passed(work.lake, manifest)
    except EvidenceError:
        return None
    folder = work.folder / "frames" / drive
    path = folder / "clips" / f"{number}.parquet"
    if not path.exists():
        work.lake.checkout(manifest, folder, f"clips/{number}.parquet")
    if row["camera"] not in pq.read_schema(path).names:
        return None
    frames = [f for f in frames_from_shard(pq.read_table(path, columns=[row["camera"]]), row["camera"]) if f]
    return keyframes(frames, 1)[0] if frames else None


def rows_of(lake: Lake, manifest: Any, name: str) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pq.read_table(pa.BufferReader(lake.read_bytes(manifest, f"{name}.parquet")))


def _write_json(work: Work, name: str, value: object) -> None:
    (work.out / name).write_text(json.dumps(value, sort_keys=True), "utf-8")
