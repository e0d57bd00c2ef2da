"""The weather of the sample world as a station would have reported it: Meteostat's hourly tables and list of stations.

Every region has one station a few kilometres off. The hours that scripts drive in have the weather of the script; all
others are cloudy and dry.
Belongs here: that table. Does not belong here: reading it (domain/context), how rain looks (weather).
"""

from __future__ import annotations

import gzip
import json
import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from av_assets.domain.simulation.signals import REGIONS_DEG

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from av_assets.domain.simulation.script import DriveScript, Weather

STATIONS_FILE: Final = "stations.json"
STATIONS: Final = {"harbour": "SHB01", "old_town": "SOT01", "airport": "SAP01"}
OFFSET_DEG: Final = (0.031, -0.024)  # from a region's origin to its station, about 4 km


class _Hour(NamedTuple):
    """Meteostat's code, mm of rain and relative humidity (%)."""

    coco: int
    prcp: float
    rhum: int


OTHER: Final = _Hour(3, 0.0, 68)
HOURS: Final[dict[Weather, _Hour]] = {
    "clear": _Hour(1, 0.0, 55),
    "rain": _Hour(8, 2.4, 93),
    "fog": _Hour(5, 0.0, 99),
}


def write_sample_weather(folder: Path, scripts: Iterable[DriveScript]) -> list[Path]:
    """Write the list of stations and an hourly table per station that has drives; the same scripts, the same bytes.

    Each table covers the days of its drives and a day around them. A station reports on the hour, so that a script's
    weather stands at the hours before and after it; of two scripts that share one, the nearer in time counts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    by_region: dict[str, list[DriveScript]] = {}
    for script in sorted(scripts, key=lambda script: (script.start_ns, script.drive)):
        by_region.setdefault(script.region if script.region in REGIONS_DEG else "harbour", []).append(script)
    listed = [_station(region) for region in sorted(STATIONS)]
    (folder / STATIONS_FILE).write_text(json.dumps(listed, indent=1, sort_keys=True) + "\n", "utf-8")
    written = [folder / STATIONS_FILE]
    for region, driven in sorted(by_region.items()):
        text = "".join(f"{line}\n" for line in _lines(driven))
        path = folder / f"{STATIONS[region]}.csv.gz"
        path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
        written.append(path)
    return written


def station_position(region: str) -> tuple[float, float]:
    """Latitude and longitude in degrees of the station of a region."""
    latitude, longitude = REGIONS_DEG[region]
    return round(latitude + OFFSET_DEG[0], 4), round(longitude + OFFSET_DEG[1], 4)


def _station(region: str) -> dict[str, object]:
    latitude, longitude = station_position(region)
    return {
        "id": STATIONS[region],
        "name": {"en": f"Sample station {region.replace('_', ' ')}"},
        "location": {"latitude": latitude, "longitude": longitude, "elevation": 30},
        "timezone": "Europe/Berlin",
    }


def _lines(scripts: list[DriveScript]) -> list[str]:
    starts = [datetime.fromtimestamp(script.start_ns // 1_000_000_000, UTC) for script in scripts]
    day, end = (datetime(at.year, at.month, at.day, tzinfo=UTC) for at in (min(starts), max(starts)))
    hour, end = day - timedelta(days=1), end + timedelta(days=2)
    lines = []
    while hour < end:
        away = [(abs((start - hour).total_seconds()), n) for n, start in enumerate(starts)]
        seconds, nearest = min(away)
        lines.append(_line(hour, HOURS[scripts[nearest].weather] if seconds < 3600 else OTHER))
        hour += timedelta(hours=1)
    return lines


def _line(hour: datetime, weather: _Hour) -> str:
    """date,hour,temp,dwpt,rhum,prcp,snow,wdir,wspd,wpgt,pres,tsun,coco; what the station does not measure is empty."""
    temp = 14.0 + 5.0 * math.sin((hour.hour - 9) / 12 * math.pi)
    dewpoint = temp - (100 - weather.rhum) / 5  # Lawrence 2005, good to 1 degC in damp air
    cells = [
        f"{hour:%Y-%m-%d}",
        hour.hour,
        f"{temp:.1f}",
        f"{dewpoint:.1f}",
        weather.rhum,
        f"{weather.prcp:.1f}",
        "",
    ]
    return ",".join(map(str, [*cells, 250, "11.0", "", "1014.2", "", weather.coco]))
