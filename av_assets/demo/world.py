"""What lies around the sample drives: their roads and their weather, as files that a person could have brought.

Belongs here: writing them where the platform looks for them. Does not belong here: what they say (simulation).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from av_assets.domain.simulation.samples import sample_drives

if TYPE_CHECKING:
    from resources.environment import Environment

LATE_SECONDS = 12.0
_LATE = ("veh042-20250610t052000z", "veh042-20250610t061500z")


def late_drives() -> list[Any]:
    """Two short drives of the week after: dropped while the platform runs, and new to the model that just learnt."""
    fog = next(s for s in sample_drives() if s.weather == "fog")
    return [
        replace(fog, drive=d, seconds=LATE_SECONDS, seed=fog.seed + 90 + n, events=())
        for n, d in enumerate(_LATE)
    ]


def write_world(here: Environment) -> None:
    """Map and weather of the sample drives; whoever has brought a map or weather of their own keeps them."""
    from av_assets.domain.simulation.roadmap import sample_map
    from av_assets.domain.simulation.weather_table import write_sample_weather

    scripts = [*sample_drives(), *late_drives()]
    if not here.map.exists():
        here.map.mkdir(parents=True)
        (here.map / "sample.osm").write_text(sample_map(scripts), "utf-8")
    if not here.weather.exists():
        here.weather.mkdir(parents=True)
        write_sample_weather(here.weather, scripts)
