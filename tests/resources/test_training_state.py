"""A training run whose node is lost: state, dataset and results in the lake, in a folder and in a bucket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from golden_folder import golden_folder

from av_assets.domain.errors import DatasetError, EvidenceError, ModelError
from av_assets.domain.evidence.manifest import MadeFrom, Manifest
from av_assets.domain.learning import checkpoint as ckpt
from av_assets.training.checkpoints import worker_spec
from av_assets.training.keeping import Keeping
from resources.lake import Lake
from tests.faults.training_lake import DRIVES, WEEK, indexed, tiny_policy

KEY = "segments/checkpoints/w20250602-1/training-1"


def checkpoint_at(folder: Path, step: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    state = dict.fromkeys(ckpt.KEYS - {"schema"}) | {"step": step, "model": {"w": torch.full((3,), step)}}
    return ckpt.save_among(folder, state, keep=2, best=False)


def test_another_node_takes_up_the_newest_checkpoint_and_one_alone_is_kept(
    lake: Lake, tmp_path: Path
) -> None:
    keeping = Keeping(lake.store, KEY)
    assert keeping.take_up(tmp_path / "other") is None
    for step in (1, 5, 9):
        keeping.keep(checkpoint_at(tmp_path / "node", step), step)
    assert [k for k in lake.store.keys(f"{KEY}/") if k.endswith(".pt")] == [f"{KEY}/state/000000009.pt"]
    taken = keeping.take_up(tmp_path / "other")
    assert taken is not None
    assert ckpt.load(taken)["step"] == 9


def test_what_is_newer_wins(lake: Lake, tmp_path: Path) -> None:
    keeping = Keeping(lake.store, KEY)
    keeping.keep(checkpoint_at(tmp_path / "a", 4), 4)
    for step, expected in ((3, 4), (6, 6)):
        folder = tmp_path / str(step)
        checkpoint_at(folder, step)
        taken = keeping.take_up(folder)
        assert taken is not None
        assert ckpt.load(taken)["step"] == expected


def test_results_come_home_whole_or_not_at_all(lake: Lake, tmp_path: Path) -> None:
    keeping = Keeping(lake.store, KEY)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "history.json").write_bytes(b"[]")
    keeping.deliver(tmp_path / "run", ("history.json", "best.pt"), {"samples_per_s": 3.5})
    out = tmp_path / "out"
    out.mkdir()
    assert keeping.collect(out) == {"samples_per_s": 3.5}
    assert (out / "history.json").read_bytes() == b"[]"
    lake.store.delete(f"{KEY}/out/history.json")
    lake.store.put(f"{KEY}/out/history.json", b"[1]")
    (tmp_path / "again").mkdir()
    with pytest.raises(EvidenceError) as caught:
        keeping.collect(tmp_path / "again")
    assert caught.value.code == "damaged_object"
    keeping.begin()
    assert keeping.collect(tmp_path / "again") is None


def test_a_refusal_comes_home_with_all_that_it_says(lake: Lake) -> None:
    keeping = Keeping(lake.store, KEY)
    assert keeping.refusal() is None
    keeping.refuse(DatasetError("nothing there", code="empty_split", drive="d", remedy="label some"))
    refusal = keeping.refusal()
    assert isinstance(refusal, ModelError)
    assert str(refusal) == "[empty_split] nothing there; drive: d; remedy: label some"


def frozen(lake: Lake, folder: Path) -> Manifest:
    """golden_slices as they are frozen: with an index that names the shards by digest."""
    folder.mkdir()
    return lake.publish("golden_slices", WEEK, indexed(golden_folder(folder, DRIVES, frames=8), DRIVES))


def test_a_worker_trains_from_the_lake_alone(lake: Lake, tmp_path: Path) -> None:
    workers = int(lake.uri.startswith("s3://"))  # there they fetch shards for themselves
    golden, policy = frozen(lake, tmp_path / "golden"), tiny_policy(epochs=1, loader_workers=workers)
    spec = worker_spec(lake, "checkpoints", "w20250602-1", golden, MadeFrom(), policy, 13)
    home = tmp_path / "node"
    done = subprocess.run(
        [sys.executable, "-m", "av_assets.training.worker", json.dumps(spec)],
        env={**os.environ, "AV_HOME": str(home), "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    keeping = Keeping.at(spec["state"])
    (tmp_path / "out").mkdir()
    facts = keeping.collect(tmp_path / "out")
    assert facts is not None
    assert facts["processes"] == 1
    assert ckpt.load(tmp_path / "out" / "checkpoint.pt")["step"] == 2
    assert not list((home / "scratch" / "training").iterdir())  # nothing stays on the node but its cache
