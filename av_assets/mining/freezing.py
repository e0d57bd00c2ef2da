"""How a golden dataset is frozen: by reference to bundles that are there, after its leaks were judged.

Nothing large is copied or hashed again: clips, calibrations and labels are links to the objects of their own bundles.
Only where single frames are left out are a drive's labels written anew, without them.
Belongs here: the steps of freezing. Does not belong here: reading bundles (gathering), the plan, the asset.
"""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from av_assets.domain.evidence.digests import sha256_file
from av_assets.mining.gathering import (
    HASHES_FILE,
    REQUIRED,
    ClipHash,
    Gathered,
    cell_of,
    gather,
    hash_table,
    hashes_of,
    monday_of,
    read,
)
from av_assets.production import Work
from resources.lake import Lake

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pyarrow as pa

    from av_assets.domain.datasets.golden import GoldenPlan
    from av_assets.domain.datasets.leakage import Found, LeakKind
    from av_assets.domain.datasets.members import MemberInfo, Split
    from av_assets.domain.datasets.verdicts import Verdict
    from av_assets.policies.golden import GoldenPolicy

INDEX_FILE, LEAKS_FILE, SHEET_FILE, CROISSANT_FILE = (
    "index.parquet",
    "leaks.json",
    "datasheet.md",
    "croissant.json",
)
_FRAME = ("clip_id", "ref_ns", "camera")
_LABEL_FILES = ("labels.parquet", "drivable.parquet", "cuboids.parquet")


def verified_drives(lake: Lake, week: str) -> list[str]:
    """Drives with verified labels that started before the week ended."""
    end = datetime.fromisoformat(week).replace(tzinfo=UTC) + timedelta(days=7)
    catalog = lake.tables.read("drives", [("start_ns", "<", int(end.timestamp()) * 10**9)])
    known = set(catalog["drive"].to_pylist()) if catalog is not None else set()
    return [
        d
        for d in lake.partitions("verified_labels")
        if d in known and lake.require("verified_labels", d).files
    ]


def freeze(work: Work, policy: GoldenPolicy) -> str:
    """Write the dataset of the work's input bundles; gives a note, which is empty.

    Raises:
        DatasetError: see plan_golden, select_frames and judge.
    """
    from av_assets.domain.datasets.frames import frame_rows, index_rows
    from av_assets.domain.datasets.golden import plan_golden, select_frames, write_dataset_json

    drives = sorted({name.partition("/")[2] for name in work.inputs if name.startswith(f"{REQUIRED[0]}/")})
    with work.watch("gather"):
        found = gather(work, drives, policy)
    with work.watch("join"):
        every = frame_rows(
            found.frames, found.labels, found.rows, found.context, policy.classes, policy.occluded_from
        )
    chosen = select_frames(_with_pictures(every, found), policy)
    verdict, hashes = _judged(work, policy, found, chosen)
    frames = _without(chosen, verdict)
    members = _members(work, policy, found, every, frames, verdict)
    plan = plan_golden(members, work.partition, policy, frames, _dropped_drives(verdict, members))
    write_dataset_json(plan, work.out)
    with work.watch("write"):
        shards = {clip: entry.sha256 for clip, entry in found.shards.items()}
        index = index_rows(plan.frames, plan.splits, shards, plan.slices_of)
        _write_table(work, INDEX_FILE, index)
        _write_table(work, HASHES_FILE, hash_table(hashes, found.shards, policy.camera))
        _write_json(work, LEAKS_FILE, verdict.to_json())
        _lay_out(work, plan, every, found.labels)
        _describe(work, plan, found, verdict)
    return ""


def _judged(
    work: Work, policy: GoldenPolicy, found: Gathered, frames: pa.Table
) -> tuple[Verdict, dict[str, ClipHash]]:
    import numpy as np

    from av_assets.domain.datasets import leakage
    from av_assets.domain.datasets.golden import split_members
    from av_assets.domain.datasets.verdicts import judge

    splits = split_members(_members(work, policy, found, frames, frames), policy)
    clips = sorted(
        c for c in set(frames["clip_id"].to_pylist()) if c.rpartition("/")[0] in splits and c in found.shards
    )
    side: dict[str, Split] = {clip: splits[clip.rpartition("/")[0]] for clip in clips}
    hashes = hashes_of(work, {clip: found.shards[clip] for clip in clips}, policy.camera)
    hashed = [(clip, h) for clip, h in hashes.items() if h.dhash is not None]
    with work.watch("leaks"):
        kinds: dict[LeakKind, Found] = {
            "shared_drive": leakage.shared_drives(splits.items()),
            "same_content": leakage.shared(
                "same_content", ((c, side[c], h.sha256 or "", "") for c, h in hashes.items())
            ),
            "near_duplicate": _alike_vectors(found, side, policy),
            "near_duplicate_frame": leakage.near_frames(
                [clip for clip, _ in hashed],
                [side[clip] for clip, _ in hashed],
                np.array([h.dhash for _, h in hashed], np.uint64),
                policy.near_duplicate_bits,
                policy.least_hash_bits,
            ),
            "shared_place": leakage.shared_places(
                (row["drive"], side[row["clip_id"]], row["h3_cell"], row["start_ns"])
                for row in _clips(found, ["drive", "clip_id", "h3_cell", "start_ns"])
                if row["clip_id"] in side
            ),
        }
        return judge(kinds, policy), hashes


def _alike_vectors(found: Gathered, side: Mapping[str, Split], policy: GoldenPolicy) -> Found:
    """Vectors of one model are compared with each other only."""
    from av_assets.domain.datasets.leakage import Found, near_duplicates

    together = Found()
    for ids, vectors in found.vectors.values():
        rows = [i for i, clip in enumerate(ids) if clip in side]
        names = [ids[i] for i in rows]
        # all rows, mostly: then nothing is copied
        held = vectors if len(rows) == len(ids) else vectors[rows]
        one = near_duplicates(names, [side[clip] for clip in names], held, policy.near_duplicate_cosine)
        together.pairs += one.pairs
        together.leaks += one.leaks
    return together


def _with_pictures(frames: pa.Table, found: Gathered) -> pa.Table:
    """Frames whose clip is there; the others are told in the member's `left_out`."""
    import numpy as np

    return frames.filter(np.array([clip in found.shards for clip in frames["clip_id"].to_pylist()], np.bool_))


def _without(frames: pa.Table, verdict: Verdict) -> pa.Table:
    """Frames whose clip and drive were not dropped."""
    import numpy as np

    if not verdict.dropped:
        return frames
    names = zip(frames["clip_id"].to_pylist(), frames["drive"].to_pylist(), strict=True)
    return frames.filter(
        np.array([clip not in verdict.dropped and drive not in verdict.dropped for clip, drive in names])
    )


def _dropped_drives(verdict: Verdict, members: Sequence[MemberInfo]) -> dict[str, str]:
    from av_assets.domain.datasets.verdicts import reason_of

    kept = {m.drive for m in members if m.frames}
    found = {item.rpartition("/")[0] or item: reason_of(leak) for item, leak in verdict.dropped.items()}
    return {drive: why for drive, why in found.items() if drive not in kept}


def _members(
    work: Work,
    policy: GoldenPolicy,
    found: Gathered,
    every: pa.Table,
    frames: pa.Table,
    verdict: Verdict | None = None,
) -> list[MemberInfo]:
    """What the plan needs to know of each drive; frames and objects are of those `frames` that are frozen."""
    from av_assets.domain.datasets.members import MemberInfo

    names = ["boxes", *(f"boxes_{cls}" for cls in policy.classes)]
    sums = frames.group_by("drive").aggregate([("ref_ns", "count"), *((name, "sum") for name in names)])
    counts = {row["drive"]: row for row in sums.to_pylist()}
    kept = _clips_by_drive(frames)
    cells: dict[str, list[str | None]] = defaultdict(list)
    for row in _clips(found, ["drive", "h3_cell"]):
        cells[row["drive"]].append(row["h3_cell"])
    members = []
    for drive, held in _clips_by_drive(every, found.drives).items():
        row, count = found.drives[drive], counts.get(drive, {})
        members.append(
            MemberInfo(
                drive,
                frames=count.get("ref_ns_count", 0),
                objects={cls: n for cls in policy.classes if (n := count.get(f"boxes_{cls}_sum", 0))},
                tags={tag: str(row[tag]) for tag in ("light", "weather", "zone") if row.get(tag)},
                synced_shards=work.inputs[f"synced_shards/{drive}"].content,
                verified_labels=work.inputs[f"verified_labels/{drive}"].content,
                geo_cell=cell_of(row, cells[drive], policy.geo_resolution),
                week=monday_of(row["start_ns"]) if row.get("start_ns") is not None else None,
                left_out={
                    clip: _why_clip(clip, found, verdict) for clip in sorted(held - kept.get(drive, set()))
                },
            )
        )
    return members


def _why_clip(clip: str, found: Gathered, verdict: Verdict | None) -> str:
    from av_assets.domain.datasets.verdicts import reason_of

    if clip not in found.shards:
        return "it has labels, and synced_shards holds no such clip"
    leak = (verdict.dropped.get(clip) or verdict.dropped.get(clip.rpartition("/")[0])) if verdict else None
    return reason_of(leak) if leak else "no frame of it meets the policy's `only`"


def _clips_by_drive(frames: pa.Table, drives: Iterable[str] = ()) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {drive: set() for drive in drives}
    for drive, clip in zip(frames["drive"].to_pylist(), frames["clip_id"].to_pylist(), strict=True):
        found.setdefault(drive, set()).add(clip)
    return found


def _clips(found: Gathered, names: list[str]) -> list[dict[str, Any]]:
    table = found.context["clips"]
    return [] if table is None else table.select(names).to_pylist()


def _lay_out(work: Work, plan: GoldenPlan, every: pa.Table, labels_of: pa.Table) -> None:
    """Links to everything that is frozen as it is; labels of drives that lack frames are written without them."""
    kept, whole = _keys(plan.frames), _keys(every)
    stray = _stray_drives(labels_of, every, plan.policy.camera)
    for member in plan.members:
        drive, folder = member.drive, f"drives/{member.drive}"
        shards, labels = work.inputs[f"synced_shards/{drive}"], work.inputs[f"verified_labels/{drive}"]
        out = {f"clips/{clip.rpartition('/')[2]}.parquet" for clip in member.left_out}
        paths = [f.path for f in shards.matching("clips/*.parquet", "calibration.json") if f.path not in out]
        work.link(shards, folder, *paths)
        if kept[drive] == whole[drive] and drive not in stray:
            work.link(labels, folder, *_LABEL_FILES)
            continue
        for name in _LABEL_FILES:
            rows = read(work.lake, labels, name)
            if rows is not None:
                _write_table(work, f"{folder}/{name}", _only(rows, kept[drive], plan.policy.camera))


def _stray_drives(labels: pa.Table, frames: pa.Table, camera: str) -> set[str]:
    """Drives with boxes on frames that are not final."""
    import pyarrow.compute as pc

    keys = labels.filter(pc.equal(labels["camera"], camera)).group_by(["clip_id", "ref_ns"]).aggregate([])
    outside = keys.join(frames.select(["clip_id", "ref_ns"]), ["clip_id", "ref_ns"], join_type="left anti")
    return {clip.rpartition("/")[0] for clip in outside["clip_id"].to_pylist()}


def _keys(frames: pa.Table) -> dict[str, set[tuple[str, int, str]]]:
    found: dict[str, set[tuple[str, int, str]]] = defaultdict(set)
    columns = (frames[name].to_pylist() for name in ("drive", *_FRAME))
    for drive, clip, ref_ns, camera in zip(*columns, strict=True):
        found[drive].add((clip, ref_ns, camera))
    return found


def _only(rows: pa.Table, kept: set[tuple[str, int, str]], camera: str) -> pa.Table:
    """Rows of kept frames; those of other cameras stay, nobody asked for them to go.

    Cuboids name no camera: they are of the objects in that of the dataset.
    """
    import numpy as np

    cameras = rows["camera"].to_pylist() if "camera" in rows.column_names else [camera] * rows.num_rows
    keys = zip(rows["clip_id"].to_pylist(), rows["ref_ns"].to_pylist(), cameras, strict=True)
    return rows.filter(np.array([key in kept or key[2] != camera for key in keys], np.bool_))


def _describe(work: Work, plan: GoldenPlan, found: Gathered, verdict: Verdict) -> None:
    """The datasheet and the Croissant description, from what was just written and from the inputs' manifests."""
    from av_assets.domain.datasets.croissant import croissant
    from av_assets.domain.datasets.datasheet import datasheet
    from av_assets.domain.datasets.golden import DATASET_FILE

    members = {m.drive for m in plan.members}
    made_by: dict[str, set[tuple[str, str]]] = defaultdict(set)
    reports = {}
    for name, manifest in work.inputs.items():
        asset, _, drive = name.partition("/")
        if drive in members:
            made_by[asset] |= {(f"policy {n}", d) for n, d in manifest.made_from.policies.items()}
            made_by[asset].add(("code version", manifest.made_from.code_version))
            if asset == "verified_labels" and manifest.holds("report.json"):
                reports[drive] = json.loads(work.lake.read_bytes(manifest, "report.json"))
    drives = found.context["drives"]
    rows = [row for row in drives.to_pylist() if row["drive"] in members] if drives is not None else []
    dataset = plan.to_json()
    evidence = {
        "dataset": dataset,
        "leaks": verdict.to_json(),
        "drives": rows,
        "reports": reports,
        "made_by": made_by,
    }
    (work.out / SHEET_FILE).write_text(datasheet(evidence), "utf-8")
    names = (DATASET_FILE, INDEX_FILE, HASHES_FILE, LEAKS_FILE, SHEET_FILE)
    files = {name: ((work.out / name).stat().st_size, sha256_file(work.out / name)) for name in names}
    _write_json(work, CROISSANT_FILE, croissant(dataset, files))


def _write_table(work: Work, path: str, rows: pa.Table) -> None:
    import pyarrow.parquet as pq

    target = work.out / path
    target.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, target)


def _write_json(work: Work, path: str, value: object) -> None:
    (work.out / path).write_text(json.dumps(value, sort_keys=True, indent=1) + "\n", "utf-8")
