"""Extracts of OpenStreetMap (.osm, .osm.pbf) as drivable features, in bounded memory.

Belongs here: reading and refusing files. Does not belong here: graphs, tiles, where extracts lie.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.errors import PoisonError
from av_assets.domain.roads.features import Feature, Key, validity
from av_assets.domain.roads.graph import RoadGraph, build_graph

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from av_assets.policies.roads import RoadsPolicy

FORMATS = {".osm.pbf": "pbf", ".osm": "osm"}
_CLOSED_KEYS = ("access", "vehicle", "motor_vehicle")  # the most specific one that is there decides
_REMEDY = "give an OpenStreetMap extract that osmium can read (.osm or .osm.pbf)"


@dataclass(frozen=True)
class Extract:
    """What a file holds of roads.

    Attributes:
        features: sorted by key.
        missing_nodes: ways whose nodes are not all there, with how many are missing; the rest of them is kept.
        unreadable_validity: ways whose start_date or end_date cannot be read.
    """

    features: tuple[Feature, ...]
    missing_nodes: Mapping[int, int]
    unreadable_validity: Mapping[int, str]


@dataclass(frozen=True)
class _Ways:
    ids: list[int]
    tags: list[tuple[tuple[str, str], ...]]
    refs: NDArray[np.int64]
    ends: list[int]


def read_extract(path: Path, policy: RoadsPolicy) -> Extract:
    """All drivable ways of an extract.

    The file is read twice, ways first, so that only the nodes that roads use are held.

    Raises:
        PoisonError: no such file (map_missing), too large (map_too_large), neither format or malformed (bad_map).
    """
    form = _accepted(path, policy)
    with _refusals(path):
        ways = _read_ways(path, form, policy)
        needed = np.unique(ways.refs)
        lon, lat = _read_nodes(path, form, needed)
    return _features(ways, needed, lon, lat)


def read_graph(path: Path, policy: RoadsPolicy, at_ns: int | None = None) -> RoadGraph:
    """The graph of an extract; raises what `read_extract` raises."""
    return build_graph(read_extract(path, policy).features, policy, at_ns)


def _accepted(path: Path, policy: RoadsPolicy) -> str:
    form = next((form for suffix, form in FORMATS.items() if path.name.endswith(suffix)), None)
    if form is None:
        raise PoisonError("not a map extract by its name", code="bad_map", file=path, remedy=_REMEDY)
    if not path.is_file():
        raise PoisonError("no such map extract", code="map_missing", file=path, remedy=_REMEDY)
    if path.stat().st_size > policy.reader.max_bytes:
        raise _too_large(path, f"larger than {policy.reader.max_bytes} bytes")
    return form


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """osmium speaks of bad files in these; XML entities are among what it refuses."""
    import osmium

    try:
        yield
    except (RuntimeError, ValueError, OSError, osmium.InvalidLocationError) as error:
        raise PoisonError(f"malformed extract: {error}", code="bad_map", file=path, remedy=_REMEDY) from error


def _too_large(path: Path, what: str) -> PoisonError:
    return PoisonError(
        f"the extract is {what}",
        code="map_too_large",
        file=path,
        remedy="cut the extract to the fleet's region",
    )


def _objects(path: Path, form: str, kind: str) -> Iterator[Any]:
    import osmium

    # An absolute path: osmium takes a name with a scheme for an address and would ask the network for it.
    file = osmium.io.File(str(path.absolute()), form)
    yield from osmium.FileProcessor(file, getattr(osmium.osm, kind))


def _read_ways(path: Path, form: str, policy: RoadsPolicy) -> _Ways:
    kept = frozenset(policy.kept_tags)
    ids, tags, refs, ends = [], [], array("q"), []
    for way in _objects(path, form, "WAY"):
        if way.tags.get("highway") not in policy.classes:
            continue
        pairs = tuple(sorted((tag.k, tag.v) for tag in way.tags if tag.k in kept))
        if way.deleted or not _open_to_cars(dict(pairs)):
            continue
        ids.append(way.id)
        tags.append(pairs)
        refs.extend(node.ref for node in way.nodes)
        ends.append(len(refs))
        if len(ids) > policy.reader.max_ways:
            raise _too_large(path, f"of more than {policy.reader.max_ways} drivable ways")
        if len(refs) > policy.reader.max_nodes:
            raise _too_large(path, f"of more than {policy.reader.max_nodes} references to nodes")
    return _Ways(ids, tags, np.array(refs, dtype=np.int64), ends)


def _open_to_cars(tags: Mapping[str, str]) -> bool:
    access = next((tags[key] for key in reversed(_CLOSED_KEYS) if key in tags), "yes")
    return access != "no" and tags.get("area") != "yes"


def _read_nodes(
    path: Path, form: str, needed: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Coordinates of `needed` in 1e-7 degrees; the lowest int64 where the extract has none."""
    lon = np.full(len(needed), np.iinfo(np.int64).min)
    lat = lon.copy()
    found = {int(ref): index for index, ref in enumerate(needed)}
    for node in _objects(path, form, "NODE"):
        index = found.get(node.id)
        if index is not None and node.location.valid():
            lon[index], lat[index] = node.location.x, node.location.y
    return lon, lat


def _features(
    ways: _Ways, needed: NDArray[np.int64], lon: NDArray[np.int64], lat: NDArray[np.int64]
) -> Extract:
    features: dict[Key, Feature] = {}
    missing: dict[int, int] = {}
    unread: dict[int, str] = {}
    place = np.searchsorted(needed, ways.refs)
    for way, tags, begin, end in zip(ways.ids, ways.tags, [0, *ways.ends], ways.ends, strict=False):
        at = place[begin:end]
        there = lon[at] != np.iinfo(np.int64).min
        if not there.all():
            missing[way] = int((~there).sum())
        start_ns, until_ns, names = validity(dict(tags))
        if names:
            unread[way] = ", ".join(names)
        for part, run in enumerate(_runs(there)):
            inside = at[run]
            feature = Feature(
                way,
                part,
                _plain(needed[inside]),
                _plain(lon[inside]),
                _plain(lat[inside]),
                tags,
                start_ns,
                until_ns,
            )
            features[feature.key] = feature
    return Extract(tuple(features[key] for key in sorted(features)), missing, unread)


def _runs(there: NDArray[np.bool_]) -> list[slice]:
    """Stretches of two or more neighbours that are all there."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], there.astype(np.int8), [0]])))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a >= 2]


def _plain(values: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(int(v) for v in values)
