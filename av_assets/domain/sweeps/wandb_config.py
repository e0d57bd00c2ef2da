"""The same search as a sweep configuration of Weights & Biases, for those who run it there.

Belongs here: the translation, what it cannot say, and a trial that W&B's agent asks for. Does not belong here: talking
to W&B (resources/tracking).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from av_assets.domain.errors import PolicyError
from av_assets.domain.sweeps.asking import Launch
from av_assets.domain.sweeps.seeds import seed_of
from av_assets.domain.sweeps.teaching import Teaching
from av_assets.policies.sweeps import Choice, FloatRange, IntRange, SweepPolicy

Track = Callable[[Mapping[str, float], int], None]
VALUES: Final = "${args_json}"
"""W&B's agent puts the values of a trial here, as one JSON object."""


def wandb_sweep(spec: SweepPolicy, specification: str, dataset: str) -> str:
    """YAML for `wandb sweep FILE`. W&B has neither constraints nor limits of hours and money: a comment says so.

    Args:
        specification: file of the specification, where the agents run.
        dataset: folder of the golden dataset there.
    """
    goal, pruning = spec.goals[0], spec.pruning
    fixed = {name: {"value": _plain(value)} for name, value in sorted(spec.fixed.items())}
    found: dict[str, Any] = {
        "name": spec.sweep,
        "command": ["av", "sweeps", "trial", specification, VALUES, "--dataset", dataset],
        "method": "bayes" if spec.sampler == "tpe" else "random",
        "metric": {"name": goal.metric, "goal": goal.direction},
        "run_cap": spec.budget.trials,
        "parameters": {**{n: _parameter(d) for n, d in sorted(spec.space.items())}, **fixed},
    }
    if pruning.kind != "none":
        found["early_terminate"] = {"type": "hyperband", "min_iter": pruning.min_epochs, "eta": pruning.eta}
    lost = [f"constraint {c.metric}" for c in spec.constraints]
    lost += [f"{spec.budget.compute_hours} {spec.budget.unit} hours"]
    lost += [f"{spec.budget.money} {spec.budget.currency}"] if spec.budget.money is not None else []
    lost += [f"goal {g.metric}" for g in spec.goals[1:]]
    text: str = yaml.safe_dump(found)
    missing = "; ".join(lost)
    return f"# Not said here, since W&B has no word for it: {missing}.\n{text}"


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


def _parameter(part: FloatRange | IntRange | Choice) -> dict[str, Any]:
    if isinstance(part, Choice):
        return {"values": [_plain(value) for value in part.values]}
    bounds: dict[str, Any] = {"min": part.low, "max": part.high}
    if part.log:
        return {"distribution": "log_uniform_values", **bounds}
    if part.step is not None:
        quantised = "q_uniform" if isinstance(part, FloatRange) else "int_uniform"
        if quantised == "q_uniform" or part.step == 1:
            return {"distribution": quantised, **bounds} | (
                {"q": part.step} if quantised == "q_uniform" else {}
            )
        return {"values": list(range(int(part.low), int(part.high) + 1, int(part.step)))}
    return {"distribution": "uniform" if isinstance(part, FloatRange) else "int_uniform", **bounds}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
