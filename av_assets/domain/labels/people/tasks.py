"""Which frames people are asked to label, how often, in which order, and which of them have a known answer.

Planning sees what the machine proposes and nothing of the truth.
Belongs here: the plan of a drive. Does not belong here: sizes of samples (sampling), values (priority),
people (drawing).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Any

from av_assets.domain.labels.people.label_files import TASKS, write_json, write_rows
from av_assets.domain.labels.people.priority import FrameValue
from av_assets.domain.labels.people.sampling import acceptance_plan, stratified_sample

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from av_assets.policies.annotation import AnnotationPolicy

TASKS_FILE, PLAN_FILE = "tasks.parquet", "plan.json"
_WHY = {
    "safety": "a road user that can be hurt or a cone may be in it: two people draw it",
    "sample": "drawn to measure the share of errors: two people draw it",
    "acceptance": "drawn to judge the lot: two people draw it",
    "review": "one person draws it, another one looks over it",
}


@dataclass(frozen=True)
class PlannedFrame:
    """What planning knows of a frame: where it is, its picture, what the machine may have seen in it, its value."""

    task_id: str
    clip_id: str
    ref_ns: int
    camera: str
    camera_ns: int
    width: int
    height: int
    frame_digest: str
    classes: frozenset[str]
    proposals: int
    value: FrameValue


@dataclass(frozen=True)
class LabelTask:
    """One row of tasks.parquet.

    Attributes:
        stratum: why it is asked as often as it is; see _WHY.
        annotations_wanted: 1: author and reviewer, 2: two independent people, 0: beyond the budget, it stays queued.
        gold: its answer is known; people are never shown this.
    """

    task_id: str
    clip_id: str
    ref_ns: int
    camera: str
    camera_ns: int
    width: int
    height: int
    frame_digest: str
    stratum: str
    priority: float
    uncertainty: float
    rarity: float
    mistakenness: float
    annotations_wanted: int
    gold: bool

    @property
    def reason(self) -> str:
        if self.annotations_wanted == 0:
            return "beyond the budget of this drive: it waits"
        return _WHY.get(self.stratum, self.stratum)


def task_id_of(drive: str, camera: str, ref_ns: int) -> str:
    return f"{drive}.{camera}.{ref_ns}"


def plan_tasks(
    frames: Sequence[PlannedFrame],
    policy: AnnotationPolicy,
    rng: np.random.Generator,
    known: Collection[str] | None,
) -> tuple[list[LabelTask], dict[str, Any]]:
    """The tasks, most valuable first (frames with safety classes before all), and the plan in figures.

    Args:
        known: tasks whose answer is in a file; None: any answer can be had, and a share of the tasks is drawn.
    """
    strata, figures = _strata(frames, policy, rng)
    tasks = [_task(frame, strata[frame.task_id]) for frame in frames]
    tasks.sort(key=lambda t: (t.stratum != "safety", -t.priority, t.ref_ns))
    proposals = {frame.task_id: frame.proposals for frame in frames}
    tasks, budget = _within_budget(tasks, proposals, policy)
    gold = _gold(tasks, policy, rng, known)
    tasks = [replace(task, gold=task.task_id in gold) for task in tasks]
    plan = {
        "tasks": len(tasks),
        "strata": dict(sorted(Counter(t.stratum for t in tasks).items())),
        "gold": len(gold),
        "gold_source": "drawn" if known is None else "file" if known else "no known answers",
        "sampling": figures,
        "budget": budget,
    }
    return tasks, plan


def _strata(
    frames: Sequence[PlannedFrame], policy: AnnotationPolicy, rng: np.random.Generator
) -> tuple[dict[str, str], dict[str, Any]]:
    """Task -> stratum; frames in which a safety class may be are never left to a sample."""
    safety = set(policy.safety_classes)
    found = {f.task_id: "safety" if f.classes & safety else "review" for f in frames}
    others = [n for n, f in enumerate(frames) if found[f.task_id] == "review"]
    if policy.sampling_plan == "acceptance":
        plan = acceptance_plan(len(others), policy.acceptance_aql_percent)
        drawn = {"acceptance": [others[int(k)] for k in rng.permutation(len(others))[: plan.sample]]}
        figures: dict[str, Any] = {
            "plan": "acceptance",
            "aql_percent": policy.acceptance_aql_percent,
            **vars(plan),
        }
    else:
        groups: dict[str, list[int]] = {"empty": [], "few": [], "many": []}
        for n in others:
            groups[_density(frames[n].proposals, policy)].append(n)
        size = (policy.error_share, policy.error_margin, policy.confidence_z)
        samples = stratified_sample(groups, *size, rng)
        figures = {"plan": "stratified"} | {
            name: {"frames": len(groups[name]), "sample": len(samples[name])} for name in groups
        }
        drawn = {"sample": [n for members in samples.values() for n in members]}
    for stratum, members in drawn.items():
        found |= {frames[n].task_id: stratum for n in members}
    return found, figures


def _density(proposals: int, policy: AnnotationPolicy) -> str:
    return "empty" if not proposals else "few" if proposals < policy.many_proposals else "many"


def _task(frame: PlannedFrame, stratum: str) -> LabelTask:
    value = frame.value
    return LabelTask(
        frame.task_id,
        frame.clip_id,
        frame.ref_ns,
        frame.camera,
        frame.camera_ns,
        frame.width,
        frame.height,
        frame.frame_digest,
        stratum,
        round(value.priority, 6),
        value.uncertainty,
        value.rarity,
        value.mistakenness,
        1 if stratum == "review" else 2,
        False,
    )


def _within_budget(
    tasks: Sequence[LabelTask], proposals: Mapping[str, int], policy: AnnotationPolicy
) -> tuple[list[LabelTask], dict[str, Any]]:
    """Tasks in their order until the minutes are spent; what is beyond stays queued and is named."""
    planned = 0.0
    kept: list[LabelTask] = []
    beyond: list[str] = []
    for task in tasks:
        # A frame that is drawn once is also looked over, which costs about a third of drawing.
        looks = 2.0 if task.annotations_wanted == 2 else 4 / 3
        minutes = looks * (policy.planned_frame_s + policy.planned_object_s * proposals[task.task_id]) / 60
        fits = not beyond and planned + minutes <= policy.budget_minutes
        planned += minutes if fits else 0.0
        kept.append(task if fits else replace(task, annotations_wanted=0))
        beyond += [] if fits else [task.task_id]
    return kept, {
        "minutes": policy.budget_minutes,
        "planned_minutes": round(planned, 3),
        "beyond_budget": beyond,
        "safety_beyond_budget": sum(t.stratum == "safety" and t.annotations_wanted == 0 for t in kept),
    }


def _gold(
    tasks: Sequence[LabelTask],
    policy: AnnotationPolicy,
    rng: np.random.Generator,
    known: Collection[str] | None,
) -> set[str]:
    wanted = sorted(t.task_id for t in tasks if t.annotations_wanted)
    if known is not None:
        return set(known) & set(wanted)
    return {wanted[int(k)] for k in rng.permutation(len(wanted))[: ceil(policy.gold_share * len(wanted))]}


def write_tasks(folder: Path, tasks: Sequence[LabelTask], plan: Mapping[str, Any]) -> None:
    write_rows(folder / TASKS_FILE, [vars(task) for task in tasks], TASKS)
    write_json(folder / PLAN_FILE, plan)


def read_tasks(folder: Path) -> list[LabelTask]:
    """Tasks of a bundle, in order of value."""
    import pyarrow.parquet as pq

    return [LabelTask(**row) for row in pq.read_table(folder / TASKS_FILE, schema=TASKS).to_pylist()]
