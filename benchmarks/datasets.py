"""Freezing a dataset of 100,000 labelled frames, doing so again for nothing, its leak check, and COCO there and back.

The bundles that the dataset is frozen from are as the stages above would have left them, with tiny pictures: the
freezing reads tables, and pictures only of clips whose embedding noted no hash (`datasets.freeze.bare`: all of them).
They are laid into the lake file by file, which is not timed.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.figures import Figure, Say, Settings
from benchmarks.report import load_now

if TYPE_CHECKING:
    from av_assets.domain.evidence.manifest import FileEntry
    from resources.lake import Lake

DRIVES, CLIPS, FRAMES = 500, 20, 10  # 100,000 labelled frames
STEP_NS, CLIP_NS, DIMENSION = 300_000_000, 5_000_000_000, 256
START_NS, WEEK, CAMERA = 1_748_822_400_000_000_000, "2025-06-02", "camera_front"
VECTORS, BOXES, BOXES_EACH = 100_000, 1_000_000, 20
SPLIT_SHARES = (0.55, 0.15, 0.30)
CLASSES = ("vehicle", "pedestrian", "cone")
TARGET_FREEZE_S, TARGET_AGAIN_S, TARGET_LEAKS_S = 60.0, 5.0, 60.0
TARGET_COCO_MB = 500.0


def run(settings: Settings, say: Say) -> list[Figure]:
    """`datasets`: freezing, a no-op rebuild, the leak check and the COCO round trip."""
    from resources.lake import Lake

    work = settings.work / "datasets"
    lake = Lake(uri=(work / "lake").as_uri(), scratch=str(work / "scratch"))
    say(f"laying out {DRIVES} drives of {CLIPS * FRAMES} labelled frames")
    lay_out(lake, work / "lake")
    return [*_frozen(lake, say), _leaks(say), *_coco(work, say)]


def _frozen(lake: Lake, say: Say) -> list[Figure]:
    from av_assets.mining.freezing import freeze, verified_drives
    from av_assets.mining.gathering import inputs_of
    from av_assets.policies.golden import GoldenPolicy
    from av_assets.production import Made, lineage, produce

    policy = GoldenPolicy.load()

    def once(week: str) -> tuple[Made, float, dict[str, float]]:
        started = time.perf_counter()
        inputs = inputs_of(lake, verified_drives(lake, week))
        read_s = time.perf_counter() - started
        made_from = lineage(list(inputs.values()), "1", [policy])
        made = produce(lake, "golden_slices", week, made_from, inputs, lambda work: freeze(work, policy))
        return made, time.perf_counter() - started, {"manifests": read_s, **made.seconds}

    say("freezing")
    made, first_s, parts = once(WEEK)
    dataset = json.loads(lake.read_bytes(made.manifest, "dataset.json"))
    frames = sum(c["frames"] for c in dataset["counts"].values())
    assert frames == DRIVES * CLIPS * FRAMES, f"{frames} frames were frozen"
    say("freezing again, unchanged")
    again, again_s, again_parts = once(WEEK)
    assert again.reused, "an unchanged dataset was frozen anew"
    say("freezing without noted hashes")
    _forget_hashes(lake)
    bare, bare_s, bare_parts = once("2025-06-09")
    assert not bare.reused
    about = f"{len(made.manifest.files):,} files; load {load_now()[0]}"
    return [
        Figure("datasets.freeze", f"{frames:,} frames, all clips new", first_s, "s", TARGET_FREEZE_S, parts=parts,
               note=f"{about}; no picture is decoded"),
        Figure("datasets.freeze.bare", "the same from embeddings without hashes", bare_s, "s", None,
               parts=bare_parts, note="tiny pictures: a full-size one takes 20 ms more"),
        Figure("datasets.again", "a no-op rebuild", again_s, "s", TARGET_AGAIN_S, parts=again_parts),
    ]  # fmt: skip


def _leaks(say: Say) -> Figure:
    from av_assets.domain.datasets.leakage import near_duplicates, near_frames
    from av_assets.domain.datasets.members import SPLITS, Split

    say(f"looking for leaks among {VECTORS:,} clips")
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((VECTORS, DIMENSION), np.float32)
    hashes = rng.integers(0, 2**64, VECTORS, np.uint64)
    sides: list[Split] = [SPLITS[i] for i in rng.choice(len(SPLITS), VECTORS, p=SPLIT_SHARES)]
    train, test = sides.index("train"), sides.index("test")
    vectors[test], hashes[test] = vectors[train] * 2, hashes[train] ^ np.uint64(5)
    ids = [str(number) for number in range(VECTORS)]
    started = time.perf_counter()
    alike = near_duplicates(ids, sides, vectors, 0.97)
    vectors_s = time.perf_counter() - started
    same = near_frames(ids, sides, hashes, 4, 6)
    total_s = time.perf_counter() - started
    for found in (alike, same):
        assert [(leak.a, leak.b) for leak in found.leaks] == [(str(train), str(test))], (
            "the leak was not found"
        )
    parts = {"vectors": vectors_s, "hashes": total_s - vectors_s}
    return Figure("datasets.leaks", f"{VECTORS:,} x {DIMENSION} vectors and hashes across splits, exactly", total_s,
                  "s", TARGET_LEAKS_S, parts=parts, note=f"load {load_now()[0]}")  # fmt: skip


def _coco(work: Path, say: Say) -> list[Figure]:
    """In a process of its own, so that its peak of memory is its own."""
    say(f"{BOXES:,} boxes to COCO and back")
    words = [sys.executable, "-W", "ignore", "-m", "benchmarks.datasets", str(work / "boxes.json")]
    found = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    size_mb = (work / "boxes.json").stat().st_size / 1e6
    return [
        Figure("datasets.coco", f"{BOXES:,} boxes written and read as streams", found["seconds"], "s", None,
               note=f"{size_mb:.0f} MB of JSON; load {load_now()[0]}"),
        Figure("datasets.coco.rss", "its peak of memory", found["peak_mb"], "MB", TARGET_COCO_MB,
               note=f"{found['before_mb']:.0f} MB of it before it began"),
    ]  # fmt: skip


def coco_round_trip(path: Path) -> dict[str, float]:
    """Write and read back BOXES boxes, one frame at a time; seconds and MB."""
    from av_assets.domain.labels.exchange.coco import iter_coco, write_coco

    before = _peak_mb()
    started = time.perf_counter()
    written = write_coco(path, _submissions(), CLASSES)
    same = boxes = 0
    for ours, back in zip(_submissions(), iter_coco(path), strict=True):
        same += ours.boxes == back.boxes
        boxes += len(back.boxes)
    seconds = time.perf_counter() - started
    assert (written, boxes, same) == (BOXES, BOXES, BOXES // BOXES_EACH), "boxes were lost or changed"
    return {"seconds": seconds, "peak_mb": _peak_mb(), "before_mb": before}


def _peak_mb() -> float:
    """Of this program alone; getrusage would count the process that started it, too."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) / 1e3 for line in status.splitlines() if line.startswith("VmHWM:"))


def _submissions() -> Any:
    from av_assets.domain.labels.exchange.returned import ReturnedBox, ReturnedSubmission

    for number in range(BOXES // BOXES_EACH):
        boxes = tuple(
            ReturnedBox(CLASSES[n % 3], n * 50.5, 100.25, n * 50.5 + 40.125, 180.0, f"auto-{n:04d}", 0.25)
            for n in range(BOXES_EACH)
        )
        task = f"veh001-{number // 200:05d}.{CAMERA}.{number}"
        yield ReturnedSubmission(
            f"s{number}", task, f"{task}.jpg", "anna", "annotate", 12.5, None, 1920, 1080, "px", boxes
        )


def lay_out(lake: Lake, root: Path) -> None:
    """The bundles of all drives, and the table that says when they started."""
    from deltalake import write_deltalake

    drives = []
    for number in range(DRIVES):
        drive = f"veh{number % 41:03d}-{number:05d}"
        bundles = _bundles(drive, number)
        drives.append(bundles["drive_catalog"]["drives.parquet"])
        for asset, files in bundles.items():
            _store(root, asset, drive, files)
    write_deltalake(lake.tables.path("drives"), pa.concat_tables(drives))


def _forget_hashes(lake: Lake) -> None:
    """Embeddings as they were before hashes were noted."""
    for drive in lake.partitions("clip_embeddings"):
        held = lake.require("clip_embeddings", drive)
        lake.publish(
            "clip_embeddings", drive, links=held.matching("embeddings.parquet"), made_from=held.made_from
        )


def _store(root: Path, asset: str, drive: str, files: dict[str, Any]) -> None:
    from av_assets.domain.evidence.manifest import MadeFrom, Manifest

    entries = tuple(_put(root, path, content) for path, content in files.items())
    manifest = Manifest(asset=asset, partition=drive, files=entries, made_from=MadeFrom(code_version="1"))
    folder = root / "manifests" / asset / drive
    folder.mkdir(parents=True)
    for name in (manifest.digest, "current"):
        (folder / f"{name}.json").write_bytes(manifest.to_json())


def _put(root: Path, path: str, content: Any) -> FileEntry:
    from av_assets.domain.evidence.digests import sha256_bytes
    from av_assets.domain.evidence.manifest import FileEntry

    data = content if isinstance(content, bytes) else _parquet(content)
    entry = FileEntry(path=path, bytes=len(data), sha256=sha256_bytes(data))
    target = root / "objects" / entry.sha256[:2] / entry.sha256
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return entry


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def _bundles(drive: str, number: int) -> dict[str, dict[str, Any]]:
    """Drives stand 2 km apart and differ in everything that leaks are looked for by."""
    import h3

    from av_assets.domain.catalog.schemas import CLIPS as CLIP_ROWS
    from av_assets.domain.catalog.schemas import DRIVES as DRIVE_ROWS
    from av_assets.domain.search.embedding import embedding_schema

    rng = np.random.default_rng(number)
    start = START_NS + number * 900 * 10**9
    clips = [f"{drive}/{n:05d}" for n in range(CLIPS)]
    times = [(clip, start + n * CLIP_NS + f * STEP_NS) for n, clip in enumerate(clips) for f in range(FRAMES)]
    cell = h3.latlng_to_cell(40 + 0.02 * number, 11.5, 9)
    light, road = ("day", "night")[number % 2], ("primary", "residential")[number % 3 == 0]
    whole = {"drive": drive, "vehicle": drive[:6], "start_ns": start, "end_ns": start + CLIPS * CLIP_NS,
             "light": light, "weather": ("clear", "rain")[number % 5 == 0], "zone": "urban"}  # fmt: skip
    clip_rows = [{"drive": drive, "clip_id": c, "start_ns": start + n * CLIP_NS, "light": light,
                  "h3_cell": cell, "mean_speed_mps": float(n)} for n, c in enumerate(clips)]  # fmt: skip
    keys = {
        "clip_id": [c for c, _ in times],
        "ref_ns": [t for _, t in times],
        "camera": [CAMERA] * len(times),
    }
    boxes = {name: np.repeat(values, 7) for name, values in keys.items()}
    count = len(times) * 7
    labels = {**boxes, "label_id": [f"auto-{n % 7:04d}" for n in range(count)], "cls": np.resize(CLASSES, count),
              **{name: rng.uniform(0, 100, count).astype(np.float32) for name in ("x1", "y1", "x2", "y2")},
              "occlusion": rng.uniform(0, 1, count), "distance_m": rng.uniform(5, 80, count)}  # fmt: skip
    masks = [drive.encode()] * len(times)
    flat = pa.array(rng.standard_normal((CLIPS, DIMENSION), np.float32).reshape(-1))
    vectors = [pa.array(values) for values in (clips, [CAMERA] * CLIPS, ["m"] * CLIPS, ["p"] * CLIPS)]
    vectors.append(pa.FixedSizeListArray.from_arrays(flat, DIMENSION))
    shards = {f"clips/{n:05d}.parquet": _parquet(_clip(rng, c, start)) for n, c in enumerate(clips)}
    return {
        "synced_shards": {"calibration.json": b"{}" + drive.encode(), **shards},
        "drive_catalog": {"drives.parquet": _typed([whole], DRIVE_ROWS), "clips.parquet": _typed(clip_rows, CLIP_ROWS),
                          "frames.parquet": pa.table({k: keys[k] for k in ("clip_id", "ref_ns")})},
        "verified_labels": {"labels.parquet": pa.table(labels), "drivable.parquet": pa.table({**keys, "mask": masks}),
                            "frames.parquet": pa.table({**keys, "state": ["final"] * len(times)})},
        "clip_embeddings": {"embeddings.parquet": pa.table(vectors, schema=embedding_schema(DIMENSION)),
                            "hashes.parquet": _hashes(dict(zip(clips, shards.values(), strict=True)))},
        "enriched_clips": {"clip_context.parquet": pa.table({"clip_id": clips, "road_class": [road] * CLIPS})},
        "scenes": {"scenes.parquet": pa.table({"drive": [drive], "clip_ids": [clips], "tags": [["cut_in"]]})},
    }  # fmt: skip


def _hashes(shards: dict[str, bytes]) -> pa.Table:
    """What the embedding of these clips notes of their pictures."""
    from av_assets.domain.evidence.digests import sha256_bytes
    from av_assets.domain.privacy.frames import frames_from_shard
    from av_assets.domain.search.keyframe_hashes import HASHES, hash_rows, keyframe_hash

    rows = []
    for clip, data in shards.items():
        (frame,) = frames_from_shard(pq.read_table(pa.BufferReader(data)), CAMERA)
        assert frame is not None
        noted = keyframe_hash(frame.sensor_ns, frame.pixels(), True)
        rows += hash_rows(clip, CAMERA, sha256_bytes(data), 3, [noted])
    return pa.Table.from_pylist(rows, schema=HASHES)


def _clip(rng: np.random.Generator, clip: str, start: int) -> pa.Table:
    import cv2

    picture = cv2.resize(rng.integers(0, 255, (8, 9, 3), np.uint8), (96, 72), interpolation=cv2.INTER_CUBIC)
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    cell = {"data": jpeg, "encoding": "jpeg", "valid": True, "sensor_ns": start}
    rows = pa.Table.from_pylist([{"clip_id": clip, "ref_ns": start, CAMERA: cell}])
    return rows.replace_schema_metadata({"redacted": "true"})


def _typed(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.table([pa.array([row.get(f.name) for row in rows], f.type) for f in schema], names=schema.names)


if __name__ == "__main__":
    print(json.dumps(coco_round_trip(Path(sys.argv[1]))))
