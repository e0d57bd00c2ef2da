"""Where the time of a run goes, and when it will end.

Belongs here: adding up seconds. Does not belong here: reading clocks (the clock is an argument), saying it to anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from av_assets.domain.learning.schedule import young_interval_s


@dataclass
class Meter:
    """Seconds since a run began or was resumed: waiting for data, computing, validating, writing.

    Attributes:
        first_step: steps that were there already.
        write_s: seconds of one checkpoint write, the mean so far; None before the first.
    """

    now: Callable[[], float]
    first_step: int
    seconds: dict[str, float] = field(default_factory=dict)
    writes: int = 0

    def __post_init__(self) -> None:
        self.started_s = self.saved_s = self.now()

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        before = self.now()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + self.now() - before

    @contextmanager
    def saving(self) -> Iterator[None]:
        with self("write"):
            yield
        self.writes, self.saved_s = self.writes + 1, self.now()

    def save_is_due(self, mean_s_between_failures: float) -> bool:
        """Whether Young's interval has passed; the first write comes at once, since it tells what one costs."""
        if not self.writes:
            return True
        interval_s = young_interval_s(self.seconds["write"] / self.writes, mean_s_between_failures)
        return self.now() - self.saved_s > interval_s

    def report(self, step: int, steps: int, samples_per_step: int) -> dict[str, Any]:
        """samples/s and the split of the time; ETA counts learning only, not validation."""
        wait_s, compute_s = self.seconds.get("wait", 0.0), self.seconds.get("compute", 0.0)
        per_step_s = (wait_s + compute_s) / max(1, step - self.first_step)
        return {
            "samples_per_s": samples_per_step / max(per_step_s, 1e-9),
            "eta_s": (steps - step) * per_step_s,
            "wait_s": wait_s,
            "compute_s": compute_s,
            "wait_share": wait_s / max(wait_s + compute_s, 1e-9),
        }
