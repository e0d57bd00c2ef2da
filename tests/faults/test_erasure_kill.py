"""An erasure that is killed at any moment ends, when its plan is carried out again, as an undisturbed one does."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
# Forked once all is imported, which takes longer than an erasure: the processes are real, and so is SIGKILL.
_RUN = """
import os, signal, sys, traceback
from itertools import count
from pathlib import Path
from av_assets.erasure.execution import execute
from resources.lake import Lake
from resources.objects import FolderStore
from tests.resources.erasure_lakes import installation
home, plan = Path(sys.argv[1]), sys.argv[2]
die = lambda: os.kill(os.getpid(), signal.SIGKILL)

def run(moment):
    if moment.isdigit():
        seen, delete = count(1), FolderStore.delete
        FolderStore.delete = lambda self, key: die() if next(seen) == int(moment) else delete(self, key)
    lake = Lake(uri=(home / "lake").as_uri(), scratch=str(home / "scratch"))
    execute(installation(lake, home), plan, 2, after=lambda step: die() if step == moment else None)

for line in sys.stdin:
    if (child := os.fork()) == 0:
        try:
            run(line.strip())
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def _home(root: Path) -> Lake:
    lake = Lake(uri=(root / "lake").as_uri(), scratch=str(root / "scratch"))
    labels = [add_drive(lake, root, drive, versions=2) for drive in ("veh1-a", "veh1-b")]
    add_fleet(lake, labels)
    return lake


@contextmanager
def _runs(home: Path, plan: str) -> Iterator[Callable[[str], int]]:
    """Carries the plan out in a process of its own, which dies at the given moment; gives how it ended."""
    command = [sys.executable, "-W", "ignore", "-c", _RUN, str(home), plan]
    with subprocess.Popen(
        command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        told, answers = process.stdin, process.stdout

        def run(moment: str) -> int:
            print(moment, file=told, flush=True)
            return int(answers.readline())

        yield run
        told.close()
        assert process.wait(30) == 0


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
    with _runs(home, plan) as run:
        for moment in [STEPS[0], *map(str, DELETES), *STEPS[1:]]:
            assert run(moment) == -signal.SIGKILL, moment
            assert receipts.names(disturbed) == [], moment
        assert run("never") == 0
    assert receipts.read(disturbed, plan) == whole
    assert _left(disturbed) == _left(calm)
    assert mentions(disturbed, home, mark("veh1-a"), own) == []
    assert all(disturbed.verify(one) == [] for one in manifests(disturbed))
    with _runs(home, plan) as run:
        assert run("never") == 0, "a plan that is through gives its receipt again"
