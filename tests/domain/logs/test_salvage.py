"""What a cut or a flip leaves is read byte for byte, and the rest is accounted for."""

from __future__ import annotations

import sqlite3
import struct
from typing import TYPE_CHECKING

import pytest
from log_writers import drive, store, write_mcap, write_ros1

from av_assets.domain.logs.files.formats import find_logs
from av_assets.domain.logs.files.sources import loss_account, open_source
from av_assets.domain.logs.inspect import inspect_log
from av_assets.domain.logs.reader import LogReader

if TYPE_CHECKING:
    from pathlib import Path

FILES = ("bag_none", "bag_bz2", "bag_lz4", "mcap_none", "mcap_lz4", "mcap_zstd", "mcap_unchunked")


def contents(path: Path) -> list[tuple[str, int, bytes]]:
    with LogReader(path) as reader:
        return [(raw.topic, raw.log_ns, raw.data) for raw in reader.messages()]


@pytest.mark.parametrize("name", FILES)
def test_a_cut_log_gives_what_precedes_the_cut(
    small_logs: dict[str, Path], tmp_path: Path, name: str
) -> None:
    whole, data = contents(small_logs[name]), small_logs[name].read_bytes()
    cut = tmp_path / "cut"
    kept_before = 0
    for share in (0.35, 0.5, 0.65, 0.8, 0.95):
        cut.write_bytes(data[: int(len(data) * share)])
        kept = contents(cut)
        assert set(kept) <= set(whole)
        assert len(kept) >= kept_before
        kept_before = len(kept)
        verdict = inspect_log(cut)
        assert (verdict.state, verdict.messages) == ("salvaged", len(kept))
        assert verdict.code
    assert kept_before > 100


@pytest.mark.parametrize("name", ["mcap_lz4", "mcap_zstd"])
def test_a_chunk_with_a_wrong_checksum_is_left_out(
    small_logs: dict[str, Path], tmp_path: Path, name: str
) -> None:
    data = bytearray(small_logs[name].read_bytes())
    with LogReader(small_logs[name]) as reader:
        block = reader.sources[0].blocks[2]
        inside = [m for m in contents(small_logs[name]) if block.start_ns <= m[1] <= block.end_ns]
    data[block.offset + 9 + 24] ^= 0xFF  # the stored checksum
    (tmp_path / "x").write_bytes(data)
    kept = contents(tmp_path / "x")
    assert 180 - len(inside) - 4 <= len(kept) < 180
    verdict = inspect_log(tmp_path / "x")
    assert (verdict.state, verdict.code, verdict.messages) == ("salvaged", "bad_crc", len(kept))
    assert sum(topic.lost or 0 for topic in verdict.topics.values()) == 180 - len(kept)
    source = open_source(find_logs(tmp_path / "x").logs[0], salvage=True)
    account = loss_account(source)
    source.close()
    assert account["bytes_lost"] == block.length
    assert sum(account["messages_kept"].values()) == len(kept)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["mcap_lz4", "mcap_none", "bag_none", "bag_lz4"])
def test_reading_goes_on_behind_bytes_that_make_no_sense(
    small_logs: dict[str, Path], tmp_path: Path, name: str
) -> None:
    whole, data = contents(small_logs[name]), bytearray(small_logs[name].read_bytes())
    with LogReader(small_logs[name]) as reader:
        block = sorted(reader.sources[0].blocks, key=lambda b: b.offset)[1]
    data[block.offset : block.offset + 24] = b"\xee" * 24
    (tmp_path / "x").write_bytes(data[: int(len(data) * 0.9)])
    kept = contents(tmp_path / "x")
    assert set(kept) <= set(whole)
    assert len(kept) > 100


@pytest.mark.parametrize("codec", ["none", "lz4", "bz2"])
def test_a_bag_that_was_not_closed_gives_all(tmp_path: Path, codec: str) -> None:
    types = store(ros1=True)
    bag = write_ros1(tmp_path / "x.bag", drive(types), types, codec)
    data = bytearray(bag.read_bytes())
    at = data.index(b"index_pos=") + 10
    (position,) = struct.unpack_from("<Q", data, at)
    data[at : at + 8] = bytes(8)
    active = tmp_path / "x.bag.active"
    active.write_bytes(data[:position])
    assert contents(active) == contents(bag)
    verdict = inspect_log(active)
    assert (verdict.state, verdict.code, verdict.messages) == ("salvaged", "no_index", 180)
    assert verdict.files[0].damage["bytes_lost"] == 0


def test_an_mcap_written_without_an_index_is_no_damage(tmp_path: Path) -> None:
    from mcap.writer import IndexType

    types = store()
    options = {"index_types": IndexType.NONE, "use_statistics": False, "use_summary_offsets": False,
               "repeat_channels": False, "repeat_schemas": False}  # fmt: skip
    path = write_mcap(tmp_path / "x.mcap", drive(types), types, **options)
    assert inspect_log(path).state == "ok"
    assert len(contents(path)) == 180


def test_an_index_that_lies_is_found_out(small_logs: dict[str, Path], tmp_path: Path) -> None:
    """Statistics and chunk index agree with each other and not with the chunks."""
    data = bytearray(small_logs["mcap_lz4"].read_bytes())
    with LogReader(small_logs["mcap_lz4"]) as reader:
        first, second = sorted(reader.sources[0].blocks, key=lambda b: b.offset)[:2]
    place = struct.pack("<Q", second.offset)
    at = data.rindex(place + struct.pack("<Q", second.length))
    data[at : at + 16] = struct.pack("<QQ", first.offset, first.length)
    data[-12:-8] = bytes(4)  # no checksum over the summary
    (tmp_path / "x.mcap").write_bytes(data)
    verdict = inspect_log(tmp_path / "x.mcap")
    assert (verdict.state, verdict.code, verdict.messages) == ("salvaged", "bad_index", 180)


def test_a_damaged_database_gives_its_readable_rows(small_logs: dict[str, Path], tmp_path: Path) -> None:
    source = next(small_logs["db3"].glob("*.db3"))
    whole, data = contents(source), bytearray(source.read_bytes())
    place = data.index(b"\xff\xd8\xff\xe0", len(data) // 2) // 4096 * 4096
    data[place : place + 4096] = b"\xee" * 4096
    (tmp_path / "x.db3").write_bytes(data)
    kept = contents(tmp_path / "x.db3")
    assert 0 < len(kept) < 180
    assert set(kept) <= set(whole)
    assert inspect_log(tmp_path / "x.db3").state == "salvaged"
    (tmp_path / "y.db3").write_bytes(data[:3000])
    assert inspect_log(tmp_path / "y.db3").state == "quarantined"


def test_a_hot_journal_is_told(small_logs: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "x.db3"
    path.write_bytes(next(small_logs["db3"].glob("*.db3")).read_bytes())
    (tmp_path / "x.db3-wal").write_bytes(b"uncommitted")
    assert inspect_log(path).code == "hot_journal"


def test_a_database_that_is_no_recording_is_not_a_log(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "x.db3")
    db.execute("CREATE TABLE other (id INTEGER)")
    db.commit()
    db.close()
    assert inspect_log(tmp_path / "x.db3").code == "not_a_log"


def test_a_chunk_that_claims_to_be_huge_is_refused(tmp_path: Path) -> None:
    types = store()
    path = write_mcap(tmp_path / "x.mcap", drive(types), types, "zstd")
    data = bytearray(path.read_bytes())
    with LogReader(path) as reader:
        block = reader.sources[0].blocks[0]
    struct.pack_into("<Q", data, block.offset + 9 + 16, 1 << 60)
    path.write_bytes(data)
    verdict = inspect_log(path)
    assert verdict.state == "salvaged"
    assert "chunk_too_large" in verdict.files[0].damage["reasons"]  # type: ignore[operator]
