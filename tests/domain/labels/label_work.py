"""Tasks, people and submissions for the tests of human labelling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from av_assets.domain.labels.exchange.returned import ReturnedBox, ReturnedSubmission
from av_assets.domain.labels.people.annotators import DrawnBox
from av_assets.domain.labels.people.submissions import Submission
from av_assets.domain.labels.people.tasks import LabelTask, task_id_of
from av_assets.domain.labels.people.truth import AutoFrames

DRIVE, CAMERA, WIDTH, HEIGHT = "veh001-20250601t080000z", "camera_front", 640, 384


def task(number: int = 0, wanted: int = 2, gold: bool = False, stratum: str = "") -> LabelTask:
    name = task_id_of(DRIVE, CAMERA, number)
    why = stratum or ("safety" if wanted == 2 else "review")
    clip = f"{DRIVE}/00000"
    return LabelTask(
        name, clip, number, CAMERA, number, WIDTH, HEIGHT, "0" * 64, why, 0.5, 0.5, 1.0, 1.0, wanted, gold
    )


def things(count: int, seed: int = 0) -> list[DrawnBox]:
    """Objects side by side in a picture of 640 x 384."""
    rng = np.random.default_rng(seed)
    found = []
    for n in range(count):
        x, y = 62.0 * (n % 10), 70.0 * (n // 10)
        w, h = rng.uniform(30, 55, 2)
        found.append(DrawnBox(("vehicle", "pedestrian", "cone")[n % 3], (x, y, x + w, y + h), n, 0.1, 20.0))
    return found


def submission(
    one: LabelTask, who: str, boxes: Sequence[DrawnBox], role: str = "annotate", seconds: float = 10.0
) -> Submission:
    return Submission(f"{one.task_id}.{role}.{who}", one.task_id, who, role, seconds, tuple(boxes))


class KnownFrames:
    """Truth of any frame, for simulated people."""

    def __init__(self, boxes: dict[int, list[DrawnBox]]) -> None:
        self.size = (WIDTH, HEIGHT)
        self._boxes = boxes

    def covers(self, frame: LabelTask) -> bool:
        return frame.ref_ns in self._boxes

    def boxes(self, frame: LabelTask) -> list[DrawnBox]:
        return self._boxes[frame.ref_ns]


def no_proposals() -> AutoFrames:
    return AutoFrames(CAMERA, 3, "labeller", "", {})


def returned(
    task_id: str, who: str = "anna", *boxes: ReturnedBox, role: str = "annotate", **more: object
) -> ReturnedSubmission:
    facts: dict[str, object] = {
        "submission_id": f"{who}-{role}",
        "task_id": task_id,
        "file_name": "",
        "annotator": who,
        "role": role,
        "seconds": 12.0,
        "submitted_ns": None,
        "width": WIDTH,
        "height": HEIGHT,
        "units": "px",
        "boxes": boxes,
    }
    return ReturnedSubmission(**(facts | more))  # type: ignore[arg-type]


def returned_box(
    x1: float = 10.0,
    y1: float = 10.0,
    x2: float = 40.0,
    y2: float = 60.0,
    cls: str = "vehicle",
    label_id: str | None = None,
    occlusion: float | None = None,
) -> ReturnedBox:
    return ReturnedBox(cls, x1, y1, x2, y2, label_id, occlusion)
