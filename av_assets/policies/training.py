"""How the perception network is taught: the numbers of one training run.

Belongs here: schedule, precision, processes, checkpoints, loading. Does not belong here: the network itself
(`perception`), the loop that acts on these numbers, how the result is packed (`packaging`), the thresholds that a
model must meet (`evaluation`).
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from av_assets.policies.perception import Count, PerceptionConfig, Positive, Share

NotNegativeCount = Annotated[int, Field(ge=0)]
# What may differ between a run and its resumption: it decides where and how fast, not what is learned.
OPERATIONAL: Final = frozenset(
    (
        *("version", "max_seconds", "device", "compile", "distribution", "num_threads", "sanity_steps"),
        *("hours_between_failures", "keep_checkpoints", "max_restarts", "processes", "nodes"),
        *("loader_workers", "prefetch", "max_val_frames"),
    )
)


class TrainingPolicy(PerceptionConfig):
    """One training run. Equal digest, dataset and seed on the same kind of CPU: equal weights."""

    name: ClassVar[str] = "training"

    # The schedule.
    epochs: Count
    max_val_frames: Count = Field(
        description="evenly spaced frames of the val split, scored after each epoch"
    )
    batch_size: Count = Field(description="samples of one forward pass: a micro batch")
    micro_batches: Count = Field(
        description="forward passes of one step over all processes, a multiple of their number; the effective batch "
        "is batch_size x micro_batches, and a process accumulates micro_batches / processes of them"
    )
    last_batch: Literal["drop", "pad"] = Field(
        description="an epoch's last, incomplete batch: left out, or filled up with its first samples"
    )
    learning_rate: Positive = Field(description="peak, reached after the warm-up")
    final_learning_rate_share: Share = Field(description="the cosine ends at this share of the peak")
    warmup_share: Share = Field(description="share of all steps spent in the linear warm-up")
    weight_decay: Annotated[float, Field(ge=0)]
    max_gradient_norm: Positive
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = Field(description="0 switches the moving average off")
    max_seconds: Positive = Field(description="training saves and ends when it took longer than this")
    # Number formats and hardware.
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        description="of activations in training; weights are float32, float16 gradients are scaled"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(description="auto: a GPU where there is one")
    compile: Literal["off", "inductor", "aot_eager"] = Field(description="backend of torch.compile")
    num_threads: Count = Field(description="CPU threads; another number may give other last bits")
    deterministic: bool = Field(description="only algorithms that give the same bits every time")
    # Processes.
    processes: NotNegativeCount = Field(description="per node; 0: one per GPU of the hardware word, else one")
    nodes: Count = Field(description="machines; more than one is a TrainJob of the cluster")
    distribution: Literal["ddp", "fsdp"] = Field(
        description="every process holds the network, or a shard of it"
    )
    # What may go wrong.
    sanity_steps: NotNegativeCount = Field(
        description="the loss of the first batch must fall within this many steps on a copy; 0 switches it off"
    )
    on_not_finite: Literal["stop", "skip"] = Field(
        description="a step whose loss or gradient is not finite: end the run, or leave the step out"
    )
    max_skipped_steps: NotNegativeCount = Field(description="more than this in one epoch end the run anyway")
    # Checkpoints.
    hours_between_failures: Positive = Field(
        description="expected of the hardware; with the seconds of a write it gives the interval (Young 1974)"
    )
    keep_checkpoints: Count = Field(description="newest ones that stay, beside the best")
    max_restarts: NotNegativeCount = Field(description="of a run whose worker vanished")
    # Loading.
    loader_workers: NotNegativeCount = Field(description="processes per process; 0: the process itself")
    prefetch: Count = Field(description="batches that are made ahead")
    on_bad_sample: Literal["raise", "skip"] = Field(description="a shard or picture that cannot be read")

    @property
    def effective_batch(self) -> int:
        """Samples of one step."""
        return self.batch_size * self.micro_batches

    @property
    def recipe_digest(self) -> str:
        """Digest of what decides the weights: a checkpoint can be resumed under equal recipes only."""
        fields = {k: v for k, v in self.model_dump(mode="json").items() if k not in OPERATIONAL}
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @model_validator(mode="after")
    def _formats_fit_the_processes(self) -> Self:
        if self.precision == "float16" and self.distribution == "fsdp":
            raise ValueError("float16 gradients cannot be scaled in shards: use bfloat16 with fsdp")
        return self
