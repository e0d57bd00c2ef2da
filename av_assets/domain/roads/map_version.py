"""One version of the map: its tiles, what changed since the version before, what is wrong with it.

Belongs here: putting reading, cutting, comparing and judging together. Does not belong here: any one of them, storage.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from av_assets.domain.evidence.timing import Stopwatch
from av_assets.domain.roads.delta import Edit, applied, conflicts, delta, merged, read_delta, to_json
from av_assets.domain.roads.lint import Finding, counts, lint
from av_assets.domain.roads.osm import Extract, read_extract
from av_assets.domain.roads.tiles import changed_cells, cut, tile_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from av_assets.domain.roads.features import Feature
    from av_assets.policies.roads import RoadsPolicy

MAP_TILES = pa.schema(
    [
        *(("map", pa.string()), ("cell", pa.string()), ("digest", pa.string()), ("segments", pa.int64())),
        *(
            (f"{side}_{axis}_deg", pa.float64())
            for axis in ("latitude", "longitude")
            for side in ("min", "max")
        ),
    ]
)


@dataclass(frozen=True)
class MapVersion:
    """A finished version.

    Attributes:
        tiles: cell -> packed tile.
        rows: of the table map_tiles, without the column `map`.
        changed: cells that differ from the version before; all of them where there was none.
        edits: features that differ.
    """

    tiles: dict[str, bytes]
    rows: list[dict[str, Any]]
    changed: list[dict[str, str]]
    edits: list[Edit]
    findings: list[Finding]
    roads: int
    schema: pa.Schema = MAP_TILES

    def reports(self) -> dict[str, Any]:
        """File name -> JSON-able report."""
        changes = Counter(edit.change for edit in self.edits)
        return {
            "summary.json": {
                "tiles": len(self.tiles),
                "roads": self.roads,
                "segments": sum(row["segments"] for row in self.rows),
                "added": changes["add"],
                "modified": changes["modify"],
                "deleted": changes["delete"],
                "lint": counts(self.findings),
            },
            "changed_cells.json": self.changed,
            "delta.json": to_json(self.edits),
            "lint.json": [finding.to_json() for finding in self.findings],
        }


def map_version_of(
    extracts: Sequence[tuple[str, Path]],
    before: Iterable[Feature] | None,
    policy: RoadsPolicy,
    deltas: Sequence[tuple[str, Path]] = (),
    watch: Stopwatch | None = None,
) -> MapVersion:
    """The version that `extracts` and then `deltas` (name, file) make, compared with the roads of the version before.

    The first map is no delta: every cell is new, and no edit is listed. Of a road in several extracts the first by
    name is believed, and differences are findings; so are edits that were made for another state of a road, which
    are left out.

    Raises:
        PoisonError: an extract or a delta cannot be read (domain/roads/osm, domain/roads/delta).
    """
    watch = watch or Stopwatch()
    with watch("read"):
        read = [(name, read_extract(path, policy)) for name, path in extracts]
        brought = [read_delta(path, policy.reader.max_delta_bytes) for _, path in deltas]
    with watch("compute"):
        whole = _whole(read)
        merged_features, differing = merged([(name, _kept(extract, whole)) for name, extract in read])
        features, stale = applied(merged_features, brought)
        old = None if before is None else list(before)
        tiles = cut(features, policy)
        rows = tile_rows(tiles, policy)
        then = [] if old is None else tile_rows(cut(old, policy), policy)
        edits = (
            [] if old is None else delta(old, features, ", ".join(name for name, _ in extracts) or "no map")
        )
        missing, unread = _missing(read, whole), _unread(read)
        findings = lint(features, policy, missing, unread, [*differing, *conflicts(brought), *stale])
    return MapVersion(tiles, rows, changed_cells(then, rows), edits, findings, len(features))


def _whole(read: Sequence[tuple[str, Extract]]) -> set[int]:
    """Ways that some extract holds whole; where another one ends, it cuts them off."""
    return {
        f.way_id for _, extract in read for f in extract.features if f.way_id not in extract.missing_nodes
    }


def _kept(extract: Extract, whole: set[int]) -> list[Feature]:
    """What an extract says, but for the rests of ways that another one holds whole."""
    rests = extract.missing_nodes.keys() & whole
    return [feature for feature in extract.features if feature.way_id not in rests]


def _missing(read: Sequence[tuple[str, Extract]], whole: set[int]) -> dict[int, int]:
    return {w: n for _, extract in read for w, n in extract.missing_nodes.items() if w not in whole}


def _unread(read: Sequence[tuple[str, Extract]]) -> dict[int, str]:
    return {way: tags for _, extract in read for way, tags in extract.unreadable_validity.items()}
