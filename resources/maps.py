"""Maps: which OpenStreetMap extracts and deltas there are, and the tiles of the lake that a drive needs.

Belongs here: files of a folder, tiles by digest. Does not belong here: reading extracts, cutting tiles, matching.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from av_assets.domain.errors import EvidenceError
from av_assets.domain.evidence.digests import sha256_bytes, sha256_file, sha256_json
from resources.lake import Lake, object_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from av_assets.domain.roads.graph import RoadGraph
    from av_assets.domain.roads.tiles import Bounds
    from av_assets.policies.roads import RoadsPolicy

DELTA = ".delta.json"
SUFFIXES = (".osm", ".osm.pbf", DELTA)
TABLE = "map_tiles"
NO_MAP: dict[str, str] = {"cell": "", "digest": "no map"}  # other than a map without a road near


@dataclass(frozen=True)
class MapFile:
    """One extract or delta. `file` is its path below the folder, `sha256` that of its bytes."""

    path: Path
    file: str
    sha256: str


class Maps(dg.ConfigurableResource["Maps"]):
    """A folder with extracts and deltas (`<name>.delta.json`, see domain/roads/delta), or one extract; there may be
    none."""

    path: str

    def files(self) -> list[MapFile]:
        """All that the map is made from, by name; empty where there is no map. Hidden files are copies in progress."""
        root = Path(self.path)
        if root.is_file():
            return [_map_file(root, root.name)]
        return [
            _map_file(path, path.relative_to(root).as_posix())
            for path in sorted(root.rglob("*") if root.is_dir() else ())
            if path.is_file()
            and path.name.endswith(SUFFIXES)
            and not any(part.startswith(".") for part in path.relative_to(root).parts)
        ]


def is_delta(file: MapFile) -> bool:
    return file.file.endswith(DELTA)


def extract_rows(files: Sequence[MapFile]) -> list[dict[str, str]]:
    """What a version of the map is made from, for the lineage of map_tiles."""
    return [{"file": file.file, "sha256": file.sha256} for file in files]


def map_version(maps: Maps) -> str:
    """Digest of the files that are there now: equals `made_from.rows["map_extract"]` of a map_tiles that is up to
    date. Files that have not changed are not read again."""
    return sha256_json(extract_rows(maps.files()))


def tiles_near(lake: Lake, bounds: Bounds | None, policy: RoadsPolicy) -> list[dict[str, str]]:
    """Cell and digest of the tiles that a drive within `bounds` depends on; [NO_MAP] where there is no map at all.

    A drive without a position depends on no tile.
    """
    if bounds is None:
        return []
    from av_assets.domain.roads.tiles import rows_near

    rows = lake.tables.read(TABLE)
    if rows is None or not rows.num_rows:
        return [dict(NO_MAP)]
    return rows_near(rows.to_pylist(), bounds, policy.tiles.margin_m)


def graph_of(
    lake: Lake, rows: Sequence[Mapping[str, Any]], policy: RoadsPolicy, at_ns: int | None = None
) -> RoadGraph | None:
    """The graph of the tiles in `rows`, an answer of `tiles_near`; None where that said that there is no map.

    Tiles are taken by their digest: a map that is replaced meanwhile does not mix into the answer.

    Raises:
        EvidenceError: a tile is missing or damaged (code damaged_object).
    """
    from av_assets.domain.roads.tiles import load

    if list(rows) == [NO_MAP]:
        return None
    return load((_tile(lake, row) for row in rows), policy, at_ns)


def _tile(lake: Lake, row: Mapping[str, Any]) -> bytes:
    data = lake.store.get(object_key(str(row["digest"])))
    if data is None or sha256_bytes(data) != row["digest"]:
        raise EvidenceError("map tile is missing or damaged", code="damaged_object", file=str(row["cell"]))
    return data


def _map_file(path: Path, name: str) -> MapFile:
    seen = path.stat()
    return MapFile(path, name, _sha256(str(path.absolute()), seen.st_size, seen.st_mtime_ns, seen.st_ino))


@lru_cache(maxsize=256)
def _sha256(path: str, size: int, modified_ns: int, inode: int) -> str:
    return sha256_file(Path(path))
