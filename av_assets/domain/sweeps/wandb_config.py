"""The same search as a sweep configuration of Weights & Biases, for those who run it there.

Belongs here: the translation and what it cannot say. Does not belong here: a trial that its agent starts (`agent`).
"""

from __future__ import annotations

from typing import Any, Final

import yaml

from av_assets.policies.sweeps import Choice, FloatRange, IntRange, SweepPolicy

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
