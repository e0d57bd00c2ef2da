"""The asset: a frozen week becomes shards in a remote, pointers and an artifact, and comes back by them alone."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import dagster as dg
import pytest

from av_assets.domain.errors import EvidenceError, TransientError
from av_assets.mining.archives import archives_can_be_pulled_back, dataset_archives
from resources import datasets
from resources.dvc import Archives
from resources.lake import Lake
from resources.tool_environments import tool
from resources.tracking import Tracking

WEEK = "2025-06-02"


class Place:
    """A lake with one frozen week, and a remote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lake = Lake(uri=(folder / "lake").as_uri(), scratch=str(folder / "lake" / ".scratch"))
        self.archives = Archives(remote=str(folder / "remote"))

    def freeze(self, clip: bytes) -> str:
        bundle = self.folder / "golden"
        (bundle / "drives" / "veh001-a" / "clips").mkdir(parents=True, exist_ok=True)
        (bundle / "dataset.json").write_text(json.dumps({"counts": {"train": {"frames": 7}}}))
        (bundle / "drives" / "veh001-a" / "clips" / "00000.parquet").write_bytes(clip)
        return self.lake.publish("golden_slices", WEEK, bundle).content

    def run(self) -> dg.ExecuteInProcessResult:
        return dg.materialize(
            [dataset_archives, archives_can_be_pulled_back],
            partition_key=WEEK,
            resources={
                "lake": self.lake,
                "archives": self.archives,
                "tracking": Tracking(folder=str(self.folder / "wandb")),
            },
            raise_on_error=False,
        )

    def read(self, name: str) -> dict:  # type: ignore[type-arg]
        return json.loads(self.lake.read_bytes(self.lake.require("dataset_archives", WEEK), name))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    try:
        tool("dvc", "dvc")
    except TransientError:
        pytest.skip("DVC cannot be installed: the package registry cannot be reached")
    return Place(tmp_path)


def test_a_frozen_week_comes_back_from_the_remote_alone(place: Place) -> None:
    version = place.freeze(b"clip" * 1000)
    made = place.run()
    assert made.success
    [check] = made.get_asset_check_evaluations()
    assert check.passed
    manifest = place.lake.require("dataset_archives", WEEK)
    name = f"golden-{version[:12]}-00000.tar"
    # The tar itself is in the remote and not once more in the lake.
    assert [f.path for f in manifest.files] == ["archive.json", f"{name}.dvc", "wandb.json"]
    archive, artifact = place.read("archive.json"), place.read("wandb.json")
    [shard] = archive["shards"]
    assert (archive["version"], archive["files"], shard["name"]) == (version, 2, name)
    assert artifact["entries"] == [{k: shard[k] for k in ("name", "bytes", "md5")}]
    assert artifact["metadata"]["counts"] == {"train": {"frames": 7}}
    assert artifact["aliases"] == [WEEK]

    pointers = {f"{name}.dvc": place.lake.read_bytes(manifest, f"{name}.dvc")}
    [pulled] = place.archives.pull(pointers, place.folder / "elsewhere")
    with tarfile.open(pulled) as tar:
        assert tar.extractfile("drives/veh001-a/clips/00000.parquet").read() == b"clip" * 1000  # type: ignore[union-attr]

    # A tag is news to the artifact, and nothing else is.
    [event] = place.run().asset_materializations_for_node("dataset_archives")
    assert event.metadata["reused"].value is True
    datasets.record(place.lake, "golden", place.lake.require("golden_slices", WEEK))
    datasets.tag(place.lake, "golden", "1.0.0", version, by="a person")
    assert place.run().success
    assert place.read("wandb.json")["aliases"] == [WEEK, "v1.0.0"]
    assert place.read("archive.json") == archive


def test_what_the_remote_lost_is_noticed_and_pushed_again(place: Place) -> None:
    version = place.freeze(b"clip")
    assert place.run().success
    manifest = place.lake.require("dataset_archives", WEEK)
    assert len(place.archives.forget(version)) == 2
    name = next(f.path for f in manifest.files if f.path.endswith(".dvc"))
    with pytest.raises(EvidenceError, match="does not hold"):
        place.archives.pull({name: place.lake.read_bytes(manifest, name)}, place.folder / "lost")
    again = place.run()
    [check] = again.get_asset_check_evaluations()
    assert check.passed
    assert place.lake.require("dataset_archives", WEEK).digest == manifest.digest


def test_without_dvc_nothing_pretends_to_be_archived(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from resources import tool_environments

    def refuse(*_: object) -> None:
        raise TransientError("the tools of dvc could not be installed", code="tool_not_installed")

    monkeypatch.setenv("AV_TOOLS", str(place.folder / "no-tools"))
    monkeypatch.setattr(tool_environments, "_install", refuse)
    place.freeze(b"clip")
    made = place.run()
    assert not made.success
    assert place.lake.manifest("dataset_archives", WEEK) is None
