"""Real recordings: known counts, byte for byte what the reference reader gives, and salvaged when cut."""

from __future__ import annotations

import hashlib
import io
import struct
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zstandard
from rosbags.highlevel import AnyReader

from av_assets.domain.logs.contract import infer_streams
from av_assets.domain.logs.inspect import inspect_log
from av_assets.domain.logs.integrity.check import check_log
from av_assets.domain.logs.reader import LogReader, header_stamp_ns, image_payload
from av_assets.policies.integrity import IntegrityPolicy

if TYPE_CHECKING:
    from av_assets.domain.logs.reader import ImagePayload

COUNTS = {
    "bags/fox_example.bag": 8647,
    "bags/fox_example_lz4.bag": 8647,
    "bags/fox_example_bz2.bag": 8647,
    "bags/carnd_ros1_jpeg_lz4.bag": 38,
    "bags/carnd_ros1_raw_bz2.bag": 10,
    "bags/robot_localization_test1.bag": 16806,
    "bags/datmo_intersection.bag": 4338,
    "bags/ouster_512x10_raw.bag": 43,
    "bags/rosbag2_mcap_wbag": 6074,
    "drives/comma2k19_rav4_drive": 122946,
    "drives/carnd_h264_video": 38,
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts_and_bytes_are_those_of_the_reference(real_data: Path, name: str) -> None:
    verdict = inspect_log(real_data / name)
    assert (verdict.state, verdict.messages) == ("ok", COUNTS[name])
    with LogReader(real_data / name) as reader, AnyReader([real_data / name]) as reference:
        ours = sorted((raw.topic, raw.log_ns, raw.data) for raw in reader.messages())
        theirs = sorted((c.topic, log_ns, bytes(data)) for c, log_ns, data in reference.messages())
        assert ours == theirs


@pytest.mark.parametrize("name", COUNTS)
def test_fast_stamps_are_those_of_full_decoding(real_data: Path, name: str) -> None:
    with LogReader(real_data / name) as reader:
        seen: dict[str, int] = {}
        for raw in reader.messages():
            seen[raw.topic] = seen.get(raw.topic, 0) + 1
            if seen[raw.topic] > 5:
                continue
            header = getattr(message := reader.deserialize(raw), "header", None)
            stamp = header.stamp if header else getattr(message, "timestamp", None)
            expected = stamp.sec * 10**9 + stamp.nanosec if stamp else None
            assert header_stamp_ns(raw) == expected


def test_image_payloads(real_data: Path) -> None:
    for name, encodings in (("drives/carnd_h264_video", {"h264"}), ("bags/carnd_ros1_jpeg_lz4.bag", {"jpeg"}),
                            ("bags/carnd_ros1_raw_bz2.bag", {"bgr8", "rgb8"})):  # fmt: skip
        with LogReader(real_data / name) as reader:
            roles = infer_streams({t: i.msgtype for t, i in reader.topics.items()}, {})
            payloads = [image_payload(raw) for raw in reader.messages([roles["camera_front"].topic])]
        assert {payload.encoding for payload in payloads} == encodings
        assert all(p.height * p.step == len(p.data) for p in payloads if p.height)


@pytest.mark.parametrize("name", ["bags/fox_example.bag", "bags/carnd_ros1_jpeg_lz4.bag",
                                  "drives/comma2k19_rav4_drive/comma2k19_rav4_drive.mcap"])  # fmt: skip
def test_a_cut_real_log_is_salvaged(real_data: Path, tmp_path: Path, name: str) -> None:
    data = (real_data / name).read_bytes()
    (tmp_path / "cut").write_bytes(data[: len(data) * 2 // 3])
    with LogReader(real_data / name) as whole, LogReader(tmp_path / "cut") as cut:
        kept = {(raw.topic, raw.log_ns, raw.data) for raw in cut.messages()}
        assert kept <= {(raw.topic, raw.log_ns, raw.data) for raw in whole.messages()}
        assert len(kept) > 0.5 * whole.message_count
    assert inspect_log(tmp_path / "cut").state == "salvaged"


def test_a_real_drive_passes_but_for_what_it_lacks(real_data: Path) -> None:
    with LogReader(real_data / "drives/comma2k19_rav4_drive") as reader:
        report = check_log(reader, None, IntegrityPolicy.load(), None)
    assert not report.failed("error")
    assert abs(float(report.streams["gnss"]["median_delay_s"])) == pytest.approx(0.2, abs=0.1)  # type: ignore[arg-type]


def contents(path: Path) -> list[tuple[str, int, bytes]]:
    with LogReader(path) as reader:
        return [(raw.topic, raw.log_ns, raw.data) for raw in reader.messages()]


@pytest.mark.parametrize("name", ["fox_example", "fox_example_lz4", "fox_example_bz2", "carnd_ros1_jpeg_lz4"])
def test_a_real_bag_without_its_index_gives_all(real_data: Path, tmp_path: Path, name: str) -> None:
    """As a recorder that was killed leaves it: `.bag.active`."""
    source = real_data / "bags" / f"{name}.bag"
    data = bytearray(source.read_bytes())
    at = data.index(b"index_pos=") + len(b"index_pos=")
    (position,) = struct.unpack_from("<Q", data, at)
    data[at : at + 8] = bytes(8)
    active = tmp_path / f"{name}.bag.active"
    active.write_bytes(data[:position])
    assert sorted(contents(active)) == sorted(contents(source))
    verdict = inspect_log(active)
    assert (verdict.state, verdict.code, verdict.messages) == (
        "salvaged",
        "no_index",
        COUNTS[f"bags/{name}.bag"],
    )


@pytest.mark.parametrize("name", ["bags/datmo_intersection.bag", "bags/rosbag2_mcap_wbag/wbag_2.mcap"])
def test_a_real_log_compressed_as_a_file(real_data: Path, tmp_path: Path, name: str) -> None:
    packed = tmp_path / f"{Path(name).name}.zstd"
    packed.write_bytes(zstandard.compress((real_data / name).read_bytes()))
    assert contents(packed) == contents(real_data / name)
    assert inspect_log(packed).state == "ok"


def test_a_real_recording_without_metadata_in_any_order_of_files(real_data: Path, tmp_path: Path) -> None:
    for file in (real_data / "bags/rosbag2_mcap_wbag").glob("*.mcap"):
        (tmp_path / file.name).symlink_to(file)
    assert inspect_log(tmp_path).messages == COUNTS["bags/rosbag2_mcap_wbag"]
    assert contents(tmp_path) == contents(real_data / "bags/rosbag2_mcap_wbag")


def test_the_real_video_in_a_plain_mp4(real_data: Path, tmp_path: Path) -> None:
    """The same access units, put into an MP4 file without coding them anew, decode to the same pictures."""
    import av

    with LogReader(real_data / "drives/carnd_h264_video") as reader:
        payloads = [image_payload(raw) for raw in reader.messages()]
    raw_stream = io.BytesIO(b"".join(bytes(payload.data) for payload in payloads))
    with av.open(raw_stream, format="h264") as source, av.open(str(tmp_path / "front.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(p for p in source.demux() if p.size):
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts, packet.dts, packet.duration = number, number, 1
            target.mux(packet)
    times = [payload.sensor_ns for payload in payloads]
    (tmp_path / "front.csv").write_text("\n".join(["timestamp_ns", *map(str, times)]))
    assert (inspect_log(tmp_path).state, inspect_log(tmp_path).messages) == ("ok", 38)
    with LogReader(tmp_path) as reader:
        assert list(reader.topics) == ["/front"]
        ours = [image_payload(raw) for raw in reader.messages()]
    assert [payload.sensor_ns for payload in ours] == times
    first, second = (decoded_hashes(found) for found in (payloads, ours))
    assert first == second
    assert len(first) == 38


def decoded_hashes(payloads: list[ImagePayload]) -> list[str]:
    import av

    decoder: Any = av.CodecContext.create("h264", "r")
    frames = [frame for payload in payloads for frame in decoder.decode(av.Packet(bytes(payload.data)))]
    return [hashlib.sha256(f.to_ndarray().tobytes()).hexdigest() for f in [*frames, *decoder.decode(None)]]
