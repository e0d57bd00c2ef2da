"""Two evaluations scored again with their ingredients exchanged: predictions are kept, so no network runs.

Belongs here: which predictions meet which labels on which frames. Does not belong here: metrics, the parts' arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from av_assets.domain.errors import ModelError
from av_assets.domain.metrics.evaluate import ALL
from av_assets.domain.metrics.predictions import outcome_of
from av_assets.domain.metrics.slices import Outcome, slice_report
from av_assets.domain.models.golden import GoldenSpec, read_spec
from av_assets.domain.reproduction.parts import Parts, Scored, take_apart, undivided
from av_assets.policies.evaluation import EvaluationPolicy

METRICS: Final = ("map50", "ece", "map3d", "nds")
"""Figures that labels and predictions give. The drivable area is not among them: only its counts were kept."""
LABELS, MODEL, THRESHOLDS, TOGETHER = "labels", "model", "thresholds", "data, labels and model"
_IN: Final = "\0in"

Key = tuple[str, int]


@dataclass(frozen=True)
class Evaluation:
    """One evaluation and what it was made from.

    Attributes:
        report: report.json.
        predictions: the file of that name.
        dataset: folder with the labels of the dataset; sensor data need not be there.
        policy: its thresholds.
    """

    report: Mapping[str, Any]
    predictions: Path
    dataset: Path
    policy: EvaluationPolicy

    @cached_property
    def spec(self) -> GoldenSpec:
        return read_spec(self.dataset)

    @cached_property
    def table(self) -> pa.Table:
        return pq.read_table(self.predictions)

    @cached_property
    def keys(self) -> list[Key]:
        return list(zip(self.table["drive"].to_pylist(), self.table["ref_ns"].to_pylist(), strict=True))

    @cached_property
    def outcome(self) -> Outcome:
        return outcome_of(self.table, self.dataset, self.spec, self.policy)

    def frames_of(self, name: str) -> set[Key]:
        """Frames of a slice."""
        names = self.spec.drives("test") if name == ALL else self.spec.slices.get(name, ())
        return {self.keys[index] for index in self.outcome.frames_of(names)}


class UnknownFigureError(Exception):
    """A figure that says nothing on some frames; its parts cannot be told."""


class Exchange:
    """Both evaluations on the frames that both have.

    Raises:
        ModelError: class_mismatch, the datasets name other classes.
    """

    def __init__(self, before: Evaluation, after: Evaluation) -> None:
        if before.spec.classes != after.spec.classes:
            raise ModelError(
                f"one dataset has the classes {before.spec.classes}, the other {after.spec.classes}",
                code="class_mismatch",
                remedy="figures over other classes have no parts in common",
            )
        self._sides = (before, after)
        self._common = sorted({*before.keys} & {*after.keys})
        self._known: dict[tuple[bool, bool, bool], Outcome] = {}

    @property
    def frames(self) -> dict[str, int]:
        before, after = self._sides
        common = len(self._common)
        return {"both": common, "before": len(before.keys) - common, "after": len(after.keys) - common}

    def parts(self, metric: str, name: str) -> Parts:
        """The change of a metric on a slice, taken apart.

        Raises:
            UnknownFigureError: the figure is not known on one side, or on the frames of both.
        """
        before, after = (self._scored(side, metric, name) for side in self._sides)
        frames = self._sides[0].frames_of(name) & self._sides[1].frames_of(name)
        if not frames:
            return undivided(before, after, TOGETHER)
        exchanged = [LABELS, MODEL]
        if self._sides[0].policy.digest != self._sides[1].policy.digest:
            exchanged.append(THRESHOLDS)

        def value(group: frozenset[str]) -> float:
            picked = LABELS in group, MODEL in group, THRESHOLDS in group
            outcome = self._outcome(*picked)
            marks = tuple(_IN if key in frames else "" for key in self._common)
            policy = self._sides[THRESHOLDS in group].policy
            where = f"{len(frames)} frames of both"
            return _figure(replace(outcome, clips=marks), [_IN], self._sides[0].spec, policy, metric, where)

        return take_apart(before, after, exchanged, value)

    def _scored(self, side: Evaluation, metric: str, name: str) -> Scored:
        recorded = side.report["slices"].get(name, {}).get(metric)
        if recorded is None:
            raise UnknownFigureError("not known in one of the two")
        names = side.spec.drives("test") if name == ALL else side.spec.slices.get(name, ())
        again = _figure(side.outcome, names, side.spec, side.policy, metric, "its own frames")
        return Scored(recorded, again)

    def _outcome(self, labels: bool, model: bool, thresholds: bool) -> Outcome:
        """Predictions of one side with labels of one side, on the frames of both; True is the second side."""
        if (labels, model, thresholds) not in self._known:
            judge, found = self._sides[labels], self._sides[model]
            rows = {key: index for index, key in enumerate(found.keys)}
            table = found.table.take([rows[key] for key in self._common])
            policy = self._sides[thresholds].policy
            self._known[labels, model, thresholds] = outcome_of(table, judge.dataset, judge.spec, policy)
        return self._known[labels, model, thresholds]


def _figure(
    outcome: Outcome,
    names: Sequence[str],
    spec: GoldenSpec,
    policy: EvaluationPolicy,
    metric: str,
    where: str,
) -> float:
    quick = policy.model_copy(update={"bootstrap_rounds": 1})  # intervals are not taken apart
    found = getattr(slice_report(outcome, names, spec.classes, quick), metric)
    if found is None:
        raise UnknownFigureError(f"not known on {where}")
    return float(found)


def slices_of(before: Evaluation, after: Evaluation) -> list[str]:
    """Slices that one of the two reports, the whole first."""
    names = {*before.report["slices"], *after.report["slices"]}
    return [ALL, *sorted(names - {ALL})]


def changes(
    exchange: Exchange, names: Sequence[str], told: Callable[[str], str] = lambda part: part
) -> dict[str, dict[str, Any]]:
    """slice -> metric -> before, after, change and parts; or a reason."""
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        for metric in METRICS:
            try:
                parts = exchange.parts(metric, name)
            except UnknownFigureError as error:
                found.setdefault(name, {})[metric] = {"reason": str(error)}
                continue
            found.setdefault(name, {})[metric] = {
                "before": float(parts.before),
                "after": float(parts.after),
                "change": float(parts.change),
                "parts": {told(part): float(value) for part, value in parts.parts.items()},
            }
    return found
