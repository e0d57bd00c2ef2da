"""The detectors on all sample drives: every event that happens is found once, and nothing else is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from av_assets.domain.events.detectors import DriveSignals, find_events
from av_assets.domain.events.traffic import TrackRows
from av_assets.domain.simulation import signals
from av_assets.domain.simulation.samples import sample_drives
from av_assets.domain.simulation.truth import event_windows
from av_assets.domain.simulation.world import World, build_world
from av_assets.policies.events import EventsPolicy

if TYPE_CHECKING:
    from av_assets.domain.simulation.script import DriveScript

POLICY = EventsPolicy.load()
RATE_HZ = 10.0


def _measured(world: World, script: DriveScript, seed: int) -> DriveSignals:
    """Signals and tracks with sensor noise on a 10 Hz grid, as synchronization would give them."""
    rng = np.random.default_rng(seed)
    times_s = np.arange(round(script.seconds * RATE_HZ)) / RATE_HZ
    ref_ns = script.start_ns + np.rint(times_s * 1e9).astype(np.int64)
    noise = {
        "speed_mps": 0.02,
        "accel_mps2": 0.04,
        "yaw_rate_radps": 0.001,
        "steering_rad": 0.0005,
        "brake": 0.0,
    }
    values = {
        name: world.ego.at(name, times_s) + rng.normal(0, size, len(times_s)) for name, size in noise.items()
    }
    values["engaged"] = np.round(world.ego.at("engaged", times_s))
    rows = [
        (ns, *track)
        for ns, t in zip(ref_ns, times_s, strict=True)
        for track in signals.radar(world, float(t), rng)
    ]
    ns, ids, x, y, vx, vy = (np.array(column) for column in zip(*rows, strict=True))
    tracks = TrackRows(ns, ids, x + signals.RADAR_MOUNT_M[0], y, vx, vy)
    return DriveSignals(ref_ns, ["clip"] * len(ref_ns), values, tracks)


@pytest.mark.parametrize("script", sample_drives(), ids=lambda script: script.drive)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_event_is_found_once_and_nothing_else(script: DriveScript, seed: int) -> None:
    world = build_world(script)
    truth = event_windows(world)
    found, reasons = find_events(_measured(world, script, seed), POLICY)
    assert reasons == {}
    assert sorted(event.kind for event in found) == sorted(window.kind for window in truth)
    for window in truth:
        (event,) = [
            e
            for e in found
            if e.kind == window.kind and e.start_ns < window.end_ns + 10**8 and e.end_ns > window.start_ns
        ]
        assert abs(event.start_ns - window.start_ns) < 1_500_000_000
