"""An output is there, whole and proven, or it is not there at all."""

from __future__ import annotations

import resource
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from av_assets.domain.errors import LogError, TransientError
from av_assets.domain.logs.files.mcap_writer import McapWriter
from av_assets.domain.logs.recovery import salvage as recover
from av_assets.domain.logs.recovery.salvage import salvage_log

if TYPE_CHECKING:
    from pathlib import Path


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
