"""A worker that is killed in any stage leaves nothing half-written, and the rerun gives the same digests."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path

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
        "-c", f"from av_assets.cli import _instance; _instance().add_dynamic_partitions('drive', ['{DRIVE}'])"
    )
    return made


def _make(place: Installation, plan: list[tuple[str, str]]) -> list[int]:
    done = place.run("-m", "tests.faults.killed", DRIVE, json.dumps(plan), str(place.home / "kept"))
    endings = json.loads(done.stdout.splitlines()[-1])
    assert len(endings) == len(plan)
    expected = [0 if moment == "never" else KILLED for _, moment in plan]
    assert endings == expected, (plan, endings, done.stderr[-3000:])
    return endings


def _kept(place: Installation) -> list[str]:
    return (place.home / "kept").read_text().splitlines()


def _segments(place: Installation) -> list[str]:
    return list(place.lake.store.keys("segments/"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_stage_killed_at_any_moment_ends_in_the_digest_of_an_undisturbed_run(
    tmp_path: Path, equipped: Path, short_drive_folder: Path, short_truth: Path
) -> None:
    calm, disturbed = (
        _equip(tmp_path / name, equipped, short_drive_folder, short_truth) for name in ("calm", "disturbed")
    )
    _make(calm, [(",".join(STAGES), "never")])
    for stage in STAGES:
        moments = [*MOMENTS[:1], *([f"piece:{PIECES[stage]}"] if stage in PIECES else []), *MOMENTS[1:]]
        _make(disturbed, [(stage, moment) for moment in moments])
        assert disturbed.lake.manifest(stage, DRIVE) is None
        assert bool(_segments(disturbed)) == (stage in PIECES), "what was finished waits for the next attempt"
        _make(disturbed, [(stage, "never")])
        made = disturbed.lake.require(stage, DRIVE)
        assert made.digest == calm.lake.require(stage, DRIVE).digest, stage
        assert disturbed.lake.verify(made) == []
        assert _segments(disturbed) == []
    assert Counter(_kept(disturbed)) == Counter(_kept(calm)), "a finished piece is never made again"
    assert {line.split()[0] for line in _kept(calm)} == set(PIECES)
    assert all(number == 1 for number in Counter(_kept(disturbed)).values())
    row = ingestions.of(disturbed.lake, DRIVE)
    assert row is not None
    assert row.resumed_files == row.files
    assert _segments(calm) == []
    assert disturbed.av("verify", DRIVE).returncode == 0
