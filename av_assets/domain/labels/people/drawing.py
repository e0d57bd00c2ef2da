"""Simulated people do what is asked, round by round, until nothing is asked of them any more.

They know the picture (here: truth), the pre-annotations and, as reviewers, the author's boxes; what is wanted of
whom they learn from the same decisions that real people's work goes through.
Belongs here: who takes which piece of work. Does not belong here: how people err (annotators), deciding (decisions).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from av_assets.domain.labels.people.annotators import Annotation, annotate, look_over
from av_assets.domain.labels.people.decisions import FrameDecision, Need, decide
from av_assets.domain.labels.people.states import ADJUDICATE, ANNOTATE, REVIEW, ROLES
from av_assets.domain.labels.people.submissions import Submission

if TYPE_CHECKING:
    from av_assets.domain.labels.people.annotators import DrawnBox
    from av_assets.domain.labels.people.tasks import LabelTask
    from av_assets.domain.labels.people.truth import AutoFrames, TruthFrames
    from av_assets.policies.annotation import AnnotationPolicy, AnnotatorProfile

ROUNDS = 8  # author, second or reviewer, adjudicator; again after rework


def draw_submissions(
    tasks: Sequence[LabelTask],
    auto: AutoFrames,
    truth: TruthFrames,
    gold: Mapping[str, Sequence[DrawnBox]],
    policy: AnnotationPolicy,
    seed: int,
    given: Sequence[Submission] = (),
) -> list[Submission]:
    """What simulated people hand in, beside what was `given` already; the same seed gives the same.

    Tasks beyond the budget and frames that no truth covers are left alone. One task more changes nothing in the others.
    """
    able = {t.task_id: t for t in tasks if t.annotations_wanted and truth.covers(t)}
    turn = {t.task_id: n for n, t in enumerate(sorted(able.values(), key=lambda t: t.ref_ns))}
    drawn: list[Submission] = []
    for _ in range(ROUNDS):
        held = [*given, *drawn]
        decisions = decide(tasks, held, gold, policy)
        fresh = []
        for key, task in able.items():
            frame = decisions.frames[key]
            person = None if frame.need is None else _taker(frame.need, turn[key], policy)
            if person is not None and frame.need is not None:
                own = [s for s in held if s.task_id == key]
                fresh.append(_work(task, frame, frame.need.role, person, own, auto, truth, policy, seed))
        if not fresh:
            break
        drawn += fresh
    return drawn


def _taker(need: Need, turn: int, policy: AnnotationPolicy) -> AnnotatorProfile | None:
    """People in turn, as far as they may; who adjudicates does nothing else."""
    if need.role == ADJUDICATE:
        return None if policy.adjudicator.name in need.excluded else policy.adjudicator
    people, step = policy.annotators, 1 if turn % 2 else -1
    # Odd and even turns go round in opposite directions, so that everybody works with everybody else.
    for k in range(len(people)):
        person = people[(turn + step * k) % len(people)]
        if person.name not in need.excluded:
            return person
    return None


def _work(
    task: LabelTask,
    frame: FrameDecision,
    role: str,
    person: AnnotatorProfile,
    own: Sequence[Submission],
    auto: AutoFrames,
    truth: TruthFrames,
    policy: AnnotationPolicy,
    seed: int,
) -> Submission:
    # A generator per task, role and person: nothing that happens elsewhere changes it.
    luck = [seed, 1, task.ref_ns % 2**62, ROLES.index(role), crc32(person.name.encode())]
    rng = np.random.default_rng(luck)
    seen, proposed, size = truth.boxes(task), auto.boxes(task), truth.size
    if role == REVIEW:
        author = next(s for s in own if s.role == ANNOTATE and s.annotator in frame.people)
        made = look_over(
            author.boxes, seen, proposed, person, size, policy.review_catch_rate, policy.match_iou, rng
        )
    else:
        made = annotate(seen, proposed, person, size, rng)
    if role == ADJUDICATE:  # looks at the places in dispute only
        made = Annotation(made.annotator, made.boxes, person.frame_s + person.object_s * frame.disputed)
    name = f"{task.task_id}.{role}.{person.name}"
    return Submission(name, task.task_id, person.name, role, round(made.seconds, 3), made.boxes)
