"""Archives of datasets that held an erased drive are gone from remote, lake and caches; the others come back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from av_assets.domain.errors import EvidenceError, TransientError
from av_assets.domain.evidence.manifest import Manifest
from av_assets.erasure.execution import execute, make_plan
from av_assets.mining.archives import archives_can_be_pulled_back, dataset_archives
from resources import datasets
from resources.dvc import Archives
from resources.lake import Lake
from resources.tool_environments import tool
from resources.tracking import Tracking
from tests.resources.erasure_lakes import (
    WEEK,
    add_drive,
    asking,
    everything,
    installation,
    mark,
    mentions,
    publish,
)

LATER = "2025-06-09"


def _freeze(lake: Lake, week: str, labels: list[Manifest]) -> Manifest:
    files = {f"drives/{m.partition}/labels.parquet": mark(m.partition) + b"labels" for m in labels}
    described = {"counts": {"train": {"frames": len(labels)}}, "members": [m.partition for m in labels]}
    golden = publish(
        lake, "golden_slices", week, files | {"dataset.json": json.dumps(described).encode()}, *labels
    )
    datasets.record(lake, "golden", golden)
    return golden


def _archive(lake: Lake, archives: Archives, week: str, home: Path) -> dict[str, bytes]:
    """Runs the asset and its check; gives the pointer files."""
    made = dg.materialize(
        [dataset_archives, archives_can_be_pulled_back],
        partition_key=week,
        resources={"lake": lake, "archives": archives, "tracking": Tracking(folder=str(home / "wandb"))},
    )
    assert all(check.passed for check in made.get_asset_check_evaluations())
    held = lake.require("dataset_archives", week)
    return {f.path: lake.read_bytes(held, f.path) for f in held.files if f.path.endswith(".dvc")}


def test_no_archive_with_an_erased_drive_is_left(folder_lake: Lake, tmp_path: Path) -> None:
    try:
        tool("dvc", "dvc")
    except TransientError:
        pytest.skip("DVC cannot be installed: the package registry cannot be reached")
    lake, home = folder_lake, tmp_path
    archives = Archives(remote=str(home / "dvc-remote"))
    labels = [add_drive(lake, home, drive) for drive in ("veh1-a", "veh1-b")]
    both, other = _freeze(lake, WEEK, labels), _freeze(lake, LATER, labels[1:])
    pointers = {week: _archive(lake, archives, week, home) for week in (WEEK, LATER)}
    held = [name for name, data in everything(lake, home) if "dvc-remote" in name and mark("veh1-a") in data]
    assert len(held) == 1

    place = replace(installation(lake, home), forget_archive=archives.forget)
    receipt = execute(place, make_plan(place, asking("veh1-a"), 1).id, 2)

    assert mentions(lake, home, mark("veh1-a"), set()) == []
    assert receipt.to_remake == (f"dataset_archives/{WEEK}",)
    assert [one["erased_version"] for one in receipt.datasets] == [both.content]
    assert {Path(key).stem for key in archives._store.keys("archives/")} == {other.content}
    with pytest.raises(EvidenceError) as gone:
        archives.pull(pointers[WEEK], home / "pulled")
    assert gone.value.code == "archive_missing"
    [kept] = archives.pull(pointers[LATER], home / "pulled")
    assert mark("veh1-b") in kept.read_bytes()

    again = _freeze(lake, WEEK, labels[1:])
    assert again.content != both.content
    [pulled] = archives.pull(_archive(lake, archives, WEEK, home), home / "again")
    assert mark("veh1-b") in pulled.read_bytes()
    assert mentions(lake, home, mark("veh1-a"), set()) == []
