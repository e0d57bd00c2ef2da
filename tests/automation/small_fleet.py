"""A lake with a few small drives as the stages above would have left them: what a dataset is frozen from.

Belongs here: the bundles. Does not belong here: tests.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import h3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from av_assets.domain.catalog.schemas import CLIPS, DRIVES
from av_assets.domain.evidence.manifest import MadeFrom
from av_assets.domain.search.embedding import embedding_schema

if TYPE_CHECKING:
    from pathlib import Path

    from resources.lake import Lake

WEEK = "2025-06-02"
START = 1_748_852_100_000_000_000  # 2025-06-02T08:15Z
NS = 10**9
CAMERA = "camera_front"
CLIPS_EACH, FRAMES_EACH, STEP_NS = 2, 4, 300_000_000


@dataclass
class Drive:
    """One drive; pictures and vectors are drawn from `seed`, so that equal seeds look alike."""

    name: str
    seed: int
    light: str = "day"
    weather: str = "clear"
    zone: str = "urban"
    speed_mps: float = 8.0
    place: tuple[float, float] = (48.1, 11.5)
    start_ns: int = START
    cls: str = "vehicle"
    states: dict[int, str] = field(default_factory=dict)
    box_x: float = 10.0
    occlusion: float = 0.0


def small_fleet(count: int = 8) -> list[Drive]:
    """Drives that differ in everything; enough for each split of the shipped policy."""
    return [
        Drive(
            f"veh042-2025060{2 + i % 5}t{8 + i:02d}1500z", i, light="night" if i % 2 else "day",
            weather="rain" if i % 3 == 0 else "clear", zone="construction" if i == 3 else "urban",
            speed_mps=4.0 + 3 * i, place=(48.0 + 0.1 * i, 11.5), start_ns=START + i * 3600 * NS,
            cls=("vehicle", "pedestrian", "cone")[i % 3], occlusion=0.6 if i % 2 else 0.0,
        )
        for i in range(count)
    ]  # fmt: skip


def land(lake: Lake, folder: Path, drives: list[Drive], policies: dict[str, str] | None = None) -> None:
    """Publish all bundles of the drives; landing one again replaces it."""
    for drive in drives:
        base = folder / drive.name
        rows = _catalog(drive)
        _publish(lake, base, "synced_shards", drive.name, _shards(drive))
        _publish(lake, base, "drive_catalog", drive.name, rows)
        _publish(lake, base, "verified_labels", drive.name, _labels(drive), policies)
        _publish(lake, base, "clip_embeddings", drive.name, {"embeddings.parquet": _vectors(drive)})
        _publish(lake, base, "enriched_clips", drive.name, {"clip_context.parquet": _context(drive)})
        lake.tables.replace("drives", rows["drives.parquet"], key="drive", value=drive.name)


def _publish(
    lake: Lake,
    base: Path,
    asset: str,
    drive: str,
    files: dict[str, Any],
    policies: dict[str, str] | None = None,
) -> None:
    folder = base / asset
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if isinstance(content, pa.Table):
            pq.write_table(content, path)
        else:
            path.write_text(json.dumps(content))
    lake.publish(asset, drive, folder, made_from=MadeFrom(code_version="1", policies=policies or {}))


def times(clip: int) -> list[int]:
    """Of the frames of a clip, relative to the start of its drive."""
    return [clip * 5 * NS + number * STEP_NS for number in range(FRAMES_EACH)]


def _shards(drive: Drive) -> dict[str, Any]:
    rng = np.random.default_rng(drive.seed)
    files: dict[str, Any] = {"calibration.json": {"cameras": {CAMERA: {"width": 64, "height": 48}}}}
    for clip in range(CLIPS_EACH):
        picture = cv2.resize(
            rng.integers(0, 255, (8, 9, 3)).astype(np.uint8), (96, 72), interpolation=cv2.INTER_CUBIC
        )
        jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
        rows = [
            {"clip_id": f"{drive.name}/{clip:05d}", "ref_ns": drive.start_ns + t, CAMERA: {
                "data": jpeg, "encoding": "jpeg", "valid": True, "sensor_ns": drive.start_ns + t}}
            for t in times(clip)
        ]  # fmt: skip
        table = pa.Table.from_pylist(rows).replace_schema_metadata({"redacted": "true"})
        files[f"clips/{clip:05d}.parquet"] = table
    return files


def _catalog(drive: Drive) -> dict[str, pa.Table]:
    cell = h3.latlng_to_cell(*drive.place, 9)
    whole = {"drive": drive.name, "vehicle": drive.name[:6], "start_ns": drive.start_ns, "end_ns": drive.start_ns,
             "light": drive.light, "weather": drive.weather, "zone": drive.zone, "duration_s": 10.0,
             "distance_m": 80.0}  # fmt: skip
    clips = [
        {"drive": drive.name, "clip_id": f"{drive.name}/{n:05d}", "start_ns": drive.start_ns + 5 * n * NS,
         "light": drive.light, "h3_cell": cell, "mean_speed_mps": drive.speed_mps + n}
        for n in range(CLIPS_EACH)
    ]  # fmt: skip
    frames = [
        {"clip_id": f"{drive.name}/{n:05d}", "ref_ns": drive.start_ns + t}
        for n in range(CLIPS_EACH)
        for t in times(n)
    ]
    return {
        "drives.parquet": _typed([whole], DRIVES),
        "clips.parquet": _typed(clips, CLIPS),
        "frames.parquet": pa.Table.from_pylist(frames),
    }


def _typed(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.table([pa.array([row.get(f.name) for row in rows], f.type) for f in schema], names=schema.names)


def _context(drive: Drive) -> pa.Table:
    road = "residential" if drive.seed % 2 else "primary"
    rows = [
        {
            "drive": drive.name,
            "clip_id": f"{drive.name}/{n:05d}",
            "road_class": road,
            "weather": drive.weather,
        }
        for n in range(CLIPS_EACH)
    ]
    return pa.Table.from_pylist(rows)


def _labels(drive: Drive) -> dict[str, Any]:
    labels, masks, frames, cuboids = [], [], [], []
    for clip in range(CLIPS_EACH):
        for number, t in enumerate(times(clip)):
            key = {"clip_id": f"{drive.name}/{clip:05d}", "ref_ns": drive.start_ns + t, "camera": CAMERA}
            solid = {name: key[name] for name in ("clip_id", "ref_ns")} | {"label_id": f"{clip}-{number}"}
            cuboids.append({**solid, "cls": drive.cls, "x_m": 12.0, "points": 9})
            state = drive.states.get(clip * FRAMES_EACH + number, "final")
            frames.append({**key, "state": state, "stratum": "sample"})
            masks.append({**key, "mask": b"png"})
            labels.append({**key, "label_id": f"{clip}-{number}", "cls": drive.cls, "x1": drive.box_x, "y1": 5.0,
                           "x2": drive.box_x + 20, "y2": 25.0, "occlusion": drive.occlusion,
                           "distance_m": 12.0})  # fmt: skip
    report = {"labels": len(labels), "kappa": 0.9, "annotators": {"anna": {}, "ben": {}}}
    return {
        "labels.parquet": pa.Table.from_pylist(labels),
        "cuboids.parquet": pa.Table.from_pylist(cuboids),
        "drivable.parquet": pa.Table.from_pylist(masks),
        "frames.parquet": pa.Table.from_pylist(frames),
        "report.json": report,
    }


def _vectors(drive: Drive) -> pa.Table:
    rng = np.random.default_rng(1000 + drive.seed)
    vectors = rng.normal(size=(CLIPS_EACH, 64)).astype(np.float32)
    schema = embedding_schema(64)
    columns = [
        pa.array([f"{drive.name}/{n:05d}" for n in range(CLIPS_EACH)]),
        *(pa.array([value] * CLIPS_EACH) for value in (CAMERA, "m" * 8, "p" * 8)),
        pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 64),
    ]
    return pa.table(columns, schema=schema)
