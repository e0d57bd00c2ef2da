"""What a stream's clock may do before it is called wrong, and which repair answers each kind of wrong.

Belongs here: numbers and the choice of repairs. Does not belong here: the regression, the repairs.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from av_assets.policies import Policy

Classification = Literal[
    "none", "healthy", "late", "early", "drift", "step", "foreign", "uptime", "gps_leap", "swapped", "frozen",
    "zero",
]  # fmt: skip
RepairName = Literal[
    "none", "log_time", "log_minus_delay", "add_offset", "remove_drift", "remove_step", "gps_to_utc",
    "swap_sec_nsec",
]  # fmt: skip
CLASSIFICATIONS: tuple[Classification, ...] = Classification.__args__  # type: ignore[attr-defined]
Seconds = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]


class TopicClock(BaseModel):
    """What a person knows about the clocks of some topics; the first pattern that matches counts."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    pattern: str = Field(description="topic name with * and ?, case counts")
    repair: RepairName | None = Field(
        default=None, description="instead of the repair that the class asks for"
    )
    delay_s: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="median transport delay, sensor to recorder, where it was measured"
    )


class ClockPolicy(Policy):
    """Judging the stamps of one stream against the recorder's clock. Offset is log time minus sensor time."""

    name: ClassVar[str] = "clocks"
    repairs: dict[Classification, RepairName] = Field(description="class of a clock -> what is done about it")
    topics: tuple[TopicClock, ...] = Field(description="exceptions by topic")
    warn_offset_s: Seconds = Field(description="median offset, either way, that is reported")
    max_offset_s: Seconds = Field(description="median offset beyond which the stamps are of another epoch")
    late_s: Seconds = Field(description="a constant offset beyond it is named, and left as it is")
    max_jump_s: Seconds = Field(description="a step of the clock beyond it is an error")
    min_step_s: Seconds = Field(description="smallest step that is looked for")
    step_persist_s: Seconds = Field(description="a change of the offset that passes sooner is a late message")
    step_messages: Annotated[int, Field(ge=2)] = Field(
        description="and at least so many messages on each side"
    )
    max_steps: Annotated[int, Field(ge=1, le=1000)] = Field(description="steps listed for one stream")
    frozen_share: Share = Field(description="share of the log time during which the stamp stands still")
    max_held_s: Seconds = Field(description="one stamp held longer than this is a frozen clock, too")
    frozen_messages: Annotated[int, Field(ge=2)] = Field(description="fewer equal stamps are no evidence")
    gps_leap_s: int = Field(description="GPS time is ahead of UTC by this much")
    tai_leap_s: int = Field(description="TAI is ahead of UTC by this much")
    leap_tolerance_s: Seconds = Field(description="transport delay allowed when an offset is explained")
    min_drift_ppm: Seconds = Field(description="the whole confidence interval must lie beyond it")
    min_drift_s: Seconds = Field(description="and the drift must add up to this much over the log")
    drift_confidence: Annotated[float, Field(ge=0.5, lt=1)] = Field(description="of the interval")
    max_windows: Annotated[int, Field(ge=8, le=1000)] = Field(
        description="windows that the line is fitted to"
    )
    window_messages: Annotated[int, Field(ge=2)] = Field(description="smallest window")
    low_quantile: Annotated[float, Field(gt=0, le=0.5)] = Field(
        description="of a window: the lower envelope; 0.5 would be the median"
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if lacking := [name for name in CLASSIFICATIONS if name not in self.repairs]:
            raise ValueError(f"repairs names no repair for {', '.join(lacking)}")
        return self

    def topic(self, topic: str) -> TopicClock:
        """What is known about a topic; empty where nothing is."""
        known = (entry for entry in self.topics if fnmatchcase(topic, entry.pattern))
        return next(known, TopicClock(pattern=topic))
