"""Tables of weather stations and grids in a folder, read in bounded memory and time.

    <any>.csv, <any>.csv.gz      hours of one station, whose id is the file's name; hours of a grid; a list of stations
    <any>.json, <any>.json.gz    a list of stations as Meteostat publishes it
    <any>.parquet                hours of a grid

A file of an unknown layout is refused by name; a row that cannot be read is counted under its reason.
Belongs here: which tables there are, and reading them together. Does not belong here: bytes (weather_files), columns
and units (domain/context).
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import dagster as dg

from av_assets.domain.errors import TransientError
from av_assets.domain.evidence.digests import sha256_file
from resources.weather_files import (
    BLOCK_BYTES,
    Lines,
    bad_table,
    json_stations,
    open_parquet,
    parquet_batches,
    too_large,
    unknown_layout,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from av_assets.domain.context.weather_layouts import Parsed, Place
    from av_assets.policies.context import LimitPolicy

_UNLISTED = "the station is in no list of stations"


class Weather(dg.ConfigurableResource["Weather"]):
    """A folder of weather tables; the folder may be missing."""

    path: str

    def files(self) -> list[Path]:
        """All tables below the folder by name; hidden files are none."""
        root = Path(self.path)
        return sorted(
            p
            for p in (root.rglob("*") if root.is_dir() else ())
            if p.is_file() and not any(part.startswith(".") for part in p.relative_to(root).parts)
        )

    def read(self, limits: LimitPolicy) -> WeatherTables:
        """OBSERVATIONS of all tables as they are, unjudged, and what each file gave.

        Raises:
            PoisonError: unknown_weather_layout, bad_weather_table, weather_table_too_large.
        """
        import pyarrow as pa

        from av_assets.domain.context.observations import OBSERVATIONS

        root, files = Path(self.path), self.files()
        if len(files) > limits.max_files:
            raise too_large(root, f"more than {limits.max_files} files")
        read = _Reading(root, limits)
        tables = [read.open(path) for path in files]
        for table in tables:  # lists come first: the hours of a station are nowhere without its place
            if table.layout == "stations":
                read.take_stations(table)
        hours = [table for table in tables if table.layout != "stations"]
        blocks = [OBSERVATIONS.empty_table(), *(rows for table in hours for rows in read.hours(table))]
        return WeatherTables(
            pa.concat_tables(blocks), sorted(read.reports, key=lambda report: report["file"])
        )


class WeatherTables(NamedTuple):
    """What was read: OBSERVATIONS, and per file its layout, rows, and reason -> rows left out."""

    rows: pa.Table
    files: list[dict[str, Any]]


def weather_version(weather: Weather) -> list[dict[str, str]]:
    """Names and sha256 of the tables: equal lists, equal weather. Unchanged files are not read again."""
    try:
        states = [(path, path.stat()) for path in weather.files()]
        return [
            {
                "file": path.relative_to(weather.path).as_posix(),
                "sha256": _digest(path, state.st_size, state.st_mtime_ns),
            }
            for path, state in states
        ]
    except FileNotFoundError as error:
        raise TransientError(
            "weather tables are being replaced", code="weather_busy", file=weather.path
        ) from error


@lru_cache(maxsize=20_000)
def _digest(path: Path, size: int, mtime_ns: int) -> str:
    return sha256_file(path)


@dataclass(frozen=True)
class _Table:
    """A file and how it is to be read."""

    path: Path
    names: tuple[str, ...]
    layout: str
    headless: bool = False

    @property
    def station(self) -> str:
        return self.path.name.split(".csv")[0]


@dataclass
class _Reading:
    """One pass over the tables of a folder."""

    root: Path
    limits: LimitPolicy
    places: dict[str, Place] = field(default_factory=dict)
    reports: list[dict[str, Any]] = field(default_factory=list)
    rows: int = 0

    def open(self, path: Path) -> _Table:
        """Tell the layout by the first line or the schema."""
        from av_assets.domain.context.weather_layouts import HOURLY, is_headless, layout_of

        if path.stat().st_size > self.limits.max_file_bytes:
            raise too_large(path, f"the file has more than {self.limits.max_file_bytes} bytes")
        headless, ending = False, path.name.removesuffix(".gz").rsplit(".", 1)[-1].lower()
        if ending == "json":
            return _Table(path, (), "stations")
        if ending == "parquet":
            names = tuple(name.lower() for name in open_parquet(path).schema_arrow.names)
        elif ending == "csv":
            with Lines(path, self.limits.max_file_bytes) as lines:
                cells = next(csv.reader([lines.first()]), [])
            headless = is_headless(cells)
            names = HOURLY if headless else tuple(cell.strip().lower() for cell in cells)
        else:
            raise unknown_layout(path, f"its name ends in .{ending}")
        layout = layout_of(names) if len(set(names)) == len(names) else None
        if layout is None or (ending == "parquet" and layout != "grid hours"):
            raise unknown_layout(path, f"its columns are {', '.join(names[:20]) or 'none'}")
        return _Table(path, names, layout, headless)

    def take_stations(self, table: _Table) -> None:
        """Learn the places of a list of stations."""
        from av_assets.domain.context.weather_layouts import stations_from

        report = self._report(table)
        for rows in json_stations(table.path) if not table.names else self._csv(table, report):
            places, damaged = stations_from(rows)
            self.places |= places
            self._count(report, len(places), damaged, table)

    def hours(self, table: _Table) -> Iterator[pa.Table]:
        """OBSERVATIONS of one file, piece by piece."""
        report = self._report(table)
        pieces = (
            parquet_batches(table.path, self.limits.max_rows)
            if table.path.suffix == ".parquet"
            else self._csv(table, report)
        )
        for piece in pieces:
            parsed = self._parsed(table, piece)
            self._count(report, parsed.rows.num_rows, parsed.damaged, table)
            yield parsed.rows

    def _parsed(self, table: _Table, piece: pa.Table) -> Parsed:
        from av_assets.domain.context.weather_layouts import Parsed, grid_hours, station_hours

        if table.layout == "grid hours":
            return grid_hours(piece)
        place = self.places.get(table.station)
        if place is not None:
            return station_hours(piece, table.station, place)
        return Parsed(grid_hours(piece.slice(0, 0)).rows, Counter({_UNLISTED: piece.num_rows}))

    def _csv(self, table: _Table, report: dict[str, Any]) -> Iterator[pa.Table]:
        """Pieces of a CSV file, all columns as text."""
        import pyarrow as pa
        import pyarrow.csv as pa_csv

        ragged: Counter[str] = Counter()

        def invalid(_: Any) -> str:
            ragged["another number of columns"] += 1
            return "skip"

        # Hours hold no quoted texts: a stray quote must not swallow the lines after it.
        quote = '"' if table.layout == "stations" else False
        with Lines(table.path, self.limits.max_file_bytes) as lines:
            try:
                pieces = pa_csv.open_csv(
                    lines,
                    pa_csv.ReadOptions(
                        use_threads=False, block_size=2 * BLOCK_BYTES, column_names=list(table.names),
                        skip_rows=0 if table.headless else 1,
                    ),
                    pa_csv.ParseOptions(quote_char=quote, invalid_row_handler=invalid),
                    pa_csv.ConvertOptions(column_types={name: pa.string() for name in table.names}),
                )  # fmt: skip
                for piece in pieces:
                    self._count(report, 0, ragged, table)
                    ragged.clear()
                    yield pa.Table.from_batches([piece])
            except pa.ArrowInvalid as error:
                if "Empty CSV" not in str(error):
                    raise bad_table(table.path, f"it cannot be read as CSV: {error}") from error
            self._count(report, 0, ragged + Counter({"the file ends early": int(lines.cut)}), table)

    def _report(self, table: _Table) -> dict[str, Any]:
        name = table.path.relative_to(self.root).as_posix()
        report = {"file": name, "layout": table.layout, "rows": 0, "damaged": {}}
        self.reports.append(report)
        return report

    def _count(self, report: dict[str, Any], rows: int, damaged: Mapping[str, int], table: _Table) -> None:
        report["rows"] += rows
        for reason, number in damaged.items():
            report["damaged"][reason] = report["damaged"].get(reason, 0) + number
        self.rows += rows + sum(damaged.values())
        if self.rows > self.limits.max_rows:
            raise too_large(table.path, f"with it the tables have more than {self.limits.max_rows} rows")
