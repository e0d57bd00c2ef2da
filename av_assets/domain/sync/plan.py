"""The plan between the two passes: the grid, and for every payload stream which sample stands in which row.

Belongs here: tolerances and phases of one drive. Does not belong here: the arithmetic of matching,
reading payloads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from av_assets.domain.errors import SyncError
from av_assets.domain.sync.grid import NS_PER_S, ReferenceGrid, period_of, reference_grid
from av_assets.domain.sync.match import Match, measured_phase, nearest
from av_assets.domain.sync.phase import azimuth_phases, same_cycle
from av_assets.domain.sync.shards import Times
from av_assets.domain.sync.streams import PAYLOAD_KINDS, Stamps, Survey, judge_clock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from av_assets.domain.logs.reader import LogReader
    from av_assets.domain.sync.frames import CameraFrames
    from av_assets.policies.sync import SyncPolicy


class MatchedStream(NamedTuple):
    """One payload stream and where its samples go."""

    kind: str
    topic: str
    stamps: Stamps
    match: Match
    phase_ns: int
    azimuth_ns: int | None
    tolerance_ns: int

    def times(self, rows: slice) -> Times:
        index = self.match.sample[rows]
        valid = index >= 0
        take = np.where(valid, index, 0)
        return Times(self.stamps.sensor_ns[take], self.stamps.log_ns[take], self.match.delta_ns[rows], valid)


def plan_drive(
    reader: LogReader, found: Survey, cameras: Mapping[str, CameraFrames], policy: SyncPolicy
) -> tuple[ReferenceGrid, dict[str, MatchedStream]]:
    """The grid, and for each camera, lidar and radar which sample stands in which row."""
    offset_ns = round(policy.max_clock_offset_s * NS_PER_S)
    kinds: dict[str, tuple[str, str, Stamps]] = {}
    for role, stream in found.streams.items():
        if role in cameras:
            stamps = judge_clock(cameras[role].sensor_ns, cameras[role].log_ns, offset_ns)
            kinds[role] = ("camera", stream.topic, stamps)
        elif stream.kind in PAYLOAD_KINDS and len(found.stamps[stream.topic].used_ns):
            kinds[role] = (stream.kind, stream.topic, found.stamps[stream.topic])
    of_kind = {
        k: {r: s.used_ns for r, (kind, _, s) in kinds.items() if kind == k} for k in ("lidar", "camera")
    }
    span_ns = _span(found, [stamps for _, _, stamps in kinds.values()])
    grid = reference_grid(
        of_kind["lidar"], of_kind["camera"], span_ns, policy.fixed_rate_hz, policy.reference_role
    )
    azimuth_ns = azimuth_phases(reader, found, grid)
    matched = {
        role: _match(role, *given, grid, azimuth_ns.get(role), policy) for role, given in kinds.items()
    }
    return grid, matched


def _span(found: Survey, payloads: list[Stamps]) -> tuple[int, int]:
    """Half-open time that any stream covers."""
    used = [s.used_ns for s in [*found.stamps.values(), *payloads] if len(s.used_ns)]
    if not used:
        raise SyncError("the log holds no sample of any stream", code="empty_span")
    return int(min(s.min() for s in used)), int(max(s.max() for s in used)) + 1


def _match(
    role: str,
    kind: str,
    topic: str,
    stamps: Stamps,
    grid: ReferenceGrid,
    azimuth_ns: int | None,
    policy: SyncPolicy,
) -> MatchedStream:
    period_ns = max(period_of(np.sort(stamps.used_ns)), grid.period_ns)
    tolerance_s = policy.tolerance_s.get(role, period_ns / NS_PER_S / 2 + policy.jitter_s)
    phase_ns = 0
    if role in policy.phase_s:
        phase_ns = round(policy.phase_s[role] * NS_PER_S)
    elif policy.expected_phase == "measured" and role != grid.role:
        phase_ns = measured_phase(grid.ref_ns, stamps.used_ns)
        if azimuth_ns is not None:
            phase_ns = same_cycle(phase_ns, azimuth_ns, grid.period_ns)
    tolerance_ns = round(tolerance_s * NS_PER_S)
    match = nearest(grid.ref_ns, stamps.used_ns, tolerance_ns, phase_ns, policy.one_to_one)
    return MatchedStream(kind, topic, stamps, match, phase_ns, azimuth_ns, tolerance_ns)
