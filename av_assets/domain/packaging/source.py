"""What is packed: the network of a checkpoint, ready to be exported, and how its inputs and outputs are called.

Belongs here: from a checkpoint to that. Does not belong here: exports.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from av_assets.domain.evidence.digests import sha256_file
from av_assets.domain.learning import checkpoint as ckpt
from av_assets.domain.models.network import Deployable, PerceptionNet
from av_assets.domain.models.session import InputSpec
from av_assets.policies.training import TrainingPolicy


@dataclass(frozen=True)
class Source:
    """A network with the best weights of its checkpoint, in float32, in evaluation mode.

    Attributes:
        outputs: names in the order in which `network` gives them; `heads`: those of them before decoding.
    """

    network: Deployable
    config: TrainingPolicy
    state: Mapping[str, Any]
    checkpoint_sha256: str
    inputs: tuple[InputSpec, ...]
    outputs: tuple[str, ...]
    heads: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.state["classes"])

    def example(self, rows: int) -> tuple[Tensor, ...]:
        """Inputs that are all zero; a batch of one would be taken for a constant by exporters."""
        return tuple(torch.zeros(rows, *spec.shape, dtype=getattr(torch, spec.dtype)) for spec in self.inputs)


def read_source(checkpoint: Path) -> Source:
    """The network of a checkpoint.

    Raises:
        ModelError: bad_checkpoint.
    """
    state = ckpt.load(checkpoint)
    config = TrainingPolicy.model_validate(state["config"])
    net = PerceptionNet(len(state["classes"]), config)
    net.load_state_dict(ckpt.weights_to_use(state))
    # The layout that convolutions on CPUs are written for: a third of the time, the same numbers.
    network = Deployable(net).eval().to(memory_format=torch.channels_last)
    return Source(
        network=network,
        config=config,
        state=state,
        checkpoint_sha256=sha256_file(checkpoint),
        inputs=tuple(InputSpec(name, *net.layout.shapes[name]) for name in network.input_names),
        outputs=network.output_names,
        heads=network.head_names,
    )
