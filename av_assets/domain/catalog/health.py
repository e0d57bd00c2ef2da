"""How well the sensors of a drive worked, as one number and the stream that makes it what it is.

Belongs here: a summary of reports that are there. Does not belong here: judging logs (logs/integrity) or shards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from av_assets.domain.logs.drive_spec import DriveSpec


class Health(NamedTuple):
    """A share from 0 (nothing) to 1 (all that was expected), and why; None where there is nothing to judge."""

    share: float | None
    reason: str


def sensor_health(spec: DriveSpec, log_report: Mapping[str, Any], sync_report: Mapping[str, Any]) -> Health:
    """The health of the worst stream: a drive is as good as its worst sensor.

    A stream's health is the smallest of: the rate it held over the rate of the contract, the share of the drive that
    it covers, the share of messages that are not lost, the drive less its gaps beyond the rule's limit, and the share
    of expected frames that synchronization matched within tolerance. What was not measured does not count.
    """
    streams = log_report["streams"]
    found = {role: _stream(role, log_report, sync_report) for role in sorted(streams)}
    missing = (role for role, stream in sorted(spec.streams.items()) if stream.required)
    found |= {role: Health(0.0, "not recorded") for role in missing if role not in streams}
    judged = {role: health for role, health in found.items() if health.share is not None}
    if not judged:
        return Health(None, "no stream to judge")
    worst = min(judged, key=lambda role: judged[role].share or 0.0)
    share, reason = judged[worst]
    return Health(share, "" if share == 1.0 else f"{worst}: {reason}")


def _stream(role: str, log_report: Mapping[str, Any], sync_report: Mapping[str, Any]) -> Health:
    rules = {rule["id"]: rule for rule in log_report.get("rules", ()) if rule.get("role") == role}
    rules = {name: rule for name, rule in rules.items() if rule.get("measured") is not None}
    stream, synced = log_report["streams"][role], sync_report.get("streams", {}).get(role, {})
    parts: dict[str, float] = {}
    if stream.get("messages") == 0:
        return Health(0.0, "no messages")
    if (rate := rules.get("rate_matches_contract")) and rate.get("threshold"):
        parts["of its rate"] = rate["measured"] / rate["threshold"]
    if cover := rules.get("covers_the_drive"):
        # what the rule lets pass is the moment of starting and stopping, no loss
        passed = cover.get("status") == "passed"
        parts["of the drive covered"] = 1.0 if passed else cover["measured"]
    if lost := rules.get("no_message_is_lost"):
        parts["of its messages held"] = 1.0 if lost.get("status") == "passed" else 1 - lost["measured"]
    if (gap := rules.get("has_no_gap")) and gap.get("threshold") is not None:
        drive_s = max((log_report["end_ns"] - log_report["start_ns"]) / 1e9, 1e-9)
        parts["of the drive without its longest gap"] = (
            1 - max(0.0, gap["measured"] - gap["threshold"]) / drive_s
        )
    if synced.get("expected"):
        parts["of its frames matched"] = synced["matched"] / synced["expected"]
    if synced.get("matched"):
        parts["of its matches within tolerance"] = synced.get("within_tolerance", 1.0)
    if not parts:
        return Health(None, "not measured")
    # a rate a little under the contract's is jitter of the clock that measured it
    shares = {name: _clipped(value) for name, value in parts.items()}
    worst = min(shares, key=lambda name: shares[name])
    return Health(shares[worst], f"{shares[worst]:.0%} {worst}")


def _clipped(share: float) -> float:
    """0 to 1; a hundredth under 1 is 1, so that jitter of a clock is no loss."""
    share = round(min(max(float(share), 0.0), 1.0), 4)
    return 1.0 if share >= 0.99 else share


def clip_health(valid: Mapping[str, NDArray[np.bool_]], expected: Mapping[str, float]) -> float | None:
    """The worst stream's share of valid frames over the share of rows that it is expected in, of one clip.

    Args:
        valid: role -> whether each row has a frame, shape (rows,).
        expected: role -> share of rows that a stream of its rate can fill; 1 where unknown.
    """
    shares = [
        min(1.0, float(held.mean()) / expected.get(role, 1.0)) for role, held in valid.items() if len(held)
    ]
    return min(shares) if shares else None


def expected_shares(sync_report: Mapping[str, Any]) -> dict[str, float]:
    """Role -> share of the grid's rows that the stream is expected to fill, in (0, 1]."""
    rows = sync_report.get("rows", {}).get("written") or 0
    streams = sync_report.get("streams", {})
    return {r: min(1.0, s["expected"] / rows) for r, s in streams.items() if rows and s.get("expected")}
