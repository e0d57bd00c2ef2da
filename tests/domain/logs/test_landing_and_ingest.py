"""A landed folder is taken whole or refused with a code; a copy is whole or absent."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from av_assets.domain.errors import AvError, LandingError, LogError, TransientError
from av_assets.domain.logs.ingest import CHUNK_BYTES, copy_hashed
from av_assets.domain.logs.landing import landed_drive, sniff_drive_spec
from av_assets.policies.landing import LandingPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

DRIVE = "veh001-20250601t080000z"


@pytest.fixture
def landed(small_logs: dict[str, Path], tmp_path: Path) -> Path:
    folder = tmp_path / DRIVE
    (folder / "recording").mkdir(parents=True)
    (folder / "recording" / "a.mcap").write_bytes(small_logs["mcap_lz4"].read_bytes())
    (folder / "drive.yaml").write_text(f"schema: 1\ndrive: {DRIVE}\n")
    (folder / "COMPLETE").touch()
    return folder


def sums(folder: Path, name: str = "recording/a.mcap") -> str:
    return f"{hashlib.sha256((folder / 'recording' / 'a.mcap').read_bytes()).hexdigest()}  {name}\n"


def test_a_good_folder_lists_its_files_without_the_marker(landed: Path) -> None:
    (landed / "SHA256SUMS").write_text(sums(landed))
    drive = landed_drive(landed, LandingPolicy.load())
    assert [file.path for file in drive.files] == ["SHA256SUMS", "drive.yaml", "recording/a.mcap"]
    assert drive.files[2].sha256 == sums(landed)[:64]
    assert drive.files[0].sha256 is None
    assert drive.logs == ("recording/a.mcap",)
    assert drive.bytes == sum(file.bytes for file in drive.files)


def test_bagit_manifests_count_as_checksums(landed: Path) -> None:
    (landed / "manifest-sha256.txt").write_text(sums(landed, "recording/%61.mcap"))
    assert landed_drive(landed, LandingPolicy.load()).files[2].sha256


def link_out(folder: Path) -> None:
    (folder / "x.mcap").symlink_to("/etc/passwd")


FAULTS: dict[str, Callable[[Path], object]] = {
    "missing_marker": lambda f: (f / "COMPLETE").unlink(),
    "missing_drive_yaml": lambda f: (f / "drive.yaml").unlink(),
    "bad_drive_yaml": lambda f: (f / "drive.yaml").write_text("drive: [1"),
    "invalid_drive_id": lambda f: (f / "drive.yaml").write_text("drive: '../etc'"),
    "id_mismatch": lambda f: (f / "drive.yaml").write_text("drive: other"),
    "no_logs": lambda f: (f / "recording" / "a.mcap").rename(f / "recording" / "a.txt").write_text("x"),
    "missing_log": lambda f: (f / "drive.yaml").write_text(f"drive: {DRIVE}\nlogs: [b.mcap]"),
    "symlink_escape": link_out,
    "not_a_file": lambda f: os.mkfifo(f / "pipe"),
    "unsafe_name": lambda f: (f / "a\nb").touch(),
    "bad_checksums": lambda f: (f / "SHA256SUMS").write_text("abc  recording/a.mcap"),
    "checksum_missing_file": lambda f: (f / "SHA256SUMS").write_text("0" * 64 + "  gone.mcap"),
}


@pytest.mark.parametrize("code", FAULTS)
def test_a_bad_folder_is_refused_with_its_code(landed: Path, code: str) -> None:
    FAULTS[code](landed)
    with pytest.raises(AvError) as caught:
        landed_drive(landed, LandingPolicy.load())
    assert caught.value.code == code
    assert caught.value.file


@pytest.mark.parametrize("line", ["../../etc/passwd", "/etc/passwd", "a/../b"])
def test_checksums_cannot_point_outside(landed: Path, line: str) -> None:
    (landed / "SHA256SUMS").write_text("0" * 64 + "  " + line)
    with pytest.raises(LandingError, match="bad_checksums"):
        landed_drive(landed, LandingPolicy.load())


def test_a_folder_outside_of_the_folder_is_refused(landed: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (landed / "linked").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LandingError, match="symlink_escape"):
        landed_drive(landed, LandingPolicy.load())


def test_bounds_come_from_the_policy(landed: Path) -> None:
    policy = LandingPolicy.load()
    for change in ({"max_files": 1}, {"max_file_bytes": 10}, {"require_checksums": True}):
        with pytest.raises(LandingError):
            landed_drive(landed, policy.model_copy(update=change))


def test_a_bare_log_gets_a_spec(small_logs: dict[str, Path], tmp_path: Path) -> None:
    bare = tmp_path / "My Drive_01.bag.active"
    bare.write_bytes(small_logs["bag_lz4"].read_bytes())
    assert sniff_drive_spec(bare).drive == "my-drive-01"
    assert sniff_drive_spec(small_logs["db3"]).drive == "db3"
    with pytest.raises(LogError):
        sniff_drive_spec(Path(__file__))


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, 5 * CHUNK_BYTES + 7])
def test_a_copy_is_equal_and_hashed(tmp_path: Path, size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    (tmp_path / "a").write_bytes(data)
    copied = copy_hashed(tmp_path / "a", tmp_path / "deep" / "b", hashlib.sha256(data).hexdigest().upper())
    assert copied == (size, hashlib.sha256(data).hexdigest())
    assert (tmp_path / "deep" / "b").read_bytes() == data
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["b"]


def test_a_wrong_checksum_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100)
    (tmp_path / "out").mkdir()
    with pytest.raises(LandingError) as caught:
        copy_hashed(tmp_path / "a", tmp_path / "out" / "b", "0" * 64)
    assert (caught.value.code, caught.value.file) == ("checksum_mismatch", str(tmp_path / "a"))
    assert not list((tmp_path / "out").iterdir())


def test_what_cannot_be_copied_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a").write_bytes(b"x" * 100)
    for source, code in (("gone", "missing_file"), ("pipe", "not_a_file"), (".", "not_a_file")):
        with pytest.raises(LandingError) as caught:
            copy_hashed(tmp_path / source, tmp_path / "b")
        assert caught.value.code == code

    def full_disk(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full_disk)
    with pytest.raises(TransientError, match="No space left"):
        copy_hashed(tmp_path / "a", tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "pipe"]


def test_copies_at_the_same_time_have_one_winner(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(3 * CHUNK_BYTES)
    (tmp_path / "a").write_bytes(data)
    threads = [
        threading.Thread(target=copy_hashed, args=(tmp_path / "a", tmp_path / "o" / "b")) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "o" / "b").read_bytes() == data
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["b"]
