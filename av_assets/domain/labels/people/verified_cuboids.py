"""Cuboids of the objects that people kept: those of the auto-labels, with the class that people gave.

People draw boxes in the picture; they neither move nor turn a cuboid. A box has the cuboid of the auto-label that it
was met with in the same frame, else the one that its object's track has at that moment (bridged, or hidden from the
camera's rules). A box without either has none, and the account says why:
    added_by_people           no auto-label was there, and the object's track has no cuboid at that moment
    seen_in_the_picture_only  the auto-label that was met has no cuboid
    taken                     another box of the frame has the cuboid
    not_measured              the auto-labels of the drive hold no cuboids at all
The lidar tells no front of a pedestrian from the back: one who walks faces where the motion goes.
Belongs here: that join and its account. Does not belong here: deciding boxes (decisions), making cuboids (automatic).
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from av_assets.domain.errors import LabelError
from av_assets.domain.labels.people.label_files import VERIFIED_CUBOIDS
from av_assets.domain.labels.schema import CUBOIDS, CUBOIDS_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Row = dict[str, Any]
PEDESTRIAN: Final = "pedestrian"


def read_auto_cuboids(folder: Path) -> list[Row] | None:
    """Rows of the auto-labels' cuboids; None where the bundle was made before there were any.

    Raises:
        LabelError: bad_auto_labels, the file is there and cannot be read.
    """
    path = folder / CUBOIDS_FILE
    if not path.is_file():
        return None
    try:
        return list(pq.read_table(path, columns=CUBOIDS.names).to_pylist())
    except (OSError, pa.ArrowException) as error:
        remedy = "rematerialize auto_labels of the drive"
        raise LabelError(
            "cuboids cannot be read", code="bad_auto_labels", file=path, remedy=remedy
        ) from error


def verified_cuboids(
    rows: Sequence[Mapping[str, Any]],
    met: Sequence[str],
    cuboids: Sequence[Row] | None,
    facing_speed_mps: float,
) -> tuple[list[Row], dict[str, Any]]:
    """Rows of cuboids.parquet, at most one for each label and each auto cuboid, and the account of all labels.

    Args:
        rows: of labels.parquet. met: of each, the label id of the auto-label that it was met with, or "".
        cuboids: of the auto-labels; None where they hold none at all.
        facing_speed_mps: from which a pedestrian faces where it goes.

    Returns:
        Rows with the label's class, label_id and task_id; and `labels` = `with_cuboid` + the sum of `without`.
    """
    held = {(c["clip_id"], c["ref_ns"], c["label_id"]): c for c in cuboids or ()}
    chosen = _choose(rows, met, held)
    found = [
        _facing(held[key] | {name: row[name] for name in ("cls", "label_id", "task_id")}, facing_speed_mps)
        for row, key in zip(rows, chosen, strict=True)
        if key is not None
    ]
    without = Counter(
        _why_none(_key(row, name), _key(row, row["label_id"]), held, cuboids is None)
        for row, name, key in zip(rows, met, chosen, strict=True)
        if key is None
    )
    changed = sum(
        held[key]["cls"] != row["cls"] for row, key in zip(rows, chosen, strict=True) if key is not None
    )
    account = {
        "labels": len(rows),
        "with_cuboid": len(found),
        "without": dict(sorted(without.items())),
        "class_changed": changed,
        "by_state": dict(sorted(Counter(row["state"] for row in found).items())),
    }
    found.sort(key=lambda row: (row["ref_ns"], row["label_id"]))
    return [{name: row[name] for name in VERIFIED_CUBOIDS.names} for row in found], account


_Key = tuple[str, int, str]


def _facing(row: Row, facing_speed_mps: float) -> Row:
    vx, vy = row["vx_mps"], row["vy_mps"]
    if row["cls"] != PEDESTRIAN or vx is None or vy is None or math.hypot(vx, vy) < facing_speed_mps:
        return row
    return row | {"yaw_rad": round(math.atan2(vy, vx), 4)}


def _choose(
    rows: Sequence[Mapping[str, Any]], met: Sequence[str], held: Mapping[_Key, Row]
) -> list[_Key | None]:
    """The cuboid of each row; those of boxes that were met go first, what is left goes by the object's name."""
    chosen: list[_Key | None] = [None] * len(rows)
    taken: set[_Key] = set()
    for names in (met, [row["label_id"] for row in rows]):
        for index, (row, name) in enumerate(zip(rows, names, strict=True)):
            key = _key(row, name)
            if chosen[index] is None and key in held and key not in taken:
                chosen[index] = key
                taken.add(key)
    return chosen


def _key(row: Mapping[str, Any], name: str) -> _Key:
    return row["clip_id"], row["ref_ns"], name


def _why_none(met: _Key, named: _Key, held: Mapping[_Key, Row], nothing: bool) -> str:
    if nothing:
        return "not_measured"
    if met in held or named in held:
        return "taken"
    return "seen_in_the_picture_only" if met[2] else "added_by_people"
