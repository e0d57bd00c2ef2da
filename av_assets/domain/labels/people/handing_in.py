"""The pass over a drive that collects its submissions: returned files, judged, and simulated people's work.

Belongs here: reading files, writing the bundle with its account. Does not belong here: rules (submission_rules),
who draws what (drawing).
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from av_assets.domain.errors import LabelError
from av_assets.domain.labels.people.annotators import DrawnBox
from av_assets.domain.labels.people.drawing import draw_submissions
from av_assets.domain.labels.people.label_files import REJECTED, write_json, write_rows
from av_assets.domain.labels.people.submission_rules import (
    WHOLE,
    BoxJudge,
    Handed,
    Judged,
    judge_submissions,
    task_of,
)
from av_assets.domain.labels.people.submissions import SIMULATED, Submission, write_submissions
from av_assets.domain.labels.people.tasks import LabelTask, read_tasks
from av_assets.domain.labels.people.truth import AutoFrames, TruthFrames
from av_assets.domain.labels.people.verified_rows import drivable_rows
from av_assets.domain.labels.schema import DRIVABLE, DRIVABLE_FILE

if TYPE_CHECKING:
    import pyarrow as pa

    from av_assets.domain.evidence.timing import Stopwatch
    from av_assets.domain.labels.exchange.returned import ReturnedSubmission
    from av_assets.policies.annotation import AnnotationPolicy

REJECTED_FILE, GOLD_FILE, REPORT_FILE, RETURNED = "rejected.parquet", "gold.json", "report.json", "returned"
UNREADABLE: Final = -1  # `submission` of a file that cannot be read
ReadReturned = Callable[[Path], "list[ReturnedSubmission]"]


@dataclass(frozen=True)
class People:
    """Where submissions of a drive come from.

    Attributes:
        truth: tables of the synthetic rig for simulated people; empty: there are none.
        returned: files of labelling tools.
        gold: file with the known answers, or None.
        read: reader of returned files (exchange.returned.read_returned).
        judge_boxes: the constraints of boxes.
    """

    judge_boxes: BoxJudge
    read: ReadReturned
    truth: Mapping[str, pa.Table] = field(default_factory=dict)
    returned: Sequence[Path] = ()
    gold: Path | None = None


def collect(
    task_dir: Path,
    auto_dir: Path,
    people: People,
    policy: AnnotationPolicy,
    seed: int,
    out_dir: Path,
    watch: Stopwatch | None = None,
) -> dict[str, Any]:
    """Collect the submissions of a drive; writes the bundle into `out_dir` and returns its report.

    A file that cannot be read does not stop the others: it is one rejected row with the reader's code.

    Raises:
        LabelError: bad_gold (known answers that cannot be used), bad_auto_labels.
    """
    with watch("read") if watch else nullcontext():
        tasks, auto = read_tasks(task_dir), AutoFrames.read(auto_dir)
        known = TruthFrames(people.truth, auto.camera, policy)
        handed, unreadable = _read_files(people.returned, people.read)
    with watch("compute") if watch else nullcontext():
        proposals = {t.task_id: auto.boxes(t) for t in tasks}
        judged = judge_submissions(handed, tasks, proposals, policy, people.judge_boxes)
        gold = _gold(tasks, known, people)
        drawn = draw_submissions(tasks, auto, known, gold, policy, seed, judged.accepted)
        accepted = [*judged.accepted, *drawn]
        rejected = [*unreadable, *judged.rejected]
        report = _report(handed, judged, drawn, unreadable)
    with watch("write") if watch else nullcontext():
        _write(out_dir, accepted, rejected, gold, people.returned, report)
        done = {s.task_id for s in drawn}
        masks = drivable_rows([t for t in tasks if t.task_id in done], known, auto.camera)
        write_rows(out_dir / DRIVABLE_FILE, masks, DRIVABLE)
    return report


def _write(
    out_dir: Path,
    accepted: Sequence[Submission],
    rejected: Sequence[Mapping[str, Any]],
    gold: Mapping[str, Sequence[DrawnBox]],
    returned: Sequence[Path],
    report: Mapping[str, Any],
) -> None:
    write_submissions(out_dir, accepted)
    ordered = sorted(rejected, key=lambda r: (r["origin"], r["submission"], r["row"]))
    write_rows(out_dir / REJECTED_FILE, ordered, REJECTED)
    answers = {k: [{"cls": b.cls, "xyxy": list(b.xyxy)} for b in boxes] for k, boxes in gold.items()}
    write_json(out_dir / GOLD_FILE, answers)
    write_json(out_dir / REPORT_FILE, report)
    for path in returned:
        (out_dir / RETURNED).mkdir(exist_ok=True)
        shutil.copyfile(path, out_dir / RETURNED / kept_name(path))


def read_gold(folder: Path) -> dict[str, list[DrawnBox]]:
    """Known answers of a bundle of submissions."""
    answers = json.loads((folder / GOLD_FILE).read_text("utf-8"))
    return {k: [DrawnBox(b["cls"], tuple(b["xyxy"])) for b in boxes] for k, boxes in answers.items()}


def gold_tasks(path: Path, read: ReadReturned) -> dict[str, list[DrawnBox]]:
    """Known answers of a file, by task id: every picture that it names, those without objects included.

    Raises:
        LabelError: bad_gold.
    """
    remedy = "give COCO with pictures named <task_id>.jpg and boxes in pixels"
    try:
        content = read(path)
    except LabelError as error:
        raise LabelError(error.reason, code="bad_gold", file=path, remedy=remedy) from error
    if any(one.units != "px" for one in content):
        raise LabelError("boxes are not in pixels", code="bad_gold", file=path, remedy=remedy)
    return {task_of(one): [DrawnBox(b.cls, (b.x1, b.y1, b.x2, b.y2)) for b in one.boxes] for one in content}


def _gold(tasks: Sequence[LabelTask], known: TruthFrames, people: People) -> dict[str, Sequence[DrawnBox]]:
    """Answers of the gold tasks: from the file where there is one, else from the truth."""
    held = gold_tasks(people.gold, people.read) if people.gold else {}
    found: dict[str, Sequence[DrawnBox]] = {}
    for task in tasks:
        if task.gold and task.task_id in held:
            found[task.task_id] = held[task.task_id]
        elif task.gold and not people.gold and known.covers(task):
            found[task.task_id] = known.boxes(task)
    return found


def _read_files(paths: Sequence[Path], read: ReadReturned) -> tuple[list[Handed], list[dict[str, Any]]]:
    handed: list[Handed] = []
    unreadable: list[dict[str, Any]] = []
    for path in paths:
        try:
            handed += [Handed(kept_name(path), n, content) for n, content in enumerate(read(path))]
        except LabelError as error:
            row = {
                "origin": kept_name(path),
                "submission": UNREADABLE,
                "row": WHOLE,
                "task_id": "",
                "annotator": "",
            }
            unreadable.append(row | {"constraint": error.code, "value": error.reason})
    return handed, unreadable


def kept_name(path: Path) -> str:
    """The name of a returned file in the bundle: what manifests refuse in paths is replaced."""
    return "".join("_" if c == "\\" or ord(c) < 32 else c for c in path.name)


def _report(
    handed: Sequence[Handed],
    judged: Judged,
    drawn: Sequence[Submission],
    unreadable: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The account: per file submissions and boxes that came in, were accepted and were rejected, and why."""
    files = {}
    for name in sorted({one.file for one in handed} | {row["origin"] for row in unreadable}):
        came = [one for one in handed if one.file == name]
        went = [one for one in judged.accepted if one.origin == name]
        lost = [row for row in judged.rejected if row["origin"] == name]
        files[name] = {
            "submissions": len(came),
            "boxes": sum(len(one.content.boxes) for one in came),
            "accepted": len(went),
            "accepted_boxes": sum(len(one.boxes) for one in went),
            "rejected": sum(row["row"] == WHOLE for row in lost),
            "rejected_boxes": sum(row["row"] != WHOLE for row in lost),
            "unreadable": next((row["constraint"] for row in unreadable if row["origin"] == name), ""),
        }
    return {
        "files": files,
        "constraints": dict(
            sorted(Counter(r["constraint"] for r in (*unreadable, *judged.rejected)).items())
        ),
        "returned": len(judged.accepted),
        SIMULATED: len(drawn),
    }
