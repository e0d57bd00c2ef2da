"""Questions to a catalog of a million clips of two thousand drives, as a person or an asset asks them.

Every sample opens the table anew through `Tables.connect`, as each command does: nothing is kept in memory between
questions. `catalog.changed` asks while drives that came since are not folded into larger files yet.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Figure, Say, Settings

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from resources.tables import Tables

DRIVES, CLIPS, AT_ONCE = 2000, 500, 200
CHANGED = 20
TARGET_MS = 500.0
REPEATS = 15
START_NS = 1_748_000_000_000_000_000
QUESTIONS = {
    "by light": "SELECT light, count(*), avg(mean_speed_mps) FROM clips GROUP BY light",
    "hard braking by night": "SELECT drive, clip_id, max_decel_mps2 FROM clips WHERE light = 'night' "
    "AND mean_speed_mps > 20 ORDER BY max_decel_mps2 DESC LIMIT 50",
    "clips of a place": "SELECT drive, clip_id FROM clips WHERE h3_cell = '891f8d7a40004d2' "
    "AND start_ns >= 1750000000000000000",
    "clips of a drive": "SELECT * FROM clips WHERE drive = 'veh010-01234'",
}


def run(settings: Settings, say: Say) -> list[Figure]:
    """p95 of typical questions in milliseconds, connection included."""
    import numpy as np

    from resources.tables import Tables

    rng = np.random.default_rng(1)
    tables = Tables(str(settings.work / "lake"), {})
    write_clips(tables, rng, say)
    found = [_figure("catalog", tables, settings.times(REPEATS), say)]
    for number in range(CHANGED):
        drive = f"new-{number:05d}"
        tables.replace("clips", _clips([drive], rng), key="drive", value=drive)
    found.append(_figure("catalog.changed", tables, settings.times(REPEATS), say))
    return found


def write_clips(tables: Tables, rng: np.random.Generator, say: Say) -> None:
    """Many drives in one commit: a commit a drive would take longer than all questions together."""
    from deltalake import DeltaTable, write_deltalake

    from resources.tables import FILE_BYTES

    for start in range(0, DRIVES, AT_ONCE):
        say(f"writing drives {start} to {start + AT_ONCE} of {DRIVES}")
        names = [f"veh{number % 41:03d}-{number:05d}" for number in range(start, start + AT_ONCE)]
        write_deltalake(tables.path("clips"), _clips(names, rng), mode="append")
    DeltaTable(tables.path("clips")).optimize.compact(target_size=FILE_BYTES)


def _clips(drives: list[str], rng: np.random.Generator) -> pa.Table:
    import numpy as np
    import pyarrow as pa

    from av_assets.domain.catalog.schemas import CLIPS as SCHEMA

    rows = len(drives) * CLIPS
    numbers = np.tile(np.arange(CLIPS), len(drives))
    names = np.repeat(drives, CLIPS)
    start_ns = (
        START_NS + np.repeat(rng.integers(0, 5000, len(drives)) * 3_600 * 10**9, CLIPS) + numbers * 5 * 10**9
    )
    columns: dict[str, Any] = {
        "drive": names,
        "clip_id": [f"{drive}/{number:05d}" for drive, number in zip(names, numbers, strict=True)],
        "start_ns": start_ns,
        "end_ns": start_ns + 49 * 10**8,
        "frames": np.full(rows, 50),
        "light": rng.choice(["day", "twilight", "night"], rows),
        "light_reason": pa.nulls(rows, pa.string()),
        "h3_cell": [f"891f8d7a4{cell:06x}" for cell in rng.integers(0, 5000, rows)],
        "latitude_deg": rng.uniform(48, 49, rows),
        "longitude_deg": rng.uniform(11, 12, rows),
        "sun_elevation_deg": rng.normal(10, 20, rows),
        "camera_valid_share": rng.uniform(0, 1, rows),
        "sensor_health": rng.uniform(0, 1, rows),
        "mean_speed_mps": rng.gamma(4, 4, rows),
        "p95_speed_mps": rng.gamma(4, 5, rows),
        "max_decel_mps2": rng.gamma(2, 1, rows),
    }
    return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def _figure(name: str, tables: Tables, repeats: int, say: Say) -> Figure:
    samples: dict[str, list[float]] = {question: [] for question in QUESTIONS}
    for number in range(repeats):
        say(f"{name}, {number + 1} of {repeats}")
        for question, sql in QUESTIONS.items():
            samples[question].append(_seconds(tables, sql) * 1e3)
    every = sorted(value for values in samples.values() for value in values)
    p95 = every[min(len(every) - 1, round(0.95 * len(every)))]
    facts = tables.facts("clips")
    note = f"{facts.rows:,} rows in {facts.files:,} files; samples in ms" if facts else ""
    return Figure(name, "connect and ask: p95", p95, "ms", TARGET_MS, samples, note=note)


def _seconds(tables: Tables, sql: str) -> float:
    started = time.perf_counter()
    with tables.connect("clips") as connection:
        connection.sql(sql).fetchall()
    return time.perf_counter() - started
