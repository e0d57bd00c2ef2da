"""A trial that somebody else's search asks for: the agent of Weights & Biases, in a process of its own.

Belongs here: teaching with values that come from outside. Does not belong here: the study, talking to W&B
(resources/tracking).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from av_assets.domain.errors import PolicyError
from av_assets.domain.sweeps.asking import Launch
from av_assets.domain.sweeps.seeds import seed_of
from av_assets.domain.sweeps.teaching import Teaching
from av_assets.policies.sweeps import SweepPolicy

Track = Callable[[Mapping[str, float], int], None]


def agent_trial(
    spec: SweepPolicy, values: Mapping[str, Any], dataset: Path, out: Path, track: Track
) -> dict[str, float]:
    """Teach the network that W&B's agent asks for, with the seed of the specification's first trial.

    Args:
        values: of the fields of the training policy that the sweep changes, as they come out of JSON.
        out: where the training keeps its state.
        track: takes figures by name and the epoch after which they hold.

    Raises:
        PolicyError: foreign_values, the specification changes other fields; bad_trial. See also `Teaching`.
    """
    if foreign := sorted(values.keys() - spec.space.keys() - spec.fixed.keys()):
        raise PolicyError(f"{spec.sweep} does not search {', '.join(foreign)}", code="foreign_values")
    goal, epochs = spec.goals[0].metric, [0]

    def report(epoch: int, value: float) -> bool:
        epochs.append(epoch)
        track({goal: value}, epoch)
        return False  # the agent ends this process where W&B wants no more of it

    launch = Launch(0, dict(values), seed_of(spec.seed, "trial", 0), "explore", 0)
    found = dict(Teaching(spec, dataset, out)(launch, report))
    track(found, epochs[-1])
    return found
