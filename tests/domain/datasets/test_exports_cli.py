"""`av datasets export`: from a name in a lake to a folder, with the cuboids that the labels were made from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from exported_folder import SPLITS, make_dataset

from av_assets.cli import exports as cli_exports
from av_assets.domain.errors import AvError
from av_assets.domain.evidence.manifest import MadeFrom, bundle_name
from resources import datasets
from resources.lake import Lake


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A frozen dataset with its lineage; the auto labels of one drive were made again afterwards, without cuboids."""
    lake = Lake(uri=(tmp_path / "lake").as_uri(), scratch=str(tmp_path / "lake" / ".scratch"))
    (tmp_path / "made").mkdir()
    cuboids = make_dataset(tmp_path / "made")
    inputs = {}
    for drive in SPLITS:
        folder = tmp_path / "labels" / drive
        folder.mkdir(parents=True)
        cuboids[drive].rename(folder / "cuboids.parquet")
        auto = lake.publish("auto_labels", drive, folder)
        made_from = MadeFrom(inputs={bundle_name("auto_labels", drive): auto.digest})
        tasks = lake.publish("label_tasks", drive, made_from=made_from)
        made_from = MadeFrom(inputs={bundle_name("label_tasks", drive): tasks.digest})
        inputs[bundle_name("verified_labels", drive)] = lake.publish(
            "verified_labels", drive, made_from=made_from
        ).digest
    lake.publish("auto_labels", "veh002-b", note="made again")
    golden = lake.publish(
        "golden_slices", "2025-06-02", tmp_path / "made" / "dataset", made_from=MadeFrom(inputs=inputs)
    )
    datasets.record(lake, "golden", golden)
    datasets.tag(lake, "golden", "1.0.0", golden.content, by="a person")
    monkeypatch.setattr(cli_exports, "open_lake", lambda: lake)
    return lake


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(cli_exports.export, arguments)


@pytest.mark.parametrize("to", ["coco", "nuscenes", "kitti"])
def test_a_tag_becomes_a_folder_that_says_what_it_is(lake: Lake, tmp_path: Path, to: str) -> None:
    out = tmp_path / "out"
    done = _run("golden@1.0.0", "--format", to, "--out", str(out), "--split", "test", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.output)
    assert report == json.loads((out / "export.json").read_text())
    assert (report["dataset"], report["tags"], report["format"]) == ("golden", ["1.0.0"], to)
    assert report["version"] == lake.require("golden_slices", "2025-06-02").content
    assert (report["splits"], report["frames"], report["boxes"]) == ({"test": ["veh002-b"]}, 11, 44)
    if to != "coco":
        # The cuboids are those that the verified labels came from, not those of today.
        assert (report["cuboids"], report["boxes_without_cuboid"]) == ("1 of 1 drives have cuboids", 11)
    assert list(Path(lake.scratch).iterdir()) == []


def test_what_cannot_be_said_is_said(lake: Lake, tmp_path: Path) -> None:
    done = _run("golden", "--format", "nuscenes", "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    assert "22 frames, 88 boxes of golden@1.0.0 as nuscenes" in done.output
    assert "22 boxes have no cuboid; 2 of 2 drives have cuboids" in done.output


def test_a_folder_in_use_and_an_unknown_dataset_are_refused(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("")
    for reference, code in (("golden", "out_not_empty"), ("golden@9.9.9", "unknown_dataset")):
        done = _run(reference, "--format", "coco", "--out", str(tmp_path / "out"))
        assert isinstance(done.exception, AvError)
        assert done.exception.code == code
    assert _run("golden", "--format", "waymo", "--out", str(tmp_path / "new")).exit_code == 2


def test_a_dataset_without_lineage_has_no_cuboids(lake: Lake, tmp_path: Path) -> None:
    golden = lake.publish("golden_slices", "2025-06-09", tmp_path / "none")
    assert cli_exports.ancestor(lake, golden, "auto_labels", "veh001-a") is None
