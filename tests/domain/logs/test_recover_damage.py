"""A damaged log becomes a valid MCAP that holds every message which survives, and a report of what does not."""

from __future__ import annotations

import shutil
import sqlite3
import struct
from typing import TYPE_CHECKING

import pytest
from log_writers import IMU, drive, store, write_ros1
from mcap.reader import make_reader
from mcap.writer import Writer

from av_assets.domain.logs.reader import LogReader

if TYPE_CHECKING:
    from pathlib import Path


from recoveries import by_library, contents, file_of, library_contents, rich_mcap, salvaged, salvaged_contents

FILES = ("bag_none", "bag_bz2", "bag_lz4", "mcap_none", "mcap_lz4", "mcap_zstd", "mcap_unchunked", "db3")


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


@pytest.mark.parametrize("name", ["mcap_zstd", "bag_lz4"])
def test_a_log_without_its_first_bytes_is_known_by_its_name(
    small_logs: dict[str, Path], tmp_path: Path, name: str
) -> None:
    path = tmp_path / f"x{small_logs[name].suffix}"
    path.write_bytes(bytes(8) + small_logs[name].read_bytes()[8:])
    report = salvaged(path, tmp_path / "out.mcap")
    assert (report.messages, report.codes) == (180, ("bad_magic",))
    assert library_contents(tmp_path / "out.mcap") == contents(small_logs[name])


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


def attached(path: Path, chunked: bool, summary: bool = True) -> list[int]:
    """Three attachments and metadata records among messages; gives where the record of each attachment stands."""
    with path.open("wb") as file:
        writer = Writer(file, chunk_size=200, use_chunking=chunked, use_statistics=summary)
        writer.start()
        number = writer.register_channel("/a", "raw", 0)
        for i in range(30):
            writer.add_message(number, 1000 + i, b"payload" * 9 + bytes([i]), 1000 + i)
            if i % 10 == 5:
                writer.add_attachment(i, i, f"a{i}.txt", "text/plain", b"content" * 9)
                writer.add_metadata(f"m{i}", {"k": "v"})
        writer.finish()
    data = path.read_bytes()
    return [data.index(f"a{i}.txt".encode()) - 29 for i in (5, 15, 25)]


@pytest.mark.parametrize("chunked", [True, False])
def test_attachments_behind_the_damage_are_recovered(tmp_path: Path, chunked: bool) -> None:
    path = tmp_path / "x.mcap"
    first, _, _ = attached(path, chunked)
    data = bytearray(path.read_bytes())
    data[first - 100 : first - 40] = b"\xee" * 60
    path.write_bytes(data)
    report = salvaged(path, tmp_path / "out.mcap")
    assert report.messages < 30
    assert (report.attachments, report.metadata) == (3, 3)
    with (tmp_path / "out.mcap").open("rb") as file:
        found = {one.name: one.data for one in make_reader(file).iter_attachments()}
    assert found == {f"a{i}.txt": b"content" * 9 for i in (5, 15, 25)}
    assert not set(report.codes) & {"lost_attachments", "lost_metadata"}


@pytest.mark.parametrize("chunked", [True, False])
def test_attachments_that_are_gone_are_told(tmp_path: Path, chunked: bool) -> None:
    path = tmp_path / "x.mcap"
    _, second, third = attached(path, chunked)
    data = bytearray(path.read_bytes())
    data[second : second + 9] = b"\xee" * 9  # one is no record any more, one has another checksum
    data[third + 60] ^= 1
    path.write_bytes(data)
    report = salvaged(path, tmp_path / "out.mcap")
    assert (report.attachments, report.metadata) == (1, 3)
    assert {"lost_attachments", "bad_attachment"} <= set(report.codes)
    assert "lost_metadata" not in report.codes
    assert report.files[0].damage["bytes_lost"] > 9
