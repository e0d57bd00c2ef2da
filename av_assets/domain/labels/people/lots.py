"""Whether the frames of a drive that were drawn once are accepted as a lot, from those that were drawn twice for that.

Belongs here: the verdict on the lot. Does not belong here: tables of sample sizes (sampling), what follows (decisions).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from av_assets.domain.labels.people.sampling import acceptance_plan

if TYPE_CHECKING:
    from av_assets.domain.labels.people.agreement import Pair
    from av_assets.domain.labels.people.tasks import LabelTask
    from av_assets.policies.annotation import AnnotationPolicy


@dataclass(frozen=True)
class Lot:
    """The verdict; `open` until every frame of the sample is final, or more are bad than the plan allows."""

    size: int
    sample: int
    bad: int
    accept: int
    verdict: Literal["open", "accepted", "refused"]

    @property
    def reason(self) -> str:
        return f"its lot is refused: {self.bad} of {self.sample} frames are bad, {self.accept} are allowed"


def judge_lot(
    tasks: Sequence[LabelTask],
    frames: Mapping[str, tuple[bool, Sequence[Pair]]],
    policy: AnnotationPolicy,
) -> Lot | None:
    """The verdict on the drive's lot; None where the plan has none.

    Args:
        frames: task id -> whether the frame is final, and its matched boxes of two independent people.
    """
    sample = [task.task_id for task in tasks if task.stratum == "acceptance"]
    if not sample:
        return None
    size = len(sample) + sum(task.stratum == "review" for task in tasks)
    accept = acceptance_plan(size, policy.acceptance_aql_percent).accept
    bad = sum(frames[key][0] and nonconforming(frames[key][1], policy) for key in sample)
    done = all(frames[key][0] for key in sample)
    verdict: Literal["open", "accepted", "refused"] = "accepted" if done else "open"
    return Lot(size, len(sample), bad, accept, "refused" if bad > accept else verdict)


def nonconforming(pairs: Sequence[Pair], policy: AnnotationPolicy) -> bool:
    """Whether two people who drew a frame apart differ in more of its objects than the policy allows."""
    differ = sum(
        first is None or second is None or first.cls != second.cls or iou < policy.agree_iou
        for first, second, iou in pairs
    )
    return differ > policy.nonconforming_share * len(pairs)
