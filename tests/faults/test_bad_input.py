"""Every bad input ends in quarantine with a reason code, and the good drive beside it is complete."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from av_assets.domain.simulation.faults import inject
from tests.faults.conftest import Installation

EXPECTED = {
    "not_a_bag": {"not_a_log", "no_logs"},
    "empty_file": {"empty_log", "no_logs"},
    "zero_messages": {"no_messages"},
    "bad_id": {"invalid_drive_id", "id_mismatch"},
}


def _state(installation: Installation, drive: str) -> dict[str, str]:
    drives = json.loads(installation.av("status", "--json").stdout)["drives"]
    return next(d for d in drives if d["id"] == drive)


@pytest.mark.slow
@pytest.mark.parametrize("fault", sorted(EXPECTED))
def test_poison_goes_to_quarantine(
    fault: str, installation: Installation, short_drive_folder: Path, tmp_path: Path
) -> None:
    bad = inject(fault, short_drive_folder, tmp_path / "bad", seed=1)
    landed = installation.av("land", str(bad), "--here", "--json", check=False)
    found = json.loads(landed.stdout)
    code = found["error"] if "error" in found else found["reason"].split(":")[0]
    assert code in EXPECTED[fault]
    if "error" not in found:
        assert found["state"] == "quarantined"
        assert _state(installation, found["drive"])["state"] == "quarantined"
    assert "Traceback" not in landed.stderr


@pytest.mark.slow
def test_changed_content_under_the_same_id_is_quarantined_and_the_first_stays(
    installation: Installation, short_drive_folder: Path
) -> None:
    drive = json.loads(installation.av("land", str(short_drive_folder), "--here", "--json").stdout)["drive"]
    first = installation.lake.require("raw_logs", drive).content
    folder = installation.home / "landing" / drive
    recording = next((folder / "recording").glob("*.mcap"))
    data = bytearray(recording.read_bytes())
    data[len(data) // 2] ^= 1
    recording.write_bytes(data)
    (folder / "SHA256SUMS").unlink(missing_ok=True)
    installation.av("backfill", drive, "--here", check=False)
    state = _state(installation, drive)
    assert state["state"] == "quarantined"
    assert state["reason"].startswith("content_conflict")
    assert installation.lake.require("raw_logs", drive).content == first


@pytest.mark.slow
def test_flipped_byte_is_named(installation: Installation, short_drive_folder: Path, tmp_path: Path) -> None:
    bad = inject("bit_flip", short_drive_folder, tmp_path / "bad", seed=3)
    found = json.loads(installation.av("land", str(bad), "--here", "--json").stdout)
    assert found["state"] == "quarantined"
    assert "checksum" in found["reason"]
    assert ".mcap" in found["reason"]
