"""Where the sun stood: light is a matter of the sun, not of the clock."""

from __future__ import annotations

import math

J2000_UNIX_S = 946_728_000  # 2000-01-01 12:00 UTC
DAY_S = 86_400
CIVIL_TWILIGHT_DEG = -6.0


def sun_elevation_deg(unix_ns: int, latitude_deg: float, longitude_deg: float) -> float:
    """Elevation of the sun's centre above the horizon, without refraction, good to about 0.1 degree
    until 2050.

    Low-precision formula of the Astronomical Almanac (section C, "low precision formulas for the Sun").
    """
    days = (unix_ns / 1e9 - J2000_UNIX_S) / DAY_S
    anomaly = math.radians((357.528 + 0.9856003 * days) % 360)
    mean_longitude = (280.460 + 0.9856474 * days) % 360
    ecliptic = math.radians(mean_longitude + 1.915 * math.sin(anomaly) + 0.020 * math.sin(2 * anomaly))
    obliquity = math.radians(23.439 - 0.0000004 * days)
    ascension = math.atan2(math.cos(obliquity) * math.sin(ecliptic), math.cos(ecliptic))
    declination = math.asin(math.sin(obliquity) * math.sin(ecliptic))
    sidereal_deg = (280.46062 + 360.98564737 * days + longitude_deg) % 360  # GMST + east longitude
    hour_angle = math.radians(sidereal_deg) - ascension
    latitude = math.radians(latitude_deg)
    sine = math.sin(latitude) * math.sin(declination)
    sine += math.cos(latitude) * math.cos(declination) * math.cos(hour_angle)
    return math.degrees(math.asin(max(-1.0, min(1.0, sine))))


def light(elevation_deg: float) -> str:
    """`day` above the horizon, `twilight` down to civil dusk at -6 degrees, `night` below."""
    if elevation_deg > 0:
        return "day"
    return "twilight" if elevation_deg >= CIVIL_TWILIGHT_DEG else "night"
