from __future__ import annotations

from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from scripted_camera import Log, Scripted, image_message, log_ns, number_of, picture

from av_assets.domain.errors import RedactionError
from av_assets.domain.evidence.segments import FolderSegments
from av_assets.domain.logs.drive_spec import StreamSpec
from av_assets.domain.logs.reader import LogReader, image_payload
from av_assets.domain.privacy.frames import RedactedFrame, read_redacted_clips, redacted_parts
from av_assets.domain.privacy.pictures import VideoDecoder
from av_assets.domain.privacy.redact import redact_drive
from av_assets.domain.privacy.video_out import IntraEncoder, decode_unit
from av_assets.domain.privacy.windows import camera_stream, messages_of, windows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from av_assets.domain.logs.files.blocks import RawMessage
    from av_assets.domain.privacy.report import RedactionSummary
    from av_assets.policies.redaction import RedactionPolicy

TOPIC = "/camera_front/image/compressed"
CAMERAS = {"camera_front": StreamSpec(topic=TOPIC, kind="camera", rate_hz=10)}
MAX_PIXELS = 1 << 24


def recorded(
    count: int, gop: int, b_frames: int = 0, skip: int = 0, codec: str = "h264", split: bool = False
) -> list[RawMessage]:
    """A stream of numbered pictures as a camera would record it; B-frames make units come in another order.

    H.265 has open groups of pictures. `split` sends parameter sets as a message of their own.
    """
    encoder = av.CodecContext.create({"h264": "libx264", "h265": "libx265"}[codec], "w")
    encoder.width, encoder.height, encoder.pix_fmt = 160, 96, "yuv420p"
    encoder.gop_size, encoder.max_b_frames, encoder.thread_count = gop, b_frames, 1
    encoder.framerate = 10
    parameters = f"keyint={gop}:scenecut=0:bframes={b_frames}:repeat-headers=1:annexb=1"
    more = ":open-gop=1:log-level=none:pools=none:frame-threads=1"
    encoder.options = {
        "preset": "ultrafast",
        "crf": "10",
        f"x{codec[1:]}-params": parameters + (more if codec == "h265" else ""),
    }
    units = []
    for number in range(count):
        frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24").reformat(format="yuv420p")
        frame.pts = number
        units += [bytes(packet) for packet in encoder.encode(frame)]
    units += [bytes(packet) for packet in encoder.encode(None)]
    assert len(units) == count
    messages = [image_message(unit, i, codec) for i, unit in enumerate(units)][skip:]
    return [piece for raw in messages for piece in _split(raw)] if split else messages


def _split(raw: RawMessage) -> list[RawMessage]:
    unit = bytes(image_payload(raw).data)
    at = unit.find(b"\0\0\1\x65")
    if at < 0:
        return [raw]
    index = (raw.log_ns - log_ns(0)) // 10**8
    return [
        image_message(unit[:at], 0, "h264", at_ns=raw.log_ns - 10**7),
        image_message(unit[at:], index, "h264"),
    ]


def nal_types(unit: bytes) -> list[int]:
    starts = [i + 3 for i in range(len(unit) - 3) if unit[i : i + 3] == b"\0\0\1"]
    return [unit[i] & 31 for i in starts]


def run(
    messages: Sequence[RawMessage], detector: Scripted, policy: RedactionPolicy, folder: Path
) -> RedactionSummary:
    folder.mkdir()
    return redact_drive(Log(messages), CAMERAS, detector, policy, folder, FolderSegments(folder / "kept"))


def frames_of(folder: Path) -> list[RedactedFrame]:
    return [
        f
        for part in redacted_parts(folder, "camera_front")
        for f in read_redacted_clips(part, "camera_front")
    ]


def test_every_unit_decodes_by_itself(policy: RedactionPolicy):
    encoder = IntraEncoder(policy)
    for number in (0, 1, 2, 700):
        unit = encoder.encode(picture(number))
        assert [t for t in nal_types(unit) if t != 6] == [7, 8, 5]
        assert number_of(decode_unit(unit, MAX_PIXELS)) == number


def test_pictures_do_not_depend_on_those_before(policy: RedactionPolicy):
    encoder, other = IntraEncoder(policy), IntraEncoder(policy)
    for number in range(6):
        encoder.encode(picture(number))
    other.encode(picture(9))
    after_six, after_one = (decode_unit(e.encode(picture(50)), MAX_PIXELS) for e in (encoder, other))
    assert np.array_equal(after_six, after_one)


def test_size_may_change(policy: RedactionPolicy):
    encoder = IntraEncoder(policy)
    shapes = [
        decode_unit(encoder.encode(picture(1, size)), MAX_PIXELS).shape for size in ((96, 160), (64, 200))
    ]
    assert shapes == [(96, 160, 3), (64, 200, 3)]
    assert not encoder.fits(picture(1, (95, 160)))


@pytest.mark.parametrize("unit", [b"", b"\0\0\1\x65nonsense", b"no unit"])
def test_a_unit_without_a_picture_is_an_error(unit: bytes):
    with pytest.raises(RedactionError):
        decode_unit(unit, MAX_PIXELS)


@pytest.mark.parametrize(
    ("codec", "gop", "b_frames"),
    [("h264", 60, 0), ("h264", 12, 2), ("h264", 1, 0), ("h265", 12, 2), ("h265", 60, 0)],
)
def test_parts_of_video_are_what_one_piece_would_be(
    codec: str, gop: int, b_frames: int, tmp_path: Path, policy: RedactionPolicy
):
    """Parts begin inside groups of pictures; reading goes back to the key frame before."""
    short = policy.model_copy(update={"segment_s": 2.0})
    messages = recorded(60, gop, b_frames, codec=codec)
    detector = Scripted(face=lambda n: [(20.0, 20.0, 60.0, 60.0, 0.9)] if n == 20 else [])
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert (
        run(messages, detector, policy, whole).total.to_dict()
        == run(messages, detector, short, cut).total.to_dict()
    )
    assert [len(redacted_parts(f, "camera_front")) for f in (whole, cut)] == [1, 3]
    assert [f.sensor_ns for f in frames_of(cut)] == [log_ns(i) - 20_000_000 for i in range(60)]
    for one, other in zip(frames_of(whole), frames_of(cut), strict=True):
        assert np.array_equal(one.pixels(), other.pixels())
    numbers = [number_of(f.pixels()) for f in frames_of(cut)]
    assert sorted(numbers) == list(range(60))


def test_parameter_sets_may_come_as_a_message_of_their_own(tmp_path: Path, policy: RedactionPolicy):
    short = policy.model_copy(update={"segment_s": 2.0})
    messages = recorded(60, 12, split=True)
    log = Log(messages)
    total = run(messages, Scripted(), short, tmp_path / "out").total
    assert (total.frames_in, total.released, dict(total.dropped)) == (65, 60, {"no_picture": 5})
    stream = camera_stream(log, TOPIC, 10)
    *_, last = windows(log, stream, short)
    begins = next(messages_of(log, stream, last)).log_ns
    assert log_ns(60) - 5 * 10**9 < begins < last.look_ns


def test_units_before_the_first_key_frame_are_counted(tmp_path: Path, policy: RedactionPolicy):
    total = run(recorded(30, 12, skip=5), Scripted(), policy, tmp_path / "out").total
    assert (total.frames_in, total.released, sum(total.dropped.values())) == (25, 18, 7)


def test_video_is_hidden_in_its_pixels(tmp_path: Path, policy: RedactionPolicy):
    solid = policy.model_copy(update={"mode": "solid", "solid_rgb": (0, 255, 0)})
    finding = Scripted(face=lambda n: [(40.0, 30.0, 80.0, 70.0, 0.9)] if n == 10 else [])
    run(recorded(30, 10), finding, solid, tmp_path / "out")
    green = [f.pixels()[35:65, 45:75].mean((0, 1)).round() for f in frames_of(tmp_path / "out")]
    hidden = [bool(abs(mean - (0, 255, 0)).max() < 12) for mean in green]
    assert hidden == [5 <= n <= 15 for n in range(30)]


def test_thumbnails_of_video(tmp_path: Path, policy: RedactionPolicy):
    run(recorded(3, 3), Scripted(), policy, tmp_path / "out")
    [first, *_] = frames_of(tmp_path / "out")
    assert first.encoding == "h264"
    assert first.thumbnail(80).startswith(b"\xff\xd8")


def test_real_video_keeps_every_frame_and_stamp(real_data: Path, tmp_path: Path, policy: RedactionPolicy):
    cameras = {"camera_front": StreamSpec(topic="/camera/front/video", kind="camera", rate_hz=25)}
    short = policy.model_copy(update={"segment_s": 0.5})
    with LogReader(real_data / "drives/carnd_h264_video/carnd_h264_video.mcap") as reader:
        summary = redact_drive(
            reader, cameras, Scripted(), short, tmp_path, FolderSegments(tmp_path / "kept")
        )
        units = [image_payload(raw) for raw in reader.messages(["/camera/front/video"])]
    assert (summary.total.frames_in, summary.total.released, dict(summary.total.dropped)) == (38, 38, {})
    frames = frames_of(tmp_path)
    assert [f.sensor_ns for f in frames] == [unit.sensor_ns for unit in units]
    decoder = VideoDecoder("h264", MAX_PIXELS)
    sources = [p.rgb for unit in units for p in decoder.feed(unit.data)] + [p.rgb for p in decoder.flush()]
    for frame, source in list(zip(frames, sources, strict=True))[::6]:
        error = ((frame.pixels().astype(float) - source) ** 2).mean()
        assert 10 * np.log10(255**2 / error) > 39


@pytest.mark.parametrize("name", ["carnd_ros1_jpeg_lz4.bag", "carnd_ros1_raw_bz2.bag"])
def test_real_ros1_pictures_are_released(name: str, real_data: Path, tmp_path: Path, policy: RedactionPolicy):
    with LogReader(real_data / "bags" / name) as reader:
        [topic] = [t for t, info in reader.topics.items() if "Image" in info.msgtype]
        cameras = {"camera_front": StreamSpec(topic=topic, kind="camera", rate_hz=25)}
        summary = redact_drive(
            reader, cameras, Scripted(), policy, tmp_path, FolderSegments(tmp_path / "kept")
        )
    assert summary.total.released == summary.total.frames_in > 0
