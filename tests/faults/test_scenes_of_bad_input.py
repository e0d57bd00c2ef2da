"""Drives that lack or distort what scenes, maps, weather and searches need: told, never guessed, and alone with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from av_assets.domain.simulation.roadmap import sample_map
from av_assets.domain.simulation.samples import short_drive
from av_assets.domain.simulation.weather_table import write_sample_weather
from av_assets.foundations import cataloging, enrichment, ingestion, synchronization
from av_assets.mining import described_scenes, embeddings, scenarios, scenes
from av_assets.production import ALL
from av_assets.reliability import map_tiles
from resources.lake import Lake
from resources.maps import Maps
from resources.weather import Weather
from tests.faults.conftest import Installation, install

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DAY = "2026-03-04"
GOOD = short_drive().drive
PER_DRIVE = ("drive_catalog", "enriched_clips", "event_windows", "clip_embeddings", "scenes")
COPIED = ("raw_logs", "log_reports", "synced_shards", "auto_labels")

Spoil = Callable[[pa.Table], pa.Table]


def signals(**changes: Callable[[np.ndarray], np.ndarray] | None) -> Spoil:
    """Changes signals of a clip by name; None takes the signal away, `every` stands for all of them."""

    def spoil(clip: pa.Table) -> pa.Table:
        held = clip["signals"].combine_chunks()
        named = {f.name: held.field(f.name).to_numpy(zero_copy_only=False) for f in held.type}
        wanted = dict.fromkeys(named, changes["every"]) if "every" in changes else changes
        kept = {n: np.asarray(c(v)) if (c := wanted.get(n, same)) else None for n, v in named.items()}
        arrays = {n: pa.array(v) for n, v in kept.items() if v is not None}
        return put(clip, "signals", pa.StructArray.from_arrays(list(arrays.values()), list(arrays)))

    return spoil


def same(values: np.ndarray) -> np.ndarray:
    return values


def later(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """From the middle of the clip on."""
    return lambda values: np.where(np.arange(len(values)) < len(values) // 2, values, change(values))


def constant(value: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda values: np.full(len(values), value)


def put(clip: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return clip.set_column(clip.schema.get_field_index(name), name, column).replace_schema_metadata(
        clip.schema.metadata
    )


def blind(clip: pa.Table) -> pa.Table:
    """No frame of any camera arrived."""
    for name in [n for n in clip.column_names if n.startswith("camera")]:
        kind = clip.schema.field(name).type
        none = {f.name: None for f in kind} | {"valid": False, "encoding": ""}
        clip = put(clip, name, pa.array([none] * clip.num_rows, kind))
    return clip


def without_cameras(clip: pa.Table) -> pa.Table:
    return clip.drop_columns([name for name in clip.column_names if name.startswith("camera")])


def stamped_twice(clip: pa.Table) -> pa.Table:
    stamps = clip["ref_ns"].to_numpy().copy()
    stamps[7] = stamps[8]
    return put(clip, "ref_ns", pa.array(stamps))


NAN = constant(float("nan"))
BAD: dict[str, Spoil | None] = {
    "no_gnss": signals(latitude_deg=None, longitude_deg=None),
    "lost_gnss": signals(latitude_deg=NAN, longitude_deg=NAN),
    "gnss_jump": signals(latitude_deg=later(lambda v: v + 0.05)),
    "null_island": signals(latitude_deg=later(constant(0.0)), longitude_deg=later(constant(0.0))),
    "off_earth": signals(latitude_deg=later(constant(190.0))),
    "outside": signals(latitude_deg=constant(10.0), longitude_deg=constant(10.0)),
    "nan_signals": signals(every=NAN),
    "infinite": signals(speed_mps=later(constant(np.inf)), accel_mps2=later(constant(-np.inf))),
    "no_signals": lambda clip: clip.drop_columns(["signals"]),
    "no_camera": without_cameras,
    "blind": blind,
    "no_row": lambda clip: clip.slice(0, 0),
    "no_clip": None,
    "poison": stamped_twice,
}
DRIVE = {name: f"veh001-20250601t0810{number:02d}z" for number, name in enumerate(BAD)}
EVERY = [GOOD, *DRIVE.values()]


@dataclass
class Place:
    """One lake with a good drive and what became of the bad ones."""

    home: Path
    instance: dg.DagsterInstance

    @property
    def lake(self) -> Lake:
        return Installation(self.home).lake

    def run(self, *assets: str, drives: list[str] | None = None, day: str | None = None) -> dg.ExecuteInProcessResult:
        modules = [ingestion, synchronization, cataloging, enrichment, map_tiles, scenes, embeddings, described_scenes, scenarios]
        defs = dg.Definitions(
            assets=dg.load_assets_from_modules(modules),
            asset_checks=dg.load_asset_checks_from_modules(modules),
            resources={
                "lake": self.lake,
                "maps": Maps(path=str(self.home / "map")),
                "weather": Weather(path=str(self.home / "weather")),
            },
        )
        span = {}
        if drives:
            self.instance.add_dynamic_partitions("drive", drives)
            span = {"dagster/asset_partition_range_start": drives[0], "dagster/asset_partition_range_end": drives[-1]}
        return defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance,
            asset_selection=[dg.AssetKey(a) for a in assets],
            partition_key=day,
            tags=span,
            raise_on_error=False,
        )
