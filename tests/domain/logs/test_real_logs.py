"""Real recordings: known counts, byte for byte what the reference reader gives, and salvaged when cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rosbags.highlevel import AnyReader

from av_assets.domain.logs.contract import infer_streams
from av_assets.domain.logs.inspect import inspect_log
from av_assets.domain.logs.integrity import check_log
from av_assets.domain.logs.reader import LogReader, header_stamp_ns, image_payload
from av_assets.policies.integrity import IntegrityPolicy

if TYPE_CHECKING:
    from pathlib import Path

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
