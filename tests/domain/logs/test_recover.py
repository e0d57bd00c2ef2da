"""A damaged log becomes a valid MCAP that holds every message which survives, and a report of what does not."""

from __future__ import annotations

import json
import resource
import shutil
import sqlite3
import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from log_writers import CAMERA, IMU, TYPES, drive, store, write_ros1, write_rosbag2
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer
from rosbags.highlevel import AnyReader

from av_assets.domain.errors import LogError, TransientError
from av_assets.domain.evidence.digests import sha256_file
from av_assets.domain.logs import recover
from av_assets.domain.logs.mcap_writer import McapWriter
from av_assets.domain.logs.reader import LogReader
from av_assets.domain.logs.recover import salvage_log
from av_assets.domain.logs.recover_report import HOLE_PERIODS, Stamps

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from av_assets.domain.logs.recover_report import SalvageReport

FILES = ("bag_none", "bag_bz2", "bag_lz4", "mcap_none", "mcap_lz4", "mcap_zstd", "mcap_unchunked", "db3")
REAL = ("bags/fox_example.bag", "bags/fox_example_lz4.bag", "bags/fox_example_bz2.bag",
        "bags/carnd_ros1_jpeg_lz4.bag", "bags/datmo_intersection.bag", "bags/ouster_512x10_raw.bag",
        "bags/rosbag2_mcap_wbag", "drives/carnd_h264_video")  # fmt: skip

Message = tuple[str, int, bytes]


def contents(path: Path | Sequence[Path]) -> list[Message]:
    with LogReader(path) as reader:
        return sorted((raw.topic, raw.log_ns, raw.data) for raw in reader.messages())


def by_library(path: Path) -> list[Any]:
    with path.open("rb") as file:
        return list(make_reader(file, validate_crcs=True).iter_messages())


def library_contents(path: Path) -> list[Message]:
    return sorted((channel.topic, message.log_time, message.data) for _, channel, message in by_library(path))


def salvaged(source: Path | Sequence[Path], out: Path, **options: Any) -> SalvageReport:
    """Salvage, and hold the report against the files."""
    report = salvage_log(source, out, **options)
    assert report.output_sha256 == sha256_file(out)
    assert report.output_bytes == out.stat().st_size
    assert report.verified == {"reader": report.messages, "mcap_library": report.messages}
    assert sum(topic.kept for topic in report.topics.values()) == report.messages == len(contents(out))
    assert sum(file.kept for file in report.files) == report.messages
    times = [log_ns for _, log_ns, _ in contents(out)]
    assert (report.start_ns, report.end_ns) == (min(times), max(times))
    assert not list(out.parent.glob(".*"))
    json.dumps(report.to_dict(), allow_nan=False)
    return report


def salvaged_contents(damaged: Path, out: Path) -> list[Message]:
    """What is recovered of a damaged log, which is all that the reader sees; nothing where that is nothing."""
    try:
        seen = contents(damaged)
    except LogError:
        seen = []
    if not seen:
        with pytest.raises(LogError, match="nothing_to_salvage"):
            salvage_log(damaged, out)
        return []
    assert salvaged(damaged, out, overwrite=True).codes
    assert library_contents(out) == seen
    return seen


def file_of(log: Path) -> Path:
    return log if log.is_file() else next(p for p in log.iterdir() if p.suffix in (".db3", ".mcap"))


def test_whole_logs_of_all_formats_keep_everything(small_logs: dict[str, Path], tmp_path: Path) -> None:
    for name, log in small_logs.items():
        out = tmp_path / f"{name}.mcap"
        report = salvaged(log, out)
        lost = None if name == "mcap_unchunked" else 0  # without chunks there is no index to promise anything
        assert (report.messages, report.lost, report.codes) == (180, lost, ()), name
        assert contents(out) == contents(log) == library_contents(out)
        with out.open("rb") as file:
            reader = make_reader(file)
            assert reader.get_header().profile == ("ros1" if name.startswith("bag") or name == "mcap_ros1"
                                                   else "ros2")  # fmt: skip
            summary = reader.get_summary()
        assert summary is not None
        assert summary.statistics is not None
        assert summary.statistics.message_count == 180
        assert {index.compression for index in summary.chunk_indexes} == {"zstd"}
        salvage_log(log, tmp_path / "again.mcap", overwrite=True)
        assert (tmp_path / "again.mcap").read_bytes() == out.read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_a_cut_log_keeps_what_precedes_the_cut(
    small_logs: dict[str, Path], tmp_path: Path, name: str
) -> None:
    log = file_of(small_logs[name])
    whole, data = set(contents(log)), log.read_bytes()
    cut = tmp_path / f"cut{log.suffix}"
    kept = []
    for share in (0.3, 0.4, 0.5, 0.62, 0.75, 0.88, 0.97):
        cut.write_bytes(data[: int(len(data) * share)])
        found = salvaged_contents(cut, tmp_path / "out.mcap")
        assert set(found) <= whole
        kept.append(len(found))
    assert kept == sorted(kept)
    assert kept[-1] > 120


def rich_mcap(path: Path) -> list[tuple[str, int, int, int, bytes]]:
    """Schemas that are no text, channels with metadata and without schema, sequences, attachments."""
    sent = []
    with path.open("wb") as file:
        writer = Writer(file, chunk_size=300, compression=CompressionType.LZ4)
        writer.start(profile="custom", library="somebody")
        binary = writer.register_schema("pkg.Thing", "protobuf", bytes(range(256)))
        text = writer.register_schema("Thing", "jsonschema", b'{"type":"object"}')
        strange = writer.register_schema("Odd", "own", b"\xff\xfe\x00")
        channels = [
            writer.register_channel("/proto", "protobuf", binary, {"z": "1", "a": "2"}),
            writer.register_channel("/json", "json", text),
            writer.register_channel("/odd", "own", strange),
            writer.register_channel("/bare", "raw", 0),
            writer.register_channel("/proto", "protobuf", binary, {"publisher": "second"}),
            writer.register_channel("/silent", "json", text),
        ]
        for i in range(60):
            number = channels[i % 5]
            one = (str(number), 1000 + 7 * i, (1 << 63) + i, i * i, bytes([i]) * i)
            writer.add_message(number, one[1], one[4], one[2], one[3])
            sent.append(one)
        writer.add_attachment(5, 6, "a.bin", "application/x", bytes(1000))
        writer.add_metadata("about", {"k": "v"})
        writer.finish()
    return sent


def test_what_an_mcap_says_about_its_messages_survives(tmp_path: Path) -> None:
    sent = rich_mcap(tmp_path / "in.mcap")
    report = salvaged(tmp_path / "in.mcap", tmp_path / "out.mcap")
    assert (report.attachments, report.metadata, report.topics["/silent"].kept) == (1, 1, 0)
    with (tmp_path / "in.mcap").open("rb") as one, (tmp_path / "out.mcap").open("rb") as two:
        before, after = make_reader(one), make_reader(two, validate_crcs=True)
        assert after.get_header().profile == "custom"
        assert list(after.iter_attachments()) == list(before.iter_attachments())
        assert list(after.iter_metadata()) == list(before.iter_metadata())
        was, now = before.get_summary(), after.get_summary()
        assert was is not None
        assert now is not None
        assert now.schemas == was.schemas
        assert now.channels == was.channels
        found = [
            (str(c.id), m.log_time, m.publish_time, m.sequence, m.data) for _, c, m in after.iter_messages()
        ]
    assert found == sent


def test_a_cut_mcap_keeps_schemas_and_sequences(tmp_path: Path) -> None:
    sent = rich_mcap(tmp_path / "in.mcap")
    data = (tmp_path / "in.mcap").read_bytes()
    (tmp_path / "cut").write_bytes(data[: data.rindex(b"a.bin") - 40])
    salvaged(tmp_path / "cut", tmp_path / "out.mcap")
    found = by_library(tmp_path / "out.mcap")
    assert [(m.log_time, m.publish_time, m.sequence, m.data) for _, _, m in found] == [o[1:] for o in sent]
    assert {s.data for s, c, _ in found if s and c.topic == "/proto"} == {bytes(range(256))}
    assert {tuple(c.metadata.items()) for _, c, _ in found if c.topic == "/proto"} == {
        (("a", "2"), ("z", "1")), (("publisher", "second"),),
    }  # fmt: skip


def test_a_channel_with_broken_metadata_keeps_its_messages(tmp_path: Path) -> None:
    path = tmp_path / "x.mcap"
    with path.open("wb") as file:
        writer = Writer(file, use_chunking=False, enable_crcs=False)
        writer.start()
        number = writer.register_channel("/a", "raw", 0, {"key": "value"})
        for i in range(5):
            writer.add_message(number, i + 1, b"payload", i)
        writer.finish()
    data = bytearray(path.read_bytes())
    at = data.index(b"key") - 8
    data[at : at + 4] = struct.pack("<I", 1 << 30)  # the map claims a gigabyte
    path.write_bytes(data)
    report = salvaged(path, tmp_path / "out.mcap")
    assert (report.messages, report.topics["/a"].kept) == (5, 5)
    assert "bad_record" in report.codes


def test_connections_of_a_bag_keep_their_headers(small_logs: dict[str, Path], tmp_path: Path) -> None:
    salvaged(small_logs["bag_lz4"], tmp_path / "out.mcap")
    with AnyReader([small_logs["bag_lz4"]]) as reference:
        expected = {c.topic: (c.digest, c.msgdef.data) for c in reference.connections}
    for schema, channel, _ in by_library(tmp_path / "out.mcap"):
        assert schema is not None
        assert (channel.message_encoding, schema.encoding) == ("ros1", "ros1msg")
        assert schema.name == TYPES[channel.topic].replace("/msg/", "/")
        assert (channel.metadata["md5sum"], schema.data.decode()) == expected[channel.topic]


def test_rosbags_opens_what_was_a_database(small_logs: dict[str, Path], tmp_path: Path) -> None:
    for name in ("db3", "db3_per_message", "rosbag2_mcap"):
        out = tmp_path / f"{name}.mcap"
        salvaged(small_logs[name], out)
        with AnyReader([out]) as ours, AnyReader([small_logs[name]]) as theirs:
            assert [(c.topic, t, bytes(d)) for c, t, d in ours.messages()] == [
                (c.topic, t, bytes(d)) for c, t, d in theirs.messages()
            ]
            assert {c.topic: c.ext.offered_qos_profiles for c in ours.connections} == {  # type: ignore[union-attr]
                c.topic: c.ext.offered_qos_profiles
                for c in theirs.connections  # type: ignore[union-attr]
            }


def test_a_database_without_definitions_gets_the_known_ones(tmp_path: Path) -> None:
    types = store()
    write_rosbag2(tmp_path / "in", drive(types), types, "SQLITE3")
    with sqlite3.connect(file_of(tmp_path / "in")) as db:
        db.execute("DELETE FROM message_definitions")
    db.close()
    report = salvaged(tmp_path / "in", tmp_path / "out.mcap")
    assert "sensor_msgs/msg/Imu" in report.files[0].definitions_added
    schemas = {channel.topic: schema for schema, channel, _ in by_library(tmp_path / "out.mcap") if schema}
    assert b"angular_velocity" in schemas[IMU].data
    own = schemas["/radar_front/tracks"]
    assert (own.name, own.encoding, own.data) == ("av_msgs/msg/RadarTracks", "", b"")


def test_a_bag_that_was_not_closed_gives_all(tmp_path: Path) -> None:
    types = store(ros1=True)
    for codec in ("none", "lz4", "bz2"):
        bag = write_ros1(tmp_path / f"{codec}.bag", drive(types), types, codec)
        data = bytearray(bag.read_bytes())
        at = data.index(b"index_pos=") + 10
        (position,) = struct.unpack_from("<Q", data, at)
        data[at : at + 8] = bytes(8)
        active = tmp_path / f"{codec}.bag.active"
        active.write_bytes(data[:position])
        report = salvaged(active, tmp_path / "out.mcap", overwrite=True)
        assert (report.messages, report.codes, report.lost) == (180, ("no_index",), None)
        assert library_contents(tmp_path / "out.mcap") == contents(bag)


def test_a_write_ahead_log_is_applied(small_logs: dict[str, Path], tmp_path: Path) -> None:
    path, copy = tmp_path / "x.db3", tmp_path / "killed"
    shutil.copyfile(file_of(small_logs["db3"]), path)
    whole = contents(path)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("UPDATE messages SET timestamp = timestamp + 1")  # committed, and only in the log
    copy.mkdir()
    for name in ("x.db3", "x.db3-wal"):
        shutil.copyfile(tmp_path / name, copy / name)
    db.close()
    before = {p.name: p.read_bytes() for p in copy.iterdir()}
    report = salvaged(copy, tmp_path / "out.mcap")
    assert report.codes == ("hot_journal",)
    assert library_contents(tmp_path / "out.mcap") == [
        (topic, log_ns + 1, data) for topic, log_ns, data in whole
    ]
    assert {p.name: p.read_bytes() for p in copy.iterdir()} == before


def test_a_half_written_transaction_is_rolled_back(small_logs: dict[str, Path], tmp_path: Path) -> None:
    path, copy = tmp_path / "x.db3", tmp_path / "killed"
    shutil.copyfile(file_of(small_logs["db3"]), path)
    whole = contents(path)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA cache_size=5")
    db.execute("BEGIN EXCLUSIVE")
    db.execute("UPDATE messages SET data = zeroblob(length(data))")  # spills into the file before any commit
    copy.mkdir()
    for name in ("x.db3", "x.db3-journal"):
        shutil.copyfile(tmp_path / name, copy / name)
    db.execute("ROLLBACK")
    db.close()
    assert (copy / "x.db3").read_bytes() != path.read_bytes()
    assert salvaged(copy, tmp_path / "out.mcap").codes == ("hot_journal",)
    assert library_contents(tmp_path / "out.mcap") == whole


def test_what_an_index_promised_is_held_against_what_is_there(
    small_logs: dict[str, Path], tmp_path: Path
) -> None:
    data = bytearray(small_logs["mcap_lz4"].read_bytes())
    with LogReader(small_logs["mcap_lz4"]) as reader:
        block = sorted(reader.sources[0].blocks)[3]
        promised = {name: topic.count for name, topic in reader.topics.items()}
    data[block.offset + 9 + 24] ^= 0xFF  # the stored checksum of the chunk
    (tmp_path / "x.mcap").write_bytes(data)
    report = salvaged(tmp_path / "x.mcap", tmp_path / "out.mcap")
    assert "bad_crc" in report.codes
    assert "count_mismatch" in report.codes
    assert report.lost == 180 - report.messages > 0
    assert {name: topic.kept + (topic.lost or 0) for name, topic in report.topics.items()} == promised
    assert report.files[0].damage["bytes_lost"] == block.length
    imu = report.topics[IMU].to_dict()
    assert imu["holes"]
    assert abs(imu["lost_in_holes_estimate"] - imu["lost"]) <= 1  # type: ignore[operator]


def test_the_beginning_of_a_cut_chunk_is_kept(small_logs: dict[str, Path], tmp_path: Path) -> None:
    with LogReader(small_logs["mcap_none"]) as reader:
        block = sorted(reader.sources[0].blocks, key=lambda b: b.offset)[-1]
    data = small_logs["mcap_none"].read_bytes()
    (tmp_path / "start").write_bytes(data[: block.offset])
    (tmp_path / "half").write_bytes(data[: block.offset + block.length * 2 // 3])
    start = salvaged(tmp_path / "start", tmp_path / "start.mcap").messages
    report = salvaged(tmp_path / "half", tmp_path / "half.mcap")
    assert report.messages > start
    assert "cut_chunk" in report.codes


def test_files_of_several_formats_become_one(small_logs: dict[str, Path], tmp_path: Path) -> None:
    logs = [small_logs["mcap_zstd"], small_logs["db3"], small_logs["bag_bz2"]]
    (tmp_path / "broken.mcap").write_bytes(b"\x89MCAP0\r\n")
    progress: list[tuple[int, int]] = []
    out = tmp_path / "out.mcap"
    report = salvaged([*logs, tmp_path / "broken.mcap"], out, progress=lambda a, b: progress.append((a, b)))
    assert (report.messages, len(report.files), progress[-1]) == (540, 4, (540, 540))
    assert library_contents(out) == sorted(m for log in logs for m in contents(log))
    with LogReader(out) as reader:
        times = [raw.log_ns for raw in reader.messages()]
    assert times == sorted(times)
    with out.open("rb") as file:
        assert make_reader(file).get_header().profile == ""


@pytest.mark.parametrize("name", ["mcap_zstd", "bag_lz4"])
def test_a_log_without_its_first_bytes_is_known_by_its_name(
    small_logs: dict[str, Path], tmp_path: Path, name: str
) -> None:
    path = tmp_path / f"x{small_logs[name].suffix}"
    path.write_bytes(bytes(8) + small_logs[name].read_bytes()[8:])
    report = salvaged(path, tmp_path / "out.mcap")
    assert (report.messages, report.codes) == (180, ("bad_magic",))
    assert library_contents(tmp_path / "out.mcap") == contents(small_logs[name])


@pytest.mark.parametrize("data", [b"", b"neither", b"\x89MCAP0\r\n", b"#ROSBAG V2.0\n" + bytes(50)])
def test_where_nothing_survives_there_is_no_output(tmp_path: Path, data: bytes) -> None:
    for name in ("a.mcap", "a.bag", "a.db3", "a.bin"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(LogError) as error:
            salvage_log(tmp_path / name, tmp_path / "out.mcap")
        assert error.value.code == "nothing_to_salvage"
        (tmp_path / name).unlink()
    assert not list(tmp_path.iterdir())


def test_an_output_is_never_overwritten_unasked(small_logs: dict[str, Path], tmp_path: Path) -> None:
    source, out = tmp_path / "x.mcap", tmp_path / "out.mcap"
    shutil.copyfile(small_logs["mcap_lz4"], source)
    out.write_bytes(b"mine")
    with pytest.raises(LogError) as error:
        salvage_log(source, out)
    assert (error.value.code, out.read_bytes()) == ("output_exists", b"mine")
    with pytest.raises(LogError) as error:
        salvage_log(source, source, overwrite=True)
    assert error.value.code == "output_is_source"
    with pytest.raises(LogError) as error:
        salvage_log(tmp_path / "gone", tmp_path / "new.mcap")
    assert error.value.code == "not_found"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.mcap", "x.mcap"]


def test_a_full_disk_leaves_nothing_behind(small_logs: dict[str, Path], tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(TransientError) as error:
            salvage_log(small_logs["mcap_none"], tmp_path / "out.mcap")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.value.code == "disk_full"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fault", ["payload", "dropped", "flipped", "no_index", "schema"])
def test_an_output_that_is_not_what_was_kept_is_no_success(
    small_logs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    class Faulty(McapWriter):
        count = 0

        def message(self, channel: int, log_ns: int, data: bytes, *rest: Any) -> None:
            self.count += 1
            if self.count == 90 and fault == "dropped":
                return
            changed = fault == "payload" and self.count == 90
            super().message(channel, log_ns, data[:-1] + b"\x77" if changed else data, *rest)

        def channel(self, channel: Any) -> int:
            if fault != "schema":
                return super().channel(channel)
            number = super().channel(channel._replace(schema=channel.schema + b" "))
            self.channels[channel] = number
            return number

        def finish(self) -> None:
            super().finish()
            data = bytearray(self.path.read_bytes())
            if fault == "flipped":
                data[2000] ^= 1
            self.path.write_bytes(data[:-60] if fault == "no_index" else data)

    monkeypatch.setattr(recover, "McapWriter", Faulty)
    with pytest.raises(LogError) as error:
        salvage_log(small_logs["mcap_lz4"], tmp_path / "out.mcap")
    assert error.value.code == "salvage_failed"
    assert not list(tmp_path.iterdir())


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(HOLE_PERIODS, 500)), max_size=8),
       st.integers(1, 10**9))  # fmt: skip
def test_holes_are_what_was_taken_out(gaps: list[tuple[int, int]], period_ns: int) -> None:
    """A regular stream with messages taken out; jitter is left to the 1 % of the gap sizes."""
    stamps, now_ns, expected = Stamps(), 0, []
    for before, missing in [*gaps, (400, 0)]:
        for _ in range(before):
            stamps.add(now_ns)
            now_ns += period_ns
        if missing:
            expected.append((now_ns - period_ns, now_ns + missing * period_ns, missing))
            now_ns += missing * period_ns
    assert stamps.gap_ns(0.5) == period_ns
    assert [tuple(hole) for hole in stamps.holes()] == expected
    assert stamps.unlisted_holes() == (0, 0)


def test_holes_beyond_the_list_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("av_assets.domain.logs.recover_report.MAX_HOLES", 10)
    stamps = Stamps()
    for i in range(3000):
        stamps.add(i * 1000 + (i // 100) * 20_000)
    assert len(stamps.holes()) == 10
    assert stamps.unlisted_holes() == (19, 19 * 20)


def test_pauses_between_bursts_are_no_holes() -> None:
    stamps = Stamps()
    for i in range(5000):
        late_ns = 3_000_000_000 if i >= 2500 else 0
        stamps.add(i // 20 * 10_000_000 + i % 20 * 5_000 + late_ns)
    (hole,) = stamps.holes()
    assert hole.end_ns - hole.start_ns > 3_000_000_000
    assert 5500 < hole.missing < 6500


@pytest.mark.parametrize("name", REAL)
def test_real_logs_are_recovered_whole(real_data: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out.mcap"
    report = salvaged(real_data / name, out)
    with AnyReader([real_data / name]) as reference:
        theirs = sorted((c.topic, log_ns, bytes(data)) for c, log_ns, data in reference.messages())
    assert (report.codes, report.lost) == ((), 0)
    assert library_contents(out) == theirs
    if not name.endswith(".bag"):  # rosbags reads no MCAP with ROS 1 messages
        with AnyReader([out]) as ours:
            assert sorted((c.topic, log_ns, bytes(data)) for c, log_ns, data in ours.messages()) == theirs


@pytest.mark.parametrize("name", ["bags/fox_example_lz4.bag", "bags/fox_example_bz2.bag",
                                  "bags/datmo_intersection.bag", "drives/carnd_h264_video/carnd_h264_video.mcap",
                                  "bags/carnd_ros1_jpeg_lz4.bag"])  # fmt: skip
def test_real_logs_are_recovered_from_any_cut(real_data: Path, tmp_path: Path, name: str) -> None:
    data, out = (real_data / name).read_bytes(), tmp_path / "out.mcap"
    whole = set(contents(real_data / name))
    kept = []
    for part in range(1, 16):
        (tmp_path / "cut").write_bytes(data[: len(data) * part // 16 + part])
        found = salvaged_contents(tmp_path / "cut", out)
        assert set(found) <= whole
        kept.append(len(found))
    assert kept == sorted(kept)
    assert kept[-1] > 0.7 * len(whole)


def test_camera_pictures_survive(small_logs: dict[str, Path], tmp_path: Path) -> None:
    salvaged(small_logs["bag_lz4"], tmp_path / "out.mcap")
    with LogReader(tmp_path / "out.mcap") as reader:
        images = [reader.deserialize(raw).data for raw in reader.messages([CAMERA])]
    assert [len(image) for image in images] == [604 + i for i in range(20)]
