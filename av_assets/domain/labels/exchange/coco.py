"""COCO detection JSON (cocodataset.org/#format-data), with one entry of `images` for each submission.

What COCO has no field for is in the extension field "av", which other tools may drop: of an image `submission_id`,
`task_id`, `annotator`, `role`, `seconds`, `submitted_ns`, `units`; of an annotation `label_id`, `occlusion` and `x2`,
`y2`, since x + (x2 - x) is not always x2. The corners of "av" count only while they say what `bbox` says: a box that
another tool moved is read from `bbox`. An image without boxes is an answer without boxes.
Files are written and read as streams: memory is the image table and one window, whatever the number of boxes.
Belongs here: this format. Does not belong here: rules about what is in it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from av_assets.domain.errors import LabelError
from av_assets.domain.labels.exchange.fields import number, record, sequence, text, whole
from av_assets.domain.labels.exchange.json_stream import JsonStream
from av_assets.domain.labels.exchange.returned import UNITS, ReturnedBox, ReturnedSubmission, named
from av_assets.domain.labels.exchange.writing import written

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path


def write_coco(path: Path, frames: Iterable[ReturnedSubmission], classes: Sequence[str]) -> int:
    """Write submissions one by one; gives the number of boxes. Memory is one submission.

    Raises:
        LabelError: bad_coco, a box of a class that is not among `classes`, or with a number that JSON does not know.
    """
    numbers = {name: 1 + index for index, name in enumerate(classes)}
    categories = [{"id": index, "name": name, "supercategory": ""} for name, index in numbers.items()]
    boxes = 0
    # Readers need the images first, so that the annotations wait beside the file until all images are known.
    with written(path) as out, tempfile.TemporaryFile("w+", encoding="utf-8", dir=path.parent) as waiting:
        out.write('{"info": {"description": "labels", "version": "1"}, "licenses": [],\n')
        out.write(f'"categories": {_json(categories)},\n"images": [')
        try:
            for image_id, frame in enumerate(frames, start=1):
                out.write(("\n" if image_id == 1 else ",\n") + _json(_image(image_id, frame)))
                for box in frame.boxes:
                    boxes += 1
                    row = _annotation(boxes, image_id, numbers[box.cls], box)
                    waiting.write(("\n" if boxes == 1 else ",\n") + _json(row))
        except KeyError as error:
            raise _bad(path, f"the class {error} is not among {tuple(classes)}") from error
        except ValueError as error:
            raise _bad(path, str(error)) from error
        out.write('],\n"annotations": [')
        waiting.seek(0)
        shutil.copyfileobj(waiting, out, 1 << 20)
        out.write("]}\n")
    return boxes


def read_coco(path: Path) -> list[ReturnedSubmission]:
    """Every submission; annotations may come in any order. Memory is all boxes.

    Raises:
        LabelError: bad_coco, a structure that cannot be trusted; annotations that lead nowhere are counted.
    """
    tables, boxes, seen, astray = _Tables(), dict[int, list[ReturnedBox]](), set[int](), 0
    try:
        for row in _annotations(path, tables):
            key, image_id = whole(row, "id"), whole(row, "image_id")
            if key in seen:
                raise ValueError(f"annotation {key} comes twice")
            seen.add(key)
            if image_id in tables.images and whole(row, "category_id") in tables.categories:
                boxes.setdefault(image_id, []).append(_box(row, tables))
            else:
                astray += 1
    except (ValueError, OSError) as error:
        raise _bad(path, str(error)) from error
    if astray:
        raise _bad(path, f"{astray} of {len(seen)} annotations name an image or category that is not there")
    return [_with_boxes(frame, boxes.get(key, [])) for key, frame in tables.images.items()]


def iter_coco(path: Path) -> Iterator[ReturnedSubmission]:
    """Submissions one by one, of a file whose annotations come in the order of its images, as `write_coco` writes them.

    Memory is the table of images, without boxes, and one window of the file.

    Raises:
        LabelError: bad_coco; also where annotations come in another order, which `read_coco` takes.
    """
    tables = _Tables()
    try:
        rows = _annotations(path, tables)
        row = next(rows, None)
        for key, frame in tables.images.items():
            boxes = []
            while row is not None and whole(row, "image_id") == key:
                boxes.append(_box(row, tables))
                row = next(rows, None)
            yield _with_boxes(frame, boxes)
        if row is not None:
            raise ValueError(
                "the annotations are not in the order of the images, or name one that is not there"
            )
    except (ValueError, OSError) as error:
        raise _bad(path, str(error)) from error


@dataclass
class _Tables:
    """What annotations refer to."""

    images: dict[int, ReturnedSubmission] = field(default_factory=dict)
    categories: dict[int, str] = field(default_factory=dict)

    def add_image(self, row: dict[str, Any]) -> None:
        key = whole(row, "id")
        if key in self.images:
            raise ValueError(f"image {key} comes twice")
        self.images[key] = _frame(row)

    def add_category(self, row: dict[str, Any]) -> None:
        key = whole(row, "id")
        if key in self.categories:
            raise ValueError(f"category {key} comes twice")
        self.categories[key] = text(row, "name")


def _annotations(path: Path, tables: _Tables) -> Iterator[dict[str, Any]]:
    """Rows of annotations, once `tables` is full; a second look at files that bring the tables after them."""
    keys = set[str]()
    late = False
    with JsonStream(path) as stream:
        for key in stream.members():
            if key == "images":
                for row in stream.elements():
                    tables.add_image(row)
            elif key == "categories":
                for row in stream.elements():
                    tables.add_category(row)
            elif key == "annotations" and {"images", "categories"} <= keys:
                yield from stream.elements()
            else:
                late |= key == "annotations"
                stream.skip()
            keys.add(key)
        stream.end()
    if missing := {"images", "categories", "annotations"} - keys:
        raise ValueError(f"the file has no {' and no '.join(sorted(missing))}")
    if late:
        with JsonStream(path) as stream:
            for key in stream.members():
                if key == "annotations":
                    yield from stream.elements()
                else:
                    stream.skip()


def _image(image_id: int, frame: ReturnedSubmission) -> dict[str, Any]:
    names = ("submission_id", "task_id", "annotator", "role", "seconds", "submitted_ns", "units")
    return {
        "id": image_id,
        "file_name": frame.file_name,
        "width": frame.width,
        "height": frame.height,
        "av": {name: getattr(frame, name) for name in names},
    }


def _frame(row: dict[str, Any]) -> ReturnedSubmission:
    more = record(row, "av", {})
    units = text(more, "units", "px")
    if units not in UNITS:
        raise ValueError(f"unknown units {units!r}")
    return ReturnedSubmission(
        submission_id=text(more, "submission_id", ""),
        task_id=text(more, "task_id", ""),
        file_name=text(row, "file_name", ""),
        annotator=text(more, "annotator", ""),
        role=text(more, "role", "annotate"),
        seconds=number(more, "seconds", None),
        submitted_ns=whole(more, "submitted_ns", None),
        width=whole(row, "width", None),
        height=whole(row, "height", None),
        units=units,
        boxes=(),
    )


def _annotation(key: int, image_id: int, category: int, box: ReturnedBox) -> dict[str, Any]:
    width, height = box.x2 - box.x1, box.y2 - box.y1
    return {
        "id": key,
        "image_id": image_id,
        "category_id": category,
        "bbox": [box.x1, box.y1, width, height],
        "area": width * height,
        "iscrowd": 0,
        "av": {"x2": box.x2, "y2": box.y2, "label_id": box.label_id, "occlusion": box.occlusion},
    }


def _box(row: dict[str, Any], tables: _Tables) -> ReturnedBox:
    corners = sequence(row, "bbox")
    if len(corners) != 4:
        raise ValueError(f"the bbox of annotation {row.get('id')} has {len(corners)} numbers, not 4")
    x, y, width, height = (number({"bbox": value}, "bbox") for value in corners)
    more = record(row, "av", {})
    category = whole(row, "category_id")
    if category not in tables.categories:
        raise ValueError(f"annotation {row.get('id')} names category {category}, which is not there")
    return ReturnedBox(
        cls=tables.categories[category],
        x1=x,
        y1=y,
        x2=_far(x, width, number(more, "x2", None)),
        y2=_far(y, height, number(more, "y2", None)),
        label_id=text(more, "label_id", None),
        occlusion=number(more, "occlusion", None),
    )


def _far(near: float, size: float, said: float | None) -> float:
    """The far corner: as "av" says it where that gives the size that `bbox` says, bit by bit."""
    return said if said is not None and said - near == size else near + size


def _with_boxes(frame: ReturnedSubmission, boxes: list[ReturnedBox]) -> ReturnedSubmission:
    return named("coco", replace(frame, boxes=tuple(boxes)))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _bad(path: Path, reason: str) -> LabelError:
    return LabelError(
        reason, code="bad_coco", file=path, remedy="export the file again from the labelling tool"
    )
