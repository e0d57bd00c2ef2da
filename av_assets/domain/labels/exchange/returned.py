"""What people hand back, whatever tool they drew with: one submission per person, role and picture.

Nothing is judged here. What a file says is passed on as it says it, so that whoever judges can name the constraint that
a row broke; a file whose structure cannot be trusted is refused as a whole, with its name.
Belongs here: the form that all formats are read into, and telling formats apart by content. Does not belong here: the
formats themselves, and rules about boxes, classes or people.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from av_assets.domain.errors import LabelError
from av_assets.domain.evidence.digests import sha256_json

if TYPE_CHECKING:
    from pathlib import Path

Units = Literal["px", "percent", "normalised"]
UNITS: Final = ("px", "percent", "normalised")
LARGEST_BYTES: Final = 256 * 2**20
"""Returned files are one drive's; reading one costs its size in memory several times."""
_SNIFFED_BYTES: Final = 4096


@dataclass(frozen=True)
class ReturnedBox:
    """A box as the file gives it; see `ReturnedSubmission.units`.

    Attributes:
        cls: class name, as the tool wrote it.
        x1, y1, x2, y2: corners, finite.
        label_id: the pre-annotation that it came from, where the tool kept its name.
        occlusion: share that is hidden, 0..1, where the tool says so.
    """

    cls: str
    x1: float
    y1: float
    x2: float
    y2: float
    label_id: str | None
    occlusion: float | None


@dataclass(frozen=True)
class ReturnedSubmission:
    """One person's answer to one task. Nobody's answer (no annotator) is what a machine proposes.

    Attributes:
        submission_id: the tool's own name for it; the same answer read again has the same name.
        task_id: empty where the file names none: it is found by `file_name`, "<task_id>.jpg".
        annotator: who drew; empty where the file does not say.
        role: "annotate", "review" or "adjudicate". A drawing that names no round is a first annotation.
        seconds: time spent, where the tool measures it.
        submitted_ns: when, nanoseconds since the Unix epoch.
        width, height: pixels of the picture, as the tool knew it.
        units: of the corners of `boxes`.
    """

    submission_id: str
    task_id: str
    file_name: str
    annotator: str
    role: str
    seconds: float | None
    submitted_ns: int | None
    width: int | None
    height: int | None
    units: Units
    boxes: tuple[ReturnedBox, ...]


def read_returned(path: Path) -> list[ReturnedSubmission]:
    """Every submission of a file, in its order; its format is told by its content.

    Raises:
        LabelError: unknown_label_format, label_file_too_large, bad_coco, bad_cvat, bad_label_studio.
    """
    from av_assets.domain.labels.exchange import coco, cvat, label_studio

    match format_of(path):
        case "coco":
            return coco.read_coco(path)
        case "cvat":
            return cvat.read_cvat(path)
        case "label_studio":
            return label_studio.read_label_studio(path)


def format_of(path: Path) -> Literal["coco", "cvat", "label_studio"]:
    """Which tool wrote the file: XML is CVAT's, a JSON object COCO's, a JSON list Label Studio's.

    Raises:
        LabelError: unknown_label_format, label_file_too_large; also for a file that cannot be opened.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_SNIFFED_BYTES)
    except OSError as error:
        raise _unknown(path, f"the file cannot be read ({type(error).__name__})") from error
    if size > LARGEST_BYTES:
        raise LabelError(
            f"the file has {size:,} bytes, more than the {LARGEST_BYTES:,} that one drive's labels can have",
            code="label_file_too_large",
            file=path,
            remedy="hand the labels over in several files",
        )
    first = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if first == b"<":
        return "cvat"
    if first == b"{":
        return "coco"
    if first == b"[":
        return "label_studio"
    raise _unknown(path, "the file begins like none of the formats")


def named(tool: str, submission: ReturnedSubmission) -> ReturnedSubmission:
    """The submission with a name made from its content where the tool gave it none."""
    if submission.submission_id:
        return submission
    return replace(submission, submission_id=f"{tool}-{sha256_json(asdict(submission))[:24]}")


def _unknown(path: Path, reason: str) -> LabelError:
    return LabelError(
        reason,
        code="unknown_label_format",
        file=path,
        remedy="export COCO JSON, 'CVAT for images 1.1' XML or Label Studio JSON",
    )
