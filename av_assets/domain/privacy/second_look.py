"""A second look at what redaction released, by detectors that share nothing with the first ones.

Faces: a cascade of local binary patterns (Liao et al. 2007) that scikit-image ships. Writing: a text detector with
differentiable binarization (Liao et al. 2020, arXiv:1911.08947), since a plate that was missed is writing that can be
read. What they find is a question to a person, not a proven miss: both see things that are not there.
Belongs here: the two detectors, the sample and its figures. Does not belong here: hiding, files of the bundle.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from av_assets.domain.privacy.audit import miss_bound
from av_assets.domain.privacy.frames import RedactedFrame, read_redacted_clips, redacted_parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from av_assets.policies.audit import AuditPolicy

AUDIT_FILE = "audit.json"
_MULTIPLE = 32
_MAX_SIDE_PX = 2048


class SecondDetector(Protocol):
    """Finds one kind of thing; `model` says by what."""

    kind: str
    model: str

    def find(self, rgb: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 RGB -> (N, 5) float32 of x1, y1, x2, y2 (px), score."""


class CascadeFaces:
    """Upright faces seen from the front."""

    kind = "face"
    model = "lbpcascade_frontalface"

    def __init__(self, policy: AuditPolicy) -> None:
        from skimage.data import lbp_frontal_face_cascade_filename
        from skimage.feature import Cascade

        self._policy = policy
        self._cascade = Cascade(lbp_frontal_face_cascade_filename())

    def find(self, rgb: np.ndarray) -> np.ndarray:
        least = self._policy.face_min_px
        most = min(rgb.shape[:2]) // 2
        if most <= least:
            return np.zeros((0, 5), np.float32)
        found = self._cascade.detect_multi_scale(
            img=rgb, scale_factor=self._policy.face_scale_step, step_ratio=1.5,
            min_size=(least, least), max_size=(most, most),
            min_neighbor_number=self._policy.face_neighbours,
        )  # fmt: skip
        rows = [[f["c"], f["r"], f["c"] + f["width"], f["r"] + f["height"], 1.0] for f in found]
        return np.array(rows, np.float32).reshape(-1, 5)


class TextDetector:
    """Writing of the size and shape of a plate."""

    kind = "writing"

    def __init__(self, onnx_path: Path, policy: AuditPolicy, threads: int) -> None:
        """Raises: ModelError: the file is missing or no ONNX model."""
        from av_assets.domain.privacy.sessions import open_session, weights_digest

        self.model = weights_digest(onnx_path)
        self._session, self._policy = open_session(onnx_path, threads), policy

    def find(self, rgb: np.ndarray) -> np.ndarray:
        import cv2

        picture, factor = self._enlarged(rgb)
        planes = (picture[..., ::-1].astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]
        heat = self._session.run(None, {self._session.get_inputs()[0].name: np.ascontiguousarray(planes)})[0][
            0, 0
        ]
        core = (heat > self._policy.text_pixel_score).astype(np.uint8)
        contours, _ = cv2.findContours(core, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
        rows = [row for contour in contours[:1000] if (row := self._box(contour, heat)) is not None]
        boxes = np.array(rows, np.float32).reshape(-1, 5)
        limits = np.tile([rgb.shape[1], rgb.shape[0]], 2)
        boxes[:, :4] = np.clip(boxes[:, :4] * np.tile(factor, 2), 0, limits)
        wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        low, top = self._policy.text_aspect
        shaped = (wide >= low * high) & (wide <= top * high) & (high >= self._policy.text_min_height_px)
        narrow = wide <= self._policy.text_max_width_share * rgb.shape[1]
        return np.asarray(boxes[shaped & narrow])

    def _enlarged(self, rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        import cv2

        height, width = rgb.shape[:2]
        scale = max(1.0, self._policy.text_min_side_px / min(height, width))
        scale = min(scale, _MAX_SIDE_PX / max(height, width))
        high, wide = (max(_MULTIPLE, round(side * scale / _MULTIPLE) * _MULTIPLE) for side in (height, width))
        return cv2.resize(rgb, (wide, high)), np.array([width / wide, height / high], np.float32)

    def _box(self, contour: np.ndarray, heat: np.ndarray) -> list[float] | None:
        import cv2

        x, y, wide, high = cv2.boundingRect(contour)
        score = float(heat[y : y + high, x : x + wide].mean())
        if min(wide, high) < 3 or score < self._policy.text_box_score:
            return None
        # The network gives the core of a line; area over perimeter times the ratio is what was cut off (eq. 10).
        grow = wide * high * self._policy.text_unclip / (2 * (wide + high))
        return [x - grow, y - grow, x + wide + grow, y + high + grow, score]


@dataclass(frozen=True)
class Audit:
    """What a second look found in a sample of released frames.

    Attributes:
        flagged: kind -> sampled frames with at least one finding.
        findings: role, sensor_ns, kind, sides (px) and score of each; no pixels.
        miss_bound: upper bound on the share of frames in which these detectors would find something.
    """

    sampled: int
    released: int
    flagged: dict[str, int]
    flagged_frames: int
    findings: tuple[dict[str, Any], ...]
    models: dict[str, str]
    confidence: float
    miss_bound: float

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "schema": 1, "findings": list(self.findings)}


def sample_rows(counts: Sequence[tuple[str, int]], frames: int, seed: int) -> dict[str, list[int]]:
    """For each file (name, rows) the row numbers to look at: a seeded draw over all rows, without repetition."""
    total = sum(rows for _, rows in counts)
    rng = np.random.default_rng(seed)
    drawn = (
        np.sort(rng.choice(total, size=min(frames, total), replace=False)) if total else np.zeros(0, np.int64)
    )
    chosen, start = {}, 0
    for name, rows in counts:
        inside = drawn[(drawn >= start) & (drawn < start + rows)] - start
        if len(inside):
            chosen[name] = [int(row) for row in inside]
        start += rows
    return chosen


def audit(
    frames: Iterable[RedactedFrame], released: int, detectors: Sequence[SecondDetector], policy: AuditPolicy
) -> Audit:
    """Look at `frames`, a sample of `released` ones. Only what redaction released can be passed here."""
    flagged: Counter[str] = Counter()
    findings: list[dict[str, Any]] = []
    sampled = any_found = 0
    for frame in frames:
        sampled += 1
        rgb, before = frame.pixels(), len(findings)
        for detector in detectors:
            found = detector.find(rgb)
            flagged[detector.kind] += bool(len(found))
            findings += [_finding(frame, detector.kind, row) for row in found]
        any_found += len(findings) > before
    models = {detector.kind: detector.model for detector in detectors}
    kinds = {kind: flagged[kind] for kind in models}
    bound = round(miss_bound(any_found, sampled, policy.confidence), 6)
    return Audit(sampled, released, kinds, any_found, tuple(findings), models, policy.confidence, bound)


def audit_output(
    folder: Path, roles: Sequence[str], detectors: Sequence[SecondDetector], policy: AuditPolicy
) -> Audit:
    """Audit a seeded sample of all frames of a finished bundle and write `audit.json` into it."""
    import pyarrow.parquet as pq

    parts = {f"{role}/{path.name}": (path, role) for role in roles for path in redacted_parts(folder, role)}
    counts = [(name, int(pq.read_metadata(path).num_rows)) for name, (path, _) in sorted(parts.items())]
    chosen = sample_rows(counts, policy.sample_frames, policy.seed)
    frames = (
        frame
        for name, rows in chosen.items()
        for number, frame in enumerate(read_redacted_clips(*parts[name]))
        if number in rows
    )
    found = audit(frames, sum(rows for _, rows in counts), detectors, policy)
    (folder / AUDIT_FILE).write_text(json.dumps(found.to_dict(), sort_keys=True, indent=1) + "\n")
    return found


def _finding(frame: RedactedFrame, kind: str, row: np.ndarray) -> dict[str, Any]:
    sides = dict(zip(("x1", "y1", "x2", "y2", "score"), (round(float(v), 2) for v in row), strict=True))
    return {"role": frame.role, "sensor_ns": frame.sensor_ns, "kind": kind, **sides}
