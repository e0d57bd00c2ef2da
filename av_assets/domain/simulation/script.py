"""What is to happen on a drive: conditions, traffic and scripted events, before anything is computed.

Belongs here: the script as plain data. Does not belong here: motion, rendering, ready-made scripts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from av_assets.domain.errors import PoisonError
from av_assets.domain.logs.drive_spec import drive_id

EventKind = Literal["cut_in", "harsh_brake", "stationary_hazard", "disengagement"]
Weather = Literal["clear", "rain", "fog"]
Light = Literal["day", "twilight", "night"]
Zone = Literal["urban", "construction"]

DEFAULT_START_NS = 1_748_764_800_000_000_000  # 2025-06-01T08:00:00Z, for ids that carry no time


@dataclass(frozen=True)
class ScriptedEvent:
    """One thing that is made to happen.

    Attributes:
        at_s: seconds after the start of the recording at which the cause begins (brake command, lane change,
            disengagement edge). The exact window of the effect is in the truth.
    """

    kind: EventKind
    at_s: float


@dataclass(frozen=True)
class DriveScript:
    """Everything that decides the bytes of a synthetic drive.

    Attributes:
        drive: drive id; a part like `20250602t081500z` sets the start of the recording.
        traffic: density of other vehicles, 1 is ordinary, 0 leaves scripted vehicles only.
        pedestrians: mean number of people that pass the ego vehicle closely per second.
        pace: whether the ego vehicle slows for a crossing between the events.

    Raises:
        DriveIdError: `drive` breaks the grammar.
        PoisonError: the events contradict each other.
    """

    drive: str
    seconds: float
    seed: int
    vehicle: str = "veh001"
    weather: Weather = "clear"
    light: Light = "day"
    zone: Zone = "urban"
    region: str = "harbour"
    events: tuple[ScriptedEvent, ...] = ()
    speed_mps: float = 10.5
    traffic: float = 1.0
    pedestrians: float = 0.9
    pace: bool = True

    def __post_init__(self) -> None:
        drive_id(self.drive)
        kinds = {event.kind for event in self.events}
        if {"cut_in", "stationary_hazard"} <= kinds:
            # The vehicle that cut in would have to drive through the hazard.
            raise PoisonError("a script cannot hold both cut_in and stationary_hazard", code="bad_script")
        if self.seconds <= 0 or self.speed_mps <= 0:
            raise PoisonError(
                "a script needs positive seconds and speed", code="bad_script", drive=self.drive
            )

    @property
    def start_ns(self) -> int:
        """Start of the recording, ns since the Unix epoch, as the drive id says."""
        for part in self.drive.split("-"):
            try:
                moment = datetime.strptime(part, "%Y%m%dt%H%M%Sz").replace(tzinfo=UTC)
            except ValueError:
                continue
            return int(moment.timestamp()) * 1_000_000_000
        return DEFAULT_START_NS

    def times(self, kind: EventKind) -> tuple[float, ...]:
        """Seconds at which events of `kind` are scripted."""
        return tuple(event.at_s for event in self.events if event.kind == kind)
