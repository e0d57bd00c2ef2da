"""Logs that are compressed as whole files or message by message, as the rosbag2 writers and tools make them."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import pytest
import zstandard
from log_writers import drive, store, write_mcap, write_ros1, write_rosbag2

from av_assets.domain.errors import LogError, TransientError
from av_assets.domain.logs.files import unpacking
from av_assets.domain.logs.files.formats import LogKind, find_logs, sniff
from av_assets.domain.logs.inspect import inspect_log
from av_assets.domain.logs.reader import LogReader

if TYPE_CHECKING:
    from pathlib import Path

MODES = [
    ("SQLITE3", "FILE"),
    ("SQLITE3", "MESSAGE"),
    ("MCAP", "FILE"),
    ("MCAP", "MESSAGE"),
    ("MCAP", "STORAGE"),
]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go; empty again after every test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def contents(path: Path) -> list[tuple[str, int, bytes]]:
    with LogReader(path) as reader:
        return [(raw.topic, raw.log_ns, raw.data) for raw in reader.messages()]


def recording(folder: Path, plugin: str, mode: str) -> Path:
    types = store()
    return write_rosbag2(folder, drive(types), types, plugin, mode)


@pytest.mark.parametrize(("plugin", "mode"), MODES)
@pytest.mark.parametrize("with_metadata", [True, False])
def test_a_compressed_recording_gives_the_same_messages(
    tmp_path: Path, temporary: Path, plugin: str, mode: str, with_metadata: bool
) -> None:
    plain, packed = recording(tmp_path / "a", plugin, ""), recording(tmp_path / "b", plugin, mode)
    if not with_metadata:
        (packed / "metadata.yaml").unlink()
    before = sorted(path.name for path in packed.iterdir())
    assert contents(packed) == contents(plain)
    verdict = inspect_log(packed)
    assert (verdict.state, verdict.messages) == ("ok", 180)
    assert verdict.files[0].bytes == (packed / verdict.files[0].path).stat().st_size
    assert sorted(path.name for path in packed.iterdir()) == before
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("name", ["bag_lz4", "mcap_zstd", "mcap_unchunked"])
@pytest.mark.parametrize("frames", [1, 3])
def test_any_log_may_be_compressed_and_named_anyhow(
    small_logs: dict[str, Path], tmp_path: Path, name: str, frames: int
) -> None:
    data = small_logs[name].read_bytes()
    step = -(-len(data) // frames)
    parts = [zstandard.compress(data[at : at + step]) for at in range(0, len(data), step)]
    skippable = b"\x50\x2a\x4d\x18\x04\0\0\0skip"  # as parallel compressors write
    (tmp_path / "x").write_bytes(skippable + b"".join(parts))
    kind = sniff(tmp_path / "x")
    assert kind is not None
    assert (kind.file_codec, kind.format) == ("zstd", find_logs(small_logs[name]).logs[0].format)
    assert contents(tmp_path / "x") == contents(small_logs[name])
    assert inspect_log(tmp_path / "x").state == "ok"


def test_no_temporary_file_is_left_open_or_named(
    small_logs: dict[str, Path], tmp_path: Path, temporary: Path
) -> None:
    (tmp_path / "x.mcap.zst").write_bytes(zstandard.compress(small_logs["mcap_lz4"].read_bytes()))
    with LogReader(tmp_path / "x.mcap.zst") as reader:
        assert not list(temporary.iterdir())
        assert str(reader.sources[0].path) == str(tmp_path / "x.mcap.zst")
        assert sum(1 for _ in reader.messages()) == 180
    (tmp_path / "y.mcap.zst").write_bytes(zstandard.compress(b"\x89MCAP0\r\n"))
    assert inspect_log(tmp_path / "y.mcap.zst").state == "quarantined"
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("name", ["bag_none", "mcap_none"])
def test_a_cut_stream_gives_what_it_decodes(small_logs: dict[str, Path], tmp_path: Path, name: str) -> None:
    whole = contents(small_logs[name])
    packed = zstandard.ZstdCompressor(level=1).compress(small_logs[name].read_bytes() * 1)
    blocks = zstandard.ZstdCompressor(level=1).compressobj()
    parts = [blocks.compress(small_logs[name].read_bytes()[at : at + 8192]) + blocks.flush(1)
             for at in range(0, small_logs[name].stat().st_size, 8192)]  # fmt: skip
    stream = b"".join(parts)
    assert len(stream) > len(packed) // 2
    (tmp_path / "x.zst").write_bytes(stream[: len(stream) * 3 // 4])
    kept = contents(tmp_path / "x.zst")
    assert 0.5 * len(whole) < len(kept) < len(whole)
    assert set(kept) <= set(whole)
    verdict = inspect_log(tmp_path / "x.zst")
    assert (verdict.state, verdict.code, verdict.messages) == ("salvaged", "cut_stream", len(kept))


def test_a_stream_without_its_last_bytes_is_told(small_logs: dict[str, Path], tmp_path: Path) -> None:
    """All of the log decodes, the checksum of the stream does not stand behind it."""
    packed = zstandard.ZstdCompressor(write_checksum=True).compress(small_logs["mcap_lz4"].read_bytes())
    (tmp_path / "x.zst").write_bytes(packed[:-2])
    verdict = inspect_log(tmp_path / "x.zst")
    assert (verdict.state, verdict.code, verdict.messages) == ("salvaged", "cut_stream", 180)
    (tmp_path / "x.mcap.zst").write_bytes(packed[:20])
    assert inspect_log(tmp_path / "x.mcap.zst").code == "cut_stream"
    (tmp_path / "weights.zst").write_bytes(zstandard.compress(b"no log at all"))
    assert sniff(tmp_path / "weights.zst") is None


def test_what_decodes_to_too_much_is_refused(
    small_logs: dict[str, Path], tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = zstandard.compress(b"\x89MCAP0\r\n" + bytes(50 << 20))
    (tmp_path / "x.mcap.zst").write_bytes(bomb)
    monkeypatch.setattr(unpacking, "MIN_LIMIT_BYTES", 1 << 20)
    assert inspect_log(tmp_path / "x.mcap.zst").code == "unpacked_too_large"
    monkeypatch.setattr(unpacking, "RESERVE_BYTES", 1 << 62)
    (tmp_path / "y.mcap.zst").write_bytes(zstandard.compress(small_logs["mcap_none"].read_bytes()))
    with pytest.raises(TransientError, match="no_space"):
        inspect_log(tmp_path / "y.mcap.zst")
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("plugin", ["SQLITE3", "MCAP"])
def test_a_broken_message_is_lost_whole(tmp_path: Path, plugin: str) -> None:
    """Half a message would pass for a message: of a frame that does not decode to its end nothing is given."""
    bag = recording(tmp_path / "b", plugin, "MESSAGE")
    whole = set(contents(bag))
    (log,) = (path for path in bag.iterdir() if path.name != "metadata.yaml")
    data = bytearray(log.read_bytes())
    at = data.index(b"\x28\xb5\x2f\xfd", len(data) // 2)
    data[at + 6 : at + 30] = b"\xee" * 24
    log.write_bytes(data)
    kept = set(contents(bag))
    assert len(kept) == 179
    assert kept < whole
    verdict = inspect_log(bag)
    assert (verdict.state, verdict.messages) == ("salvaged", 179)
    assert "bad_record" in verdict.files[0].damage["reasons"]  # type: ignore[operator]


def test_an_unknown_message_codec_is_refused_by_name(tmp_path: Path) -> None:
    bag = recording(tmp_path / "b", "SQLITE3", "MESSAGE")
    text = (bag / "metadata.yaml").read_text()
    (bag / "metadata.yaml").write_text(text.replace("compression_format: zstd", "compression_format: brotli"))
    assert inspect_log(bag).code == "unknown_compression"
    with pytest.raises(LogError, match="unknown_compression"):
        LogReader(bag)


def test_the_same_log_twice_is_read_once(tmp_path: Path) -> None:
    """Playing a compressed recording leaves its decoded file beside it."""
    bag = recording(tmp_path / "b", "SQLITE3", "FILE")
    packed = next(bag.glob("*.zstd"))
    packed.with_suffix("").write_bytes(
        zstandard.ZstdDecompressor().decompressobj().decompress(packed.read_bytes())
    )
    verdict = inspect_log(bag)
    assert (verdict.state, verdict.code, verdict.messages) == ("salvaged", "duplicate_log", 180)
    (bag / "metadata.yaml").unlink()
    assert inspect_log(bag).messages == 180


def test_metadata_may_tell_the_names_before_compression(tmp_path: Path) -> None:
    bag = recording(tmp_path / "b", "SQLITE3", "FILE")
    text = (bag / "metadata.yaml").read_text()
    (bag / "metadata.yaml").write_text(text.replace(".db3.zstd", ".db3"))
    assert (inspect_log(bag).state, inspect_log(bag).messages) == ("ok", 180)


def test_a_split_recording_of_packed_files(tmp_path: Path) -> None:
    types1, types2 = store(ros1=True), store()
    sent1, sent2 = drive(types1), drive(types2)
    for number, path in enumerate([write_mcap(tmp_path / "a_0.mcap", sent2[0::2], types2),
                                   write_mcap(tmp_path / "a_1.mcap", sent2[1::2], types2)]):  # fmt: skip
        path.with_name(f"a_{number}.mcap.zstd").write_bytes(zstandard.compress(path.read_bytes()))
        path.unlink()
    with LogReader(tmp_path) as reader:
        times = [raw.log_ns for raw in reader.messages()]
    assert times == [one.log_ns for one in sent2]
    bag = write_ros1(tmp_path / "x.bag", sent1, types1)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "x.bag.zst").write_bytes(zstandard.compress(bag.read_bytes()))
    assert sniff(tmp_path / "x" / "x.bag.zst") == LogKind("ros1", "zstd")
