"""Each sample once per epoch for any division of the work, and shuffles that are shuffles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from av_assets.domain.loading.order import LastBatch, Share, epoch_order, sample_rng, substitute

RANKS, SIZES, SAMPLES = st.integers(1, 7), st.integers(1, 9), st.integers(1, 200)
POLICIES = st.sampled_from(["drop", "keep", "pad"])


def taken(
    samples: int, batch: int, ranks: int, policy: LastBatch, start: int = 0
) -> list[list[list[tuple[int, bool]]]]:
    """[batch][rank] -> (place, real) of each sample."""
    shares = [Share(samples, batch, rank, ranks, policy) for rank in range(ranks)]
    assert len({share.batches(start) for share in shares}) == 1
    starts = range(start, start + shares[0].batches(start) * shares[0].step, shares[0].step)
    return [[list(zip(*map(np.ndarray.tolist, s.places(at)), strict=True)) for s in shares] for at in starts]


@given(SAMPLES, SIZES, RANKS, POLICIES)
def test_every_sample_once(samples: int, batch: int, ranks: int, policy: LastBatch) -> None:
    batches = taken(samples, batch, ranks, policy)
    real = sorted(place for shares in batches for share in shares for place, is_real in share if is_real)
    whole = samples - samples % (batch * ranks) if policy == "drop" else samples
    assert real == list(range(whole))
    if policy != "keep":
        assert all(len(share) == batch for shares in batches for share in shares)
    if policy == "pad":
        padding = [place for shares in batches for share in shares for place, is_real in share if not is_real]
        assert len(padding) == -samples % (batch * ranks)
        assert all(0 <= place < samples for place in padding)


@given(SAMPLES, SIZES, RANKS, POLICIES, st.data())
def test_batch_k_is_its_part_of_the_epoch(
    samples: int, batch: int, ranks: int, policy: LastBatch, data: st.DataObject
) -> None:
    """Whatever the division, and from wherever it starts: the ranks' shares, interleaved, are the epoch in order."""
    start = data.draw(st.integers(0, samples))
    batches = taken(samples, batch, ranks, policy, start)
    for number, shares in enumerate(batches):
        first = start + number * batch * ranks
        together = {place for share in shares for place, real in share if real}
        assert together == set(range(first, min(first + batch * ranks, samples)))
        for rank, share in enumerate(shares):
            assert [p for p, real in share if real] == list(
                range(first + rank, min(first + batch * ranks, samples), ranks)
            )


@given(st.integers(0, 300), st.integers(0, 2**32), st.integers(0, 50), st.integers(0, 9), st.integers(1, 20))
def test_an_order_is_a_permutation(samples: int, seed: int, epoch: int, mixed: int, shards: int) -> None:
    of = np.sort(np.random.default_rng(0).integers(0, shards, samples)).astype(np.int32)
    order = epoch_order(samples, seed, epoch, of, mixed)
    assert sorted(order.tolist()) == list(range(samples))
    assert order.tolist() == epoch_order(samples, seed, epoch, of, mixed).tolist()


@given(st.integers(1, 6), st.integers(1, 12))
def test_few_shards_are_read_at_a_time(mixed: int, shards: int) -> None:
    of = np.repeat(np.arange(shards, dtype=np.int32), 5)
    order = epoch_order(len(of), 1, 0, of, mixed)
    blocks = [set(of[order[at : at + 5 * mixed]].tolist()) for at in range(0, len(of), 5 * mixed)]
    assert sum(map(len, blocks)) == shards
    assert all(len(block) <= mixed for block in blocks)


def test_seeds_and_epochs_differ() -> None:
    orders = {tuple(epoch_order(50, seed, epoch)) for seed in range(20) for epoch in range(20)}
    assert len(orders) == 400


@pytest.mark.parametrize("mixed", [0, 3])
def test_every_sample_comes_everywhere_equally_often(mixed: int) -> None:
    """Chi-square of (sample, place) over many epochs, at a level that one run in a thousand would miss."""
    samples, epochs = 12, 6000
    of = np.repeat(np.arange(6, dtype=np.int32), 2)
    counts = np.zeros((samples, samples))
    for epoch in range(epochs):
        counts[epoch_order(samples, 5, epoch, of, mixed), np.arange(samples)] += 1
    expected = epochs / samples
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert statistic < chi2.ppf(0.999, (samples - 1) ** 2)


def test_samples_draw_apart_from_each_other() -> None:
    first = {sample_rng(s, e, p).integers(1 << 62) for s in range(5) for e in range(5) for p in range(40)}
    assert len(first) == 1000


def test_substitutes_are_spread() -> None:
    found = np.bincount([substitute(3, 0, 7, attempt, 10) for attempt in range(1, 2001)], minlength=10)
    assert ((found - 200) ** 2 / 200).sum() < chi2.ppf(0.999, 9)
