"""Sweeps, and the trials of each: `first-look` and `first-look.7`."""

from __future__ import annotations

import dagster as dg

sweeps = dg.DynamicPartitionsDefinition(name="sweep")
sweep_trials = dg.DynamicPartitionsDefinition(name="sweep_trial")


def trial_key(sweep: str, number: int) -> str:
    return f"{sweep}.{number}"


def trial_of(key: str) -> tuple[str, int]:
    """The sweep and the number in a key of a trial."""
    sweep, _, number = key.rpartition(".")
    return sweep, int(number)
