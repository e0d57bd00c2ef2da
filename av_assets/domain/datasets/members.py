"""What the planning of a dataset knows of one drive.

Belongs here: the plain record. Does not belong here: reading it from tables or files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class MemberInfo:
    """One drive that may enter a dataset.

    Attributes:
        frames: labelled frames.
        objects: class -> verified boxes.
        tags: e.g. {"light": "night", "weather": "rain", "zone": "urban"}.
        synced_shards, verified_labels: content digests of the bundles that are frozen.
        geo_cell: H3 cell of the policy's resolution that holds most of its clips; None where no place is known.
        week: Monday of the week in which it started, YYYY-MM-DD.
        left_out: clips with labels that are not frozen -> why not.
    """

    drive: str
    frames: int
    objects: Mapping[str, int] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    synced_shards: str = ""
    verified_labels: str = ""
    geo_cell: str | None = None
    week: str | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
