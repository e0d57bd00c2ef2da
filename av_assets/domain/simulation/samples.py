"""Ready-made scripts: eight sample drives that cover the conditions, and a short one for tests.

Belongs here: choice of scripts. Does not belong here: what a script means.
"""

from __future__ import annotations

from typing import Any

from av_assets.domain.simulation.script import DriveScript, EventKind, ScriptedEvent


def _events(*pairs: tuple[EventKind, float]) -> tuple[ScriptedEvent, ...]:
    return tuple(ScriptedEvent(kind, at) for kind, at in pairs)


def short_drive(
    drive: str = "veh001-20250601t080000z", seconds: float = 3.0, seed: int = 1, **conditions: Any
) -> DriveScript:
    """A few seconds for fast tests; `conditions` are further fields of DriveScript."""
    return DriveScript(drive=drive, seconds=seconds, seed=seed, **conditions)


def sample_drives() -> tuple[DriveScript, ...]:
    """Eight drives of 20 s by two vehicles in the first week of June 2025, the most useful ones first.

    The times in the ids agree with the sun where the drives take place: night is after 20:40 UTC.
    """
    return (
        DriveScript("veh042-20250602t081500z", 20.0, 11, "veh042", "clear", "day", "urban", "old_town",
                    _events(("cut_in", 7.0), ("harsh_brake", 14.5))),
        DriveScript("veh042-20250602t210500z", 20.0, 12, "veh042", "clear", "night", "urban", "old_town",
                    _events(("disengagement", 6.0), ("harsh_brake", 13.0))),
        DriveScript("veh017-20250603t103000z", 20.0, 13, "veh017", "rain", "day", "urban", "harbour",
                    _events(("cut_in", 9.0), ("disengagement", 16.0))),
        DriveScript("veh017-20250603t141000z", 20.0, 14, "veh017", "clear", "day", "construction", "airport",
                    _events(("harsh_brake", 9.0),), pedestrians=1.1),
        DriveScript("veh042-20250604t052000z", 20.0, 15, "veh042", "fog", "day", "urban", "harbour",
                    _events(("stationary_hazard", 9.0),), speed_mps=10.8),
        DriveScript("veh042-20250604t213000z", 20.0, 16, "veh042", "rain", "night", "urban", "airport",
                    _events(("cut_in", 6.0), ("harsh_brake", 13.5))),
        DriveScript("veh017-20250605t120000z", 20.0, 17, "veh017", "clear", "day", "urban", "harbour",
                    _events(("stationary_hazard", 8.0), ("disengagement", 9.0)), speed_mps=11.0, traffic=1.3),
        DriveScript("veh017-20250605t193500z", 20.0, 18, "veh017", "clear", "twilight", "urban", "old_town",
                    _events(("harsh_brake", 6.5), ("cut_in", 13.5))),
    )  # fmt: skip
