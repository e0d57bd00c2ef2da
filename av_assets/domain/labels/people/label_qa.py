"""How well each person labels: against known answers, and against everybody else without any.

Belongs here: figures of people. Does not belong here: what follows from them (decisions),
agreement (agreement).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from av_assets.domain.labels.matching import match_boxes
from av_assets.domain.labels.people.agreement import NOTHING
from av_assets.domain.labels.people.annotators import coordinates
from av_assets.domain.labels.people.states import ANNOTATE, ROLES
from av_assets.domain.labels.quality.scores import gold_scores

if TYPE_CHECKING:
    from av_assets.domain.labels.people.annotators import DrawnBox
    from av_assets.domain.labels.people.submissions import Submission
    from av_assets.policies.annotation import AnnotationPolicy

Opinions = Mapping[str, str]
"""Person -> class that they gave to one thing, or "none" where they drew the frame without it."""


@dataclass(frozen=True)
class GoldScore:
    """One person on the tasks whose answer is known; `standing` says whether that is enough of an answer."""

    frames: int
    scores: Mapping[str, Any]
    f1: float | None
    standing: Literal["good", "below floor", "not judged"]


def gold_scores_of(
    submissions: Sequence[Submission],
    gold_tasks: Collection[str],
    gold: Mapping[str, Sequence[DrawnBox]],
    policy: AnnotationPolicy,
) -> dict[str, GoldScore]:
    """The score of everybody who annotated a task with a known answer; reviews saw somebody else's boxes first."""
    work: dict[str, list[Any]] = defaultdict(list)
    for one in sorted(submissions, key=lambda s: s.task_id):
        if one.role == ANNOTATE and one.task_id in gold_tasks and one.task_id in gold:
            work[one.annotator].append((one.boxes, gold[one.task_id]))
    return {name: _score(pairs, policy) for name, pairs in sorted(work.items())}


def _score(pairs: Sequence[Any], policy: AnnotationPolicy) -> GoldScore:
    scores = gold_scores(pairs, policy.match_iou)
    drawn = 2 * scores["tp"] + scores["fp"] + scores["fn"]
    f1 = round(2 * scores["tp"] / drawn, 4) if drawn else None
    if f1 is None or len(pairs) < policy.gold_min_frames:
        return GoldScore(len(pairs), scores, f1, "not judged")
    return GoldScore(len(pairs), scores, f1, "good" if f1 >= policy.gold_floor else "below floor")


def opinions_on_things(submissions: Sequence[Submission], match_iou: float) -> list[Opinions]:
    """Every thing of every frame that at least two people drew apart, with what each of them said about it."""
    frames: dict[str, list[Submission]] = defaultdict(list)
    for one in submissions:
        if one.role == ANNOTATE:
            frames[one.task_id].append(one)
    found = []
    for task in sorted(frames):
        people = sorted(frames[task], key=lambda s: s.order)
        found += _things(people, match_iou) if len(people) > 1 else []
    return found


def _things(people: Sequence[Submission], match_iou: float) -> list[Opinions]:
    first: list[DrawnBox] = []  # the first box of each thing stands for it
    said: list[dict[str, str]] = []
    for person in people:
        pairs = match_boxes(coordinates(person.boxes), coordinates(first), match_iou)
        known = {i: j for i, j, _ in pairs}
        for i, box in enumerate(person.boxes):
            if i not in known:
                first.append(box)
                said.append({})
                known[i] = len(said) - 1
            said[known[i]][person.annotator] = box.cls
    names = [person.annotator for person in people]
    return [{name: thing.get(name, NOTHING) for name in names} for thing in said]


def skills(things: Sequence[Opinions]) -> dict[str, float]:
    """Person -> share of things that they tell right, by Dawid and Skene's model of observers (1979), without answers.

    The model needs people who saw the same things: with fewer than two of them or nothing to tell apart, it is empty.
    """
    rows = [(n, who, cls) for n, thing in enumerate(things) for who, cls in thing.items()]
    if len({who for _, who, _ in rows}) < 2 or len({cls for _, _, cls in rows}) < 2:
        return {}
    import pandas as pd
    from crowdkit.aggregation import DawidSkene

    model = DawidSkene(n_iter=40).fit(pd.DataFrame(rows, columns=["task", "worker", "label"]))
    if model.errors_ is None or model.priors_ is None:
        return {}
    found = {}
    for who in sorted({who for _, who, _ in rows}):
        errors = model.errors_.loc[who]
        right = sum(
            float(model.priors_[cls]) * float(errors.loc[cls, cls])
            for cls in model.priors_.index
            if cls in errors.index
        )
        found[who] = round(right, 4)
    return found


def people_report(
    submissions: Sequence[Submission], gold: Mapping[str, GoldScore], skill: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """Per person: pieces of work by role, minutes, score on known answers, skill by Dawid and Skene, standing."""
    found: dict[str, dict[str, Any]] = {}
    for name in sorted({one.annotator for one in submissions}):
        own = [one for one in submissions if one.annotator == name]
        score = gold.get(name)
        found[name] = {
            **{role: sum(one.role == role for one in own) for role in ROLES},
            "minutes": round(sum(one.seconds or 0.0 for one in own) / 60, 3),
            "gold_frames": score.frames if score else 0,
            "gold_f1": score.f1 if score else None,
            "skill": skill.get(name),
            "standing": score.standing if score else "not judged",
        }
    return found
