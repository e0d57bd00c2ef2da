"""What is drawn over a clip: boxes of labels, events, and a sentence that says what is seen.

Belongs here: collecting it from bundles and tables. Does not belong here: any file format (rerun_view, mcap_view).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow.compute as pc
import pyarrow.parquet as pq

from av_assets.domain.errors import LabelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

RGB = tuple[int, int, int]
COLOURS: dict[str, RGB] = {"vehicle": (86, 180, 233), "pedestrian": (230, 159, 0), "cone": (0, 158, 115)}
OTHER: RGB = (204, 121, 167)
_COLUMNS = ("clip_id", "ref_ns", "camera", "label_id", "cls", "x1", "y1", "x2", "y2", "score", "source")


class Box(NamedTuple):
    """One labelled box in pixels; `source` says who drew it."""

    cls: str
    label_id: str
    x1: float
    y1: float
    x2: float
    y2: float
    score: float
    source: str

    @property
    def colour(self) -> RGB:
        return COLOURS.get(self.cls, OTHER)

    @property
    def caption(self) -> str:
        return f"{self.cls} {self.score:.2f} ({self.source})"


class Span(NamedTuple):
    """One event."""

    kind: str
    level: int
    start_ns: int
    end_ns: int


@dataclass(frozen=True)
class Overlay:
    """Boxes by (camera, ref_ns), events in time order, and a text; all may be empty."""

    boxes: Mapping[tuple[str, int], tuple[Box, ...]] = field(default_factory=dict)
    events: tuple[Span, ...] = ()
    description: str = ""


def overlay_of(
    clip_id: str, labels: Path | None, events: Iterable[Mapping[str, Any]], description: str = ""
) -> Overlay:
    """The overlay of one clip.

    Args:
        labels: a labels.parquet (auto or verified labels), None where there is none.
        events: rows of the table `events`; those of other clips are left out.

    Raises:
        LabelError: bad_labels, the file is no table of labels.
    """
    spans = [
        Span(row["kind"], row["level"], row["start_ns"], row["end_ns"])
        for row in events
        if row["clip_id"] == clip_id
    ]
    ordered = tuple(sorted(spans, key=lambda span: (span.start_ns, span.kind)))
    return Overlay(_boxes(clip_id, labels) if labels else {}, ordered, description)


def _boxes(clip_id: str, labels: Path) -> dict[tuple[str, int], tuple[Box, ...]]:
    try:
        table = pq.read_table(labels, columns=list(_COLUMNS))
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
        raise LabelError(f"not a table of labels: {error}", code="bad_labels", file=labels) from error
    if missing := set(_COLUMNS) - set(table.column_names):
        raise LabelError(f"labels lack {', '.join(sorted(missing))}", code="bad_labels", file=labels)
    found: dict[tuple[str, int], tuple[Box, ...]] = {}
    for row in table.filter(pc.equal(table["clip_id"], clip_id)).to_pylist():
        key = (row["camera"], row["ref_ns"])
        found[key] = (*found.get(key, ()), Box(**{name: row[name] for name in Box._fields}))
    return found
