"""Label Studio's task JSON, with proposals as predictions, and its JSON export with all annotations of each task.

Boxes are percent of the picture there, and tell the size of the picture. Values that percent and microseconds do not
keep bit by bit are also in the extension field "av", which counts only while it says what the standard fields say.
A prediction is nobody's answer and is not read; so are drafts and skipped tasks: these stay unanswered.
Belongs here: this format and the labelling configuration. Does not belong here: rules about what is in it, servers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from av_assets.domain.errors import LabelError
from av_assets.domain.labels.exchange.fields import number, record, sequence, text, whole
from av_assets.domain.labels.exchange.json_stream import JsonStream
from av_assets.domain.labels.exchange.returned import UNITS, ReturnedBox, ReturnedSubmission, named
from av_assets.domain.labels.exchange.writing import written

if TYPE_CHECKING:
    from pathlib import Path

    from av_assets.domain.labels.exchange.returned import Units

BOX, PICTURE, OCCLUSION = "box", "image", "occlusion"
_UPLOAD: Final = re.compile(r"^[0-9a-f]{8}-")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PREDICTED: Final = ("prediction", "prediction-changed")


def label_config(classes: Sequence[str]) -> str:
    """The labelling interface: upright boxes of the classes; for each the share of it that is hidden."""
    from xml.sax.saxutils import quoteattr

    labels = "".join(f"<Label value={quoteattr(cls)}/>" for cls in classes)
    return (
        f'<View><Image name="{PICTURE}" value="$image" zoom="true"/>'
        f'<RectangleLabels name="{BOX}" toName="{PICTURE}" canRotate="false">{labels}</RectangleLabels>'
        f'<Number name="{OCCLUSION}" toName="{PICTURE}" perRegion="true" min="0" max="1" step="0.05" '
        'slider="true" hint="share that is hidden"/></View>'
    )


def write_label_studio(path: Path, frames: Iterable[ReturnedSubmission], pictures: str = "") -> None:
    """Write tasks; neighbours of the same task become its annotations, or predictions where nobody drew.

    Args:
        pictures: what stands before the file name in a task's `image`: a folder or address that the server can reach.

    Raises:
        LabelError: bad_label_studio, a number that JSON does not know.
    """
    try:
        with written(path) as out:
            out.write("[")
            for index, task in enumerate(tasks(frames, pictures)):
                out.write(
                    ("\n" if index == 0 else ",\n") + json.dumps(task, ensure_ascii=False, allow_nan=False)
                )
            out.write("]\n")
    except ValueError as error:
        raise _bad(path, str(error)) from error


def tasks(frames: Iterable[ReturnedSubmission], pictures: str = "") -> Iterable[dict[str, Any]]:
    """Tasks as Label Studio imports them."""
    for (task_id, file_name), group in groupby(frames, key=lambda f: (f.task_id, f.file_name)):
        same = list(group)
        first = same[0]
        data = {
            "image": pictures + file_name,
            "task_id": task_id,
            "file_name": file_name,
            "role": first.role,
            "width": first.width,
            "height": first.height,
        }
        yield {
            "data": data,
            "predictions": [_prediction(frame) for frame in same if not frame.annotator],
            "annotations": [_annotation(frame) for frame in same if frame.annotator],
        }


def read_label_studio(path: Path) -> list[ReturnedSubmission]:
    """Every annotation of every task; results that are no upright boxes are counted.

    Raises:
        LabelError: bad_label_studio.
    """
    found, strange, results = list[ReturnedSubmission](), list[str](), 0
    try:
        with JsonStream(path) as stream:
            for task in stream.elements():
                for annotation in sequence(task, "annotations", []):
                    rows = sequence(annotation, "result", [])
                    results += len(rows)
                    if not annotation.get("was_cancelled"):
                        strange += [reason for row in rows if (reason := _strange(row, rows))]
                        found += [] if strange else [_submission(record(task, "data"), annotation)]
            stream.end()
    except (ValueError, OSError) as error:
        raise _bad(path, str(error)) from error
    if strange:
        raise _bad(path, f"{len(strange)} of {results} results are no upright boxes; the first: {strange[0]}")
    return found


def _submission(data: dict[str, Any], annotation: dict[str, Any]) -> ReturnedSubmission:
    more, rows = record(annotation, "av", {}), sequence(annotation, "result", [])
    boxes = [row for row in rows if row["type"] == "rectanglelabels"]
    hidden = {row["id"]: number(row["value"], "number", None) for row in rows if row["type"] == "number"}
    width, height = _size(more) if more else _size(boxes[0], "original_") if boxes else _size(data)
    units: Any = text(more, "units", "px" if width and height else "percent")
    if units not in UNITS:
        raise ValueError(f"unknown units {units!r}")
    scale = _scale(units, width, height)
    frame = ReturnedSubmission(
        submission_id=text(annotation, "unique_id", "") or _numbered(annotation),
        task_id=text(data, "task_id", ""),
        file_name=text(data, "file_name", "") or _UPLOAD.sub("", text(data, "image", "").rsplit("/", 1)[-1]),
        annotator=_person(annotation.get("completed_by")),
        role=text(more, "role", "") or text(data, "role", "annotate"),
        seconds=number(annotation, "lead_time", None),
        submitted_ns=_submitted_ns(annotation, whole(more, "submitted_ns", None)),
        width=width,
        height=height,
        units=units,
        boxes=tuple(_box(row, scale, hidden.get(row["id"])) for row in boxes),
    )
    return named("label-studio", frame)


def _strange(row: dict[str, Any], rows: list[dict[str, Any]]) -> str | None:
    """Why a result is neither an upright box with at most one class nor the hidden share of one."""
    kind, value = text(row, "type"), record(row, "value")
    text(row, "id")
    if kind == "number" and row.get("from_name") == OCCLUSION:
        owners = [r for r in rows if r.get("id") == row["id"] and r.get("type") == "rectanglelabels"]
        return None if len(owners) == 1 else "a hidden share of no box"
    if kind != "rectanglelabels":
        return f"a {kind}"
    if number(value, "rotation", 0.0) or number(row, "image_rotation", 0.0):
        return "a box that is turned"
    return "a box of several classes" if len(sequence(value, "rectanglelabels", [])) > 1 else None


def _box(row: dict[str, Any], scale: tuple[float, float], hidden: float | None) -> ReturnedBox:
    value, more = row["value"], record(row, "av", {})
    x, y, wide, high = (number(value, name) for name in ("x", "y", "width", "height"))
    # Pixels per percent come in last, as they went out first: a box that covers the picture ends at its edge exactly.
    read = (x / 100 * scale[0], y / 100 * scale[1], (x + wide) / 100 * scale[0], (y + high) / 100 * scale[1])
    said = [number(more, name, None) for name in ("x1", "y1", "x2", "y2")]
    same = None not in said and _percent(said, scale) == (x, y, wide, high)
    x1, y1, x2, y2 = said if same else read
    classes = value.get("rectanglelabels") or [""]
    if not isinstance(classes[0], str):
        raise ValueError("a class of rectanglelabels is not text")
    origin = row.get("origin")
    return ReturnedBox(
        cls=classes[0],
        x1=x1,
        y1=y1,
        x2=x2,
        y2=y2,
        label_id=text(more, "label_id", None) or (row["id"] if origin in _PREDICTED else None),
        occlusion=hidden,
    )


def _submitted_ns(annotation: dict[str, Any], said: int | None) -> int | None:
    """When it was handed in; to the nanosecond where "av" says the same time as `updated_at`."""
    stamp = text(annotation, "updated_at", None) or text(annotation, "created_at", None)
    if stamp is None:
        return None
    when = datetime.fromisoformat(stamp)
    if when.tzinfo is None:
        raise ValueError(f"the time {stamp[:40]!r} has no time zone")
    microseconds = (when - _EPOCH) // timedelta(microseconds=1)
    return said if said is not None and said // 1000 == microseconds else microseconds * 1000


def _numbered(annotation: dict[str, Any]) -> str:
    key = whole(annotation, "id", None)
    return "" if key is None else f"label-studio-{key}"


def _person(who: Any) -> str:
    """The mail address, else the name, else the number of who drew."""
    if isinstance(who, dict):
        found = next((who[name] for name in ("email", "username", "id") if who.get(name)), "")
        return str(found) if isinstance(found, (str, int)) else ""
    return str(who) if isinstance(who, (str, int)) and not isinstance(who, bool) else ""


def _size(row: dict[str, Any], prefix: str = "") -> tuple[int | None, int | None]:
    return whole(row, f"{prefix}width", None), whole(row, f"{prefix}height", None)


def _scale(units: Units, width: int | None, height: int | None) -> tuple[float, float]:
    """What the whole picture, 100 percent, is in these units."""
    if units != "px":
        return (100.0, 100.0) if units == "percent" else (1.0, 1.0)
    if not (width and height):
        raise ValueError("boxes in pixels need the size of their picture")
    return float(width), float(height)


def _percent(corners: Sequence[float], scale: tuple[float, float]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = corners
    (x, y), (far_x, far_y) = (
        (x1 / scale[0] * 100, y1 / scale[1] * 100),
        (x2 / scale[0] * 100, y2 / scale[1] * 100),
    )
    return x, y, far_x - x, far_y - y


def _prediction(frame: ReturnedSubmission) -> dict[str, Any]:
    return {"model_version": frame.submission_id or "proposal", "result": _results(frame)}


def _annotation(frame: ReturnedSubmission) -> dict[str, Any]:
    at = frame.submitted_ns
    when = None if at is None else (_EPOCH + timedelta(microseconds=at // 1000)).isoformat()
    kept = ("role", "submitted_ns", "units", "width", "height")
    return {
        "unique_id": frame.submission_id,
        "completed_by": {"email": frame.annotator},
        "lead_time": frame.seconds,
        "created_at": when,
        "updated_at": when,
        "was_cancelled": False,
        "result": _results(frame),
        "av": {name: getattr(frame, name) for name in kept},
    }


def _results(frame: ReturnedSubmission) -> list[dict[str, Any]]:
    scale, used, found = _scale(frame.units, frame.width, frame.height), set[str](), list[dict[str, Any]]()
    for index, box in enumerate(frame.boxes):
        # A region's name is the pre-annotation's: Label Studio keeps it when a person takes the proposal over.
        key = (
            box.label_id if box.label_id and box.label_id not in used else f"{box.label_id or 'new'}-{index}"
        )
        while key in used:
            key += "-"
        used.add(key)
        x, y, width, height = _percent((box.x1, box.y1, box.x2, box.y2), scale)
        size = {"original_width": frame.width, "original_height": frame.height, "image_rotation": 0}
        place = {"x": x, "y": y, "width": width, "height": height, "rotation": 0}
        common = {"id": key, "to_name": PICTURE, "origin": "prediction" if box.label_id else "manual", **size}
        said = {"x1": box.x1, "y1": box.y1, "x2": box.x2, "y2": box.y2, "label_id": box.label_id}
        value = {**place, "rectanglelabels": [box.cls]}
        found.append({**common, "from_name": BOX, "type": "rectanglelabels", "value": value, "av": said})
        if box.occlusion is not None:
            hidden = {**place, "number": box.occlusion}
            found.append({**common, "from_name": OCCLUSION, "type": "number", "value": hidden})
    return found


def _bad(path: Path, reason: str) -> LabelError:
    return LabelError(reason, code="bad_label_studio", file=path, remedy="export JSON (not JSON-MIN) again")
