"""The second look: what it sees by itself, what it samples, what it counts."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.privacy.audit import miss_bound
from av_assets.domain.privacy.frames import ClipRow, ClipWriter, read_redacted_clips
from av_assets.domain.privacy.second_look import CascadeFaces, TextDetector, audit, sample_rows
from av_assets.policies.audit import AuditPolicy

POLICY = AuditPolicy.load()


def plate(hidden: bool = False) -> np.ndarray:
    """A street of grey with one plate of known place: (200, 150) to (300, 175)."""
    rgb = np.full((384, 640, 3), 90, np.uint8)
    cv2.rectangle(rgb, (200, 150), (300, 175), (240, 240, 240), -1)
    if not hidden:
        cv2.putText(rgb, "B AV 1234", (205, 170), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (10, 10, 10), 2)
    return rgb


def overlap(box: np.ndarray, sides: tuple[int, int, int, int]) -> float:
    wide = min(box[2], sides[2]) - max(box[0], sides[0])
    high = min(box[3], sides[3]) - max(box[1], sides[1])
    return max(0.0, wide) * max(0.0, high) / ((sides[2] - sides[0]) * (sides[3] - sides[1]))


def test_writing_on_a_plate_is_seen_and_a_covered_plate_is_not(weights: Path) -> None:
    detector = TextDetector(weights / "text.onnx", POLICY, threads=1)
    [found] = detector.find(plate())
    assert overlap(found, (205, 155, 295, 172)) > 0.8
    assert len(detector.find(plate(hidden=True))) == 0


def test_face_of_a_photograph_is_seen_and_its_mosaic_is_not() -> None:
    from skimage.data import astronaut

    rgb = astronaut()[:320, :400]
    detector = CascadeFaces(POLICY)
    assert any(overlap(box, (185, 85, 255, 155)) > 0.7 for box in detector.find(rgb))
    hidden = rgb.copy()
    hidden[50:190, 140:300] = hidden[50:190, 140:300].mean((0, 1)).astype(np.uint8)
    assert not any(overlap(box, (185, 85, 255, 155)) > 0.3 for box in detector.find(hidden))


def test_picture_too_small_for_any_face_is_no_error() -> None:
    assert CascadeFaces(POLICY).find(np.zeros((20, 30, 3), np.uint8)).shape == (0, 5)


@given(st.lists(st.integers(0, 40), max_size=5), st.integers(1, 50), st.integers(0, 9))
def test_sample_is_seeded_inside_and_without_repetition(rows: list[int], frames: int, seed: int) -> None:
    counts = [(str(n), r) for n, r in enumerate(rows)]
    chosen = sample_rows(counts, frames, seed)
    assert chosen == sample_rows(counts, frames, seed)
    assert sum(len(picked) for picked in chosen.values()) == min(frames, sum(rows))
    for name, picked in chosen.items():
        assert picked == sorted(set(picked))
        assert 0 <= picked[0] <= picked[-1] < dict(counts)[name]


class Scripted:
    kind, model = "face", "scripted"

    def __init__(self, *finds: int) -> None:
        self.finds = list(finds)

    def find(self, rgb: np.ndarray) -> np.ndarray:
        return np.tile(np.array([1, 2, 3, 4, 0.5], np.float32), (self.finds.pop(0), 1))


def test_figures_count_frames_not_findings_and_carry_the_exact_bound(tmp_path: Path) -> None:
    path = tmp_path / "00000.parquet"
    jpeg = cv2.imencode(".jpg", plate())[1].tobytes()
    with ClipWriter(path) as writer:
        for number in range(5):
            writer.write(ClipRow(number, number, "jpeg", jpeg, 0, "0" * 64))
    found = audit(read_redacted_clips(path, "cam"), 50, [Scripted(0, 2, 0, 1, 0)], POLICY)
    assert (found.sampled, found.flagged, found.flagged_frames) == (5, {"face": 2}, 2)
    assert found.miss_bound == pytest.approx(miss_bound(2, 5), abs=1e-6)
    assert [(f["sensor_ns"], f["x2"]) for f in found.findings] == [(1, 3.0), (1, 3.0), (3, 3.0)]
    assert found.to_dict()["released"] == 50
