from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scripted_camera import Scripted, decoded, encoded, image_message, picture, redacted, still, stills

from av_assets.domain.privacy import sources, stream
from av_assets.domain.privacy.detectors import load_detector
from av_assets.domain.privacy.hiding import hide
from av_assets.policies.detection import DetectionPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from av_assets.policies.redaction import RedactionPolicy

BOX = (40.0, 20.0, 80.0, 60.0, 0.9)


def test_frame_without_findings_passes_byte_identical(policy: RedactionPolicy):
    pictures = [still(0), encoded(picture(1), ".png")]
    out, counts = redacted([image_message(d, i) for i, d in enumerate(pictures)], Scripted(), policy)
    assert [released.row.data for released in out] == pictures
    assert [released.row.encoding for released in out] == ["jpeg", "png"]
    assert all(r.row.log_ns - r.row.sensor_ns == 20_000_000 and r.row.regions == 0 for r in out)
    assert (counts.frames_in, counts.released, counts.redacted) == (2, 2, 0)


@pytest.mark.parametrize("kind", ["face", "plate", "head_band", "plate_band"])
def test_hidden_region_keeps_cell_means_and_nothing_else(kind: str, policy: RedactionPolicy):
    noise = np.random.default_rng(1).integers(0, 256, (96, 160, 3), dtype=np.uint8)
    mixed = noise.copy()
    hide(noise, np.array([38.0, 18.0, 102.0, 82.0]), kind, policy)
    left, top, right, bottom = 31, 11, 109, 89  # 20 % larger, and rounded outwards
    region = noise[top:bottom, left:right].reshape(-1, 3)
    assert len(np.unique(region, axis=0)) <= policy.kind(kind).cells ** 2
    # Another picture with equal cell means gives the same region: what differed within cells is gone.
    cell = -(-(right - left) // policy.kind(kind).cells)
    assert cell >= policy.min_cell_px
    first = mixed[top : top + cell, left : left + cell]
    first[...] = np.random.default_rng(3).permutation(first.reshape(-1, 3)).reshape(first.shape)
    hide(mixed, np.array([38.0, 18.0, 102.0, 82.0]), kind, policy)
    assert np.array_equal(mixed, noise)


def test_small_regions_become_few_cells(policy: RedactionPolicy):
    noise = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    hide(noise, np.array([10.0, 10.0, 18.0, 18.0]), "face", policy)
    assert len(np.unique(noise[9:19, 9:19].reshape(-1, 3), axis=0)) <= 4


def test_solid_paints_one_colour(policy: RedactionPolicy):
    solid = policy.model_copy(update={"mode": "solid", "solid_rgb": (7, 8, 9)})
    rgb = picture(1)
    hide(rgb, np.array([40.0, 20.0, 80.0, 60.0]), "face", solid)
    assert (rgb[16:64, 36:84] == (7, 8, 9)).all()
    assert (rgb[:16] == picture(1)[:16]).all()


def test_missed_frames_are_covered_by_their_neighbours(policy: RedactionPolicy):
    def moving(n: int) -> Sequence[Sequence[float]]:
        return [(20.0 + 2 * n, 20.0, 50.0 + 2 * n, 50.0, 0.9)] if n in (8, 9, 13, 14) else []

    out, counts = redacted(stills(24), Scripted(face=moving), policy)
    assert [bool(r.hidden) for r in out] == [8 - 5 <= i <= 14 + 5 for i in range(24)]
    [gap] = out[11].hidden
    assert not gap.found
    assert (gap.box[:2] <= [42, 20]).all()
    assert (gap.box[2:] >= [72, 50]).all()
    assert {r.track for released in out for r in released.hidden} == {0}
    assert (counts.found, counts.carried) == ({"face": 4}, {"face": 13})


def test_an_object_is_followed_through_a_pan(policy: RedactionPolicy):
    """A camera that turns moves a small face by half its width a frame; it is missed in every other frame."""

    def panning(n: int) -> Sequence[Sequence[float]]:
        return [(10.0 + 5 * n, 30.0, 20.0 + 5 * n, 42.0, 0.9)] if n % 2 == 0 and n < 28 else []

    out, _ = redacted(stills(28), Scripted(face=panning), policy)
    for n, released in enumerate(out[:26]):
        assert {r.track for r in released.hidden} == {0}
        [box] = [r.box for r in released.hidden]
        assert box[0] <= 10 + 5 * n
        assert box[2] >= min(20 + 5 * n, 160)


def test_two_objects_that_pass_each_other_keep_their_own_cover(policy: RedactionPolicy):
    def crossing(n: int) -> Sequence[Sequence[float]]:
        right, left = 10.0 + 6 * n, 130.0 - 6 * n
        boxes = [(right, 20.0, right + 20, 40.0, 0.9), (left, 44.0, left + 20, 64.0, 0.8)]
        return [] if n in (9, 10, 11) else boxes

    out, _ = redacted(stills(20), Scripted(face=crossing), policy)
    for n in (9, 10, 11):
        covered = [r.box for r in out[n].hidden]
        for x, y in ((10 + 6 * n, 20), (130 - 6 * n, 44)):
            assert any((b[:2] <= [x, y]).all() and (b[2:] >= [x + 20, y + 20]).all() for b in covered)


def test_faint_finding_that_nothing_confirms_hides_its_own_frame_only(policy: RedactionPolicy):
    faint = Scripted(plate=lambda n: [(40.0, 20.0, 80.0, 40.0, 0.01)] if n == 5 else [])
    out, _ = redacted(stills(12), faint, policy)
    assert [i for i, released in enumerate(out) if released.hidden] == [5]


def test_slow_camera_is_filled_from_frame_to_frame(policy: RedactionPolicy):
    seen = Scripted(face=lambda n: [BOX] if n in (2, 4) else [])
    slow = [image_message(still(i), 10 * i) for i in range(7)]
    out, _ = redacted(slow, seen, policy, rate_hz=1)
    assert [i for i, released in enumerate(out) if released.hidden] == [1, 2, 3, 4, 5]


def test_detector_sees_batches(policy: RedactionPolicy):
    detector = Scripted()
    redacted(stills(20), detector, policy)
    assert detector.batches == [list(range(8)), list(range(8, 16)), list(range(16, 20))]


def test_only_the_frame_on_which_the_detector_fails_is_blocked(policy: RedactionPolicy):
    def fail(number: int) -> Sequence[Sequence[float]]:
        if number in (3, 12):
            raise MemoryError
        return [BOX] if number == 4 else []

    out, counts = redacted(stills(16), Scripted(face=fail), policy)
    assert [r.row.sensor_ns % 10**10 // 10**8 for r in out] == [i for i in range(16) if i not in (3, 12)]
    assert counts.dropped == {"detector_failed": 2}
    assert counts.frames_in == counts.released + 2


@pytest.mark.parametrize("flaw", ["kind", "frame", "shape", "nan"])
def test_detector_that_does_not_answer_blocks_the_frames(flaw: str, policy: RedactionPolicy):
    class Flawed(Scripted):
        def detect(self, frames: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
            answer = super().detect(frames)
            if flaw == "frame":
                return answer[1:]
            for found in answer:
                if flaw == "kind":
                    del found["plate"]
                else:
                    found["plate"] = np.zeros((1, 4)) if flaw == "shape" else np.full((1, 5), np.nan)
            return answer

    out, counts = redacted(stills(4), Flawed(), policy)
    assert not out
    assert counts.dropped == {"detector_failed": 4}


def test_frame_that_cannot_be_encoded_is_blocked(policy: RedactionPolicy, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> bytes:
        raise ValueError("no such table")

    monkeypatch.setattr("av_assets.domain.privacy.stream.encode_like", broken)
    out, counts = redacted(stills(12), Scripted(face=lambda n: [BOX] if n == 2 else []), policy)
    assert [r.row.sensor_ns % 10**10 // 10**8 for r in out] == [8, 9, 10, 11]
    assert counts.dropped == {"not_encoded": 8}


@pytest.mark.parametrize("stage", ["decode_still", "sha256_bytes"])
def test_whatever_a_decoder_raises_costs_its_own_frame(
    stage: str, policy: RedactionPolicy, monkeypatch: pytest.MonkeyPatch
):
    step, calls = getattr(sources, stage), iter(range(100))

    def sometimes(*arguments: object) -> object:
        if next(calls) == 3:
            raise ValueError("a table nobody has seen before")
        return step(*arguments)

    monkeypatch.setattr(sources, stage, sometimes)
    out, counts = redacted(stills(6), Scripted(), policy)
    assert [r.row.sensor_ns % 10**10 // 10**8 for r in out] == [0, 1, 2, 4, 5]
    assert counts.dropped == {"undecodable_frame": 1}


def test_stages_run_side_by_side(policy: RedactionPolicy, monkeypatch: pytest.MonkeyPatch):
    """Three stages of 10 ms a frame take little more than 10 ms a frame together."""

    def slowed(step: Callable[..., object]) -> Callable[..., object]:
        def slow(*arguments: object) -> object:
            time.sleep(0.01)
            return step(*arguments)

        return slow

    class Slow(Scripted):
        def detect(self, frames: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
            time.sleep(0.01 * len(frames))
            return super().detect(frames)

    monkeypatch.setattr(sources, "decode_still", slowed(sources.decode_still))
    monkeypatch.setattr(stream, "encode_like", slowed(stream.encode_like))
    small = policy.model_copy(update={"batch_frames": 4})
    started = time.perf_counter()
    out, _ = redacted(stills(60), Slow(face=lambda _: [BOX]), small)
    assert len(out) == 60
    assert time.perf_counter() - started < 0.7 * 60 * 0.03


def test_real_face_is_no_face_to_its_detector_any_more(weights: Path, policy: RedactionPolicy):
    astronaut = pytest.importorskip("skimage.data").astronaut()
    detector = load_detector(weights, DetectionPolicy.load(), ("face", "plate"))
    source = encoded(astronaut)
    [released], _ = redacted([image_message(source, 0)], detector, policy)
    before, after = (
        detector.detect([decoded(data)])[0]["face"][:, 4].max(initial=0)
        for data in (source, released.row.data)
    )
    assert before > 0.6
    assert after < 0.3
