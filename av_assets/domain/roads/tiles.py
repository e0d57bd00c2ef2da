"""Tiles: a map cut along H3 cells, each a file whose digest changes only with what is in it.

A road lies whole in every tile that it touches, so that roads near a border are the same from either side.
Belongs here: cutting, packing, reading, which tiles a place needs. Does not belong here: where tiles are stored.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.errors import PoisonError
from av_assets.domain.evidence.digests import canonical_json, sha256_bytes
from av_assets.domain.roads.features import Feature, by_key
from av_assets.domain.roads.graph import RoadGraph, build_graph
from av_assets.domain.roads.plane import great_circle_m, reach_deg

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from av_assets.policies.roads import RoadsPolicy

SCHEMA = 1
LEVEL = 9  # of zstd; another level would be other bytes
STEP_M = 50.0  # a road is looked at this often for the cells that it touches


@dataclass(frozen=True)
class Bounds:
    """A box in degrees (WGS 84) that does not cross the 180th meridian."""

    min_latitude_deg: float
    max_latitude_deg: float
    min_longitude_deg: float
    max_longitude_deg: float

    def grown(self, metres: float) -> Bounds:
        """The box with a margin."""
        lat = np.array([self.min_latitude_deg, self.max_latitude_deg])
        wide, high = reach_deg(lat, metres)
        return Bounds(
            float(lat[0] - high[0]), float(lat[1] + high[1]),
            float(self.min_longitude_deg - wide.max()), float(self.max_longitude_deg + wide.max()),
        )  # fmt: skip

    def meets(self, row: Mapping[str, Any]) -> bool:
        """Whether the box shares a point with the one in the columns min_latitude_deg ... of `row`."""
        return bool(
            row["min_latitude_deg"] <= self.max_latitude_deg
            and row["max_latitude_deg"] >= self.min_latitude_deg
            and row["min_longitude_deg"] <= self.max_longitude_deg
            and row["max_longitude_deg"] >= self.min_longitude_deg
        )


def cut(features: Iterable[Feature], policy: RoadsPolicy) -> dict[str, bytes]:
    """Cell -> packed tile, sorted by cell; the same features in any order give the same bytes."""
    cells: dict[str, list[Feature]] = {}
    for feature in by_key(features).values():
        for cell in cells_of(feature, policy.tiles.resolution):
            cells.setdefault(cell, []).append(feature)
    return {cell: pack(cell, cells[cell]) for cell in sorted(cells)}


def cells_of(feature: Feature, resolution: int) -> set[str]:
    """Cells that the road touches; a corner that it cuts by less than STEP_M may be left out."""
    import h3

    lon, lat = feature.degrees()
    length = great_circle_m(lon[:-1], lat[:-1], lon[1:], lat[1:])
    counts = np.maximum(np.ceil(length / STEP_M), 1).astype(np.int64)
    piece = np.repeat(np.arange(len(counts)), counts)
    share = (np.arange(len(piece)) - np.repeat(np.cumsum(counts) - counts, counts)) / counts[piece]
    lons = np.append(lon[piece] + share * (lon[piece + 1] - lon[piece]), lon[-1])
    lats = np.append(lat[piece] + share * (lat[piece + 1] - lat[piece]), lat[-1])
    return {h3.latlng_to_cell(y, x, resolution) for x, y in zip(lons.tolist(), lats.tolist(), strict=True)}


def pack(cell: str, features: Sequence[Feature]) -> bytes:
    """Canonical JSON behind zstd; without a time, a version or a source, which change without the road."""
    import zstandard

    record = {"schema": SCHEMA, "cell": cell, "features": [f.to_record() for f in features]}
    return zstandard.ZstdCompressor(level=LEVEL).compress(canonical_json(record))


def unpack(tile: bytes, policy: RoadsPolicy, source: str = "tile") -> list[Feature]:
    """The features of a tile.

    Raises:
        PoisonError: not a tile, or larger than the policy allows (code bad_tile).
    """
    import zstandard

    try:
        with zstandard.ZstdDecompressor().stream_reader(tile) as reader:
            data = reader.read(policy.reader.max_tile_bytes + 1)
        if len(data) > policy.reader.max_tile_bytes:
            raise PoisonError("the tile is too large", code="bad_tile", file=source)
        record = json.loads(data)
        if record["schema"] != SCHEMA:
            raise PoisonError(f"a tile of schema {record['schema']}", code="bad_tile", file=source)
        return [Feature.from_record(feature, source) for feature in record["features"]]
    except (zstandard.ZstdError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise PoisonError("not a map tile", code="bad_tile", file=source) from error


def load(tiles: Iterable[bytes], policy: RoadsPolicy, at_ns: int | None = None) -> RoadGraph:
    """The graph of the roads of `tiles` that are there at `at_ns` (None: of all).

    Raises:
        PoisonError: a tile is not one (code bad_tile).
    """
    return build_graph((f for tile in tiles for f in unpack(tile, policy)), policy, at_ns)


def tile_rows(tiles: Mapping[str, bytes], policy: RoadsPolicy) -> list[dict[str, Any]]:
    """Rows of the table map_tiles: cell, digest of the file, straight pieces of road, the box around the cell."""
    rows = []
    for cell, tile in sorted(tiles.items()):
        pieces = sum(len(feature.node_ids) - 1 for feature in unpack(tile, policy, cell))
        rows.append({"cell": cell, "digest": sha256_bytes(tile), "segments": pieces} | _box(cell))
    return rows


def _box(cell: str) -> dict[str, float]:
    import h3

    corners = np.array(h3.cell_to_boundary(cell))
    (south, west), (north, east) = corners.min(axis=0), corners.max(axis=0)
    if east - west > 180.0:  # the cell lies across the 180th meridian: whoever is as far north meets it
        west, east = -180.0, 180.0
    return {
        "min_latitude_deg": float(south), "max_latitude_deg": float(north),
        "min_longitude_deg": float(west), "max_longitude_deg": float(east),
    }  # fmt: skip


def rows_near(rows: Iterable[Mapping[str, Any]], bounds: Bounds, margin_m: float) -> list[dict[str, str]]:
    """Cell and digest of the tiles that matching inside `bounds` needs, sorted by cell.

    This list is what a drive depends on: it changes when a road near the drive does, or when a tile comes or goes.
    """
    wanted = bounds.grown(margin_m)
    near = [{"cell": str(row["cell"]), "digest": str(row["digest"])} for row in rows if wanted.meets(row)]
    return sorted(near, key=lambda row: row["cell"])


def changed_cells(
    before: Iterable[Mapping[str, Any]], after: Iterable[Mapping[str, Any]]
) -> list[dict[str, str]]:
    """Cells that differ between two lists of tile rows, with what happened to them."""
    old, new = ({str(row["cell"]): str(row["digest"]) for row in rows} for rows in (before, after))
    changed = []
    for cell in sorted(old.keys() | new.keys()):
        if old.get(cell) != new.get(cell):
            change = "added" if cell not in old else "removed" if cell not in new else "changed"
            changed.append({"cell": cell, "change": change})
    return changed
