"""What a returned row may say: every row that breaks a rule goes to review with the rule's name, and none is lost.

    submission   unknown_task, unknown_role, no_annotator, wrong_picture_size, mixed_coordinates, bad_seconds,
                 self_review, duplicate_submission, incomplete_submission (a box of it is bad)
    box          not_finite, unknown_class, empty_box, outside_picture, occlusion_out_of_range, and
                 submission_rejected (the box is fine, its submission is not)

A submission with one bad box is rejected as a whole: a frame without that box would look finished and lack an
object. Its task stays open until the person hands it in again. Boxes up to `box_tolerance_px` outside are cut to the
picture; people pull edges over the border. Of two submissions of one person for one task and role the newer one counts
(then the later file, then the later place in it): tools export again what was there before, people correct themselves.
Belongs here: those rules. Does not belong here: reading files (exchange), running constraints on frames (the asset's
module gives them), agreement.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from av_assets.domain.labels.people.annotators import DrawnBox
from av_assets.domain.labels.people.coordinate_units import in_pixels, mixed_files
from av_assets.domain.labels.people.states import ADJUDICATE, ANNOTATE, REVIEW, ROLES
from av_assets.domain.labels.people.submissions import Submission

if TYPE_CHECKING:
    from av_assets.domain.labels.exchange.returned import ReturnedSubmission
    from av_assets.domain.labels.people.tasks import LabelTask
    from av_assets.policies.annotation import AnnotationPolicy

WHOLE: Final = -1  # `row` of a rejected submission itself
LONGEST_S: Final = 1e8  # three years: whatever is longer was not measured, and makes sums of minutes infinite
BoxJudge = Callable[[Sequence[Mapping[str, Any]]], Mapping[int, str]]
"""Rows of boxes (see `box_facts`) -> place in the list of a bad one -> the constraint that it breaks."""


@dataclass(frozen=True)
class Handed:
    """One submission as a file has it; `number` is its place in the file."""

    file: str
    number: int
    content: ReturnedSubmission


@dataclass
class Judged:
    """Every submission and every box that came in is in exactly one of the two lists."""

    accepted: list[Submission] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)


def judge_submissions(
    handed: Sequence[Handed],
    tasks: Sequence[LabelTask],
    proposals: Mapping[str, Sequence[DrawnBox]],
    policy: AnnotationPolicy,
    judge_boxes: BoxJudge,
) -> Judged:
    """Judge what came back.

    Args:
        proposals: task -> the pre-annotations that people were shown; they tell which coordinates a file is in.
        judge_boxes: the constraints of boxes, run on all rows at once.

    Raises:
        ArithmeticError: a row was lost or doubled; that is an error of this module.
    """
    by_id = {task.task_id: task for task in tasks}
    mixed = mixed_files(handed, by_id, proposals)
    broken: dict[int, str] = {}
    rows, owners = [], []
    boxes: dict[int, list[DrawnBox]] = {}
    for n, one in enumerate(handed):
        task = by_id.get(task_of(one.content))
        if constraint := _broken(one, task, mixed):
            broken[n] = constraint
        elif task is not None:
            boxes[n] = in_pixels(one.content, task)
            rows += [box_facts(box, task) for box in boxes[n]]
            owners += [(n, row) for row in range(len(boxes[n]))]
    bad = {owners[place]: constraint for place, constraint in judge_boxes(rows).items()}
    broken |= {n: "incomplete_submission" for n, _ in bad}
    broken |= _against_each_other(handed, [n for n in range(len(handed)) if n not in broken])
    result = Judged()
    for n, one in enumerate(handed):
        if n in broken:
            result.rejected += _rejected(one, broken[n], {row: c for (m, row), c in bad.items() if m == n})
        else:
            result.accepted.append(_accepted(one, boxes[n], by_id[task_of(one.content)]))
    _count(handed, result)
    return result


def task_of(content: ReturnedSubmission) -> str:
    """The task that a submission is for: named, or the picture's name."""
    name = content.file_name.replace("\\", "/").rpartition("/")[2]
    return content.task_id or name.removesuffix(".jpg")


def box_facts(box: DrawnBox, task: LabelTask) -> dict[str, Any]:
    """One box as the constraints see it: corners, sides, how far outside the picture (pixels)."""
    x1, y1, x2, y2 = box.xyxy
    finite = all(isfinite(v) for v in box.xyxy)
    outside = max(-x1, -y1, x2 - task.width, y2 - task.height, 0.0) if finite else 0.0
    return {
        "cls": box.cls,
        "x1": x1,
        "y1": y1,
        "x2": x2,
        "y2": y2,
        "shorter_side_px": min(x2 - x1, y2 - y1) if finite else 0.0,
        "outside_px": outside,
        "occlusion": box.occlusion,
    }


def _broken(one: Handed, task: LabelTask | None, mixed: frozenset[str]) -> str:
    content = one.content
    if task is None:
        return "unknown_task"
    if content.role not in ROLES:
        return "unknown_role"
    if not content.annotator.strip():
        return "no_annotator"
    told = (content.width or task.width, content.height or task.height)
    if told != (task.width, task.height):
        return "wrong_picture_size"
    if one.file in mixed:
        return "mixed_coordinates"
    if content.seconds is not None and not 0 <= content.seconds <= LONGEST_S:  # nor is NaN
        return "bad_seconds"
    return ""


def _against_each_other(handed: Sequence[Handed], left: Sequence[int]) -> dict[int, str]:
    """Which of the submissions that are fine by themselves do not stand beside the others."""
    broken: dict[int, str] = {}
    newest: dict[tuple[str, str, str], int] = {}
    for n in sorted(left, key=lambda n: _age(handed[n])):
        content = handed[n].content
        key = (task_of(content), content.annotator.strip(), content.role)
        if key in newest:
            broken[newest[key]] = "duplicate_submission"
        newest[key] = n
    for (task, name, role), n in newest.items():
        before = {REVIEW: (ANNOTATE,), ADJUDICATE: (ANNOTATE, REVIEW)}.get(role, ())
        if any((task, name, other) in newest for other in before):
            broken[n] = "self_review"
    return broken


def _age(one: Handed) -> tuple[int, str, int]:
    return one.content.submitted_ns or 0, one.file, one.number


def _accepted(one: Handed, boxes: Sequence[DrawnBox], task: LabelTask) -> Submission:
    cut = tuple(_cut(box, task) for box in boxes)
    content = one.content
    name, person = f"{one.file}#{one.number}", content.annotator.strip()
    return Submission(name, task.task_id, person, content.role, content.seconds, cut, one.file)


def _cut(box: DrawnBox, task: LabelTask) -> DrawnBox:
    x1, y1, x2, y2 = box.xyxy
    inside = (max(x1, 0.0), max(y1, 0.0), min(x2, float(task.width)), min(y2, float(task.height)))
    return DrawnBox(box.cls, inside, -1, box.occlusion, box.distance_m, box.label_id)


def _rejected(one: Handed, constraint: str, bad: Mapping[int, str]) -> list[dict[str, Any]]:
    content = one.content
    held = {
        "origin": one.file,
        "submission": one.number,
        "task_id": task_of(content),
        "annotator": content.annotator,
    }
    whole = {k: v for k, v in vars(content).items() if k != "boxes"} | {"boxes": len(content.boxes)}
    rows = [held | {"row": WHOLE, "constraint": constraint, "value": _text(whole)}]
    for row, box in enumerate(content.boxes):
        why = bad.get(row, "submission_rejected")
        rows.append(held | {"row": row, "constraint": why, "value": _text(vars(box))})
    return rows


def _text(value: Mapping[str, Any]) -> str:
    """JSON, with NaN and infinities as words: Parquet readers and browsers know no NaN in JSON."""
    plain = {k: str(v) if isinstance(v, float) and not isfinite(v) else v for k, v in value.items()}
    return json.dumps(plain, sort_keys=True, ensure_ascii=False, default=str)


def _count(handed: Sequence[Handed], result: Judged) -> None:
    """Counts in = accepted + rejected, per file, of submissions and of boxes."""
    came, went = defaultdict(Counter), defaultdict(Counter)  # type: ignore[var-annotated]
    for one in handed:
        came[one.file].update(submissions=1, boxes=len(one.content.boxes))
    for done in result.accepted:
        went[done.origin].update(submissions=1, boxes=len(done.boxes))
    for row in result.rejected:
        went[row["origin"]].update(**({"submissions": 1} if row["row"] == WHOLE else {"boxes": 1}))
    if {f: +c for f, c in came.items()} != {f: +c for f, c in went.items()}:
        raise ArithmeticError(f"rows came in as {dict(came)} and went out as {dict(went)}")
