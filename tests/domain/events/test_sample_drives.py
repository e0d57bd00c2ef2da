"""The detectors on all sample drives: every event that happens is found once, and nothing else is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from av_assets.domain.events.detectors import DriveSignals, find_events
from av_assets.domain.events.paths import TrackRows
from av_assets.domain.simulation import signals
from av_assets.domain.simulation.ego import FRONT_BUMPER_X_M
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
    scripted = [event.kind for event in found if event.kind not in ("conflict", "rss_violation")]
    assert sorted(scripted) == sorted(window.kind for window in truth)
    for window in truth:
        (event,) = [
            e
            for e in found
            if e.kind == window.kind and e.start_ns < window.end_ns + 10**8 and e.end_ns > window.start_ns
        ]
        assert abs(event.start_ns - window.start_ns) < 1_500_000_000


def _meetings(world: World, script: DriveScript) -> list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Of every actor that a radar sees, at 10 Hz without noise: id, gap, offset across the road, closing speed."""
    ego = world.ego
    rows = np.searchsorted(ego.t_s, np.arange(round(script.seconds * RATE_HZ)) / RATE_HZ)
    found = []
    for actor in world.actors:
        if actor.cls == "cone":
            continue
        gap = (actor.s_m - actor.size_m[0] / 2 - ego.s_m - FRONT_BUMPER_X_M)[rows]
        closing = -np.gradient(actor.s_m - ego.s_m, ego.t_s)[rows]
        found.append((actor.object_id, gap, (actor.d_m - ego.d_m)[rows], closing))
    return found


def _longest(mask: np.ndarray) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return int((edges[1::2] - edges[::2]).max()) if len(edges) else 0


@pytest.mark.parametrize("script", sample_drives(), ids=lambda script: script.drive)
def test_conflicts_are_with_those_who_are_met_closely_in_truth(script: DriveScript) -> None:
    """Who is clearly met within 3 s is found, and who is found is met within little more: by the noise-free world."""
    world = build_world(script)
    events, _ = find_events(_measured(world, script, 1), POLICY)
    found = {
        e.evidence["track_id"] for e in events if e.kind == "conflict" and e.evidence["measure"] == "ttc"
    }
    surely, perhaps = set(), set()
    for ident, gap, across, closing in _meetings(world, script):
        seen = (gap > 0.5) & (gap < 40.0) & (closing > 0.6)
        ttc = gap / np.where(closing > 0.6, closing, np.nan)
        if _longest(seen & (np.abs(across) < 1.0) & (ttc < 2.6)) >= 6:
            surely.add(ident)
        if _longest((gap > 0) & (np.abs(across) < 2.4) & (ttc < 3.6)) >= 1:
            perhaps.add(ident)
    assert surely <= found <= perhaps


@pytest.mark.parametrize("script", sample_drives(), ids=lambda script: script.drive)
def test_violations_of_the_safe_distance_are_those_of_truth(script: DriveScript) -> None:
    world = build_world(script)
    events, _ = find_events(_measured(world, script, 1), POLICY)
    found = {e.evidence["track_id"] for e in events if e.kind == "rss_violation"}
    speed = world.ego.at("speed_mps", np.arange(round(script.seconds * RATE_HZ)) / RATE_HZ)
    surely, perhaps = set(), set()
    for ident, gap, across, closing in _meetings(world, script):
        front = speed - closing
        share = (speed + 1.75 + (speed + 3.5) ** 2 / 8 - front**2 / 16) / np.maximum(gap, 0.1)
        ahead = (gap > 0.5) & (front > 2.2) & (speed > 2.2)
        if _longest(ahead & (np.abs(across) < 0.9) & (share > 1.1)) >= 20:
            surely.add(ident)
        if _longest((gap > 0) & (front > 1.7) & (np.abs(across) < 2.4) & (share > 0.9)) >= 8:
            perhaps.add(ident)
    # Where something stands in the path nobody drives ahead.
    assert bool(surely) is all(event.kind != "stationary_hazard" for event in script.events)
    assert surely <= found <= perhaps
