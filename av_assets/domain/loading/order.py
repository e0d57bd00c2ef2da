"""Which sample comes when: a function of seed, epoch and number of samples, and of nothing else.

Global batch k of an epoch is its positions [k G, (k + 1) G), G = batch size times ranks; rank r takes every R-th of
them from r on. So the i-th sample of an epoch is the same however many machines and processes share the work.
Belongs here: permutations and their division among ranks. Does not belong here: reading samples.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

LastBatch = Literal["drop", "keep", "pad"]
Positions = NDArray[np.int64]


class Share(NamedTuple):
    """How an epoch of `samples` is cut: `batch_size` samples for each of `world_size` ranks at a time."""

    samples: int
    batch_size: int
    rank: int
    world_size: int
    last_batch: LastBatch

    @property
    def step(self) -> int:
        """Samples of one batch over all ranks."""
        return self.batch_size * self.world_size

    def batches(self, start: int = 0) -> int:
        """Batches from position `start` to the end of the epoch; the same on all ranks."""
        left = max(0, self.samples - start)
        return left // self.step if self.last_batch == "drop" else -(-left // self.step)

    def places(self, start: int) -> tuple[Positions, NDArray[np.bool_]]:
        """This rank's places in the epoch of the batch that starts at `start`, and which of them are real.

        With "keep" the last batch may be shorter, and empty on some ranks; with "pad" it is filled up from the start
        of the epoch, and what fills it is not real.
        """
        places = np.arange(start + self.rank, start + self.step, self.world_size, dtype=np.int64)
        real = places < self.samples
        if self.last_batch == "keep":
            return places[real], real[real]
        return places % self.samples, real


def epoch_order(
    samples: int, seed: int, epoch: int, shards: NDArray[np.int32] | None = None, mixed_shards: int = 0
) -> Positions:
    """(samples,) positions in the index, in the order of the epoch.

    Args:
        shards: (samples,) number of each sample's shard; read where mixed_shards is not 0.
        mixed_shards: 0 shuffles all samples among each other. Otherwise shards are shuffled, and samples are shuffled
            among those of so many neighbouring shards: what a source that holds few shards at a time can serve.
    """
    rng = np.random.default_rng([seed, epoch])
    if not mixed_shards or shards is None:
        return rng.permutation(samples)
    turn = rng.permutation(int(shards.max(initial=-1)) + 1) // mixed_shards
    return np.lexsort((rng.random(samples), turn[shards]))


def sample_rng(seed: int, epoch: int, position: int) -> np.random.Generator:
    """What a transform draws from: depends on the sample and the epoch, not on who makes it or when."""
    return np.random.default_rng([seed, epoch, position])


def substitute(seed: int, epoch: int, position: int, attempt: int, samples: int) -> int:
    """The position of the sample that is taken instead of a bad one; `attempt` counts from 1."""
    return int(np.random.default_rng([seed, epoch, position, attempt]).integers(samples))
