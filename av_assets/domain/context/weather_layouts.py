"""Weather tables as they are published, turned into OBSERVATIONS: Meteostat's hourly tables and lists of stations, and
tables of a grid with the short names of ERA5.

    station hours   date,hour,temp,dwpt,rhum,prcp,snow,wdir,wspd,wpgt,pres,tsun,coco, with or without that header; the
                    day may come as year,month,day, the time as `time`; `ww` is present weather by WMO table 4677
    stations        id, latitude, longitude, elevation
    grid hours      valid_time or time, latitude, longitude, and of t2m (K), tp, sf (m per hour), vis (m), tcc (0..1),
                    u10, v10 (m/s) what there is
A row with a value that cannot be read is left out and counted under its reason.
Belongs here: columns, units, times. Does not belong here: opening files, which values are believed (observations).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from av_assets.domain.context.observations import OBSERVATIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from av_assets.domain.geometry.transforms import Array

    Flags = NDArray[np.bool_]

Layout = Literal["station hours", "stations", "grid hours"]
HOURLY: Final = (
    "date", "hour", "temp", "dwpt", "rhum", "prcp", "snow", "wdir", "wspd", "wpgt", "pres", "tsun", "coco",
)  # fmt: skip
GRID_COLUMNS: Final = (
    "valid_time", "time", "latitude", "longitude", "t2m", "tp", "sf", "vis", "tcc", "u10", "v10",
)  # fmt: skip
KELVIN: Final = 273.15
_NUMBER: Final = r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?$"
_EMPTY: Final = pa.array(["", "nan", "null", "none", "na", "<na>"])


class Place(NamedTuple):
    """Where a station stands."""

    latitude_deg: float
    longitude_deg: float


class Parsed(NamedTuple):
    """OBSERVATIONS of one piece of a file, and reason -> rows that were left out."""

    rows: pa.Table
    damaged: Counter[str]


def layout_of(names: Sequence[str]) -> Layout | None:
    """Which layout has these column names; None where it is none of them."""
    held = set(names)
    timed = (
        bool(held & {"time", "valid_time"})
        or {"date", "hour"} <= held
        or {"year", "month", "day", "hour"} <= held
    )
    if {"latitude", "longitude"} <= held:
        if held & {"time", "valid_time"} and held & {"t2m", "tp", "sf", "tcc", "vis"}:
            return "grid hours"
        return "stations" if "id" in held and not timed else None
    return "station hours" if timed and held & {"temp", "prcp", "coco", "ww"} else None


def is_headless(cells: Sequence[str]) -> bool:
    """Whether a first line is a row of Meteostat's hourly tables, which come without a header."""
    day = cells[0].strip() if cells else ""
    return len(cells) == len(HOURLY) and len(day) == 10 and day[4] == day[7] == "-" and day[:4].isdigit()


def station_hours(table: pa.Table, station: str, place: Place) -> Parsed:
    """Hours of one station; texts or numbers, as the file has them."""
    read = _Reader(table)
    valid_ns = read.times()
    prcp, wind_kmh = read.number("prcp"), read.number("wspd")
    code = read.number("ww") if "ww" in table.column_names else read.number("coco")
    read.leave_out(
        ~(np.isnan(code) | ((code == np.floor(code)) & (np.abs(code) < 1000))), "the code is no number"
    )
    columns = {
        "source": "synop" if "ww" in table.column_names else "meteostat",
        "station": station,
        "latitude_deg": place.latitude_deg,
        "longitude_deg": place.longitude_deg,
        "valid_ns": valid_ns,
        "code": code,
        "temperature_c": read.number("temp"),
        "precipitation_mmph": prcp,
        "wind_mps": wind_kmh / 3.6,
        "visibility_m": read.number("vis"),
        "humidity": read.number("rhum") / 100,
        "cloud_share": read.number("tcc"),
    }
    return read.parsed(columns)


def grid_hours(table: pa.Table) -> Parsed:
    """Hours of the points of a grid. A point is named by its coordinates, with two decimals."""
    read = _Reader(table)
    latitude, longitude = read.number("latitude"), read.number("longitude")
    read.leave_out(~(np.isfinite(latitude) & np.isfinite(longitude)), "no position")
    # ERA5 counts longitudes from 0 to 360.
    longitude = np.where(np.abs(longitude) <= 360, (longitude + 180.0) % 360.0 - 180.0, longitude)
    pairs = zip(latitude.tolist(), longitude.tolist(), strict=True)
    columns = {
        "source": "era5",
        "station": [f"{la:.2f} {lo:.2f}" for la, lo in pairs],
        "latitude_deg": latitude,
        "longitude_deg": longitude,
        "valid_ns": read.times(),
        "temperature_c": read.number("t2m") - KELVIN,
        "precipitation_mmph": read.number("tp") * 1000,
        "snowfall_mmph": read.number("sf") * 1000,
        "visibility_m": read.number("vis"),
        "wind_mps": np.hypot(read.number("u10"), read.number("v10")),
        "cloud_share": read.number("tcc"),
    }
    return read.parsed(columns)


def stations_from(table: pa.Table) -> tuple[dict[str, Place], Counter[str]]:
    """The stations of a list, and reason -> rows that name none."""
    read = _Reader(table)
    latitude, longitude = read.number("latitude"), read.number("longitude")
    read.leave_out(~((np.abs(latitude) <= 90) & (np.abs(longitude) <= 180)), "no position on earth")
    names = pc.utf8_trim_whitespace(pc.cast(table["id"], pa.string())).to_pylist()
    read.leave_out(np.array([not name for name in names], np.bool_), "no id")
    places = zip(names, latitude.tolist(), longitude.tolist(), read.keep.tolist(), strict=True)
    return {name: Place(la, lo) for name, la, lo, keep in places if keep}, read.damaged


class _Reader:
    """Columns of one table as numbers; rows that cannot be read are struck out under the first reason."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self.keep: Flags = np.ones(table.num_rows, np.bool_)
        self.damaged: Counter[str] = Counter()

    def leave_out(self, rows: Flags, reason: str) -> None:
        struck = int((rows & self.keep).sum())
        if struck:
            self.damaged[reason] += struck
            self.keep &= ~rows

    def number(self, name: str) -> Array:
        """(N,) float64, NaN where the column is absent or empty."""
        if name not in self._table.column_names:
            return np.full(self._table.num_rows, np.nan)
        column = self._table[name]
        if not pa.types.is_string(column.type):
            values = _floats(pc.cast(column, pa.float64()))
            self.leave_out(np.isinf(values), f"{name} is no number")
            return values
        text = pc.utf8_trim_whitespace(pc.fill_null(column, ""))
        fits = pc.match_substring_regex(text, _NUMBER)
        empty = pc.is_in(pc.utf8_lower(text), value_set=_EMPTY)
        values = _floats(pc.cast(pc.if_else(fits, text, None), pa.float64()))
        bad = ~_flags(pc.or_(fits, empty)) | np.isinf(values)
        self.leave_out(bad, f"{name} is no number")
        return np.where(np.isinf(values), np.nan, values)

    def times(self) -> NDArray[np.int64]:
        """(N,) ns since the epoch; all times are UTC."""
        names = self._table.column_names
        clock = next((name for name in ("valid_time", "time") if name in names), None)
        if clock is not None:
            column = self._table[clock]
            if pa.types.is_timestamp(column.type):
                return self._stamps(pc.cast(column, pa.timestamp("s"), safe=False))
            return self._stamps(_parsed_times(column))
        hour = self.number("hour")
        self.leave_out(~((hour >= 0) & (hour <= 23) & (hour == np.floor(hour))), "the hour is none of 0..23")
        days = self._stamps(_parsed_times(self._dates()))
        return np.asarray(days + np.nan_to_num(hour).astype(np.int64) * 3_600_000_000_000, dtype=np.int64)

    def _dates(self) -> Any:
        if "date" in self._table.column_names:
            return pc.cast(self._table["date"], pa.string())
        parts = [pc.cast(self._table[name], pa.string()) for name in ("year", "month", "day")]
        month, day = (pc.utf8_lpad(pc.utf8_trim_whitespace(part), 2, "0") for part in parts[1:])
        return pc.binary_join_element_wise(parts[0], month, day, "-")

    def _stamps(self, seconds: Any) -> NDArray[np.int64]:
        self.leave_out(_flags(pc.is_null(seconds)), "the time cannot be read")
        whole = pc.fill_null(pc.cast(seconds, pa.int64()), 0)
        # What int64 nanoseconds can say: 1678 to 2262.
        values = np.asarray(whole.to_numpy(), np.int64)
        self.leave_out(np.abs(values) > 9_000_000_000, "the time cannot be read")
        return np.where(np.abs(values) > 9_000_000_000, 0, values) * 1_000_000_000

    def parsed(self, columns: Mapping[str, Any]) -> Parsed:
        size = self._table.num_rows
        arrays = [_column(columns.get(field.name), field.type, size) for field in OBSERVATIONS]
        rows = pa.Table.from_arrays(arrays, schema=OBSERVATIONS)
        return Parsed(rows.filter(pa.array(self.keep)), self.damaged)


def _column(values: Any, kind: pa.DataType, size: int) -> pa.Array:
    if values is None:
        return pa.nulls(size, kind)
    if isinstance(values, str | float):
        return pa.array([values] * size, kind)
    if pa.types.is_int32(kind):
        whole = np.where(np.abs(values) < 1000, values, np.nan)
        return pc.cast(pa.array(whole, pa.float64(), from_pandas=True), kind, safe=False)
    return pa.array(values, kind, from_pandas=True)


def _parsed_times(column: Any) -> Any:
    """Timestamps of texts such as 2025-06-02, 2025-06-02 08:00 or 2025-06-02T08:00:00Z; null for any other text."""
    text = pc.utf8_trim_whitespace(pc.cast(column, pa.string()))
    text = pc.replace_substring_regex(text, r"(\.0+)?(Z|\+00:00)?$", "")
    text = pc.replace_substring(text, "T", " ")
    length = pc.utf8_length(text)
    text = pc.if_else(pc.equal(length, 10), pc.binary_join_element_wise(text, "00:00", " "), text)
    text = pc.if_else(pc.equal(pc.utf8_length(text), 16), pc.binary_join_element_wise(text, "00", ":"), text)
    read = pc.strptime(text, format="%Y-%m-%d %H:%M:%S", unit="s", error_is_null=True)
    # A 30th of February is taken for a 2nd of March: only what gives the same text again was meant.
    again = pc.strftime(read, format="%Y-%m-%d %H:%M:%S")
    return pc.if_else(pc.equal(again, text), read, None)


def _floats(column: Any) -> Array:
    return np.asarray(column.to_numpy(), dtype=np.float64)


def _flags(column: Any) -> Flags:
    return np.asarray(pc.fill_null(column, False).to_numpy(), dtype=np.bool_)
