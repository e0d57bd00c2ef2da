"""The thirteen tables of nuScenes: their names, their words, and writing them row by row.

Belongs here: files and fixed vocabulary. Does not belong here: what the rows say of a drive (nuscenes).
"""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

TABLES: Final = (
    "attribute", "calibrated_sensor", "category", "ego_pose", "instance", "log", "map", "sample", "sample_annotation",
    "sample_data", "scene", "sensor", "visibility",
)  # fmt: skip
CATEGORIES: Final = {
    "vehicle": "vehicle.car",
    "pedestrian": "human.pedestrian.adult",
    "cone": "movable_object.trafficcone",
}
# Shares that can be seen, in the four levels of nuScenes: token -> its name and least share.
VISIBILITY: Final = {"1": ("v0-40", 0.0), "2": ("v40-60", 0.4), "3": ("v60-80", 0.6), "4": ("v80-100", 0.8)}
LIDAR: Final = "LIDAR_TOP"


def token(*parts: object) -> str:
    """32 hexadecimal digits that name these parts, the same on every machine."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:32]


class Tables:
    """The thirteen files, written row by row."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder, self._stack = folder, ExitStack()
        self._files: dict[str, IO[str]] = {}
        self._rows = dict.fromkeys(TABLES, 0)

    def add(self, table: str, **row: object) -> None:
        self._files[table].write(("[\n" if not self._rows[table] else ",\n") + json.dumps(row))
        self._rows[table] += 1

    def __enter__(self) -> Tables:
        for table in TABLES:
            path = self._folder / f"{table}.json"
            self._files[table] = self._stack.enter_context(path.open("w", encoding="utf-8"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            for table, file in self._files.items():
                file.write("\n]\n" if self._rows[table] else "[]\n")


def write_vocabulary(tables: Tables, classes: Sequence[str], camera: str) -> None:
    for name in classes:
        category = CATEGORIES.get(name, name)
        tables.add("category", token=token("category", name), name=category, description=name)
    for level, (name, least) in VISIBILITY.items():
        text = f"at least {least:.0%} of the object can be seen"
        tables.add("visibility", token=level, level=name, description=text)
    for channel, modality in ((camera, "camera"), (LIDAR, "lidar")):
        tables.add("sensor", token=token("sensor", channel), channel=channel, modality=modality)
