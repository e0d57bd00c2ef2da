"""All that the lake says about itself: every manifest there is, current and past, and what is known of each drive.

Belongs here: reading them, one at a time. Does not belong here: what follows from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from av_assets.domain.erasure.requests import DriveFacts
from av_assets.domain.errors import AvError
from av_assets.domain.evidence.digests import sha256_bytes
from av_assets.domain.evidence.manifest import Manifest
from resources import ingestions, quarantine, tombstones

if TYPE_CHECKING:
    import dagster as dg

    from resources.lake import Lake
    from resources.landing import Landing

MANIFESTS = "manifests/"
CURRENT = "current.json"


def manifests(lake: Lake) -> Iterator[Manifest]:
    """Every manifest of the lake, past ones too; one small read each."""
    for key in list(lake.store.keys(MANIFESTS)):
        if key.endswith(".json") and not key.endswith(f"/{CURRENT}"):
            data = lake.store.get(key)
            if data is not None:
                yield Manifest.from_json(data, key)


def current(lake: Lake) -> dict[str, str]:
    """Bundle -> digest of the manifest that readers start from."""
    found = {}
    for key in list(lake.store.keys(MANIFESTS)):
        if key.endswith(f"/{CURRENT}") and (data := lake.store.get(key)) is not None:
            found[key[len(MANIFESTS) : -len(CURRENT) - 1]] = sha256_bytes(data)
    return found


def drive_facts(
    lake: Lake, landing: Landing | None, instance: dg.DagsterInstance | None, only: Sequence[str] = ()
) -> list[DriveFacts]:
    """What is known of every drive that is not erased: from the catalog, else from its drive.yaml.

    Args:
        only: drives that are certainly wanted, though perhaps nothing but a tombstone is left of them.
    """
    catalog = lake.tables.read("drives")
    rows = {row["drive"]: row for row in catalog.to_pylist()} if catalog is not None else {}
    arrived = {name: row.landed_ns for name, row in ingestions.listing(lake).items()}
    aside = {row["drive"] for row in quarantine.listing(lake)}
    live = set(instance.get_dynamic_partitions("drive")) if instance else set()
    landed = _landed(landing)
    known = {*rows, *arrived, *aside, *live, *landed, *lake.partitions("raw_logs")}
    gone = tombstones.listing(lake) - set(only)
    found = []
    for drive in sorted(known - gone):
        row = rows.get(drive, {})
        state = "quarantined" if drive in aside else "live" if drive in live else "archived"
        vehicle = row.get("vehicle") or _vehicle(lake, landing, drive)
        found.append(
            DriveFacts(
                drive=drive,
                vehicle=vehicle,
                start_ns=row.get("start_ns"),
                end_ns=row.get("end_ns"),
                state=state,
                since_ns=arrived.get(drive) or row.get("end_ns") or landed.get(drive),
            )
        )
    return found


def _landed(landing: Landing | None) -> dict[str, int]:
    if landing is None:
        return {}
    return {a.name: a.landed_ns for a in landing.arrivals(0.0) if landing.problem(a) is None}


def _vehicle(lake: Lake, landing: Landing | None, drive: str) -> str:
    """The vehicle that drive.yaml names, ingested or only landed; `unknown` where there is none to read."""
    from av_assets.domain.logs.drive_spec import SPEC_FILE, read_drive_spec

    try:
        with lake.workdir() as folder:
            made = lake.manifest("raw_logs", drive)
            if made is not None and made.matching(SPEC_FILE):
                (folder / SPEC_FILE).write_bytes(lake.read_bytes(made, SPEC_FILE))
                return read_drive_spec(folder / SPEC_FILE).vehicle
            source = landing.drive(drive, folder / "small") if landing else None
            return read_drive_spec(source.local(SPEC_FILE)).vehicle if source else "unknown"
    except (AvError, OSError):
        return "unknown"
