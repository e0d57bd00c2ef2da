"""On what and how exactly: device, number formats, seeds, and algorithms that give the same bits.

Belongs here: what one process sets in torch before it trains, and sets back afterwards. Does not belong here: several
processes (`distributed`), the loop.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import numpy as np
import torch

from av_assets.domain.errors import ModelError
from av_assets.policies.training import TrainingPolicy

FORMATS: Final = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def device_of(config: TrainingPolicy, local_rank: int = 0) -> torch.device:
    """The device of a process: its own GPU where there are some, as the policy says.

    Raises:
        ModelError: no_gpu, the policy insists on one.
    """
    there = torch.cuda.is_available()
    if config.device == "cuda" and not there:
        remedy = "set device to auto or cpu, or use a node with a GPU"
        raise ModelError("the policy asks for a GPU and there is none", code="no_gpu", remedy=remedy)
    if there and config.device != "cpu":
        return torch.device("cuda", local_rank % torch.cuda.device_count())
    return torch.device("cpu")


def autocast(config: TrainingPolicy, device: torch.device) -> AbstractContextManager[None]:
    """Activations in the policy's format; weights stay float32."""
    kind = FORMATS.get(config.precision)
    context: AbstractContextManager[None] = torch.autocast(device.type, kind, enabled=kind is not None)
    return context


def grad_scaler(config: TrainingPolicy, device: torch.device) -> torch.amp.GradScaler:
    """Keeps small float16 gradients from becoming zero; does nothing in the other formats."""
    return torch.amp.GradScaler(device.type, enabled=config.precision == "float16")


@contextmanager
def reproducible(config: TrainingPolicy, seed: int) -> Iterator[None]:
    """Seeds, threads and algorithms as the policy says, and all of them as before afterwards."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    benchmark, states = torch.backends.cudnn.benchmark, random_states()
    torch.set_num_threads(config.num_threads)
    torch.use_deterministic_algorithms(config.deterministic)
    # Would fill every new tensor, a sixth of the time, to guard against reading memory that nobody wrote.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = not config.deterministic
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
        torch.utils.deterministic.fill_uninitialized_memory = filled
        torch.backends.cudnn.benchmark = benchmark
        set_random_states(states)


def random_states() -> dict[str, Any]:
    """The state of every generator of this process, as plain values and tensors."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    states = {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys, np.int64)), *rest),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_states(states: Mapping[str, Any]) -> None:
    """Bring back what `random_states` gave; the GPU's only where there is one now."""
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
