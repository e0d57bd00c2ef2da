"""The sample world's weather: the same bytes each time, and the weather that its drives were scripted in."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from av_assets.domain.context.observations import judged
from av_assets.domain.context.weather import Moments, weather_at
from av_assets.domain.context.weather_layouts import HOURLY
from av_assets.domain.simulation.samples import sample_drives, short_drive
from av_assets.domain.simulation.script import DriveScript
from av_assets.domain.simulation.signals import REGIONS_DEG
from av_assets.domain.simulation.weather_table import STATIONS, write_sample_weather
from av_assets.policies.context import ContextPolicy
from resources.weather import Weather

POLICY = ContextPolicy.load()


def test_same_scripts_give_the_same_bytes(tmp_path: Path) -> None:
    first = write_sample_weather(tmp_path / "a", sample_drives())
    second = write_sample_weather(tmp_path / "b", reversed(sample_drives()))
    assert [path.name for path in first] == ["stations.json", "SAP01.csv.gz", "SHB01.csv.gz", "SOT01.csv.gz"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_tables_have_meteostats_layout(tmp_path: Path) -> None:
    write_sample_weather(tmp_path, sample_drives())
    lines = list(csv.reader(gzip.decompress((tmp_path / "SHB01.csv.gz").read_bytes()).decode().splitlines()))
    assert {len(line) for line in lines} == {len(HOURLY)}
    assert [line[1] for line in lines[:24]] == [str(hour) for hour in range(24)]
    listed = json.loads((tmp_path / "stations.json").read_text())
    assert [entry["id"] for entry in listed] == [STATIONS[region] for region in sorted(STATIONS)]


@pytest.mark.parametrize("script", [*sample_drives(), short_drive()], ids=lambda script: script.drive)
def test_every_drive_finds_the_weather_of_its_script(tmp_path: Path, script: DriveScript) -> None:
    write_sample_weather(tmp_path, [*sample_drives(), short_drive()])
    tables = Weather(path=str(tmp_path)).read(POLICY.limits)
    assert all(not file["damaged"] for file in tables.files)
    found = judged(tables.rows, POLICY.plausible)
    assert (dict(found.implausible), found.misplaced, found.repeated) == ({}, 0, 0)
    latitude, longitude = REGIONS_DEG[script.region]
    times = script.start_ns + np.arange(0, 20, 5) * 10**9
    moments = Moments(times, np.full(4, latitude), np.full(4, longitude))
    rows = weather_at(moments, found.rows, POLICY)
    assert {row["weather"] for row in rows} == {script.weather}
    assert max(abs(row["weather_lag_s"]) for row in rows) <= 1800
    assert {row["weather_reason"] for row in rows} == {None}


def test_hours_without_a_drive_are_dry_and_cloudy(tmp_path: Path) -> None:
    write_sample_weather(tmp_path, [short_drive(weather="rain")])
    rows = Weather(path=str(tmp_path)).read(POLICY.limits).rows
    wet = {at // 3_600_000_000_000 % 24 for at, code in zip(
        rows["valid_ns"].to_pylist(), rows["code"].to_pylist(), strict=True) if code == 8}  # fmt: skip
    assert wet == {8}
    assert set(rows["code"].to_pylist()) == {3, 8}
