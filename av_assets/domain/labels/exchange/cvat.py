"""XML of "CVAT for images 1.1" (docs.cvat.ai, "CVAT for image"), with one `image` element for each submission.

What CVAT has no place for is in attributes that it carries along: the image tag "av_submission" (submission_id,
task_id, annotator, role, seconds, submitted_ns, units) and, on boxes, the text attributes `label_id` and `occlusion`.
Without the tag the annotator is the one person that the job or task is assigned to. CVAT's own `occluded` says that
something is hidden, not how much: it is written from `occlusion`, and gives none when it is read alone. "CVAT for
video" names no pictures and is refused. Documents with a DTD are refused before anything in it is expanded.
Belongs here: this format. Does not belong here: rules about what is in it.
"""

from __future__ import annotations

import re
from typing import IO, TYPE_CHECKING, Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from av_assets.domain.errors import LabelError
from av_assets.domain.labels.exchange.fields import finite
from av_assets.domain.labels.exchange.returned import UNITS, ReturnedBox, ReturnedSubmission, named
from av_assets.domain.labels.exchange.writing import written

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SUBMISSION = "av_submission"
_FACTS = ("submission_id", "task_id", "annotator", "role", "seconds", "submitted_ns", "units")
_BOX_FACTS = ("label_id", "occlusion")
_CORNERS = ("xtl", "ytl", "xbr", "ybr")
_DEEPEST = 32
_CHUNK_BYTES = 1 << 18
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_cvat(path: Path, frames: Sequence[ReturnedSubmission], classes: Sequence[str], name: str) -> None:
    """Write submissions as the annotations of a CVAT task called `name`.

    Raises:
        LabelError: bad_cvat, text that XML cannot hold, or a class that is not among `classes`.
    """
    try:
        with written(path) as out:
            out.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
            _write_meta(out, len(frames), classes, name)
            for index, frame in enumerate(frames):
                _write_image(out, index, frame, classes)
            out.write("</annotations>\n")
    except ValueError as error:
        raise _bad(path, str(error)) from error


def read_cvat(path: Path) -> list[ReturnedSubmission]:
    """Every image as a submission; shapes that are no upright boxes are counted.

    Raises:
        LabelError: bad_cvat.
    """
    found, strange, shapes, people = list[ReturnedSubmission](), list[str](), 0, set[str]()
    try:
        for part in _parts(path):
            if part.tag == "meta":
                people |= {who for node in part.iter("assignee") if (who := _text(node.find("username")))}
            elif part.tag == "image":
                drawn = [node for node in part if node.tag != "tag"]
                shapes += len(drawn)
                strange += [reason for node in drawn if (reason := _strange(node))]
                found.append(_submission(part, people, [node for node in drawn if not _strange(node)]))
            elif part.tag == "track":
                raise ValueError("tracks of 'CVAT for video' name no pictures: export 'CVAT for images 1.1'")
    except (ValueError, OSError, expat.ExpatError) as error:
        raise _bad(path, str(error)) from error
    if strange:
        raise _bad(path, f"{len(strange)} of {shapes} shapes are no upright boxes; the first: {strange[0]}")
    return found


def _parts(path: Path) -> Iterator[Element]:
    """The children of the document's root, one at a time."""
    builder, ready, depth = TreeBuilder(), list[Element](), 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            raise ValueError(f"elements are nested more than {_DEEPEST} deep")
        if depth == 1 and tag != "annotations":
            raise ValueError(f"the document is {tag!r}, not CVAT's annotations")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        closed = builder.end(tag)
        if depth == 1:
            ready.append(closed)

    def refuse(*_: object) -> None:
        raise ValueError("the document has a DTD, which no export of CVAT has")

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            parser.Parse(chunk, False)
            for part in ready:
                yield part
                part.clear()
            ready.clear()
        parser.Parse(b"", True)


def _submission(image: Element, people: set[str], boxes: list[Element]) -> ReturnedSubmission:
    tags = [node for node in image.iter("tag") if node.get("label") == SUBMISSION]
    if len(tags) > 1:
        raise ValueError(f"image {image.get('name')!r} has several tags {SUBMISSION}")
    facts = _attributes(tags[0]) if tags else {}
    units: Any = facts.get("units", "px")
    if units not in UNITS:
        raise ValueError(f"unknown units {units!r}")
    assigned = next(iter(people)) if len(people) == 1 else ""
    seconds = facts.get("seconds")
    frame = ReturnedSubmission(
        submission_id=facts.get("submission_id", ""),
        task_id=facts.get("task_id", ""),
        file_name=image.get("name", ""),
        annotator=facts.get("annotator", "") or assigned,
        role=facts.get("role", "annotate"),
        seconds=finite(seconds, "seconds") if seconds else None,
        submitted_ns=_whole(facts.get("submitted_ns"), "submitted_ns"),
        width=_whole(image.get("width"), "width"),
        height=_whole(image.get("height"), "height"),
        units=units,
        boxes=tuple(_box(node) for node in boxes),
    )
    return named("cvat", frame)


def _strange(node: Element) -> str | None:
    """Why a shape is no upright box."""
    if node.tag != "box":
        return f"a {node.tag}"
    turned = node.get("rotation")
    return "a box that is turned" if turned and finite(turned, "rotation") else None


def _box(node: Element) -> ReturnedBox:
    facts = _attributes(node)
    x1, y1, x2, y2 = (finite(node.get(name, "nothing"), name) for name in _CORNERS)
    hidden = facts.get("occlusion")
    return ReturnedBox(
        cls=node.get("label", ""),
        x1=x1,
        y1=y1,
        x2=x2,
        y2=y2,
        label_id=facts.get("label_id") or None,
        occlusion=finite(hidden, "occlusion") if hidden else None,
    )


def _attributes(node: Element) -> dict[str, str]:
    found = [(child.get("name", ""), child.text or "") for child in node if child.tag == "attribute"]
    if len(dict(found)) != len(found):
        raise ValueError(f"an attribute of a {node.tag} comes twice")
    return dict(found)


def _whole(value: str | None, name: str) -> int | None:
    if not value:
        return None
    if not re.fullmatch(r"-?[0-9]{1,19}", value, re.ASCII):
        raise ValueError(f"{name} is not a whole number of 64 bits: {value[:40]!r}")
    return int(value)


def _text(node: Element | None) -> str:
    return "" if node is None else (node.text or "").strip()


def _write_meta(out: IO[str], size: int, classes: Sequence[str], name: str) -> None:
    labels = [*((cls, "rectangle", _BOX_FACTS) for cls in classes), (SUBMISSION, "tag", _FACTS)]
    out.write(f"<meta>\n<task>\n<id>1</id>\n<name>{_escaped(name)}</name>\n<size>{size}</size>\n")
    out.write("<mode>annotation</mode>\n<overlap>0</overlap>\n<bugtracker></bugtracker>\n<subset></subset>\n")
    out.write(f"<start_frame>0</start_frame>\n<stop_frame>{max(size - 1, 0)}</stop_frame>\n<labels>\n")
    for label, kind, facts in labels:
        out.write(f"<label><name>{_escaped(label)}</name><type>{kind}</type><attributes>\n")
        for fact in facts:
            mutable = fact == "occlusion"
            out.write(
                f"<attribute><name>{fact}</name><mutable>{mutable}</mutable><input_type>text</input_type>"
            )
            out.write("<default_value></default_value><values></values></attribute>\n")
        out.write("</attributes></label>\n")
    out.write("</labels>\n</task>\n</meta>\n")


def _write_image(out: IO[str], index: int, frame: ReturnedSubmission, classes: Sequence[str]) -> None:
    source = "manual" if frame.annotator else "auto"
    size = {"width": frame.width, "height": frame.height}
    out.write(f"<image{_given({'id': index, 'name': frame.file_name, **size})}>\n")
    out.write(f'<tag label="{SUBMISSION}" source="manual">\n')
    _write_facts(out, {fact: getattr(frame, fact) for fact in _FACTS})
    out.write("</tag>\n")
    for box in frame.boxes:
        if box.cls not in classes:
            raise ValueError(f"the class {box.cls!r} is not among {tuple(classes)}")
        corners = dict(zip(_CORNERS, (box.x1, box.y1, box.x2, box.y2), strict=True))
        corners = {name: finite(value, name) for name, value in corners.items()}
        fixed = {
            "label": box.cls,
            "source": source,
            "occluded": int(bool(box.occlusion)),
            **corners,
            "z_order": 0,
        }
        out.write(f"<box{_given(fixed)}>\n")
        _write_facts(out, {"label_id": box.label_id, "occlusion": box.occlusion})
        out.write("</box>\n")
    out.write("</image>\n")


def _write_facts(out: IO[str], facts: dict[str, object]) -> None:
    for name, value in facts.items():
        if value is not None:
            out.write(f'<attribute name="{name}">{_escaped(str(value))}</attribute>\n')


def _given(values: dict[str, Any]) -> str:
    """XML attributes of the values that are there; floats in the shortest form that reads back the same."""
    return "".join(f" {name}={quoteattr(_legal(str(v)))}" for name, v in values.items() if v is not None)


def _escaped(value: str) -> str:
    return escape(_legal(value), {"\r": "&#13;"})


def _legal(value: str) -> str:
    if found := _NOT_XML.search(value):
        raise ValueError(f"XML cannot hold the character {found.group()!r}")
    return value


def _bad(path: Path, reason: str) -> LabelError:
    return LabelError(
        reason, code="bad_cvat", file=path, remedy="export 'CVAT for images 1.1' again from CVAT"
    )
