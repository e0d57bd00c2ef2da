"""A full disk, a damaged shard, a stop: what a training run does when the world is not kind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import dagster as dg
import pytest
import torch
from golden_folder import golden_folder

from av_assets.domain.errors import DatasetError, ModelError, TransientError
from av_assets.domain.learning import checkpoint as ckpt
from av_assets.domain.learning.train import train
from av_assets.policies.training import TrainingPolicy
from av_assets.training.checkpoints import checkpoints, worker_spec
from av_assets.training.keeping import Keeping
from tests.faults.training_lake import DRIVES, golden_lake, indexed, release_of, tiny_policy


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return golden_folder(tmp_path_factory.mktemp("golden"), DRIVES, frames=8)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 1 MiB to begin with."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no small disk without the right to mount: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def resize(disk: Path, kib: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kib}k", disk], check=True)


def test_a_full_disk_leaves_the_last_good_checkpoint_and_training_goes_on_from_it(
    small_disk: Path, dataset: Path, tmp_path: Path
) -> None:
    policy = tiny_policy(epochs=4)
    train(policy, dataset, tmp_path / "straight", seed=1)
    size_kib = (tmp_path / "straight" / "checkpoint.pt").stat().st_size // 1024
    resize(small_disk, round(1.5 * size_kib))  # room for one, not for the next beside it
    with pytest.raises(TransientError) as caught:
        train(policy, dataset, small_disk / "run", seed=1)
    assert caught.value.code == "disk_full"
    assert not list(
        (small_disk / "run").glob(".*")
    )  # no half file takes the room that the next attempt needs
    good = ckpt.newest_sound(small_disk / "run")
    assert good is not None
    assert 0 < ckpt.load(good)["step"] < 8
    resize(small_disk, 20 * size_kib)
    train(policy, dataset, small_disk / "run", resume=good, seed=1)
    straight, resumed = (f / "checkpoint.pt" for f in (tmp_path / "straight", small_disk / "run"))
    assert straight.read_bytes() == resumed.read_bytes()


def damaged(folder: Path) -> Path:
    """A frozen dataset of two train drives; the shard of one was overwritten in the middle since."""
    (folder / "damaged").mkdir()
    drives = {"drive-a": "train", "drive-b": "val", "drive-c": "train"}
    copy = indexed(golden_folder(folder / "damaged", drives, frames=8), drives)
    [shard] = (copy / "drives" / "drive-a" / "clips").glob("*.parquet")
    data = bytearray(shard.read_bytes())
    middle = len(data) * 4 // 10
    data[middle : middle + 4096] = bytes(4096)
    shard.write_bytes(data)
    return copy


def test_a_damaged_shard_names_itself(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        train(tiny_policy(), damaged(tmp_path), tmp_path / "out")
    assert caught.value.code == "shard_changed"
    assert "drives/drive-a/clips/00000.parquet" in str(caught.value)


def test_it_is_skipped_by_explicit_policy_only_and_every_report_says_so(tmp_path: Path) -> None:
    policy = tiny_policy(on_bad_sample="skip")
    summary = train(policy, damaged(tmp_path), tmp_path / "out")
    assert summary.ended_by == "epochs"
    rows = json.loads((tmp_path / "out" / "history.json").read_text())
    named = rows[-1]["skipped_samples"]
    assert named
    assert all(name.startswith("drives/drive-a/clips/00000.parquet row ") for name in named)
    assert TrainingPolicy.load().on_bad_sample == "raise"


def test_a_stop_saves_and_the_exit_code_says_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, golden = golden_lake(tmp_path)
    policy = tiny_policy(epochs=2000)
    from av_assets.domain.evidence.manifest import MadeFrom

    spec = worker_spec(lake, "checkpoints", "w20250602-12345678", golden, MadeFrom(), policy, 13)
    keeping = Keeping.at(spec["state"])
    process = subprocess.Popen(
        [sys.executable, "-m", "av_assets.training.worker", json.dumps(spec)],
        env={**os.environ, "AV_HOME": str(tmp_path / "home"), "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with process:
        until = time.monotonic() + 120
        while keeping.newest() is None and time.monotonic() < until:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 75
    kept = keeping.newest()
    assert kept is not None
    assert kept["step"] > 0
    assert keeping.refusal() is None
    state_folder = tmp_path / "elsewhere"  # as if on another node
    taken = keeping.take_up(state_folder)
    assert taken is not None
    assert ckpt.load(taken)["step"] == kept["step"]
    with suppress(FileNotFoundError):
        shutil.rmtree(tmp_path / "home")


def test_what_training_refuses_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tiny_policy(learning_rate=1e30, on_not_finite="stop")
    monkeypatch.setattr(TrainingPolicy, "load", classmethod(lambda cls, path=None: policy))
    monkeypatch.setenv("AV_HOME", str(tmp_path / "home"))
    lake, golden = golden_lake(tmp_path)
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [checkpoints],
            instance=instance,
            partition_key=release_of(golden, instance),
            resources={"lake": lake, "pipes": dg.PipesSubprocessClient()},
            raise_on_error=False,
        )
    assert not result.success
    assert result.retry_attempts_for_node("checkpoints") == 0
    failure = result.failure_data_for_node("checkpoints")
    assert failure is not None
    assert failure.error is not None
    assert ModelError.__name__ in str(failure.error)
    assert "not_finite" in str(failure.error)


def test_a_damaged_checkpoint_in_the_lake_is_not_taken_up(tmp_path: Path) -> None:
    lake, _ = golden_lake(tmp_path)
    keeping = Keeping(lake.store, "segments/checkpoints/w/training-1")
    state = dict.fromkeys(ckpt.KEYS - {"schema"}) | {"step": 3, "model": {"w": torch.ones(3)}}
    ckpt.save(tmp_path / "checkpoint.pt", state)
    keeping.keep(tmp_path / "checkpoint.pt", 3)
    lake.store.put(f"{keeping.key}/state/000000003.pt", b"PK\x03\x04 torn")
    assert keeping.take_up(tmp_path / "node") is None
