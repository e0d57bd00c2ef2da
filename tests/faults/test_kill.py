"""A worker that is killed in any stage leaves nothing half-written, and the rerun gives the same digests."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from av_assets.drives import STAGES
from resources import ingestions
from tests.faults.conftest import Installation, install

DRIVE = "veh001-20250601t080000z"
KILLED = -signal.SIGKILL
MOMENTS = ("compute", "store", "manifest")
# The piece of each stage in whose middle it dies: the recording itself, the second segment of a camera, and, after
# the scan of the log, the second segment of shards.
PIECES = {"raw_logs": 4, "redacted_clips": 2, "synced_shards": 3}


def _equip(home: Path, equipped: Path, drive: Path, truth: Path) -> Installation:
    made = install(home, equipped)
    (home / "truth").symlink_to(truth)
    made.av("land", str(drive))
    made.run(
        "-c",
        "from av_assets.cli.lake import open_instance; "
        f"open_instance().add_dynamic_partitions('drive', ['{DRIVE}'])",
    )
    return made


def _make(place: Installation, plan: list[tuple[str, str]]) -> list[dict[str, Any]]:
    done = place.run("-m", "tests.faults.killed", DRIVE, json.dumps(plan), str(place.home / "kept"))
    steps = json.loads(done.stdout.splitlines()[-1])
    expected = [0 if moment == "never" else KILLED for _, moment in plan]
    assert [s["ended"] for s in steps] == expected, (steps, done.stderr[-3000:])
    return steps


def _kept(place: Installation) -> list[str]:
    """`<asset> <piece>`; the name of a copied file depends on the time at which it was landed."""
    lines = (place.home / "kept").read_text().splitlines()
    assert len(lines) == len(set(lines)), "a finished piece was made again"
    return sorted("raw_logs" if line.startswith("raw_logs") else line for line in lines)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_stage_killed_at_any_moment_ends_in_the_digest_of_an_undisturbed_run(
    tmp_path: Path, equipped: Path, short_drive_folder: Path, short_truth: Path
) -> None:
    calm, disturbed = (
        _equip(tmp_path / name, equipped, short_drive_folder, short_truth) for name in ("calm", "disturbed")
    )
    [whole] = _make(calm, [(",".join(STAGES), "never")])
    assert whole["waiting"] == 0
    plan = [(stage, moment) for stage in STAGES for moment in _moments(stage)]
    for (stage, moment), step in zip(plan, _make(disturbed, plan), strict=True):
        assert step["finished"] == ([stage] if moment == "never" else []), (stage, moment)
        if moment == "never" or stage not in PIECES:
            assert step["waiting"] == 0, (stage, moment)
        elif moment not in ("compute", "store"):
            assert step["waiting"] > 0, "what was finished waits for the next attempt"
    for stage in STAGES:
        made = disturbed.lake.require(stage, DRIVE)
        assert made.digest == calm.lake.require(stage, DRIVE).digest, stage
    assert _kept(disturbed) == _kept(calm)
    assert {line.split()[0] for line in _kept(calm)} == set(PIECES)
    row = ingestions.of(disturbed.lake, DRIVE)
    assert row is not None
    assert row.resumed_files == row.files
    assert disturbed.av("verify", DRIVE).returncode == 0


def _moments(stage: str) -> list[str]:
    piece = [f"piece:{PIECES[stage]}"] if stage in PIECES else []
    return ["compute", "store", *piece, "manifest", "never"]
