"""COCO: `<split>/<name>.jpg` and `annotations/instances_<split>.json`; pixels, boxes as x, y, width, height.

Belongs here: which frames become which file. Does not belong here: the JSON itself (`labels.exchange.coco`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from av_assets.domain.datasets.exports.frames import write_jpeg
from av_assets.domain.labels.exchange.coco import write_coco
from av_assets.domain.labels.exchange.returned import ReturnedBox, ReturnedSubmission

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from av_assets.domain.datasets.exports.frames import DatasetFrames, Frame
    from av_assets.domain.models.golden import Split


def export_coco(
    frames: DatasetFrames, splits: Sequence[Split], out: Path, advance: Callable[[], None]
) -> dict[str, str]:
    """Write the frames of the splits below `out`, one in memory; no drive is left out."""
    (out / "annotations").mkdir()
    for split in splits:
        (out / split).mkdir()
        path = out / "annotations" / f"instances_{split}.json"
        write_coco(path, _submissions(frames, split, out / split, advance), frames.spec.classes)
    return {}


def _submissions(
    frames: DatasetFrames, split: Split, pictures: Path, advance: Callable[[], None]
) -> Iterator[ReturnedSubmission]:
    for drive in frames.spec.drives(split):
        for frame in frames.of_drive(drive):
            write_jpeg(frame.picture, pictures / f"{frame.name}.jpg")
            yield _submission(frame)
            advance()


def _submission(frame: Frame) -> ReturnedSubmission:
    return ReturnedSubmission(
        submission_id=frame.name,
        task_id=frame.name,
        file_name=f"{frame.name}.jpg",
        annotator="",
        role="annotate",
        seconds=None,
        submitted_ns=None,
        width=frame.width,
        height=frame.height,
        units="px",
        boxes=tuple(ReturnedBox(b.cls, b.x1, b.y1, b.x2, b.y2, b.label_id, b.occlusion) for b in frame.boxes),
    )
