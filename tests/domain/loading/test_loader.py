"""What a loader gives does not depend on who makes it, nor on where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_shards import COLUMNS, number_only, seen, write_shards

from av_assets.domain.errors import DatasetError
from av_assets.domain.loading.loader import Loader
from av_assets.domain.loading.sample_index import SampleIndex
from av_assets.domain.loading.sources import FolderSource

SIZES = [5, 1, 9, 4, 4]
SAMPLES = sum(SIZES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shards")
    write_shards(root, SIZES)
    return root


@pytest.fixture(scope="module")
def index(folder: Path) -> SampleIndex:
    return write_shards(folder, SIZES)


def loader(index: SampleIndex, folder: Path, **how: Any) -> Loader:
    chosen = {"columns": COLUMNS, "batch_size": 4, "seed": 3, "transform": number_only} | how
    return Loader(index, FolderSource(folder), **chosen)


def rows(batches: Any) -> list[tuple[Any, ...]]:
    """One tuple of everything per sample."""
    found: list[tuple[Any, ...]] = []
    for batch in batches:
        names = sorted(batch)
        found += [
            tuple(str(batch[name][row].tolist()) for name in names) for row in range(len(batch["sample"]))
        ]
    return found


def test_a_sample_is_what_was_written(index: SampleIndex, folder: Path) -> None:
    with loader(index, folder, transform=seen, last_batch="keep", shuffle=False) as batches:
        copies = [cloned(batch) for batch in batches]
    found = {name: torch.cat([copy[name] for copy in copies]) for name in copies[0]}
    numbers = np.arange(SAMPLES)
    assert found["sample"].tolist() == numbers.tolist()
    assert found["ref_ns"].tolist() == (1000 + numbers).tolist()
    assert found["tracks"].tolist() == (numbers % 3).tolist()
    assert found["point"].tolist() == [[float(n)] * 4 for n in numbers]
    means = found["picture"].float().mean((1, 2, 3)).numpy()
    assert np.abs(means - numbers).max() < 2
    assert found["real"].all()


def cloned(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in batch.items()}


@given(st.integers(1, 5), st.integers(1, 9), st.sampled_from(["drop", "keep", "pad"]))
@settings(max_examples=40)
def test_ranks_share_the_epoch_of_one(
    index: SampleIndex, folder: Path, ranks: int, batch: int, last: str
) -> None:
    alone = rows(loader(index, folder, batch_size=1, last_batch="keep"))
    shares = [
        loader(index, folder, batch_size=batch, rank=rank, world_size=ranks, last_batch=last)
        for rank in range(ranks)
    ]
    assert {len(share) for share in shares} == {len(list(share)) for share in shares}
    for share in shares:
        share.set_epoch(0)
    found = []
    for batches in zip(*shares, strict=True):
        parts = [rows([part]) for part in batches]
        longest = max(map(len, parts))
        found += [part[at] for at in range(longest) for part in parts if at < len(part)]
    real = [row for row in found if row[2] == "True"]
    assert real == alone[: len(real)]
    assert len(real) == (SAMPLES - SAMPLES % (batch * ranks) if last == "drop" else SAMPLES)


@pytest.mark.parametrize(("workers", "prefetch", "batch"), [(1, 1, 4), (3, 2, 5)])
def test_workers_change_nothing(
    index: SampleIndex, folder: Path, workers: int, prefetch: int, batch: int
) -> None:
    how = {"transform": seen, "last_batch": "pad", "batch_size": batch}
    alone, together = (
        loader(index, folder, **how),
        loader(index, folder, workers=workers, prefetch=prefetch, **how),
    )
    with together:
        for _ in range(3):
            assert rows(alone) == rows(together)
    assert alone.epoch == together.epoch == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_resuming_anywhere_is_going_on(index: SampleIndex, folder: Path, workers: int) -> None:
    whole = loader(index, folder, last_batch="keep", batch_size=3)
    expected, states = [], []
    for _ in range(2):
        for batch in whole:
            expected.append(rows([batch]))
            states.append(json.loads(json.dumps(whole.state_dict())))
    with loader(index, folder, last_batch="keep", batch_size=3, workers=workers) as other:
        for at, state in enumerate(states):
            other.load_state_dict(state)
            rest = [rows([batch]) for _ in range(2 - other.epoch) for batch in other]
            assert rest == expected[at + 1 :]


@given(st.integers(0, SAMPLES), st.integers(1, 3), st.integers(1, 6))
@settings(max_examples=30)
def test_resuming_with_other_ranks_goes_on_with_the_next_sample(
    index: SampleIndex, folder: Path, position: int, ranks: int, batch: int
) -> None:
    alone = rows(loader(index, folder, batch_size=1, last_batch="keep"))
    found = []
    for rank in range(ranks):
        share = loader(index, folder, batch_size=batch, rank=rank, world_size=ranks, last_batch="keep")
        share.load_state_dict(share.state_dict() | {"position": position})
        found += rows(share)
    assert sorted(found) == sorted(alone[position:])


@pytest.mark.parametrize("workers", [0, 2])
def test_stopping_and_iterating_again_goes_on(index: SampleIndex, folder: Path, workers: int) -> None:
    expected = rows(loader(index, folder))
    with loader(index, folder, workers=workers) as batches:
        found = []
        while batches.epoch == 0:
            for batch in batches:
                found += rows([batch])
                break
            if batches.position >= len(batches) * 4:
                break
    assert found == expected


def test_epochs_and_seeds_differ(index: SampleIndex, folder: Path) -> None:
    batches = loader(index, folder, last_batch="keep")
    orders = [tuple(rows(batches)) for _ in range(4)] + [
        tuple(rows(loader(index, folder, last_batch="keep", seed=4)))
    ]
    assert len(set(orders)) == 5
    assert (
        len({tuple(sorted(row[1] for row in order)) for order in orders}) == 1
    )  # `number` is the second name


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_that_is_held_stays_as_it_is(index: SampleIndex, folder: Path, workers: int) -> None:
    with loader(index, folder, workers=workers, transform=seen, batch_size=2) as batches:
        held = list(batches)
        copies = [cloned(batch) for batch in held]
        pictures = [batch["picture"][:, 1:] for batch in held]  # a view keeps the memory, too
        del held
        for _ in range(2):
            list(batches)
    for picture, copy in zip(pictures, copies, strict=True):
        assert torch.equal(picture, copy["picture"][:, 1:])


@pytest.mark.parametrize("workers", [0, 1])
def test_memory_of_batches_is_used_again(index: SampleIndex, folder: Path, workers: int) -> None:
    with loader(index, folder, workers=workers, batch_size=1, prefetch=2) as batches:
        for _ in range(3):
            for batch in batches:
                assert len(batch) == 4
                del batch
        slots = batches._pool._slots if batches._pool else batches._slots
        assert len(slots._all) <= 4


def test_an_empty_share_is_a_batch_of_nothing(index: SampleIndex, folder: Path) -> None:
    one = index.subset(range(5))
    share = loader(one, folder, batch_size=2, rank=2, world_size=3, last_batch="keep")
    assert [len(batch["number"]) for batch in share] == [1]
    for workers in (0, 2):
        with loader(
            one, folder, batch_size=1, rank=2, world_size=3, last_batch="keep", workers=workers
        ) as batches:
            assert [batch["drawn"].shape for batch in batches] == [(1, 1), (0, 1)]


def test_state_of_other_samples_or_order_is_refused(index: SampleIndex, folder: Path) -> None:
    state = loader(index, folder).state_dict()
    for other in (
        loader(index.subset(range(8)), folder),
        loader(index, folder, seed=4),
        loader(index, folder, shuffle=False),
        loader(index, folder, mixed_shards=2),
    ):
        with pytest.raises(DatasetError) as caught:
            other.load_state_dict(state)
        assert caught.value.code == "foreign_state"


def test_sizes_without_sense_are_refused(index: SampleIndex, folder: Path) -> None:
    for wrong in ({"batch_size": 0}, {"workers": -1}, {"rank": 2, "world_size": 2}, {"prefetch": 0}):
        with pytest.raises(ValueError, match="batch_size"):
            loader(index, folder, **wrong)
    with pytest.raises(DatasetError) as caught:
        loader(index.subset([]), folder)
    assert caught.value.code == "empty_index"
