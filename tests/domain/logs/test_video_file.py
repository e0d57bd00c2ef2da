"""MP4 files beside CSVs of times: every frame once, unchanged, at its own time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from video_writers import PERIOD_NS, START_NS, picture, write_times, write_video

from av_assets.domain.errors import LogError
from av_assets.domain.logs.files import video_file
from av_assets.domain.logs.files.formats import find_logs
from av_assets.domain.logs.inspect import inspect_log
from av_assets.domain.logs.reader import LogReader, RawMessage, header_stamp_ns, image_payload

if TYPE_CHECKING:
    from pathlib import Path

CODECS = [
    ("libx264", {"bf": "0", "g": "10"}, "h264"),
    ("libx264", {"bf": "2", "g": "10"}, "h264"),
    ("libx265", {"g": "10", "x265-params": "log-level=0"}, "h265"),
    ("mjpeg", {}, "jpeg"),
]
DECODERS = {"h264": "h264", "h265": "hevc", "jpeg": "mjpeg"}


def camera(
    folder: Path, frames: int = 30, codec: str = "libx264", header: str = "timestamp_ns", **options: str
) -> Path:
    write_times(folder / "cam.csv", frames, header)
    return write_video(folder / "cam.mp4", frames, codec, **options)


def decoded(messages: list[RawMessage]) -> dict[int, float]:
    """Mean grey value of each frame by its stamp, decoded in the order of the messages."""
    import av

    context: Any = av.CodecContext.create(DECODERS[image_payload(messages[0]).encoding], "r")
    found: dict[int, float] = {}
    for raw in messages:
        packet = av.Packet(bytes(image_payload(raw).data))
        packet.pts = header_stamp_ns(raw)
        found |= {
            frame.pts: float(frame.to_ndarray(format="rgb24").mean()) for frame in context.decode(packet)
        }
    return found | {
        frame.pts: float(frame.to_ndarray(format="rgb24").mean()) for frame in context.decode(None)
    }


def read(path: Path, **window: int) -> list[RawMessage]:
    with LogReader(path) as reader:
        found = list(reader.messages(**window))
        assert not reader.damage
    return found


@pytest.mark.parametrize(("codec", "options", "encoding"), CODECS)
def test_each_frame_comes_with_its_own_time(
    tmp_path: Path, codec: str, options: dict[str, str], encoding: str
) -> None:
    path = camera(tmp_path, 30, codec, **options)
    messages = read(tmp_path)
    assert {image_payload(raw).encoding for raw in messages} == {encoding}
    assert {(raw.topic, image_payload(raw).frame_id) for raw in messages} == {("/cam", "cam")}
    stamps = sorted(header_stamp_ns(raw) or 0 for raw in messages)
    assert stamps == [START_NS + i * PERIOD_NS for i in range(30)]
    grey = decoded(messages)
    assert sorted(grey) == stamps
    for i, stamp in enumerate(stamps):
        assert abs(grey[stamp] - picture(i).mean()) < 3
    assert (inspect_log(path).state, inspect_log(path).messages) == ("ok", 30)


@pytest.mark.parametrize(("codec", "options", "encoding"), CODECS)
def test_blocks_read_alone_give_the_same_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str, options: dict[str, str], encoding: str
) -> None:
    """Seeking to a keyframe gives what reading from the start gives."""
    camera(tmp_path, 60, codec, **options)
    one = read(tmp_path)
    monkeypatch.setattr(video_file, "BLOCK_NS", 3 * PERIOD_NS)
    with LogReader(tmp_path) as reader:
        source = reader.sources[0]
        assert len(source.blocks) >= 5
        assert sum(block.length for block in source.blocks) == 60
        backwards = [list(source.read(block, frozenset({0}))) for block in reversed(source.blocks)]
    many = [raw for block in reversed(backwards) for raw in block]
    assert [raw.log_ns for raw in many] == [raw.log_ns for raw in one]
    assert decoded(many) == decoded(one)
    window = read(tmp_path, start_ns=one[35].log_ns, end_ns=one[40].log_ns)
    assert [raw.data for raw in window] == [
        r.data for r in many if one[35].log_ns <= r.log_ns < one[40].log_ns
    ]


def test_frames_without_reordering_are_logged_at_their_time(tmp_path: Path) -> None:
    camera(tmp_path, bf="0")
    assert all(raw.log_ns == header_stamp_ns(raw) for raw in read(tmp_path))


def test_reordered_frames_are_logged_in_decode_order_and_that_is_told(tmp_path: Path) -> None:
    path = camera(tmp_path, bf="2")
    messages = read(tmp_path)
    stamps = [header_stamp_ns(raw) or 0 for raw in messages]
    assert stamps != sorted(stamps)
    assert [raw.log_ns for raw in messages] == np.maximum.accumulate(stamps).tolist()
    (remark,) = inspect_log(path).files[0].remarks
    assert "stored later" in remark


@pytest.mark.parametrize(
    ("header", "factor", "unit"),
    [("timestamp_s", 10**9, ""), ("timestamp", 10**9, "s"), ("timestamp", 10**6, "ms"), ("timestamp", 10**3, "us"),
     ("timestamp", 1, "ns")],
)  # fmt: skip
def test_units_of_time(tmp_path: Path, header: str, factor: int, unit: str) -> None:
    path = write_video(tmp_path / "cam.mp4", 5, bf="0")
    times = [START_NS + i * PERIOD_NS for i in range(5)]
    width = len(str(factor)) - 1
    texts = [f"{ns // factor}.{ns % factor:0{width}d}" if width else str(ns) for ns in times]
    (tmp_path / "cam_timestamps.csv").write_text(
        "\n".join([f"note;{header}", *(f"x;{text}" for text in texts)])
    )
    assert [raw.log_ns for raw in read(path)] == times
    remarks = inspect_log(path).files[0].remarks
    assert remarks == ((f"cam_timestamps.csv: timestamp is taken as {unit}",) if unit else ())


@pytest.mark.parametrize("first", [0, 1])
def test_a_frame_column_orders_the_rows(tmp_path: Path, first: int) -> None:
    path = write_video(tmp_path / "cam.mp4", 4, bf="0")
    rows = [f"{i + first},{START_NS + i * PERIOD_NS}" for i in (2, 0, 3, 1)]
    (tmp_path / "cam.csv").write_text("\n".join(["frame,timestamp_ns", *rows]))
    assert [raw.log_ns for raw in read(path)] == [START_NS + i * PERIOD_NS for i in range(4)]


@pytest.mark.parametrize(
    "text",
    ["", "when\n1\n", "timestamp_ns\n1\n2\nx\n", "timestamp_ns\n1\n2\n-3\n", "timestamp_ns\n1\n2\nnan\n",
     "frame,timestamp_ns\n0,1\n1,2\n3,3\n", "frame,timestamp_ns\n0,1\n1\n2,3\n", "timestamp_s\n1\n2\n1e17\n",
     "timestamp_ns\n1\n2\n9e99\n", "\x00\xff"],
)  # fmt: skip
def test_times_that_are_none_are_refused(tmp_path: Path, text: str) -> None:
    path = write_video(tmp_path / "cam.mp4", 3)
    (tmp_path / "cam.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(LogError) as caught:
        LogReader(path)
    assert caught.value.code == "bad_timestamps"
    assert caught.value.file == str(tmp_path / "cam.csv")


def test_counts_that_differ_are_both_named(tmp_path: Path) -> None:
    path = write_video(tmp_path / "cam.mp4", 7)
    assert inspect_log(path).code == "missing_timestamps"
    for rows in (6, 8, 0):
        write_times(tmp_path / "cam.csv", rows)
        verdict = inspect_log(path)
        assert (verdict.state, verdict.code) == ("quarantined", "bad_timestamps")
        assert f"{rows} rows" in verdict.reason
        assert "7 frames" in verdict.reason


def test_codecs_that_would_need_encoding_are_refused_by_name(tmp_path: Path) -> None:
    path = camera(tmp_path, 5, "mpeg4")
    verdict = inspect_log(path)
    assert (verdict.state, verdict.code) == ("quarantined", "unsupported_codec")
    assert "mpeg4" in verdict.reason


@pytest.mark.parametrize("reordered", ["0", "2"])
def test_a_cut_video_gives_the_frames_whose_time_is_certain(tmp_path: Path, reordered: str) -> None:
    path = camera(tmp_path, 60, bf=reordered, g="10", movflags="faststart")
    whole = {header_stamp_ns(raw): raw.data for raw in read(path)}
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    with LogReader(path) as reader:
        kept = {header_stamp_ns(raw): raw.data for raw in reader.messages()}
        assert "cut_video" in reader.sources[0].damage.reasons
    assert 10 < len(kept) < 60
    assert kept.items() <= whole.items()
    verdict = inspect_log(path)
    assert (verdict.state, verdict.code, verdict.messages) == ("salvaged", "cut_video", len(kept))


def test_a_video_stands_beside_other_logs(tmp_path: Path, small_logs: dict[str, Path]) -> None:
    camera(tmp_path, bf="0")
    (tmp_path / "x.mcap").write_bytes(small_logs["mcap_lz4"].read_bytes())
    assert [log.format for log in find_logs(tmp_path).logs] == ["video", "mcap"]
    verdict = inspect_log(tmp_path)
    assert (verdict.state, verdict.messages, len(verdict.topics)) == ("ok", 210, 5)
    (tmp_path / "cam.csv").unlink()
    verdict = inspect_log(tmp_path)
    assert (verdict.state, verdict.code, verdict.messages) == ("salvaged", "missing_timestamps", 180)


def test_messages_decode_by_their_definition(tmp_path: Path) -> None:
    for name, codec in (("a", "libx264"), ("b", "mjpeg")):
        write_video(tmp_path / f"{name}.mp4", 3, codec)
        write_times(tmp_path / f"{name}.csv", 3)
    with LogReader(tmp_path) as reader:
        for raw in reader.messages():
            full, payload = reader.deserialize(raw), image_payload(raw)
            assert full.data.tobytes() == bytes(payload.data)
            assert full.format == payload.encoding
