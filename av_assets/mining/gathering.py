"""What the freezing of a dataset reads of its drives: small tables, read once, never a picture that is known already.

Belongs here: reading input bundles. Does not belong here: planning, judging and laying out (freezing).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from av_assets.domain.evidence.manifest import FileEntry, Manifest
from av_assets.production import Work
from resources.lake import Lake

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from av_assets.policies.golden import GoldenPolicy

REQUIRED = ("synced_shards", "verified_labels", "clip_embeddings", "drive_catalog")
OPTIONAL = ("enriched_clips", "scenes")
FINAL = "final"
HASHES_FILE = "hashes.parquet"
_CONTEXT = {
    "clip_context": ("enriched_clips", "clip_context.parquet"),
    "scenes": ("scenes", "scenes.parquet"),
}


class ClipHash(NamedTuple):
    """of the middle frame of a clip: the difference hash and the digest of its pixels; None without a picture."""

    dhash: int | None
    sha256: str | None


@dataclass
class Gathered:
    """Tables of all drives together, and the vectors of all clips by their model.

    Attributes:
        vectors: model and preparation -> clip ids and (N, D) float32.
        shards: clip id -> its file in synced_shards.
    """

    drives: dict[str, dict[str, Any]] = field(default_factory=dict)
    frames: pa.Table = None
    labels: pa.Table = None
    rows: pa.Table = None
    context: dict[str, pa.Table | None] = field(default_factory=dict)
    vectors: dict[str, tuple[list[str], NDArray[np.float32]]] = field(default_factory=dict)
    shards: dict[str, FileEntry] = field(default_factory=dict)


def inputs_of(lake: Lake, drives: Iterable[str]) -> dict[str, Manifest]:
    """`<asset>/<drive>` -> manifest; context that a drive has not is left out.

    Raises:
        EvidenceError: missing_bundle.
    """
    found = {f"{asset}/{drive}": lake.require(asset, drive) for drive in drives for asset in REQUIRED}
    for drive in drives:
        for asset in OPTIONAL:
            if (manifest := lake.manifest(asset, drive)) is not None:
                found[f"{asset}/{drive}"] = manifest
    return found


def read(
    lake: Lake, manifest: Manifest | None, path: str, columns: Sequence[str] | None = None
) -> pa.Table | None:
    """A table of a bundle, those of `columns` that it has; None where there is no such bundle or file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if manifest is None or not manifest.holds(path):
        return None
    with pq.ParquetFile(pa.BufferReader(lake.read_bytes(manifest, path))) as source:
        held = source.schema_arrow.names
        return source.read(held if columns is None else [name for name in columns if name in held])


def gather(work: Work, drives: Sequence[str], policy: GoldenPolicy) -> Gathered:
    """Everything but pictures."""
    import pyarrow as pa

    from av_assets.domain.catalog.schemas import CLIPS, DRIVES
    from av_assets.domain.datasets.frames import FRAMES, LABELS, ROWS

    parts: dict[str, list[pa.Table]] = {}

    def take(name: str, asset: str, path: str, columns: Sequence[str] | None = None) -> pa.Table | None:
        rows = read(work.lake, work.inputs.get(f"{asset}/{drive}"), path, columns)
        if rows is not None:
            parts.setdefault(name, []).append(rows.replace_schema_metadata(None))
        return rows

    found = Gathered()
    vectors: dict[str, tuple[list[str], list[Any]]] = {}
    for drive in drives:
        row = take("drives", "drive_catalog", "drives.parquet")
        found.drives[drive] = row.select(_DRIVE).to_pylist()[0] if row is not None else {}
        take("clips", "drive_catalog", "clips.parquet")
        take("rows", "drive_catalog", "frames.parquet", list(ROWS))
        take("labels", "verified_labels", "labels.parquet", list(LABELS))
        for name, (asset, path) in _CONTEXT.items():
            take(name, asset, path)
        parts.setdefault("frames", []).append(_final_frames(work, drive, policy))
        _add_vectors(vectors, read(work.lake, work.inputs[f"clip_embeddings/{drive}"], "embeddings.parquet"))
        for entry in work.inputs[f"synced_shards/{drive}"].matching("clips/*.parquet"):
            found.shards[f"{drive}/{entry.path[len('clips/') : -len('.parquet')]}"] = entry
    found.frames = _joined(parts.get("frames", []), FRAMES)
    found.labels = _joined(parts.get("labels", []), LABELS)
    found.rows = _joined(parts.get("rows", []), ROWS)
    known: dict[str, Any] = {
        "drives": {f.name: f.type for f in DRIVES},
        "clips": {f.name: f.type for f in CLIPS},
    }
    for name in ("drives", "clips", "clip_context", "scenes"):
        held = parts.get(name)
        found.context[name] = pa.concat_tables(held, promote_options="permissive") if held else None
        if found.context[name] is None and name in known:
            found.context[name] = pa.table({n: pa.array([], kind) for n, kind in known[name].items()})
    found.vectors = {model: (ids, _stacked(blocks)) for model, (ids, blocks) in sorted(vectors.items())}
    return found


_DRIVE = ["drive", "start_ns", "light", "weather", "zone", "h3_cells"]


def cell_of(lake_row: Mapping[str, Any], cells: Iterable[str | None], resolution: int) -> str | None:
    """The H3 cell of `resolution` that holds most clips of a drive, or of its route; the first by name of equals."""
    from collections import Counter

    import h3

    known = [cell for cell in cells if cell] or list(lake_row.get("h3_cells") or [])
    count = Counter(
        h3.cell_to_parent(cell, resolution) for cell in known if h3.get_resolution(cell) >= resolution
    )
    return min(count, key=lambda cell: (-count[cell], cell)) if count else None


def monday_of(start_ns: int) -> str:
    """Monday of the week (UTC) of a moment."""
    day = datetime.fromtimestamp(start_ns // 10**9, UTC).date()
    return (day - timedelta(days=day.weekday())).isoformat()


def hashes_of(work: Work, clips: Mapping[str, FileEntry], camera: str) -> dict[str, ClipHash]:
    """clip id -> hash of its middle frame, as the embedding noted it; others are decoded and hashed here."""
    known = _noted_hashes(work, camera)
    found = {clip: known[entry.sha256] for clip, entry in clips.items() if entry.sha256 in known}
    for clip, entry in clips.items():
        if clip not in found:
            with work.watch("hash"):
                found[clip] = _hash(work, clip, entry, camera)
    return dict(sorted(found.items()))


def hash_table(hashes: Mapping[str, ClipHash], clips: Mapping[str, FileEntry], camera: str) -> pa.Table:
    import pyarrow as pa

    return pa.table(
        {
            "clip_id": pa.array(list(hashes), pa.string()),
            "shard_sha256": pa.array([clips[clip].sha256 for clip in hashes], pa.string()),
            "camera": pa.array([camera] * len(hashes), pa.string()),
            "dhash": pa.array([h.dhash for h in hashes.values()], pa.uint64()),
            "picture_sha256": pa.array([h.sha256 for h in hashes.values()], pa.string()),
        }
    )


def _noted_hashes(work: Work, camera: str) -> dict[str, ClipHash]:
    """sha256 of a clip's file -> hash of its middle frame."""
    from av_assets.domain.search.keyframe_hashes import middle_hashes

    found: dict[str, ClipHash] = {}
    for name, made in work.inputs.items():
        rows = read(work.lake, made, HASHES_FILE) if name.startswith("clip_embeddings/") else None
        if rows is not None:
            noted = middle_hashes(rows, camera)
            found |= {shard: ClipHash(one.dhash, one.picture_sha256) for shard, one in noted.items()}
    return found


def _hash(work: Work, clip: str, entry: FileEntry, camera: str) -> ClipHash:
    import pyarrow.parquet as pq

    from av_assets.domain.evidence.digests import sha256_bytes
    from av_assets.domain.mining.dhash import frame_hash
    from av_assets.domain.privacy.frames import frames_from_shard
    from av_assets.domain.search.embedding import keyframes

    drive = clip.rpartition("/")[0]
    folder = work.folder / "hash" / entry.sha256
    path = work.lake.checkout(work.inputs[f"synced_shards/{drive}"], folder, entry.path) / entry.path
    try:
        with pq.ParquetFile(path) as source:
            if camera not in source.schema_arrow.names or not source.metadata.num_rows:
                return ClipHash(None, None)
            column = source.read(columns=[camera])
    finally:
        path.unlink()
    frames = [f for f in frames_from_shard(column, camera) if f is not None]
    if not frames:
        return ClipHash(None, None)
    (frame,) = keyframes(frames, 1)
    return ClipHash(frame_hash(frame), sha256_bytes(frame.pixels().tobytes()))


def _final_frames(work: Work, drive: str, policy: GoldenPolicy) -> pa.Table:
    """Frames of the camera whose labels are final; where the bundle says nothing of states, all that were labelled."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from av_assets.domain.datasets.frames import FRAMES, padded

    labels = work.inputs[f"verified_labels/{drive}"]
    rows = read(work.lake, labels, "frames.parquet", ["clip_id", "camera", "ref_ns", "state", "stratum"])
    if rows is not None and "state" in rows.column_names:
        rows = rows.filter(pc.equal(rows["state"], FINAL))
    else:
        rows = read(work.lake, labels, "drivable.parquet", ["clip_id", "camera", "ref_ns"])
    if rows is None:
        return pa.table({name: pa.array([], kind) for name, kind in FRAMES.items()})
    rows = rows.filter(pc.equal(rows["camera"], policy.camera))
    rows = padded(rows, {name: kind for name, kind in FRAMES.items() if name != "drive"})
    rows = rows.group_by(["clip_id", "camera", "ref_ns", "stratum"]).aggregate([])
    return padded(rows.append_column("drive", pa.array([drive] * rows.num_rows, pa.string())), FRAMES)


def _joined(parts: Sequence[pa.Table], columns: Mapping[str, Any]) -> pa.Table:
    import pyarrow as pa

    from av_assets.domain.datasets.frames import padded

    held = [padded(part, columns) for part in parts]
    return (
        pa.concat_tables(held) if held else pa.table({n: pa.array([], kind) for n, kind in columns.items()})
    )


def _add_vectors(vectors: dict[str, tuple[list[str], list[Any]]], rows: pa.Table | None) -> None:
    from av_assets.domain.search.embedding import vectors_of

    if rows is None or not rows.num_rows:
        return
    makers = [f"{m}/{p}" for m, p in zip(*(rows[c].to_pylist() for c in _MAKER), strict=True)]
    ids, block = rows["clip_id"].to_pylist(), vectors_of(rows["embedding"])
    for maker in sorted(set(makers)):
        mine = [i for i, m in enumerate(makers) if m == maker]
        held = vectors.setdefault(maker, ([], []))
        held[0].extend(ids[i] for i in mine)
        held[1].append(block[mine])


_MAKER = ("model_digest", "preproc_digest")


def _stacked(blocks: Sequence[Any]) -> NDArray[np.float32]:
    import numpy as np

    return np.concatenate(blocks)
