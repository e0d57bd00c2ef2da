"""What becomes of every frame, from submissions alone: who counts, whether people agree, what is still wanted.

Simulated and real people go exactly the same way; nothing here knows which they are.
Belongs here: states, needs and people of frames. Does not belong here: votes on boxes (consensus), drawing (drawing),
files (verify).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from av_assets.domain.labels.people.agreement import Pair, pair_boxes
from av_assets.domain.labels.people.consensus import Vote, places, settle, vote
from av_assets.domain.labels.people.label_qa import GoldScore, gold_scores_of
from av_assets.domain.labels.people.lots import Lot, judge_lot
from av_assets.domain.labels.people.states import (
    ADJUDICATE,
    ANNOTATE,
    FINAL,
    REVIEW,
    TaskHistory,
)

if TYPE_CHECKING:
    from av_assets.domain.labels.people.annotators import DrawnBox
    from av_assets.domain.labels.people.submissions import Submission
    from av_assets.domain.labels.people.tasks import LabelTask
    from av_assets.policies.annotation import AnnotationPolicy

BELOW_FLOOR = "answers to known tasks are below the floor: somebody else draws it"


@dataclass(frozen=True)
class Need:
    """The next piece of work on a frame, and who must not do it."""

    role: str
    excluded: frozenset[str]


@dataclass(frozen=True)
class FrameDecision:
    """Where a frame stands.

    Attributes:
        boxes: final boxes; empty unless the state is final.
        people: whose work stands, in the order in which it was looked at.
        need: what is wanted next; None where the frame is final.
        pairs: boxes of the first two independent people, matched; empty where there are not two.
        disputed: places that no majority decided.
    """

    history: TaskHistory
    boxes: tuple[DrawnBox, ...] = ()
    people: tuple[str, ...] = ()
    need: Need | None = None
    pairs: tuple[Pair, ...] = ()
    disputed: int = 0

    @property
    def state(self) -> str:
        return self.history.state

    @property
    def seconds(self) -> float:
        return sum(step.seconds or 0.0 for step in self.history.steps)


@dataclass(frozen=True)
class Decisions:
    """All frames of a drive, what is known of its people, and the verdict on the lot where one is judged."""

    frames: Mapping[str, FrameDecision]
    gold: Mapping[str, GoldScore] = field(default_factory=dict)
    lot: Lot | None = None


def decide(
    tasks: Sequence[LabelTask],
    submissions: Sequence[Submission],
    gold: Mapping[str, Sequence[DrawnBox]],
    policy: AnnotationPolicy,
) -> Decisions:
    """Decide every frame.

    Args:
        submissions: accepted ones (submission_rules): at most one of a person in one role per task.
        gold: known answers by task id.

    Raises:
        LabelError: self_review, illegal_transition; neither happens to submissions that the rules accepted.
    """
    given: dict[str, list[Submission]] = defaultdict(list)
    for one in submissions:
        given[one.task_id].append(one)
    scores = gold_scores_of(submissions, {t.task_id for t in tasks if t.gold}, gold, policy)
    barred = frozenset(name for name, score in scores.items() if score.standing == "below floor")
    frames = {t.task_id: decide_frame(t, given[t.task_id], policy, barred) for t in tasks}
    lot = judge_lot(tasks, {key: (f.state == FINAL, f.pairs) for key, f in frames.items()}, policy)
    if lot is not None and lot.verdict == "refused":
        for task in tasks:
            if task.stratum == "review" and given[task.task_id]:
                again = decide_frame(task, given[task.task_id], policy, barred, lot.reason)
                frames[task.task_id] = again
    return Decisions(frames, scores, lot)


def decide_frame(
    task: LabelTask,
    submissions: Sequence[Submission],
    policy: AnnotationPolicy,
    barred: frozenset[str] = frozenset(),
    second_look: str = "",
) -> FrameDecision:
    """Decide one frame; the order of `submissions` has no say.

    Args:
        barred: people whose work does not count where nobody draws beside them.
        second_look: why one independent annotation is not enough although the plan wanted one only.
    """
    ordered = sorted(submissions, key=lambda s: s.order)
    twice = task.annotations_wanted >= 2 or bool(second_look)
    history = queued(task)
    if not twice:
        aside = [s for s in ordered if s.annotator in barred and s.role == ANNOTATE]
        for one in aside:
            history.annotated(one.annotator, one.seconds)
            history.sent_back(BELOW_FLOOR, frozenset({one.annotator}))
        ordered = [s for s in ordered if s not in aside]
    drawn = [s for s in ordered if s.role == ANNOTATE]
    looks = [s for s in ordered if s.role == REVIEW] if drawn else []
    judges = [s for s in ordered if s.role == ADJUDICATE]
    for one in drawn:
        history.annotated(one.annotator, one.seconds)
    for one in looks:
        history.reviewed(one.annotator, one.seconds)
    if not twice:
        history.discounted |= barred & {s.annotator for s in looks}
        looks = [s for s in looks if s.annotator not in barred]
    people = tuple(s.annotator for s in drawn + looks)
    touched = frozenset(s.annotator for s in submissions) | (frozenset() if twice else barred)
    if not drawn:
        return FrameDecision(history, need=Need(ANNOTATE, touched))
    pairs = tuple(pair_boxes(drawn[0].boxes, drawn[1].boxes, policy.match_iou)) if len(drawn) > 1 else ()
    if len(drawn) == 1 and (twice or not looks):
        if second_look:
            history.sent_back(second_look)
        need = Need(ANNOTATE if twice else REVIEW, touched)
        return FrameDecision(history, people=people, need=need)
    return _concluded(history, drawn, looks, judges, people, pairs, policy)


def queued(task: LabelTask) -> TaskHistory:
    """The history of a frame that nobody has worked on."""
    history = TaskHistory(task.task_id)
    history.queue(task.reason)
    return history


def _concluded(
    history: TaskHistory,
    drawn: Sequence[Submission],
    looks: Sequence[Submission],
    judges: Sequence[Submission],
    people: tuple[str, ...],
    pairs: tuple[Pair, ...],
    policy: AnnotationPolicy,
) -> FrameDecision:
    """Two people or more have worked on the frame: they agree, or a third one decides."""
    opinions = [s.boxes for s in (*drawn, *looks)]
    result = vote(opinions, policy.agree_iou)
    single = len(drawn) == 1 and len(looks) == 1
    # Where a third person has decided, nobody who comes later turns what they decided into a minority's opinion.
    disputed = places(result.open if judges and not single else result.tied, policy.match_iou)
    if single and disputed <= policy.review_dispute_share * _things(result, disputed):
        history.agreed("the reviewer's corrections stand" if disputed else "the reviewer agrees")
        return FrameDecision(history, looks[0].boxes, people, None, pairs, 0)
    if not disputed:
        history.agreed(f"{len(opinions)} people agree")
        return FrameDecision(history, result.agreed, people, None, pairs, 0)
    history.disputed(f"{_places(disputed)} without a majority")
    if not judges:
        need = Need(ADJUDICATE, frozenset(people))
        return FrameDecision(history, (), people, need, pairs, disputed)
    judge = judges[0]
    history.adjudicated(judge.annotator, judge.seconds, f"decided {_places(disputed)}")
    boxes = settle(opinions, judge.boxes, policy)
    return FrameDecision(history, boxes, (*people, judge.annotator), None, pairs, disputed)


def _places(count: int) -> str:
    return f"{count} place{'' if count == 1 else 's'}"


def _things(result: Vote, disputed: int) -> int:
    return len(result.agreed) + disputed
