"""Pass, fail, or not enough evidence: what thresholds say about slice metrics.

Too little data never passes: a slice without enough drives, frames or objects is "insufficient", and a
critical slice that is insufficient keeps the whole model from passing.
Belongs here: the decision and its reasons. Does not belong here: measuring, the numbers
(`policies.evaluation`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

from av_assets.domain.metrics.slices import SliceReport
from av_assets.policies.evaluation import EvaluationPolicy

State = Literal["pass", "fail", "insufficient"]


class SliceVerdict(BaseModel):
    """Why one slice is in its state; reasons are empty when it passes."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    state: State
    critical: bool
    reasons: tuple[str, ...]


class Verdict(BaseModel):
    """The whole: fail when any slice fails, insufficient when any critical slice is, else pass."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    state: State
    reasons: tuple[str, ...]
    slices: dict[str, SliceVerdict]


def judge(
    slices: Mapping[str, SliceReport],
    policy: EvaluationPolicy,
    baseline: Mapping[str, SliceReport] | None = None,
    baseline_note: str = "",
) -> Verdict:
    """Decide over all slices.

    Args:
        baseline: slice metrics of the model in use, on the same dataset; None compares with nothing.
        baseline_note: why a baseline that exists could not be compared; makes critical slices insufficient.
    """
    verdicts = {
        name: _judge_slice(name, report, policy, (baseline or {}).get(name), baseline_note)
        for name, report in sorted(slices.items())
    }
    failed = [name for name, v in verdicts.items() if v.state == "fail"]
    open_ = [name for name, v in verdicts.items() if v.state == "insufficient" and v.critical]
    state: State = "fail" if failed else "insufficient" if open_ or not verdicts else "pass"
    named = failed or open_
    reasons = tuple(f"{name}: {reason}" for name in named for reason in verdicts[name].reasons)
    return Verdict(state=state, reasons=reasons if verdicts else ("no slices",), slices=verdicts)


def _judge_slice(
    name: str, report: SliceReport, policy: EvaluationPolicy, baseline: SliceReport | None, baseline_note: str
) -> SliceVerdict:
    limits = policy.thresholds(name)
    missing = [
        f"{found} {what}, needs {needed}"
        for what, found, needed in (
            ("drives", report.drives, policy.min_drives),
            ("frames", report.frames, policy.min_frames),
            ("objects", report.objects, policy.min_objects),
        )
        if found < needed
    ]
    if missing:
        return SliceVerdict(state="insufficient", critical=limits.critical, reasons=tuple(missing))
    checks = [
        ("map50", report.map50, limits.min_map50, 1),
        ("miou", report.miou, limits.min_miou, 1),
        ("ece", report.ece, limits.max_ece, -1),
    ]
    gates3d = (("map3d", report.map3d, limits.min_map3d), ("nds", report.nds, limits.min_nds))
    checks += [(what, value, limit, 1) for what, value, limit in gates3d if limit is not None]
    if baseline is not None and baseline.map50 is not None:
        checks.append(("map50 against baseline", report.map50, baseline.map50 - limits.max_map50_loss, 1))
    broken = [
        f"{what} {value:.4f} is {'below' if sign > 0 else 'above'} {limit:.4f}"
        for what, value, limit, sign in checks
        if value is not None and sign * (value - limit) < 0
    ]
    unknown = [f"{what} unknown" for what, value, _, _ in checks if value is None]
    unknown += [baseline_note] if baseline_note else []
    state: State = "fail" if broken else "insufficient" if unknown else "pass"
    return SliceVerdict(state=state, critical=limits.critical, reasons=tuple(broken or unknown))
