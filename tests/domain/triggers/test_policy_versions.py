"""The grammar and order of versions, the number that has to rise, and what readers of another age can take."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.errors import PolicyError
from av_assets.domain.triggers.versions import (
    LEVELS,
    Version,
    changes,
    fit,
    least_bump,
    policy_key,
    require_bump,
    split_key,
)

# semver.org 2.0.0, rules 9 and 11, and the lists of its suggested regular expression; in lower case, without builds.
ORDERED = [
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "2.0.0",
    "2.1.0",
    "2.1.1",
    "10.2.3",
]
VALID = [
    "0.0.4",
    "1.0.0-alpha.0valid",
    "1.0.0-0a.1",
    "1.0.0--1",
    "1.2.3----rc-snapshot.12.9.1--.12",
    "1.0.0-0a",
]
INVALID = [
    *(
        "",
        "1",
        "1.2",
        "1.2.3-0123",
        "1.2.3-0123.0123",
        "1.1.2+.123",
        "1.2.3+meta",
        "alpha",
        "1.0.0-alpha_beta",
    ),
    *("1.0.0-alpha..", "01.1.1", "1.01.1", "1.1.01", "1.2.3.dev", "1.2-snapshot", "-1.0.3", "1.0.0-Alpha"),
    *("1.2.3\n", " 1.2.3", "1.2.3-", "9" * 100 + ".0.0", "1.2.٣"),
]
BASE: dict[str, Any] = {
    "version": "1.2.3",
    "share": 0.5,
    "brake": {"level": 3.0, "min_s": 0.5},
    "rss": {"gap": 1.0},
}


def test_versions_have_the_order_of_the_standard() -> None:
    held = [Version(text) for text in ORDERED]
    assert sorted(held) == held
    assert all(a < b and not b < a for a, b in itertools.pairwise(held))


@pytest.mark.parametrize("text", VALID)
def test_what_the_standard_allows_is_a_version(text: str) -> None:
    assert Version(text) == Version(text)


@pytest.mark.parametrize("text", INVALID)
def test_what_the_standard_refuses_is_none(text: str) -> None:
    with pytest.raises(PolicyError) as error:
        Version(text)
    assert error.value.code == "bad_version"


@given(st.tuples(*[st.integers(0, 10**6)] * 3), st.tuples(*[st.integers(0, 10**6)] * 3))
def test_releases_are_ordered_as_their_numbers(
    one: tuple[int, int, int], other: tuple[int, int, int]
) -> None:
    a, b = (Version(".".join(map(str, numbers))) for numbers in (one, other))
    assert (a < b, a == b) == (one < other, one == other)
    assert split_key(policy_key("events", a.text)) == ("events", a.text)


@pytest.mark.parametrize(
    "key", ["events", "Events-1.0.0", "events-", "-1.0.0", "events-1.0", "../events-1.0.0", "e,f-1.0.0"]
)
def test_keys_that_would_break_partitions_or_paths_are_refused(key: str) -> None:
    with pytest.raises(PolicyError):
        split_key(key)
    with pytest.raises(PolicyError):
        policy_key("a b", "1.0.0")


def edited(**edits: Any) -> dict[str, Any]:
    data = {k: dict(v) if isinstance(v, dict) else v for k, v in BASE.items()}
    for key, value in edits.items():
        section, _, name = key.rpartition("__")
        target = data[section] if section else data
        if value is None:
            del target[name]
        else:
            target[name] = value
    return data


@pytest.mark.parametrize(
    ("edits", "needed"),
    [
        ({}, "patch"),
        ({"version": "7.0.0"}, "patch"),
        ({"brake__level": 3.1}, "minor"),
        ({"share": 0.6}, "minor"),
        ({"turn": {"rate": 0.1}}, "minor"),
        ({"brake__new": 1.0}, "major"),
        ({"brake__level": None}, "major"),
        ({"rss": None}, "major"),
        ({"new_share": 0.1}, "major"),
    ],
)
def test_what_changed_decides_which_number_has_to_rise(edits: dict[str, Any], needed: str) -> None:
    after = edited(**edits)
    assert least_bump(BASE, after) == needed
    for level, version in zip(LEVELS, ("1.2.4", "1.3.0", "2.0.0"), strict=True):
        after["version"] = version
        if LEVELS.index(level) >= LEVELS.index(needed):
            assert require_bump(BASE, after) == level
        else:
            with pytest.raises(PolicyError) as error:
                require_bump(BASE, after)
            assert error.value.code == "version_bump_too_small"


def test_a_changed_file_with_an_unchanged_version_is_refused_with_its_keys() -> None:
    for version, code in (("1.2.3", "version_unchanged"), ("1.2.2", "version_not_greater")):
        with pytest.raises(PolicyError) as error:
            require_bump(BASE, edited(brake__level=3.1, version=version))
        assert error.value.code == code
    with pytest.raises(PolicyError, match=r"brake\.level"):
        require_bump(BASE, edited(brake__level=3.1))


def test_changes_are_named_with_both_values() -> None:
    assert changes(BASE, edited(brake__level=3.1, rss=None, version="2.0.0")) == [
        ("brake.level", 3.0, 3.1),
        ("rss.gap", 1.0, None),
    ]


def test_an_older_reader_takes_a_newer_version_that_adds_a_detector() -> None:
    newer = edited(version="1.4.0", brake__level=3.4, turn={"rate": 0.1})
    fitted = fit(newer, BASE)
    assert fitted.data == edited(version="1.4.0", brake__level=3.4)
    assert fitted.notes == ("left out turn: this reader has no such detector",)


def test_a_newer_reader_takes_an_older_version_that_lacks_a_detector() -> None:
    older = edited(version="1.0.0", rss=None, brake__level=2.9)
    fitted = fit(older, BASE)
    assert fitted.data == edited(version="1.0.0", brake__level=2.9)
    assert "rss as shipped" in fitted.notes[0]


@pytest.mark.parametrize(
    ("edits", "code", "named"),
    [
        ({"version": "1.4.0", "brake__new": 1.0}, "policy_needs_newer_reader", "brake.new"),
        ({"version": "1.4.0", "new_share": 1.0}, "policy_needs_newer_reader", "new_share"),
        ({"version": "2.0.0", "turn": {"rate": 0.1}}, "policy_needs_newer_reader", "turn"),
        ({"version": "1.0.0", "brake__level": None}, "policy_of_older_shape", "brake.level"),
        ({"version": "0.9.0", "rss": None}, "policy_of_older_shape", "rss"),
        ({"version": "1.0.0", "share": None}, "policy_of_older_shape", "share"),
    ],
)
def test_what_a_reader_would_have_to_guess_is_refused(edits: dict[str, Any], code: str, named: str) -> None:
    with pytest.raises(PolicyError) as error:
        fit(edited(**edits), BASE)
    assert error.value.code == code
    assert named in error.value.reason


@given(
    st.dictionaries(st.sampled_from(["share", "brake__level", "brake__min_s", "rss__gap"]), st.floats(0, 9))
)
def test_numbers_alone_never_need_another_reader(edits: dict[str, Any]) -> None:
    after = edited(**edits)
    assert fit(after, BASE) == (after, ())
    assert least_bump(BASE, after) in ("patch", "minor")
