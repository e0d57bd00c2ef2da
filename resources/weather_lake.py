"""The weather in the lake: one bundle by area and month for drives that need few rows, and one table for queries.

Belongs here: writing both, and reading what is near. Does not belong here: tables as they are published (weather), and
which observation speaks for a clip (domain/context).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from av_assets.domain.evidence.digests import sha256_json
from resources.lake import Lake

if TYPE_CHECKING:
    import pyarrow as pa

    from av_assets.domain.context.weather import Moments
    from av_assets.policies.context import MatchPolicy

ASSET, PARTITION, TABLE = "weather_observations", "all", "weather"
PLACES = "places.parquet"


def write_observations(rows: pa.Table, out: Path) -> None:
    """Write OBSERVATIONS as the files of the bundle."""
    import pyarrow.parquet as pq

    from av_assets.domain.context.areas import by_area_and_month
    from av_assets.domain.context.weather import places_of

    pq.write_table(places_of(rows), out / PLACES, compression="zstd")
    for path, part in by_area_and_month(rows):
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(part, out / path, compression="zstd")


def replace_weather(
    lake: Lake, rows: pa.Table, files: Sequence[Mapping[str, Any]], run_id: str
) -> dict[str, int]:
    """Make OBSERVATIONS the rows of the lake's table; gives the rows of each area.

    An area at a time: a grid has thousands of points, and a commit for each would take hours.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from av_assets.domain.context.areas import areas
    from av_assets.domain.context.observations import values_of

    named = areas(values_of(rows, "latitude_deg"), values_of(rows, "longitude_deg"))
    made_from = json.dumps({"weather_files": sha256_json(list(files))})
    for column, values in (
        ("area", named),
        ("made_from", [made_from] * rows.num_rows),
        ("run_id", [run_id] * rows.num_rows),
    ):
        rows = rows.append_column(column, pa.array(values, pa.string()))
    present = lake.tables.read(TABLE)
    gone = set() if present is None else set(pc.unique(present["area"]).to_pylist()) - set(named)
    for area in sorted(set(named)):
        lake.tables.replace(TABLE, rows.filter(pc.equal(rows["area"], area)), key="area", value=area)
    for area in sorted(gone):
        lake.tables.remove(TABLE, key="area", value=area)
    return {area: named.count(area) for area in sorted(set(named))}


def observations_near(lake: Lake, moments: Moments, policy: MatchPolicy) -> pa.Table:
    """OBSERVATIONS that could speak for one of the moments, by source, station and time; none before there is a bundle.

    Places in reach that were silent then have a row without a time. All comes from one bundle, and so from one state of
    the weather, whatever is being published meanwhile.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from av_assets.domain.context.areas import files_near
    from av_assets.domain.context.observations import OBSERVATIONS
    from av_assets.domain.context.weather import usable

    manifest = lake.manifest(ASSET, PARTITION)
    if manifest is None:
        return OBSERVATIONS.empty_table()
    paths = [PLACES, *files_near([file.path for file in manifest.files], moments, policy)]
    parts = [pq.read_table(pa.BufferReader(lake.read_bytes(manifest, path))) for path in paths]
    keys = [(name, "ascending") for name in ("source", "station", "valid_ns")]
    return usable(pa.concat_tables(parts), moments, policy).sort_by(keys)
