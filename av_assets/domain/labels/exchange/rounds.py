"""What each round of labelling gives to people: which tasks of a drive, with which proposals and pictures.

    annotate     frames that nobody has settled, with the machine's boxes
    review       frames that wait for a second person, with the first person's boxes
    adjudicate   frames in dispute, with every earlier answer, none of them with a name

Belongs here: choosing and writing out. Does not belong here: formats, planning tasks, judging answers.
"""

from __future__ import annotations

import io
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow.parquet as pq

from av_assets.domain.labels.exchange.returned import ReturnedBox, ReturnedSubmission
from av_assets.domain.labels.people.states import ADJUDICATION, FINAL, IN_REVIEW
from av_assets.domain.privacy.frames import RedactedFrame, frames_from_shard

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

Row = dict[str, Any]
ROUNDS: Final = ("annotate", "review", "adjudicate")
_JPEG_QUALITY: Final = 95


def round_frames(
    round_: str,
    tasks: Iterable[Row],
    auto_labels: Iterable[Row],
    submissions: Iterable[Row] = (),
    boxes: Iterable[Row] = (),
    states: Mapping[str, str] | None = None,
) -> list[ReturnedSubmission]:
    """Proposals for the tasks of a round, in the order of tasks; which tasks have known answers is not told.

    Args:
        tasks, auto_labels, submissions, boxes: rows of the bundles' tables of these names.
        states: task_id -> state, of those that have one.
    """
    states = states or {}
    machine: dict[tuple[str, int], list[Row]] = defaultdict(list)
    drawn: dict[str, list[Row]] = defaultdict(list)
    answers: dict[str, list[Row]] = defaultdict(list)
    for row in auto_labels:
        machine[row["camera"], row["ref_ns"]].append(row)
    for row in boxes:
        drawn[row["submission_id"]].append(row)
    for row in submissions:
        answers[row["task_id"]].append(row)
    found = []
    for task in tasks:
        state, given = states.get(task["task_id"]), answers[task["task_id"]]
        if round_ == "annotate" and state not in (ADJUDICATION, FINAL) and task["annotations_wanted"] > 0:
            found.append(_proposal(task, round_, "auto", machine[task["camera"], task["ref_ns"]]))
        elif round_ == "review" and state == IN_REVIEW:
            first = [row for row in given if row["role"] == "annotate"][:1]
            found += [_proposal(task, round_, "first answer", drawn[row["submission_id"]]) for row in first]
        elif round_ == "adjudicate" and state == ADJUDICATION:
            found += [
                _proposal(task, round_, f"answer {number}", drawn[row["submission_id"]])
                for number, row in enumerate(given, start=1)
            ]
    return found


def write_pictures(clips: Sequence[Path], tasks: Iterable[Row], out: Path) -> int:
    """Write the redacted picture of each task as `<task_id>.jpg`; one clip in memory at a time.

    Returns:
        Number of pictures written: fewer than tasks where a shard no longer holds one.
    """
    wanted: dict[str, dict[int, str]] = defaultdict(dict)
    for task in tasks:
        wanted[task["camera"]][task["ref_ns"]] = task["task_id"]
    written = 0
    for path in sorted(clips):
        for camera, names in wanted.items():
            if camera not in pq.read_schema(path).names:
                continue
            table = pq.read_table(path, columns=["ref_ns", camera])
            table = table.filter(np.isin(table["ref_ns"].to_numpy(), list(names)))
            times = table["ref_ns"].to_pylist()
            for ref_ns, picture in zip(times, frames_from_shard(table, camera), strict=True):
                if picture is not None:
                    (out / f"{names[ref_ns]}.jpg").write_bytes(_jpeg(picture))
                    written += 1
    return written


def _proposal(task: Row, round_: str, name: str, rows: Sequence[Row]) -> ReturnedSubmission:
    return ReturnedSubmission(
        submission_id=name,
        task_id=task["task_id"],
        file_name=f"{task['task_id']}.jpg",
        annotator="",
        role=round_,
        seconds=None,
        submitted_ns=None,
        width=task["width"],
        height=task["height"],
        units="px",
        boxes=tuple(
            ReturnedBox(
                *(row["cls"], row["x1"], row["y1"], row["x2"], row["y2"]), row["label_id"], row["occlusion"]
            )
            for row in rows
        ),
    )


def _jpeg(picture: RedactedFrame) -> bytes:
    """The stored bytes where they are JPEG; else encoded once more."""
    if picture.encoding == "jpeg":
        return picture.data
    from PIL import Image

    encoded = io.BytesIO()
    Image.fromarray(picture.pixels()).save(encoded, "JPEG", quality=_JPEG_QUALITY)
    return encoded.getvalue()
