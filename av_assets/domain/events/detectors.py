"""All events of a drive out of its clips, with the reason where a detector could not look.

Belongs here: which detector gets what, and the table of events. Does not belong here: the detectors and their
thresholds (the events policy), reading clips (reading).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from av_assets.domain.catalog.schemas import column
from av_assets.domain.events.braking import acceleration, brake_sources, harsh_brakes
from av_assets.domain.events.conflicts import rss_violations, ttc_conflicts
from av_assets.domain.events.crossings import pet_conflicts
from av_assets.domain.events.manoeuvres import hard_cornerings, heading, lane_changes, turns
from av_assets.domain.events.paths import EgoMotion, path_tracks
from av_assets.domain.events.reading import DriveSignals, in_order, read_signals
from av_assets.domain.events.takeovers import Driver, disengagements
from av_assets.domain.events.traffic import cut_ins, stationary_hazards
from av_assets.domain.events.windows import Event
from av_assets.domain.evidence.digests import canonical_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from av_assets.policies.events import EventsPolicy

__all__ = [
    "EVENT_SCHEMA",
    "KINDS",
    "DriveSignals",
    "detect_events",
    "events_under",
    "find_events",
    "read_signals",
]

KINDS: Final = (
    "conflict",
    "cut_in",
    "disengagement",
    "hard_cornering",
    "harsh_brake",
    "lane_change",
    "rss_violation",
    "stationary_hazard",
    "turn",
)
_OF_MOTION: Final = ("hard_cornering", "lane_change", "turn")
_OF_TRACKS: Final = ("conflict", "cut_in", "rss_violation", "stationary_hazard")
STRAIGHT = "straight_path_assumed"
EVENT_SCHEMA: Final = pa.schema(
    [
        column("kind", pa.string(), f"what happened: {', '.join(KINDS)}", nullable=False),
        column("level", pa.int32(), "from 1; each kind has its own steps", nullable=False),
        column("start_ns", pa.int64(), "stamp of the first frame, ns since the Unix epoch", nullable=False),
        column("end_ns", pa.int64(), "stamp of the last frame, ns since the Unix epoch", nullable=False),
        column("clip_id", pa.string(), "the clip that it starts in", nullable=False),
        column("peak", pa.float64(), "the figure that decided; its unit is that of the kind", nullable=False),
        column("evidence", pa.string(), "JSON: the numbers behind it, with samples", nullable=False),
        column("policy_digest", pa.string(), "the thresholds that it was found under", nullable=False),
        column("tags", pa.list_(pa.string()), "more of what it is, such as left or critical", nullable=False),
    ]
)


def detect_events(clips: Sequence[Path], policy: EventsPolicy) -> pa.Table:
    """Events of one drive in time order, by EVENT_SCHEMA; start and end are stamps of frames.

    An event belongs to the clip that it starts in; further clips that it reaches are in `also_in` of its evidence.
    The schema metadata holds `reasons`: JSON of kind -> why its detector found nothing to look at (a
    missing signal).

    Raises:
        SyncError: duplicate_stamps, when two frames of the clips have one stamp.
    """
    drive = in_order(read_signals(clips))
    found, reasons = find_events(drive, policy)
    rows = [_row(drive, event, policy) for event in found]
    schema = EVENT_SCHEMA.with_metadata({b"schema_version": b"2", b"reasons": canonical_json(reasons)})
    return pa.Table.from_pylist(rows, schema=schema)


def events_under(clips: Sequence[Path], policy: EventsPolicy) -> pa.Table:
    """What another policy would have found in the same clips: `detect_events` itself, by the name of a back-test."""
    return detect_events(clips, policy)


def _row(drive: DriveSignals, event: Event, policy: EventsPolicy) -> dict[str, object]:
    first, last = np.searchsorted(drive.ref_ns, [event.start_ns, event.end_ns], side="right") - 1
    clips = list(dict.fromkeys(drive.clip_ids[max(0, int(first)) : int(last) + 1]))
    evidence = dict(event.evidence) | ({"also_in": clips[1:]} if len(clips) > 1 else {})
    return {
        **{name: getattr(event, name) for name in ("kind", "level", "start_ns", "end_ns", "peak")},
        "clip_id": clips[0],
        "evidence": canonical_json(evidence).decode(),
        "policy_digest": policy.digest,
        "tags": list(event.tags),
    }


def find_events(drive: DriveSignals, policy: EventsPolicy) -> tuple[list[Event], dict[str, str]]:
    """Events in time order, and for each kind that could not be looked for the reason.

    Raises:
        SyncError: duplicate_stamps.
    """
    drive = in_order(drive)
    reasons: dict[str, str] = {}
    events = _of_vehicle(drive, policy, reasons)
    events += _of_manoeuvres(drive, policy, reasons)
    events += _of_traffic(drive, policy, reasons)
    return sorted(events, key=lambda e: (e.start_ns, e.kind, e.end_ns)), reasons


def _of_vehicle(drive: DriveSignals, policy: EventsPolicy, reasons: dict[str, str]) -> list[Event]:
    signals, times = drive.signals, drive.ref_ns
    events: list[Event] = []
    accel = acceleration(times, signals, policy)
    if accel is None:
        reasons["harsh_brake"] = "no accel_mps2, speed_mps or imu_ax_mps2"
    else:
        events += harsh_brakes(times, accel, policy, brake_sources(times, signals, policy))
    if "engaged" not in signals:
        reasons["disengagement"] = "no engaged signal"
    else:
        driver = Driver(*(signals.get(name) for name in ("brake", "steering_rad", "disengage_button")))
        events += disengagements(times, signals["engaged"], driver, policy)
    return events


def _of_manoeuvres(drive: DriveSignals, policy: EventsPolicy, reasons: dict[str, str]) -> list[Event]:
    signals = drive.signals
    lacking = [name for name in ("speed_mps", "yaw_rate_radps") if name not in signals]
    if lacking:
        reasons |= dict.fromkeys(_OF_MOTION, f"no {' and no '.join(lacking)}")
        return []
    motion = heading(drive.ref_ns, signals["speed_mps"], signals["yaw_rate_radps"], policy)
    changes = lane_changes(motion, policy, signals.get("lane_id"))
    return [*turns(motion, policy), *hard_cornerings(motion, policy), *changes]


def _of_traffic(drive: DriveSignals, policy: EventsPolicy, reasons: dict[str, str]) -> list[Event]:
    signals, tracks = drive.signals, drive.tracks
    if tracks is None or "speed_mps" not in signals:
        reasons |= dict.fromkeys(_OF_TRACKS, "no radar tracks" if tracks is None else "no speed_mps")
        return []
    rate = signals.get("yaw_rate_radps")
    turning = np.full(len(drive.ref_ns), np.nan) if rate is None else rate
    motion = EgoMotion(drive.ref_ns, signals["speed_mps"], turning)
    paths = path_tracks(motion, tracks, policy)
    events = [
        *cut_ins(paths, policy),
        *stationary_hazards(paths, policy),
        *ttc_conflicts(paths, policy),
        *rss_violations(paths, policy),
    ]
    if rate is None:
        # Without a turn rate the path is a straight line; whoever reads the events is to know.
        return [event._replace(tags=(*event.tags, STRAIGHT)) for event in events]
    driven = heading(motion.times_ns, motion.speed_mps, rate, policy)
    return events + pet_conflicts(motion, tracks, policy, driven)
