"""An erasure that is killed at any moment ends, when its plan is carried out again, as an undisturbed one does."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from av_assets.erasure.execution import execute, make_plan
from av_assets.erasure.survey import manifests
from resources import receipts
from resources.environment import PROJECT
from resources.lake import Lake
from tests.resources.erasure_lakes import add_drive, add_fleet, asking, installation, mark, mentions

STEPS = ("begun", "current", "datasets", "tables", "vectors", "objects", "segments", "places", "events", "manifests",
         "verified", "remade")  # fmt: skip
# In the middle of a step: at the n-th object that is deleted, whatever step it belongs to.
DELETES = (1, 4, 9, 15)
_RUN = """
import os, signal, sys
from itertools import count
from pathlib import Path
from av_assets.erasure.execution import execute
from resources.lake import Lake
from resources.objects import FolderStore
from tests.resources.erasure_lakes import installation
home, plan, moment = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
if moment.isdigit():
    seen, delete = count(1), FolderStore.delete
    FolderStore.delete = lambda self, key: die() if next(seen) == int(moment) else delete(self, key)
lake = Lake(uri=(home / "lake").as_uri(), scratch=str(home / "scratch"))
execute(installation(lake, home), plan, 2, after=lambda step: die() if step == moment else None)
"""


def _home(root: Path) -> Lake:
    lake = Lake(uri=(root / "lake").as_uri(), scratch=str(root / "scratch"))
    labels = [add_drive(lake, root, drive, versions=2) for drive in ("veh1-a", "veh1-b")]
    add_fleet(lake, labels)
    return lake


def _run(home: Path, plan: str, moment: str) -> int:
    command = [sys.executable, "-W", "ignore", "-c", _RUN, str(home), plan, moment]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, timeout=120, check=False).returncode


def _left(lake: Lake) -> set[str]:
    return {m.digest for m in manifests(lake)}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_erasure_killed_at_any_moment_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    calm, disturbed = _home(tmp_path / "calm"), _home(tmp_path / "disturbed")
    place = installation(calm, tmp_path / "calm")
    whole = execute(place, make_plan(place, asking("veh1-a"), 1).id, 2)
    home = tmp_path / "disturbed"
    plan = make_plan(installation(disturbed, home), asking("veh1-a"), 1).id
    own = {e.sha256 for m in manifests(disturbed) if m.partition == "veh1-a" for e in m.files}
    own -= {e.sha256 for m in manifests(disturbed) if m.partition == "veh1-b" for e in m.files}
    for moment in [STEPS[0], *map(str, DELETES), *STEPS[1:]]:
        assert _run(home, plan, moment) == -signal.SIGKILL, moment
        assert receipts.names(disturbed) == [], moment
    assert _run(home, plan, "never") == 0
    assert receipts.read(disturbed, plan) == whole
    assert _left(disturbed) == _left(calm)
    assert mentions(disturbed, home, mark("veh1-a"), own) == []
    assert all(disturbed.verify(one) == [] for one in manifests(disturbed))
    assert _run(home, plan, "never") == 0, "a plan that is through gives its receipt again"
