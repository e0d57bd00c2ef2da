"""Datasets that cannot be what they shall be: refused by name through the commands and the asset, nothing else made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from av_assets.cli.main import main
from av_assets.domain.datasets.splits import split_of
from av_assets.domain.evidence.manifest import Manifest
from av_assets.mining.golden import golden_slices, golden_slices_leak_nothing
from av_assets.policies.golden import GoldenPolicy
from resources.datasets import versions
from resources.environment import PROJECT
from resources.lake import Lake
from tests.automation.small_fleet import WEEK, Drive, land, small_fleet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

POLICY = GoldenPolicy.load()
FLEET = small_fleet()


@dataclass
class Place:
    """An installation whose lake has verified drives and no dataset yet."""

    home: Path

    @property
    def lake(self) -> Lake:
        return Lake(uri=(self.home / "lake").as_uri(), scratch=str(self.home / "scratch"))

    def materialize(self, policy: GoldenPolicy = POLICY) -> dg.ExecuteInProcessResult:
        """The asset, its check and one asset that stands below them."""

        @dg.asset(deps=["golden_slices"], partitions_def=golden_slices.partitions_def)
        def below() -> None:
            return None

        with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
            patch.setattr(GoldenPolicy, "load", classmethod(lambda cls, path=None: policy))
            instance.add_dynamic_partitions("drive", [d.name for d in FLEET])
            return dg.materialize(
                [golden_slices, golden_slices_leak_nothing, below],
                instance=instance, partition_key=WEEK, resources={"lake": self.lake}, raise_on_error=False,
                selection=["golden_slices", "below"],
            )  # fmt: skip

    def frozen(self) -> Manifest:
        assert self.materialize().success
        return self.lake.require("golden_slices", WEEK)

    def object_of(self, manifest: Manifest, path: str) -> Path:
        sha = manifest.entry(path).sha256
        return self.home / "lake" / "objects" / sha[:2] / sha

    def spoil(self, manifest: Manifest, path: str) -> None:
        stored = self.object_of(manifest, path)
        data = bytearray(stored.read_bytes())
        data[len(data) // 2] ^= 1
        stored.unlink()
        stored.write_bytes(data)


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("datasets") / "home"
    land(Place(home).lake, home, FLEET)
    return home


@pytest.fixture
def place(landed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    shutil.copytree(landed / "lake", tmp_path / "home" / "lake")
    for name in [n for n in os.environ if n.startswith("AV_") and n not in ("AV_SIGNING_KEY", "AV_TOOLS")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AV_HOME", str(tmp_path / "home"))
    return Place(tmp_path / "home")


def av(*words: str) -> Result:
    done = CliRunner().invoke(main, list(words))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def refused(code: str, *words: str) -> str:
    """The one line of a command that fails, which it does in both forms."""
    found = []
    for asked in (words, (*words, "--json")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["av", *asked])
            done = av(*asked)
        assert done.exit_code == 1, done.output
        found.append(done.output)
    assert found[0].count("\n") == 1, found[0]
    assert found[0].startswith(f"error: [{code}] ")
    assert json.loads(found[1])["error"] == code
    return found[0]


def failure(result: dg.ExecuteInProcessResult) -> str:
    errors = [e.step_failure_data.error for e in result.all_events if e.is_step_failure]
    return "\n".join(error.to_string() for error in errors if error is not None)


def ran(result: dg.ExecuteInProcessResult) -> set[str]:
    """Assets that were made."""
    return {
        e.step_materialization_data.materialization.asset_key.to_user_string()
        for e in result.get_asset_materialization_events()
    }


def with_(**changes: Any) -> GoldenPolicy:
    return GoldenPolicy.model_validate({**POLICY.model_dump(), **changes})


def twin(split: str = "test") -> tuple[Drive, Drive]:
    """A drive of the train split, and one with the same content under another name that falls into `split`."""
    learned = next(d for d in FLEET if split_of(d.name, POLICY) == "train")
    names = (f"veh001-20250602t{n:06d}z" for n in range(1000))
    name = next(n for n in names if split_of(n, POLICY) == split)
    return learned, Drive(**{**vars(learned), "name": name})


class TestSpecs:
    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"only": "light = 'polar'"}, "selects_nothing"),
            ({"only": "no_such_column > 3"}, "unknown_column"),
            ({"only": "1 = 1); DROP TABLE frames; --"}, "bad_predicate"),
            ({"min_drives": 500}, "too_few_drives"),
            ({"min_frames": 10**9}, "too_few_drives"),
        ],
    )
    def test_what_selects_nothing_is_refused_and_nothing_is_named_or_made_below(
        self, place: Place, changes: dict[str, Any], code: str
    ) -> None:
        result = place.materialize(with_(**changes))
        assert not result.success
        assert f"[{code}]" in failure(result)
        assert ran(result) == set()
        assert place.lake.manifest("golden_slices", WEEK) is None
        assert versions(place.lake, "golden") == []
        refused("unknown_dataset", "datasets", "show", "golden")

    def test_the_same_content_under_two_drives_is_a_leak_and_both_are_named(self, place: Place) -> None:
        learned, other = twin()
        land(place.lake, place.home / "twin", [other])
        result = place.materialize()
        assert not result.success
        told = failure(result)
        assert "[dataset_leaks]" in told
        assert learned.name in told
        assert other.name in told
        assert ran(result) == set()
        assert versions(place.lake, "golden") == []

    def test_freezing_by_the_command_says_so_in_one_line(self, place: Place) -> None:
        _, other = twin()
        land(place.lake, place.home / "twin", [other])
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "av_assets.cli", "datasets", "freeze", "--week", WEEK, "--here"],
            cwd=PROJECT, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        [line] = [text for text in done.stderr.splitlines() if text.startswith("error: ")]
        assert "[dataset_leaks]" in line
        assert "Traceback" not in done.stderr
        assert "golden@" not in done.stdout

    def test_a_dataset_that_stands_in_two_splits_stops_what_is_below(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Were the plan ever wrong, the check counts for itself."""
        from av_assets.domain.datasets import frames

        honest = frames.index_rows

        def crossed(table: Any, splits: dict[str, Any], *rest: Any) -> Any:
            made = honest(table, splits, *rest)
            turned, at = made["split"].to_pylist(), made.schema.get_field_index("split")
            turned[0] = "test" if turned[0] != "test" else "train"
            kind = made.schema.field("split")
            return made.set_column(at, kind, pa.array(turned, kind.type))

        monkeypatch.setattr(frames, "index_rows", crossed)
        result = place.materialize()
        [check] = result.get_asset_check_evaluations()
        assert not check.passed
        assert ran(result) == {"golden_slices"}


class TestNames:
    def test_a_tag_stays_where_it_was_set(self, place: Place) -> None:
        first = place.frozen()
        av("datasets", "tag", "golden", "1.0.0", "--version", first.content[:8], "--by", "ada")
        land(place.lake, place.home / "again", [Drive(**{**vars(FLEET[1]), "box_x": 12.0})])
        second = place.frozen()
        assert second.content != first.content
        other = ("--version", second.content[:8], "--by", "bob")
        line = refused("tag_taken", "datasets", "tag", "golden", "1.0.0", *other)
        assert "ada" in line
        for _ in range(2):
            same = av(
                "datasets", "tag", "golden", "1.0.0", "--version", first.content, "--by", "bob", "--json"
            )
            assert json.loads(same.output)["version"] == first.content
        assert json.loads(av("datasets", "show", "golden@1.0.0", "--json").output)["version"] == first.content

    @pytest.mark.parametrize(
        ("words", "code"),
        [
            (("show", "golden@2.0.0"), "unknown_dataset"),
            (("show", "golden@2024-01-01"), "unknown_dataset"),
            (("show", "silver"), "unknown_dataset"),
            (("show", "golden@../../etc"), "bad_reference"),
            (("show", "../golden"), "bad_dataset_name"),
            (("verify", "golden@ffffffff"), "unknown_dataset"),
            (("files", "golden", "--split", "tset"), "unknown_split"),
            (("files", "golden", "--slice", "snow"), "unknown_slice"),
            (("tag", "golden", "1.0", "--version", "{version}", "--by", "ada"), "bad_semver"),
            (("tag", "golden", "1.0.0/../../x", "--version", "{version}", "--by", "ada"), "bad_semver"),
            (("tag", "golden", "1.0.0", "--version", "{version}", "--by", " "), "no_name"),
            (("tag", "golden", "1.0.0", "--version", "ffffffff", "--by", "ada"), "unknown_dataset"),
            (("freeze", "--week", "2025-06-03", "--here"), "bad_week"),
            (("freeze", "--week", "2999-01-07"), "bad_week"),
        ],
    )
    def test_what_names_nothing_is_refused_in_one_line(
        self, place: Place, named: Manifest, words: tuple[str, ...], code: str
    ) -> None:
        refused(code, "datasets", *(word.replace("{version}", named.content[:8]) for word in words))

    @pytest.fixture
    def named(self, place: Place) -> Manifest:
        return place.frozen()


class TestDamage:
    @pytest.mark.parametrize(
        "path",
        [
            "drives/{drive}/clips/00000.parquet",
            "drives/{drive}/labels.parquet",
            "index.parquet",
            "dataset.json",
        ],
    )
    def test_a_damaged_object_is_named_and_never_used(self, place: Place, path: str, tmp_path: Path) -> None:
        golden = place.frozen()
        name = path.format(drive=FLEET[0].name)
        place.spoil(golden, name)
        done = av("datasets", "verify", "golden", "--json")
        assert done.exit_code == 1
        assert [b["file"] for b in json.loads(done.output)["broken"]] == [name]
        line = refused(
            "damaged_object",
            "datasets",
            "export",
            "golden",
            "--format",
            "coco",
            "--out",
            str(tmp_path / "out"),
        )
        assert name in line or golden.entry(name).sha256 in line
        assert not (tmp_path / "out").exists()

    def test_a_damaged_input_freezes_nothing(self, place: Place) -> None:
        held = place.lake.require("verified_labels", FLEET[0].name)
        place.spoil(held, "labels.parquet")
        result = place.materialize()
        assert not result.success
        assert "[damaged_object]" in failure(result)
        assert ran(result) == set()
        assert versions(place.lake, "golden") == []
