"""One road as the map says it: where it runs, its tags, and when it is there.

Belongs here: the feature, its identity, its canonical record. Does not belong here: files, graphs, tiles.
"""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.errors import PoisonError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

E7 = 1e-7  # OpenStreetMap keeps coordinates as integers of 1e-7 degrees, and so do we: no rounding, no drift
Key = tuple[int, int]
_DATE = re.compile(r"^(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?$")
_MAX_ABS_E7 = {"lon": 1_800_000_000, "lat": 900_000_000}


@dataclass(frozen=True)
class Feature:
    """A drivable way, or the part of one that an extract holds.

    Attributes:
        part: number of the unbroken piece; 0 unless the extract cut the way apart.
        node_ids: ids along the way, in the way's own direction; two or more.
        lon_e7, lat_e7: coordinates of the nodes in 1e-7 degrees (WGS 84).
        tags: sorted pairs; only those that the policy keeps.
        valid_from_ns, valid_until_ns: half-open interval in which the road is there; None is open.
    """

    way_id: int
    part: int
    node_ids: tuple[int, ...]
    lon_e7: tuple[int, ...]
    lat_e7: tuple[int, ...]
    tags: tuple[tuple[str, str], ...]
    valid_from_ns: int | None = None
    valid_until_ns: int | None = None

    @property
    def key(self) -> Key:
        return self.way_id, self.part

    def tag(self, name: str) -> str | None:
        return dict(self.tags).get(name)

    def degrees(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Longitudes and latitudes, shape (nodes,)."""
        return np.array(self.lon_e7) * E7, np.array(self.lat_e7) * E7

    def is_valid_at(self, at_ns: int | None) -> bool:
        """Whether the road is there at `at_ns`; None asks for no time, and every road is."""
        if at_ns is None:
            return True
        begun = self.valid_from_ns is None or self.valid_from_ns <= at_ns
        return begun and (self.valid_until_ns is None or at_ns < self.valid_until_ns)

    def to_record(self) -> dict[str, Any]:
        """JSON-able; the same feature gives the same record."""
        record: dict[str, Any] = {
            "way": self.way_id,
            "part": self.part,
            "nodes": list(self.node_ids),
            "lon": list(self.lon_e7),
            "lat": list(self.lat_e7),
            "tags": dict(self.tags),
        }
        for name, value in (("from", self.valid_from_ns), ("until", self.valid_until_ns)):
            if value is not None:
                record[f"valid_{name}_ns"] = value
        return record

    @classmethod
    def from_record(cls, record: Any, source: str) -> Feature:
        """The feature of a record.

        Raises:
            PoisonError: not a record of a feature (code bad_tile).
        """
        try:
            nodes, lon, lat = (_integers(record[name]) for name in ("nodes", "lon", "lat"))
            tags = tuple(sorted((str(k), str(v)) for k, v in record["tags"].items()))
            way, part = _integers([record["way"], record["part"]])
            until = [record.get(f"valid_{name}_ns") for name in ("from", "until")]
            begin, end = (None if value is None else _integers([value])[0] for value in until)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _bad_record(source) from error
        inside = all(abs(v) <= _MAX_ABS_E7["lon"] for v in lon) and all(
            abs(v) <= _MAX_ABS_E7["lat"] for v in lat
        )
        if not len(nodes) == len(lon) == len(lat) >= 2 or not inside:
            raise _bad_record(source)
        return cls(way, part, nodes, lon, lat, tags, begin, end)


def _bad_record(source: str) -> PoisonError:
    return PoisonError("not a feature of a map tile", code="bad_tile", file=source)


def _integers(values: Sequence[Any]) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(type(v) is int and -(2**63) <= v < 2**63 for v in values):
        raise ValueError("not a list of integers")
    return tuple(values)


def by_key(features: Iterable[Feature]) -> dict[Key, Feature]:
    """Features by identity, in the order of their keys; of two with one key the last one stays."""
    found = {feature.key: feature for feature in features}
    return {key: found[key] for key in sorted(found)}


def validity(tags: Mapping[str, str]) -> tuple[int | None, int | None, list[str]]:
    """Start and end (ns, half-open) of `start_date` and `end_date`, and the names of tags that cannot be read."""
    start, end = (_period(tags.get(name)) for name in ("start_date", "end_date"))
    unread = [n for n, p in (("start_date", start), ("end_date", end)) if n in tags and p is None]
    return start[0] if start else None, end[1] if end else None, unread


def _period(text: str | None) -> tuple[int, int] | None:
    """First and past-the-end ns of a year, month or day as ISO 8601 writes it; None for anything else."""
    match = _DATE.match(text or "")
    if match is None:
        return None
    year, month, day = (int(g) if g else None for g in match.groups())
    try:
        first = datetime(year or 0, month or 1, day or 1, tzinfo=UTC)
        last = datetime(
            first.year, month or 12, day or monthrange(first.year, month or 12)[1], tzinfo=UTC
        ) + timedelta(days=1)
    except (ValueError, OverflowError):
        return None
    if not 1678 <= first.year <= 2260:
        return None  # beyond what int64 nanoseconds reach
    return int(first.timestamp()) * 1_000_000_000, int(last.timestamp()) * 1_000_000_000
