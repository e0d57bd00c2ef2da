"""The plan between the two passes: the grid, and for every payload stream which sample stands in which row.

Belongs here: tolerances and phases of one drive. Does not belong here: the arithmetic of matching,
reading payloads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from av_assets.domain.sync.grid import NS_PER_S, Ns, ReferenceGrid, period_of, reference_grid
from av_assets.domain.sync.match import Match, measured_phase, nearest
from av_assets.domain.sync.phase import azimuth_phases, same_cycle
from av_assets.domain.sync.shards import Times
from av_assets.domain.sync.stamps import Stamps, judge_clock, stamps_of
from av_assets.domain.sync.streams import PAYLOAD_KINDS, Survey

if TYPE_CHECKING:
    from collections.abc import Mapping

    from av_assets.domain.logs.reader import LogReader
    from av_assets.domain.sync.frames import CameraFrames
    from av_assets.domain.sync.scan import Scan
    from av_assets.policies.clocks import ClockPolicy
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


class Plan(NamedTuple):
    """The rows of a drive, what stands in them, and which rows make a clip and which clips a segment.

    Attributes:
        clips: rows of each clip, in order; windows without rows make no clip.
        segments: segment number -> numbers of its clips.
    """

    grid: ReferenceGrid
    matched: dict[str, MatchedStream]
    clips: list[slice]
    segments: dict[int, range]


def plan_drive(
    reader: LogReader, found: Survey, scan: Scan, cameras: Mapping[str, CameraFrames],
    policy: SyncPolicy, clocks: ClockPolicy,
) -> Plan | None:  # fmt: skip
    """The grid, and for each camera, lidar and radar which sample stands in which row; None without a sample.

    Raises:
        SyncError: out_of_order, where the policy is `error` and a payload came later than the watermark.
    """
    kinds: dict[str, tuple[str, str, Stamps]] = {}
    for role, stream in found.streams.items():
        if role in cameras:
            given = cameras[role].sensor_ns, cameras[role].log_ns
            if len(given[0]):
                clock = judge_clock(stream.topic, *given, clocks)
                stamps = stamps_of(stream.topic, *given, clock, policy)
                kinds[role] = ("camera", stream.topic, stamps)
        elif stream.kind in PAYLOAD_KINDS and stream.topic in scan.stamps:
            kinds[role] = (stream.kind, stream.topic, scan.stamps[stream.topic])
    span_ns = _span(scan, [stamps for _, _, stamps in kinds.values()])
    if span_ns is None:
        return None
    of_kind = {
        k: {r: s.used_ns[s.kept] for r, (kind, _, s) in kinds.items() if kind == k}
        for k in ("lidar", "camera")
    }
    grid = reference_grid(
        of_kind["lidar"], of_kind["camera"], span_ns, policy.fixed_rate_hz, policy.reference_role
    )
    azimuth_ns = azimuth_phases(reader, found, grid)
    matched = {
        role: _match(role, *given, grid, azimuth_ns.get(role), policy) for role, given in kinds.items()
    }
    clips, windows = _clips(grid.ref_ns, round(policy.clip_s * NS_PER_S))
    per_segment = max(1, round(policy.segment_s / policy.clip_s))
    return Plan(grid, matched, clips, _segments(windows // per_segment))


def _span(scan: Scan, payloads: list[Stamps]) -> tuple[int, int] | None:
    """Half-open time that any stream covers."""
    spans = [(int(s.used_ns.min()), int(s.used_ns.max()) + 1) for s in payloads]
    spans += [scan.span_ns] if scan.span_ns else []
    return (min(s for s, _ in spans), max(e for _, e in spans)) if spans else None


def _clips(ref_ns: Ns, clip_ns: int) -> tuple[list[slice], Ns]:
    """Rows of each clip, and which window it is: half-open ones of clip_ns from the first row."""
    window = (ref_ns - ref_ns[0]) // clip_ns
    starts = np.flatnonzero(np.diff(window, prepend=-1))
    rows = [slice(int(a), int(b)) for a, b in zip(starts, [*starts[1:], len(ref_ns)], strict=True)]
    return rows, window[starts]


def _segments(segment: Ns) -> dict[int, range]:
    numbers, starts = np.unique(segment, return_index=True)
    ends = [*starts[1:].tolist(), len(segment)]
    return {n: range(a, b) for n, a, b in zip(numbers.tolist(), starts.tolist(), ends, strict=True)}


def _match(
    role: str,
    kind: str,
    topic: str,
    stamps: Stamps,
    grid: ReferenceGrid,
    azimuth_ns: int | None,
    policy: SyncPolicy,
) -> MatchedStream:
    used_ns = stamps.used_ns[stamps.kept]
    period_ns = max(period_of(np.sort(used_ns)), grid.period_ns)
    tolerance_s = policy.tolerance_s.get(role, period_ns / NS_PER_S / 2 + policy.jitter_s)
    phase_ns = 0
    if role in policy.phase_s:
        phase_ns = round(policy.phase_s[role] * NS_PER_S)
    elif policy.expected_phase == "measured" and role != grid.role:
        phase_ns = measured_phase(grid.ref_ns, used_ns)
        if azimuth_ns is not None:
            phase_ns = same_cycle(phase_ns, azimuth_ns, grid.period_ns)
    tolerance_ns = round(tolerance_s * NS_PER_S)
    match = nearest(grid.ref_ns, used_ns, tolerance_ns, phase_ns, policy.one_to_one)
    sample = np.where(match.sample >= 0, stamps.kept[np.maximum(match.sample, 0)], match.sample)
    return MatchedStream(
        kind, topic, stamps, Match(sample, match.delta_ns), phase_ns, azimuth_ns, tolerance_ns
    )
