from __future__ import annotations

import json
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from scripted_camera import STEP_NS, TOPIC, Log, Scripted, encoded, image_message, picture

from av_assets.domain.errors import RedactionError
from av_assets.domain.logs.drive_spec import StreamSpec
from av_assets.domain.logs.reader import LogReader
from av_assets.domain.privacy.detectors import load_detectors
from av_assets.domain.privacy.frames import read_redacted_clips
from av_assets.domain.privacy.hiding import hide
from av_assets.domain.privacy.redact import redact_drive, redact_stream
from av_assets.domain.privacy.report import StreamCounts

if TYPE_CHECKING:
    from pathlib import Path

    from av_assets.policies.redaction import RedactionPolicy

CAMERAS = {"camera_front": StreamSpec(topic=TOPIC, kind="camera", rate_hz=10)}
BOX = (40.0, 20.0, 80.0, 60.0, 0.9)


def test_frame_without_findings_passes_byte_identical(policy: RedactionPolicy):
    stills = [encoded(picture(0)), encoded(picture(1), ".png")]
    out = list(redact_stream([image_message(d, i) for i, d in enumerate(stills)], [Scripted()], policy))
    assert [row.data for row, _ in out] == stills
    assert [row.encoding for row, _ in out] == ["jpeg", "png"]
    assert all(row.log_ns - row.sensor_ns == 20_000_000 and row.regions == 0 for row, _ in out)


def test_hidden_region_keeps_cell_means_and_nothing_else(policy: RedactionPolicy):
    first, second = picture(1), picture(2)
    inside = (slice(10, 90), slice(30, 110))
    for rgb in (first, second):
        hide(rgb, np.array([38.0, 18.0, 102.0, 82.0]), "face", policy)
    region = first[inside]
    assert len(np.unique(region[12:68, 12:68].reshape(-1, 3), axis=0)) <= policy.face.cells**2
    # Two pictures with equal cell means give the same region: what differed within cells is gone.
    shuffled = picture(1)
    cell = shuffled[18:30, 38:50].reshape(-1, 3)
    shuffled[18:30, 38:50] = np.random.default_rng(3).permutation(cell).reshape(12, 12, 3)
    hide(shuffled, np.array([38.0, 18.0, 102.0, 82.0]), "face", policy)
    assert (shuffled[inside] == region).mean() > 0.9


def test_released_picture_differs_where_the_face_was_and_only_there(policy: RedactionPolicy):
    smooth = cv2.resize(picture(4, (12, 20)), (160, 96), interpolation=cv2.INTER_LINEAR)
    messages = [image_message(encoded(smooth), 0)]
    [(row, regions)] = redact_stream(messages, [Scripted(lambda _: [BOX])], policy)
    before = cv2.imdecode(np.frombuffer(encoded(smooth), np.uint8), cv2.IMREAD_COLOR).astype(int)
    after = cv2.imdecode(np.frombuffer(row.data, np.uint8), cv2.IMREAD_COLOR).astype(int)
    change = np.abs(before - after)
    assert change[20:60, 40:80].mean() > 5 * change[:, 100:].mean()
    assert np.allclose(regions[0].box, [36, 16, 84, 64])


def test_missed_frames_are_covered_by_their_neighbours(policy: RedactionPolicy):
    def moving(index: int) -> list[tuple[float, ...]]:
        return [(20.0 + 2 * index, 20.0, 50.0 + 2 * index, 50.0, 0.9)] if index in (8, 9, 13, 14) else []

    messages = [image_message(encoded(picture(i)), i) for i in range(24)]
    out = list(redact_stream(messages, [Scripted(moving)], policy, rate_hz=10))
    covered = [bool(regions) for _, regions in out]
    reach = policy.fill_frames(10)
    assert reach == 5
    assert covered == [8 - reach <= i <= 14 + reach for i in range(24)]
    truth = np.array([20.0 + 2 * 11, 20.0, 50.0 + 2 * 11, 50.0])
    [gap] = out[11][1]
    assert (gap.box[:2] <= truth[:2]).all()
    assert (gap.box[2:] >= truth[2:]).all()


def test_faint_finding_that_nothing_confirms_hides_its_own_frame_only(policy: RedactionPolicy):
    faint = Scripted(lambda index: [(40.0, 20.0, 80.0, 40.0, 0.01)] if index == 5 else [], kind="plate")
    messages = [image_message(encoded(picture(i)), i) for i in range(12)]
    out = list(redact_stream(messages, [faint], policy, rate_hz=10))
    assert [i for i, (_, regions) in enumerate(out) if regions] == [5]


def test_stride_leaves_no_hole(policy: RedactionPolicy):
    every_third = policy.model_copy(update={"plate": policy.plate.model_copy(update={"stride": 3})})
    messages = [image_message(encoded(picture(i)), i) for i in range(10)]
    detector = Scripted(lambda _: [BOX], kind="plate")
    out = list(redact_stream(messages, [detector], every_third, rate_hz=1))
    assert all(regions for _, regions in out)


def test_corrupt_frames_are_dropped_and_counted(tmp_path: Path, policy: RedactionPolicy):
    good = encoded(picture(0))
    bomb = bytearray(good)
    at = good.index(b"\xff\xc0") + 5
    bomb[at : at + 4] = b"\xff\xff\xff\xff"
    bad = [
        good[: len(good) // 2],
        b"\xff\xd8garbage",
        b"",
        bytes(bomb),
        b"\x89PNG\r\n\x1a\n" + b"\0" * 40,
        good[:9],
    ]
    messages = [image_message(d, i) for i, d in enumerate([good, *bad, good])]
    summary = redact_drive(Log(messages), CAMERAS, [Scripted()], policy, tmp_path)
    assert (summary.frames_in, summary.released) == (8, 2)
    assert sum(summary.dropped.values()) == 6
    assert {"truncated_frame", "corrupt_frame", "frame_too_large"} <= set(summary.dropped)


def test_frame_of_a_failing_detector_is_not_released(policy: RedactionPolicy):
    def fail(index: int) -> list[tuple[float, ...]]:
        if index == 1:
            raise MemoryError
        return []

    counts = StreamCounts()
    messages = [image_message(encoded(picture(i)), i) for i in range(3)]
    out = list(redact_stream(messages, [Scripted(fail)], policy, counts=counts))
    assert [row.sensor_ns % (10 * STEP_NS) // STEP_NS for row, _ in out] == [0, 2]
    assert counts.dropped == {"detector_failed": 1}


def test_drive_of_which_nothing_is_released_fails(tmp_path: Path, policy: RedactionPolicy):
    with pytest.raises(RedactionError) as caught:
        redact_drive(Log([image_message(b"\xff\xd8no", 0)]), CAMERAS, [Scripted()], policy, tmp_path)
    assert caught.value.code == "no_frame_released"


def test_drive_without_camera_says_so(tmp_path: Path, policy: RedactionPolicy):
    summary = redact_drive(Log([]), {}, [Scripted()], policy, tmp_path)
    assert summary.note == "drive has no camera"
    assert not list(tmp_path.iterdir())


def test_bundle_is_complete_and_reproducible(tmp_path: Path, policy: RedactionPolicy):
    messages = [image_message(encoded(picture(i)), i) for i in (1, 0, 2, 3)]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        redact_drive(Log(messages), CAMERAS, [Scripted(lambda _: [BOX])], policy, tmp_path / name)
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert files == ["boxes.parquet", "camera_front.parquet", "contact_sheet.png", "redaction_report.json"]
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
    stamps = pq.read_table(tmp_path / "a/camera_front.parquet")["sensor_ns"].to_pylist()
    assert stamps == sorted(stamps)
    report = json.loads((tmp_path / "a/redaction_report.json").read_text())
    assert report["streams"]["camera_front"]["found"] == {"face": 4}
    assert report["models"] == {"face": "0" * 64}
    assert pq.read_table(tmp_path / "a/boxes.parquet")["kind"].to_pylist() == ["face"] * 4


def test_real_h264_drive_keeps_every_frame(real_data: Path, tmp_path: Path, policy: RedactionPolicy):
    cameras = {"camera_front": StreamSpec(topic="/camera/front/video", kind="camera", rate_hz=25)}
    with LogReader(real_data / "drives/carnd_h264_video/carnd_h264_video.mcap") as reader:
        summary = redact_drive(reader, cameras, [Scripted()], policy, tmp_path)
    assert (summary.frames_in, summary.released, dict(summary.dropped)) == (38, 38, {})
    frames = list(read_redacted_clips(tmp_path / "camera_front.parquet", "camera_front"))
    assert frames[-1].pixels().shape == (720, 1280, 3)


@pytest.mark.parametrize("name", ["carnd_ros1_jpeg_lz4.bag", "carnd_ros1_raw_bz2.bag"])
def test_real_ros1_pictures_are_released(name: str, real_data: Path, tmp_path: Path, policy: RedactionPolicy):
    with LogReader(real_data / "bags" / name) as reader:
        [topic] = [t for t, info in reader.topics.items() if "Image" in info.msgtype]
        cameras = {"camera_front": StreamSpec(topic=topic, kind="camera", rate_hz=25)}
        summary = redact_drive(reader, cameras, [Scripted()], policy, tmp_path)
    assert summary.released == summary.frames_in > 0


def test_astronaut_loses_her_face(weights: Path, tmp_path: Path, policy: RedactionPolicy):
    data = pytest.importorskip("skimage.data")
    face = data.astronaut()
    messages = [image_message(encoded(face), 0)]
    detectors = load_detectors(weights, policy)
    summary = redact_drive(Log(messages), CAMERAS, detectors, policy, tmp_path)
    assert summary.found == {"face": 1}
    [frame] = read_redacted_clips(tmp_path / "camera_front.parquet", "camera_front")
    assert not len(detectors[0].detect(frame.pixels()))
