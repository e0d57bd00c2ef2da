"""Whom a request means, and that a hold wins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from av_assets.domain.erasure.requests import DAY_NS, DriveFacts, Hold, Scope, choose, expired, holds_on
from av_assets.domain.errors import AvError

TIMES = st.integers(0, 20)


def _facts(drive: str, first: int | None, last: int | None, vehicle: str = "v1") -> DriveFacts:
    return DriveFacts(drive, vehicle, first, last)


def _hold(scope: Scope) -> Hold:
    return Hold(id="h1", scope=scope, by="legal", reason="a case", at_ns=1)


@given(TIMES, TIMES, TIMES, TIMES)
def test_a_drive_is_meant_when_one_of_its_instants_lies_in_the_range(a: int, b: int, c: int, d: int) -> None:
    first, last = sorted((a, b))
    begin, end = min(c, d), max(c, d) + 1
    scope = Scope(vehicle="v1", from_ns=begin, to_ns=end)
    by_hand = any(begin <= instant < end for instant in range(first, last + 1))
    assert scope.covers(_facts("d1", first, last)) is by_hand
    assert scope.covers(_facts("d1", first, last, "v2")) is False


def test_a_drive_without_times_is_left_and_named_but_kept_by_a_hold() -> None:
    scope = Scope(vehicle="v1", from_ns=0, to_ns=10)
    unknown, known = _facts("d1", None, None), _facts("d2", 5, 6)
    chosen = choose(scope, [unknown, known], [])
    assert chosen.drives == ("d2",)
    assert chosen.undecided == ("d1",)
    assert holds_on(unknown, [_hold(scope)]) == ("h1",)
    assert choose(Scope(drives=("d1",)), [unknown], []).drives == ("d1",)


def test_a_hold_wins_over_a_request() -> None:
    facts = [_facts("d1", 1, 2), _facts("d2", 5, 6)]
    chosen = choose(Scope(vehicle="v1"), facts, [_hold(Scope(drives=("d2",)))])
    assert chosen.drives == ("d1",)
    assert chosen.held == {"d2": ("h1",)}


@pytest.mark.parametrize(
    ("scope", "code"),
    [(Scope(drives=("nobody",)), "no_such_drive"), (Scope(vehicle="v9"), "nothing_to_erase")],
)
def test_a_request_that_means_nothing_says_so(scope: Scope, code: str) -> None:
    with pytest.raises(AvError) as error:
        choose(scope, [_facts("d1", 1, 2)], [])
    assert error.value.code == code


@pytest.mark.parametrize(
    "bad", [{}, {"vehicle": "v1", "drives": ("d1",)}, {"vehicle": "v1", "from_ns": 5, "to_ns": 5}]
)
def test_a_scope_means_one_thing(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Scope(**bad)  # type: ignore[arg-type]


def test_retention_takes_drives_whose_days_are_over_by_their_state() -> None:
    days = {"live": None, "quarantined": 10.0, "archived": 30.0}
    facts = [
        DriveFacts("kept", state="live", since_ns=0),
        DriveFacts("old", state="quarantined", since_ns=0),
        DriveFacts("young", state="archived", since_ns=0),
        DriveFacts("ageless", state="archived"),
        DriveFacts("held", state="quarantined", since_ns=0),
    ]
    chosen = expired(facts, days, 11 * DAY_NS, [_hold(Scope(drives=("held",)))])
    assert chosen.drives == ("old",)
    assert chosen.undecided == ("ageless",)
    assert set(chosen.held) == {"held"}
