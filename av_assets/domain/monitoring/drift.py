"""Compare incoming drives with a baseline, knowing that the frames of a drive are a cluster.

Belongs here: the judgement per feature and over all. Does not belong here: measuring features, keeping
history, opening tickets. An alarm needs a large PSI, above its size limit, that exchange of whole drives
does not explain after correction over features. A burst of missing values is a schema fault, reported as
such and kept out of the PSI bands.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from av_assets.domain.evidence.digests import sha256_json
from av_assets.domain.monitoring.baseline import feature_columns
from av_assets.domain.monitoring.psi import (
    Counts,
    bin_counts,
    fold_out_of_range,
    occupied_bins,
    psi,
    psi_limit,
)
from av_assets.domain.monitoring.significance import benjamini_hochberg, drive_permutation_p, smallest_p

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from av_assets.policies.drift import DriftPolicy

State = Literal["ok", "moderate", "alarm", "insufficient"]
_WORST_FIRST: tuple[State, ...] = ("alarm", "moderate", "ok", "insufficient")


@dataclass(frozen=True)
class FeatureDrift:
    """One feature. `kind` schema: values went missing; distribution: values moved; none: neither was
    judged so.
    """

    feature: str
    state: State
    kind: Literal["none", "distribution", "schema"]
    reason: str
    psi: float | None
    psi_limit: float | None
    p: float | None
    p_adjusted: float | None
    rows_reference: int
    rows_current: int
    missing_reference: float
    missing_current: float
    edges: tuple[float, ...]
    reference_shares: tuple[float, ...]
    current_shares: tuple[float, ...]


@dataclass(frozen=True)
class DriftReport:
    """All features, worst state first. `key` is equal for equal evidence, so that one change asks once."""

    state: State
    key: str
    baseline: str
    policy: str
    seed: int
    drives_reference: int
    drives_current: int
    smallest_p: float
    features: tuple[FeatureDrift, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON-able, without nan."""
        return asdict(self)

    @property
    def alarms(self) -> tuple[str, ...]:
        return tuple(f.feature for f in self.features if f.state == "alarm")


def drift_report(
    baseline: Mapping[str, Any], current: Mapping[str, pa.Table], policy: DriftPolicy, seed: int
) -> DriftReport:
    """Judge the drives of `current` (drive -> feature table) against a baseline of `make_baseline`.

    The drives should not be those of the baseline: a drive compared with itself hides change. The result
    depends on contents only, not on the order of drives or rows.
    """
    columns = {d: feature_columns(t, baseline["embedding"]) for d, t in sorted(current.items()) if t.num_rows}
    measured = [_measure(name, baseline, columns, policy, seed) for name in sorted(baseline["features"])]
    judged = [m for m in measured if m.p is not None]
    adjusted = dict(
        zip([m.feature for m in judged], benjamini_hochberg([m.p or 0.0 for m in judged]), strict=True)
    )
    features = [_judge(m, adjusted.get(m.feature), policy) for m in measured]
    features.sort(key=lambda f: (_WORST_FIRST.index(f.state), -(f.psi or 0.0), f.feature))
    state: State = features[0].state if features else "insufficient"
    reached = smallest_p(len(baseline["drives"]), len(columns), policy.permutations)
    against = sha256_json(dict(baseline))
    evidence = {"baseline": against, "policy": policy.digest, "drives": sorted(columns)}
    return DriftReport(
        state,
        sha256_json({**evidence, "states": {f.feature: f.state for f in features}}),
        against,
        policy.digest,
        seed,
        len(baseline["drives"]),
        len(columns),
        reached,
        tuple(features),
    )


def _measure(
    name: str, baseline: Mapping[str, Any], columns: Mapping[str, Any], policy: DriftPolicy, seed: int
) -> FeatureDrift:
    """Numbers of one feature; the state is decided later, once all p-values are known."""
    edges = baseline["features"][name]["edges"]
    reference = np.asarray(list(baseline["features"][name]["counts"].values()), dtype=np.int64)
    width = reference.shape[1]
    rows = [bin_counts(c[name], edges) if name in c else None for c in columns.values()]
    counts = [row for row in rows if row is not None]
    current = np.asarray(counts, dtype=np.int64).reshape(-1, width)
    expected, actual = reference.sum(axis=0), current.sum(axis=0)
    n, m = int(expected.sum()), int(actual.sum())
    lost_before, lost_now = _missing(expected), _missing(actual)
    value = limit = p = None
    reason = _insufficient(reference, current, policy)
    if not reason and lost_before == lost_now == 1.0:
        reason = "neither side has a value"
    if not reason:
        burst = lost_now - lost_before >= policy.missing_jump
        # Without the missing bin where that is the fault, so that the rest is still judged on its own.
        kept = slice(0, -1) if burst else slice(None)
        before, now = fold_out_of_range(reference, not burst), fold_out_of_range(current, not burst)
        value = float(psi(before.sum(axis=0), now.sum(axis=0), policy.share_floor))
        if np.isfinite(value):
            limit = psi_limit(n, m, occupied_bins(before.sum(axis=0), now.sum(axis=0)), policy.alpha)
            rng = np.random.default_rng([seed, *name.encode()])
            p = drive_permutation_p(reference[:, kept], current[:, kept], policy.permutations, rng)
        else:
            value = None
    return FeatureDrift(
        name, "insufficient" if reason else "ok", "none", reason, value, limit, p, None, n, m, lost_before,
        lost_now, tuple(edges), _rounded(expected), _rounded(actual),
    )  # fmt: skip


def _missing(counts: Counts) -> float:
    return float(counts[-1] / counts.sum()) if counts.sum() else 0.0


def _rounded(counts: Counts) -> tuple[float, ...]:
    total = max(int(counts.sum()), 1)
    return tuple(round(float(c) / total, 6) for c in counts)


def _insufficient(reference: Counts, current: Counts, policy: DriftPolicy) -> str:
    """Why nothing can be said, or ''."""
    if min(reference.sum(), current.sum()) < policy.min_rows:
        return (
            f"{int(reference.sum())} and {int(current.sum())} rows; {policy.min_rows} are needed on each side"
        )
    if len(reference) < policy.min_reference_drives:
        return f"{len(reference)} baseline drives; {policy.min_reference_drives} are needed"
    if len(current) < policy.min_current_drives:
        return f"{len(current)} current drives; {policy.min_current_drives} are needed"
    if smallest_p(len(reference), len(current), policy.permutations) > policy.alpha:
        return f"{len(reference)} and {len(current)} drives cannot give a p-value below {policy.alpha}"
    return ""


def _judge(measured: FeatureDrift, adjusted: float | None, policy: DriftPolicy) -> FeatureDrift:
    if measured.state == "insufficient":
        return measured
    state: State = "ok"
    kind: Literal["none", "distribution", "schema"] = "none"
    reason = ""
    value, limit = measured.psi or 0.0, measured.psi_limit or 0.0
    if value > max(policy.moderate_psi, limit) and (measured.p or 0.0) <= policy.alpha:
        large = value > policy.alarm_psi and (adjusted or 0.0) <= policy.alpha
        state, kind = ("alarm" if large else "moderate"), "distribution"
        reason = f"PSI {value:.3f} above {max(limit, policy.moderate_psi):.3f}"
    if measured.missing_current - measured.missing_reference >= policy.missing_jump:
        state, kind = "alarm", "schema"
        reason = (
            f"missing values rose from {measured.missing_reference:.1%} to {measured.missing_current:.1%}"
        )
    return FeatureDrift(
        **{**vars(measured), "state": state, "kind": kind, "reason": reason, "p_adjusted": adjusted}
    )
