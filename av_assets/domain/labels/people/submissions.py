"""What people made of tasks, in one form whoever they are: simulated, or returned by a labelling tool.

Belongs here: the record, its files. Does not belong here: making it (drawing), judging it
(submission_rules, decisions).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from av_assets.domain.errors import LabelError
from av_assets.domain.labels.people.annotators import DrawnBox
from av_assets.domain.labels.people.label_files import BOXES, SUBMISSIONS, write_rows
from av_assets.domain.labels.people.states import ROLES

if TYPE_CHECKING:
    from pathlib import Path

SIMULATED: Final = "simulated"
SUBMISSIONS_FILE, BOXES_FILE = "submissions.parquet", "boxes.parquet"


@dataclass(frozen=True)
class Submission:
    """One person's answer to one task.

    Attributes:
        submission_id: unique in the drive.
        role: annotate (knowing nobody else's boxes), review (the author's boxes, corrected), adjudicate (a third
            person's boxes of a frame in dispute).
        seconds: time spent, where it is known.
        origin: returned file, or "simulated".
    """

    submission_id: str
    task_id: str
    annotator: str
    role: str
    seconds: float | None
    boxes: tuple[DrawnBox, ...]
    origin: str = SIMULATED

    @property
    def order(self) -> tuple[int, str, str]:
        """In which submissions of one task are looked at, however they came."""
        return ROLES.index(self.role), self.annotator, self.submission_id


def write_submissions(folder: Path, submissions: Sequence[Submission]) -> None:
    """Write submissions.parquet and boxes.parquet; equal submissions in any order give equal bytes."""
    ordered = sorted(submissions, key=lambda s: (s.task_id, s.order))
    rows = [
        {
            "submission_id": s.submission_id,
            "task_id": s.task_id,
            "annotator": s.annotator,
            "role": s.role,
            "seconds": s.seconds,
            "boxes": len(s.boxes),
            "origin": s.origin,
        }
        for s in ordered
    ]
    write_rows(folder / SUBMISSIONS_FILE, rows, SUBMISSIONS)
    boxes = [_box_row(s, row, box) for s in ordered for row, box in enumerate(s.boxes)]
    write_rows(folder / BOXES_FILE, boxes, BOXES)


def _box_row(submission: Submission, row: int, box: DrawnBox) -> dict[str, Any]:
    return {
        "submission_id": submission.submission_id,
        "task_id": submission.task_id,
        "row": row,
        "cls": box.cls,
        **dict(zip(("x1", "y1", "x2", "y2"), box.xyxy, strict=True)),
        "label_id": box.label_id,
        "occlusion": box.occlusion,
        "distance_m": box.distance_m,
        "object_id": box.object_id if box.object_id >= 0 else None,
    }


def read_submissions(folder: Path) -> list[Submission]:
    """The submissions of a bundle.

    Raises:
        LabelError: bad_submissions, where the files do not fit each other.
    """
    try:
        rows = pq.read_table(folder / SUBMISSIONS_FILE).to_pylist()
        boxes: dict[str, list[DrawnBox]] = defaultdict(list)
        for row in sorted(pq.read_table(folder / BOXES_FILE).to_pylist(), key=lambda r: r["row"]):
            boxes[row["submission_id"]].append(_box(row))
        made = [_submission(row, tuple(boxes.pop(row["submission_id"], ()))) for row in rows]
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise _bad(folder, str(error)) from error
    if boxes or any(row["boxes"] != len(s.boxes) for row, s in zip(rows, made, strict=True)):
        raise _bad(folder, "boxes and submissions do not fit each other")
    return made


def _submission(row: Mapping[str, Any], boxes: tuple[DrawnBox, ...]) -> Submission:
    who, what = (row["submission_id"], row["task_id"]), (row["annotator"], row["role"], row["seconds"])
    return Submission(*who, *what, boxes, row["origin"])


def _box(row: Mapping[str, Any]) -> DrawnBox:
    return DrawnBox(
        row["cls"],
        (row["x1"], row["y1"], row["x2"], row["y2"]),
        -1 if row["object_id"] is None else row["object_id"],
        row["occlusion"],
        row["distance_m"],
        row["label_id"],
    )


def _bad(folder: Path, reason: str) -> LabelError:
    remedy = "rematerialize label_submissions of the drive"
    return LabelError(
        f"not a bundle of submissions: {reason}", code="bad_submissions", file=folder, remedy=remedy
    )
