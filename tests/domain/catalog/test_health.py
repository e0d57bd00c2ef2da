"""A drive is as good as its worst sensor, and says which that is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from av_assets.domain.catalog.health import clip_health, expected_shares, sensor_health
from av_assets.domain.logs.drive_spec import DriveSpec

SPEC = DriveSpec.model_validate(
    {"drive": "d", "streams": {"camera": {"topic": "/c", "kind": "camera", "rate_hz": 10}}}
)


def log(rules: list[dict[str, Any]] | None = None, **streams: dict[str, Any]) -> dict[str, Any]:
    return {
        "start_ns": 0,
        "end_ns": 10 * 10**9,
        "streams": streams or {"camera": {"messages": 100}},
        "rules": rules or [],
    }


def rule(name: str, measured: float | None, threshold: float, status: str = "failed") -> dict[str, Any]:
    return {"id": name, "role": "camera", "status": status, "measured": measured, "threshold": threshold}


def synced(**camera: Any) -> dict[str, Any]:
    return {"rows": {"written": 100}, "streams": {"camera": camera} if camera else {}}


@pytest.mark.parametrize(
    ("report", "sync", "share", "reason"),
    [
        (log([rule("rate_matches_contract", 6.0, 10.0)]), synced(), 0.6, "camera: 60% of its rate"),
        (log([rule("covers_the_drive", 0.4, 0.95)]), synced(), 0.4, "camera: 40% of the drive covered"),
        (log([rule("no_message_is_lost", 0.3, 0.03)]), synced(), 0.7, "camera: 70% of its messages held"),
        (
            log([rule("has_no_gap", 2.2, 0.2)]),
            synced(),
            0.8,
            "camera: 80% of the drive without its longest gap",
        ),
        (
            log(),
            synced(expected=100, matched=50, within_tolerance=1.0),
            0.5,
            "camera: 50% of its frames matched",
        ),
        (
            log(),
            synced(expected=100, matched=100, within_tolerance=0.25),
            0.25,
            "camera: 25% of its matches within tolerance",
        ),
        (log(camera={"messages": 0}), synced(), 0.0, "camera: no messages"),
        (log(imu={"messages": 5}), synced(), 0.0, "camera: not recorded"),
    ],
)
def test_each_kind_of_harm_is_named(report: Any, sync: Any, share: float, reason: str) -> None:
    found = sensor_health(SPEC, report, sync)
    assert found.share == pytest.approx(share)
    assert found.reason == reason


def test_good_streams_are_one_and_say_nothing() -> None:
    rules = [
        rule("rate_matches_contract", 9.99, 10, "passed"),
        rule("covers_the_drive", 0.96, 0.95, "passed"),
    ]
    assert sensor_health(SPEC, log(rules), synced(expected=100, matched=100, within_tolerance=1.0)) == (
        1.0,
        "",
    )


def test_nothing_measured_is_null_with_a_reason() -> None:
    assert sensor_health(DriveSpec(drive="d"), log(), synced()) == (None, "no stream to judge")
    skipped = rule("rate_matches_contract", None, 10, "skipped")
    assert sensor_health(DriveSpec(drive="d"), log([skipped]), synced()).share is None


def test_worst_stream_speaks() -> None:
    report = log([rule("rate_matches_contract", 8.0, 10.0)], camera={"messages": 80}, lidar={"messages": 30})
    sync = {"streams": {"lidar": {"expected": 100, "matched": 30, "within_tolerance": 1.0}}}
    assert sensor_health(SPEC, report, sync) == (0.3, "lidar: 30% of its frames matched")


def test_clip_counts_what_a_slower_sensor_can_give() -> None:
    every_other, half = np.arange(50) % 2 == 0, np.arange(50) < 25
    expected = expected_shares({"rows": {"written": 100}, "streams": {"rear": {"expected": 50}, "x": {}}})
    assert expected == {"rear": 0.5}
    assert clip_health({"rear": every_other}, expected) == 1.0
    assert clip_health({"rear": every_other, "front": half}, expected) == 0.5
    assert clip_health({}, expected) is None
