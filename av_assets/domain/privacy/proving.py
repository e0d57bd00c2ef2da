"""How much redaction misses, measured: synthetic drives go through it whose faces and plates are known to the pixel.

Belongs here: the measurement and its picture. Does not belong here: drawing the drives (`simulation`), counting
(`audit`). The face that is shown before redaction is the public-domain portrait that the rig uses (`textures`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from av_assets.domain.evidence.segments import FolderSegments
from av_assets.domain.logs.drive_spec import read_drive_spec
from av_assets.domain.logs.messages.payloads import image_payload
from av_assets.domain.logs.reader import LogReader
from av_assets.domain.privacy.audit import Recall, measure_recall
from av_assets.domain.privacy.frames import RedactedFrame, read_redacted_clips, redacted_parts
from av_assets.domain.privacy.pictures import decode_still
from av_assets.domain.privacy.redact import redact_drive
from av_assets.domain.simulation.recorder import record_drive
from av_assets.domain.simulation.script import DriveScript

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av_assets.domain.privacy.detectors import Detector
    from av_assets.policies.audit import ProofPolicy
    from av_assets.policies.redaction import RedactionPolicy

PROOF_FILE, PICTURE_FILE = "proof.json", "before_after.png"
SHOWN = 6
_ZOOM_PX, _AROUND = 240, 4.0


@dataclass(frozen=True)
class Band:
    """Recall of one kind in one range of sizes, over one condition or over all."""

    condition: str
    kind: str
    min_px: float
    max_px: float | None
    total: int
    hidden: int
    recall: float | None
    miss_bound: float


def proof_scripts(policy: ProofPolicy) -> list[DriveScript]:
    """One script per condition."""
    return [
        DriveScript(
            drive=f"proof-{weather}-{light}", seconds=policy.seconds, seed=policy.seed + number, weather=weather,
            light=light, pedestrians=policy.pedestrians, traffic=1.5,
        )
        for number, (weather, light) in enumerate(policy.conditions)
    ]  # fmt: skip


def prove(
    detector: Detector, policy: RedactionPolicy, proof: ProofPolicy, out_dir: Path, scratch: Path
) -> list[Band]:
    """Record, redact and count; writes `proof.json` and `before_after.png` into `out_dir`.

    Every band has the exact upper bound (95 %) on the miss rate that its counts allow.
    """
    truths, boxes, tiles = [], [], []
    for script in proof_scripts(proof):
        truth, found, shown = _one_drive(script, detector, policy, scratch / script.drive)
        condition = f"{script.weather} {script.light}"
        truths.append(truth.append_column("condition", pa.array([condition] * len(truth), pa.string())))
        boxes.append(found)
        tiles += shown
    bands = _bands(truths, boxes, proof)
    text = json.dumps(
        {
            "schema": 1,
            "mode": policy.mode,
            "models": dict(sorted(detector.models.items())),
            "cover": proof.cover,
            "seed": proof.seed,
            "bands": [asdict(band) for band in bands],
        },
        sort_keys=True,
        indent=1,
    )
    (out_dir / PROOF_FILE).write_text(text + "\n")
    if tiles:
        best = sorted(tiles, key=lambda tile: -tile[0])[:SHOWN]
        (out_dir / PICTURE_FILE).write_bytes(_png([pair for _, pair in best]))
    return bands


def _one_drive(
    script: DriveScript, detector: Detector, policy: RedactionPolicy, scratch: Path
) -> tuple[pa.Table, pa.Table, list[tuple[float, np.ndarray]]]:
    folder = record_drive(script, scratch / "landing", scratch / "truth")
    cameras = {r: s for r, s in read_drive_spec(folder / "drive.yaml").streams.items() if s.kind == "camera"}
    out = scratch / "redacted"
    out.mkdir()
    with LogReader(folder) as reader:
        redact_drive(reader, cameras, detector, policy, out, FolderSegments(scratch / "segments"))
        truth = pq.read_table(scratch / "truth" / script.drive / "privacy.parquet")
        shown = _pairs(reader, {s.topic: r for r, s in cameras.items()}, truth, out)
    return truth, pq.read_table(out / "boxes.parquet"), shown


def _bands(truths: Sequence[pa.Table], boxes: Sequence[pa.Table], proof: ProofPolicy) -> list[Band]:
    bands = []
    for kind, borders in sorted(proof.bands_px.items()):
        for low, high in zip(borders, [*borders[1:], float("inf")], strict=True):
            counts = [
                (
                    t["condition"][0].as_py() if len(t) else "",
                    measure_recall(b, t, kind, low, proof.cover, high),
                )
                for t, b in zip(truths, boxes, strict=True)
            ]
            total = Recall.of(sum(r.total for _, r in counts), sum(r.hidden for _, r in counts))
            bands += [_band(name, kind, low, high, recall) for name, recall in [*counts, ("all", total)]]
    return bands


def _band(condition: str, kind: str, low: float, high: float, recall: Recall) -> Band:
    share = round(recall.recall, 4) if recall.total else None
    top = None if high == float("inf") else high
    return Band(condition, kind, low, top, recall.total, recall.hidden, share, round(recall.miss_bound, 4))


def recall_from(bands: Sequence[Band | dict[str, Any]], kind: str, min_px: float) -> Recall:
    """Recall over all conditions of everything from `min_px` on."""
    rows = [band if isinstance(band, dict) else asdict(band) for band in bands]
    mine = [r for r in rows if r["condition"] == "all" and r["kind"] == kind and r["min_px"] >= min_px]
    return Recall.of(sum(r["total"] for r in mine), sum(r["hidden"] for r in mine))


def _pairs(
    reader: LogReader, roles: dict[str, str], truth: pa.Table, out: Path
) -> list[tuple[float, np.ndarray]]:
    """(size, picture) of the largest faces: what was drawn on the left, what was released on the right."""
    faces = truth.filter(pc.equal(truth["kind"], "face")).to_pylist()
    largest = sorted(faces, key=lambda row: row["x1"] - row["x2"])[:SHOWN]
    wanted = {(row["role"], row["sensor_ns"]): row for row in largest}
    after = {
        (role, frame.sensor_ns): frame
        for role in sorted({role for role, _ in wanted})
        for part in redacted_parts(out, role)
        for frame in read_redacted_clips(part, role)
        if (role, frame.sensor_ns) in wanted
    }
    pairs = []
    for raw in reader.messages(sorted(roles)):
        payload = image_payload(raw)
        key = (roles[raw.topic], payload.sensor_ns)
        if key in wanted and key in after:
            row = wanted[key]
            drawn = decode_still(payload.encoding, bytes(payload.data), 1 << 24)
            pairs.append((row["x2"] - row["x1"], _side_by_side(drawn, after[key], row)))
    return pairs


def _side_by_side(drawn: np.ndarray, released: RedactedFrame, row: dict[str, Any]) -> np.ndarray:
    import cv2

    x, y = (row["x1"] + row["x2"]) / 2, (row["y1"] + row["y2"]) / 2
    half = max(row["x2"] - row["x1"], row["y2"] - row["y1"]) * _AROUND / 2
    rows = slice(max(0, int(y - half)), int(y + half) + 1)
    columns = slice(max(0, int(x - half)), int(x + half) + 1)
    size = (_ZOOM_PX, _ZOOM_PX)
    sides = [
        cv2.resize(picture[rows, columns], size, interpolation=cv2.INTER_NEAREST)
        for picture in (drawn, released.pixels())
    ]
    return np.pad(np.concatenate(sides, axis=1), ((2, 2), (2, 2), (0, 0)), constant_values=255)


def _png(pairs: Sequence[np.ndarray]) -> bytes:
    import cv2

    blank = np.full_like(pairs[0], 255)
    padded = [*pairs, *([blank] if len(pairs) % 2 else [])]
    rows = [np.concatenate(padded[i : i + 2], axis=1) for i in range(0, len(padded), 2)]
    return bytes(cv2.imencode(".png", np.concatenate(rows)[..., ::-1])[1])
