"""What a checkpoint file is worth: whole or not at all, newest few and best, found again after damage."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from av_assets.domain.errors import ModelError, TransientError
from av_assets.domain.learning import checkpoint as ckpt
from av_assets.domain.learning.train import TrainSummary


def state_at(step: int) -> dict[str, Any]:
    """A complete state: every key, and weights that tell the step."""
    state: dict[str, Any] = dict.fromkeys(ckpt.KEYS - {"schema"})
    return state | {"step": step, "model": {"weight": torch.full((4,), float(step))}}


def test_the_newest_few_and_the_best_stay(tmp_path: Path) -> None:
    for step in range(1, 7):
        ckpt.save_among(tmp_path, state_at(step), keep=3, best=step in (1, 4))
    assert [p.name for p in sorted((tmp_path / "kept").iterdir())] == [f"{s:09d}.pt" for s in (4, 5, 6)]
    assert ckpt.load(tmp_path / "best.pt")["step"] == 4
    assert ckpt.load(tmp_path / "checkpoint.pt")["step"] == 6
    assert (tmp_path / "checkpoint.pt").samefile(tmp_path / "kept" / "000000006.pt")  # written once


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 torn", None])
def test_torn_checkpoints_are_refused(damage: bytes | None, trained: TrainSummary, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(trained.checkpoint.read_bytes()[:5000] if damage is None else damage)
    with pytest.raises(ModelError) as caught:
        ckpt.load(path)
    assert caught.value.code == "bad_checkpoint"


def test_a_flipped_bit_is_not_read_as_weights(trained: TrainSummary, tmp_path: Path) -> None:
    data = bytearray(trained.checkpoint.read_bytes())
    weights = ckpt.load(trained.checkpoint)["model"]
    needle = max(weights.values(), key=torch.numel).contiguous().flatten()[:16].numpy().tobytes()
    at = data.find(needle)
    data[(at if at >= 0 else len(data) // 2) + 3] ^= 0x10
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(data)
    with pytest.raises(ModelError) as caught:
        ckpt.load(path)
    assert caught.value.code == "bad_checkpoint"


def test_a_damaged_newest_one_costs_the_steps_since_the_one_before(tmp_path: Path) -> None:
    for step in (1, 2):
        ckpt.save_among(tmp_path, state_at(step), keep=3, best=False)
    newest = tmp_path / "checkpoint.pt"
    torn = newest.read_bytes()[:-300]
    for path in (newest, tmp_path / "kept" / "000000002.pt"):
        path.unlink()
        path.write_bytes(torn)
    found = ckpt.newest_sound(tmp_path)
    assert found is not None
    assert ckpt.load(found)["step"] == 1
    shutil.rmtree(tmp_path / "kept")
    assert ckpt.newest_sound(tmp_path) is None


def test_a_full_disk_costs_older_ones_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (1, 2, 3):
        ckpt.save_among(tmp_path, state_at(step), keep=3, best=False)
    write, failures = ckpt.write_atomically, [2]

    def full(path: Path, data: bytes) -> None:
        if failures[0]:
            failures[0] -= 1
            raise TransientError("cannot write", code="disk_full", file=path)
        write(path, data)

    monkeypatch.setattr(ckpt, "write_atomically", full)
    with pytest.raises(TransientError):  # room was made, and it was not enough
        ckpt.save_among(tmp_path, state_at(4), keep=3, best=False)
    assert list((tmp_path / "kept").iterdir()) == []
    assert ckpt.load(tmp_path / "checkpoint.pt")["step"] == 3
    ckpt.save_among(tmp_path, state_at(4), keep=3, best=False)
    assert ckpt.load(tmp_path / "checkpoint.pt")["step"] == 4


def test_another_schema_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    ckpt.save(path, {name: value for name, value in state_at(1).items() if name != "random"})
    with pytest.raises(ModelError) as caught:
        ckpt.load(path)
    assert caught.value.code == "bad_checkpoint"
