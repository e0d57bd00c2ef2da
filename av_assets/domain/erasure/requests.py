"""Whom a request to erase means: a drive is the unit, and one that overlaps the range is meant as a whole.

Belongs here: requests, facts about drives, choosing, holds. Does not belong here: where facts and holds are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from av_assets.domain.errors import AvError

Words = Annotated[str, Field(min_length=1, max_length=2000)]
DAY_NS = 86_400 * 10**9


@dataclass(frozen=True)
class DriveFacts:
    """What is known about one drive. Times are null where neither catalog nor log told them.

    Attributes:
        state: live, quarantined or archived.
        since_ns: when it was landed or recorded, for retention; null: unknown.
    """

    drive: str
    vehicle: str = "unknown"
    start_ns: int | None = None
    end_ns: int | None = None
    state: str = "live"
    since_ns: int | None = None


class Scope(BaseModel):
    """Drives by id, or of one vehicle in the half-open range [from_ns, to_ns); null: without that bound."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    drives: tuple[str, ...] = ()
    vehicle: str | None = None
    from_ns: int | None = None
    to_ns: int | None = None

    @model_validator(mode="after")
    def _means_something(self) -> Scope:
        if bool(self.drives) == bool(self.vehicle):
            raise ValueError("name drives or a vehicle, and not both")
        if self.from_ns is not None and self.to_ns is not None and self.from_ns >= self.to_ns:
            raise ValueError("the range ends before it begins")
        return self

    def covers(self, facts: DriveFacts) -> bool | None:
        """Whether it means this drive; None where that cannot be told, since its times are not known."""
        if self.drives:
            return facts.drive in self.drives
        if facts.vehicle != self.vehicle:
            return False
        if self.from_ns is None and self.to_ns is None:
            return True
        if facts.start_ns is None or facts.end_ns is None:
            return None
        after = self.from_ns is None or facts.end_ns >= self.from_ns
        return after and (self.to_ns is None or facts.start_ns < self.to_ns)


class Request(BaseModel):
    """Who asks for what, why, and on what ground; all of it goes into the receipt."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    scope: Scope
    by: Words
    reason: Words
    legal_basis: str = Field(default="", max_length=2000)


class Hold(BaseModel):
    """A legal hold: what it covers is not erased while it stands."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str
    scope: Scope
    by: Words
    reason: Words
    at_ns: int


class Lift(BaseModel):
    """The end of a hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    hold: str
    by: Words
    reason: Words
    at_ns: int


@dataclass(frozen=True)
class Chosen:
    """The drives of a request.

    Attributes:
        drives: to be erased.
        held: drive -> ids of the holds that keep it.
        undecided: drives of the vehicle whose times nobody knows; they are kept, and named to the reader.
    """

    drives: tuple[str, ...]
    held: Mapping[str, tuple[str, ...]]
    undecided: tuple[str, ...]


def holds_on(facts: DriveFacts, holds: Iterable[Hold]) -> tuple[str, ...]:
    """Ids of the holds that keep this drive. A hold also keeps a drive of which it cannot be told."""
    return tuple(sorted(hold.id for hold in holds if hold.scope.covers(facts) is not False))


def choose(scope: Scope, facts: Sequence[DriveFacts], holds: Sequence[Hold]) -> Chosen:
    """Which drives `scope` means, without those that are held.

    Raises:
        AvError: no_such_drive, a drive is named that nothing is known of; nothing_to_erase, no drive is meant.
    """
    known = {one.drive for one in facts}
    strangers = sorted(set(scope.drives) - known)
    if strangers:
        raise AvError(
            f"nothing is known of {', '.join(strangers)}", code="no_such_drive", remedy="see av status"
        )
    return _without_held([f for f in facts if scope.covers(f)], _undecided(scope, facts), holds)


def expired(
    facts: Sequence[DriveFacts], keep_days: Mapping[str, float | None], now_ns: int, holds: Sequence[Hold]
) -> Chosen:
    """Drives that have been kept for longer than the days of their state; of unknown age: undecided.

    Raises:
        AvError: nothing_to_erase.
    """
    limits = {f.drive: keep_days.get(f.state) for f in facts}
    bound = [f for f in facts if limits[f.drive] is not None]
    old = [
        f for f in bound if f.since_ns is not None and now_ns - f.since_ns > (limits[f.drive] or 0) * DAY_NS
    ]
    return _without_held(old, sorted(f.drive for f in bound if f.since_ns is None), holds)


def _undecided(scope: Scope, facts: Sequence[DriveFacts]) -> list[str]:
    return sorted(f.drive for f in facts if scope.covers(f) is None)


def _without_held(meant: Sequence[DriveFacts], undecided: Sequence[str], holds: Sequence[Hold]) -> Chosen:
    if not meant and not undecided:
        raise AvError("no drive is meant", code="nothing_to_erase", remedy="check vehicle, range and policy")
    held = {f.drive: kept for f in meant if (kept := holds_on(f, holds))}
    return Chosen(
        tuple(sorted(f.drive for f in meant if f.drive not in held)),
        dict(sorted(held.items())),
        tuple(undecided),
    )
