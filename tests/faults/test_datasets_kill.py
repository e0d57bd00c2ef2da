"""Freezing and tagging that are killed at any moment leave a dataset that is there whole or not at all."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from resources.datasets import resolve, versions
from resources.environment import PROJECT
from resources.lake import Lake
from tests.automation.small_fleet import WEEK, land, small_fleet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FLEET = small_fleet()
KILLED = -signal.SIGKILL
# Before anything is made, at the first file, before the bundle gets its name, before that becomes a version.
MOMENTS = ("compute", "store", "manifest", "version", "never")
_FREEZE = """
import sys
from av_assets.cli.main import main
from resources.objects import FolderStore
from tests.faults.killed import arm, die
moment, words = sys.argv[1], sys.argv[2:]
arm(moment)
put = FolderStore.put
if moment == "version":
    FolderStore.put = lambda self, key, data, **more: die() if "/versions/" in key else put(self, key, data, **more)
main(words)
"""
_TAG = """
import os, signal, sys
from av_assets.cli.main import main
from resources.objects import FolderStore
moment, words = sys.argv[1], sys.argv[2:]
put, link = FolderStore.put, os.link
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
def put_or_die(self, key, data, *, create=False):
    if "/tags/" not in key:
        return put(self, key, data, create=create)
    if moment == "before":
        die()
    put(self, key, data, create=create)
    die()
FolderStore.put = put_or_die
# Between writing the bytes aside and giving them their name.
os.link = lambda source, target: die() if (moment, target.parent.name) == ("within", "tags") else link(source, target)
main(words)
"""


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose lake has verified drives and no dataset yet."""
    home = tmp_path_factory.mktemp("landed") / "home"
    land(_lake(home), home, FLEET)
    return home


@pytest.fixture(scope="module")
def frozen(landed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another one, after nothing disturbed the freezing."""
    home = tmp_path_factory.mktemp("frozen") / "home"
    shutil.copytree(landed / "lake", home / "lake")
    assert _run(home, _FREEZE, "never", "datasets", "freeze", "--week", WEEK, "--here") == 0
    return home


def _lake(home: Path) -> Lake:
    return Lake(uri=(home / "lake").as_uri(), scratch=str(home / "scratch"))


def _run(home: Path, code: str, moment: str, *words: str) -> int:
    """The exit code of `av` with these words in a process of its own; negative is the signal that ended it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AV_HOME", str(home))
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, moment, *words],
            cwd=PROJECT, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
    assert done.returncode in (0, KILLED), done.stderr[-3000:]
    return done.returncode


def test_freezing_that_is_killed_names_nothing_and_ends_in_the_digest_of_an_undisturbed_one(
    landed: Path, frozen: Path, tmp_path: Path
) -> None:
    shutil.copytree(landed / "lake", tmp_path / "home" / "lake")
    lake, calm = _lake(tmp_path / "home"), resolve(_lake(frozen), "golden")
    for moment in MOMENTS:
        ended = _run(tmp_path / "home", _FREEZE, moment, "datasets", "freeze", "--week", WEEK, "--here")
        assert ended == (0 if moment == "never" else KILLED), moment
        assert (lake.manifest("golden_slices", WEEK) is not None) == (moment in ("version", "never")), moment
        assert len(versions(lake, "golden")) == (moment == "never"), moment
    made = resolve(lake, "golden")
    assert made.version == calm.version
    assert lake.verify(made.manifest) == []
    assert all(lake.verify(lake.require("synced_shards", d.name)) == [] for d in FLEET), "linked, never moved"


@pytest.mark.parametrize(("moment", "there"), [("before", False), ("within", False), ("after", True)])
def test_tagging_that_is_killed_leaves_the_whole_tag_or_none(
    frozen: Path, tmp_path: Path, moment: str, there: bool
) -> None:
    shutil.copytree(frozen / "lake", tmp_path / "home" / "lake", symlinks=True)
    lake = _lake(tmp_path / "home")
    version = resolve(lake, "golden").version
    words = ("datasets", "tag", "golden", "1.0.0", "--version", version, "--by", "ada")
    assert _run(tmp_path / "home", _TAG, moment, *words) == KILLED
    assert [v.tags for v in versions(lake, "golden")] == [("1.0.0",) if there else ()]
    assert (
        _run(
            tmp_path / "home",
            "import sys; from av_assets.cli.main import main; main(sys.argv[2:])",
            "-",
            *words,
        )
        == 0
    )
    assert resolve(lake, "golden@1.0.0").version == version
    [row] = [json.loads(lake.store.get(key) or b"") for key in lake.store.keys("datasets/golden/tags/")]
    assert (row["version"], row["by"]) == (version, "ada")
