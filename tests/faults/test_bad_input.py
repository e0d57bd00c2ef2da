"""Every bad input ends in quarantine with a reason code, and nothing of it is held."""

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
        assert installation.states()[found["drive"]]["state"] == "quarantined"
    assert "Traceback" not in landed.stderr


@pytest.mark.slow
def test_changed_content_under_the_same_id_is_quarantined_and_the_first_stays(
    installation: Installation, short_drive_folder: Path
) -> None:
    drive = installation.many(["land", str(short_drive_folder), "--json"])[0]["drive"]
    ingest = ["backfill", drive, "--assets", "raw_logs", "--here"]
    installation.run(
        "-c",
        "from av_assets.cli.lake import open_instance; "
        f"open_instance().add_dynamic_partitions('drive', ['{drive}'])",
    )
    installation.av(*ingest)
    first = installation.lake.require("raw_logs", drive).content
    folder = installation.home / "landing" / drive
    recording = next((folder / "recording").glob("*.mcap"))
    data = bytearray(recording.read_bytes())
    data[len(data) // 2] ^= 1
    recording.write_bytes(data)
    (folder / "SHA256SUMS").unlink(missing_ok=True)
    installation.av(*ingest, check=False)
    state = installation.states()[drive]
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
