"""Which coordinates returned boxes are in: pixels, percent or shares of the picture, and files that mix them.

A file says its units, and files that people made lie about them. Boxes that would be smaller than a pixel are shares of
the picture; boxes that meet a pre-annotation only when they are read as percent are percent. A file in which some boxes
are so and others are not is mixed: nobody can say which reading its other boxes need.
Belongs here: telling and converting units. Does not belong here: any other rule about boxes (submission_rules).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Final

from av_assets.domain.labels.matching import iou_matrix
from av_assets.domain.labels.people.annotators import DrawnBox, coordinates

if TYPE_CHECKING:
    from av_assets.domain.labels.exchange.returned import ReturnedBox, ReturnedSubmission
    from av_assets.domain.labels.people.submission_rules import Handed
    from av_assets.domain.labels.people.tasks import LabelTask

_FULL: Final = {"px": None, "percent": 100.0, "normalised": 1.0}
MEETS_IOU: Final = 0.5


def in_pixels(content: ReturnedSubmission, task: LabelTask) -> list[DrawnBox]:
    """The boxes in pixels of the task's picture, by the units that the file says."""
    return [_converted(box, task, _FULL[content.units]) for box in content.boxes]


def _converted(box: ReturnedBox, task: LabelTask, full: float | None) -> DrawnBox:
    sx, sy = (1.0, 1.0) if full is None else (task.width / full, task.height / full)
    corners = (box.x1 * sx, box.y1 * sy, box.x2 * sx, box.y2 * sy)
    return DrawnBox(box.cls, corners, -1, box.occlusion, None, box.label_id)


def mixed_files(
    handed: Sequence[Handed], tasks: Mapping[str, LabelTask], proposals: Mapping[str, Sequence[DrawnBox]]
) -> frozenset[str]:
    """Names of files whose boxes are in more than one kind of units, or in another one than they say."""
    from av_assets.domain.labels.people.submission_rules import task_of

    kinds: dict[str, set[str]] = defaultdict(set)
    for one in handed:
        task = tasks.get(task_of(one.content))
        kinds[one.file] |= {one.content.units} if one.content.boxes else set()
        kinds[one.file] |= _kinds(one.content, task, proposals.get(task_of(one.content), ()))
    return frozenset(file for file, found in kinds.items() if len(found) > 1)


def _kinds(content: ReturnedSubmission, task: LabelTask | None, given: Sequence[DrawnBox]) -> set[str]:
    """What the numbers of one submission look like."""
    boxes = [b for b in content.boxes if all(isfinite(v) for v in _corners(b))]
    if content.units != "px" or not boxes:
        return set()
    small = [b for b in boxes if min(_corners(b)) >= 0.0 and max(_corners(b)) <= 1.0]
    found = {"normalised"} if small else set()
    meets = sum(_reads_as_percent(b, task, given) for b in boxes) if task and given else 0
    return found | ({"percent"} if 2 * meets >= len(boxes) and meets else set())


def _reads_as_percent(box: ReturnedBox, task: LabelTask, given: Sequence[DrawnBox]) -> bool:
    if min(_corners(box)) < 0.0 or max(_corners(box)) > 100.0:
        return False
    shown = coordinates(given)
    pixels = float(iou_matrix([_corners(box)], shown).max())
    percent = float(iou_matrix([_converted(box, task, _FULL["percent"]).xyxy], shown).max())
    return pixels < MEETS_IOU <= percent


def _corners(box: ReturnedBox) -> tuple[float, float, float, float]:
    return box.x1, box.y1, box.x2, box.y2
