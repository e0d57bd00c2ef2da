"""Exposure, pairs and gaps against brute force, and the specs that the gaps write."""

from __future__ import annotations

from itertools import combinations, product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.mining.coverage import DIMENSIONS, cell_of, pairs, share_seen
from av_assets.domain.mining.coverage_pictures import coverage_png
from av_assets.domain.mining.pipeline import sift
from av_assets.domain.mining.reports import coverage_report, events_per_clip, ledgers
from av_assets.policies.coverage import CoveragePolicy
from av_assets.policies.mining import dump_specs, load_specs
from tests.domain.mining import mining_cases as cases

SMALL = CoveragePolicy.model_validate(
    CoveragePolicy.load().model_dump()
    | {
        "road_class": ["motorway", "residential"],
        "light": ["day", "night"],
        "weather": ["clear", "rain"],
        "density": [{"name": "empty", "below": 1.0}, {"name": "busy"}],
        "speed_band": [{"name": "slow", "below": 10.0}, {"name": "fast"}],
        "impossible": [{"road_class": "residential", "speed_band": "fast"}],
        "min_hours": 5 / 3600,
        "max_specs": 500,
    }
)
CLIPS = st.lists(
    st.fixed_dictionaries(
        {
            "light": st.sampled_from(["day", "night", None]),
            "weather": st.sampled_from(["clear", "rain", "snow", None]),
            "road_class": st.sampled_from(["motorway", "residential", None]),
            "mean_speed_mps": st.sampled_from([None, 0.0, 9.999, 10.0, 30.0]),
            "road_users": st.sampled_from([None, 0.0, 1.0, 5.0]),
        }
    ),
    min_size=1,
    max_size=25,
)


def world(drawn: list[dict[str, Any]]) -> pa.Table:
    return cases.catalogue([{"clip_id": f"veh-{n % 3}/{n:05d}", **c} for n, c in enumerate(drawn)])


@settings(max_examples=20)
@given(CLIPS)
def test_pairs_are_those_of_brute_force(drawn: list[dict[str, Any]]) -> None:
    rows = world(drawn)
    cells = ledgers(rows, {"veh-0/00000": 2}, {"veh-1"}, SMALL)
    assert cells["fleet"].num_rows == len({cell_of(row, SMALL) for row in rows.to_pylist()})
    assert sum(cells["fleet"]["clips"].to_pylist()) == len(drawn)
    assert sum(cells["fleet"]["hours"].to_pylist()) == pytest.approx(len(drawn) * 5 / 3600)
    assert sum(cells["fleet"]["events"].to_pylist()) == 2
    found = {tuple(sorted(p.values.items())): p for p in pairs(cells["fleet"], SMALL)}
    expected = {}
    for a, b in combinations(DIMENSIONS, 2):
        for x, y in product(SMALL.values(a), SMALL.values(b)):
            held = [dict(zip(DIMENSIONS, cell_of(row, SMALL), strict=True)) for row in rows.to_pylist()]
            expected[tuple(sorted({a: x, b: y}.items()))] = sum(h[a] == x and h[b] == y for h in held)
    del expected[(("road_class", "residential"), ("speed_band", "fast"))]
    assert {key: p.clips for key, p in found.items()} == expected
    seen = sum(n >= 1 for n in expected.values())
    assert share_seen(list(found.values())) == pytest.approx(seen / len(expected))


@settings(max_examples=20)
@given(CLIPS)
def test_specs_of_gaps_load_again_and_select_exactly_the_cells_of_the_gap(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[dict[str, Any]]
) -> None:
    rows = world(drawn)
    report, specs = coverage_report(ledgers(rows, {}, {"veh-1"}, SMALL), SMALL)
    assert [gap["remedy"] for gap in report["gaps"]] == sorted(
        (g["remedy"] for g in report["gaps"]), reverse=True
    )
    if not specs:
        return
    file = tmp_path_factory.mktemp("gaps") / "next_specs.yaml"
    file.write_text(dump_specs(specs), "utf-8")
    loaded = load_specs(file)
    assert loaded == tuple(specs)
    for spec, gap in zip(loaded, report["gaps"], strict=True):
        selected = set(sift(spec, rows, list, list, {}).rows["clip_id"].to_pylist())
        wanted = {
            row["clip_id"]
            for row in rows.to_pylist()
            if gap["values"].items() <= dict(zip(DIMENSIONS, cell_of(row, SMALL), strict=True)).items()
        }
        assert selected == wanted
        assert gap["fleet_clips"] == len(wanted)
        elsewhere = any(not clip.startswith("veh-1/") for clip in wanted)
        assert gap["remedy"] == ("mine" if elsewhere else "collect")


def test_unknown_is_a_value_of_its_own_and_covers_nothing() -> None:
    cells = ledgers(world([{"light": "day"}]), {}, {"veh-0"}, SMALL)["fleet"]
    (cell,) = cells.to_pylist()
    assert [cell[name] for name in DIMENSIONS] == ["unknown", "day", "unknown", "unknown", "unknown"]
    assert cell["km"] == 0
    assert cell["hours_without_distance"] == cell["hours"] > 0
    assert share_seen(pairs(cells, SMALL)) == 0.0


def test_kilometres_and_events_are_counted() -> None:
    rows = world([{"mean_speed_mps": 10.0}, {"mean_speed_mps": 20.0}])
    events = pa.table({"clip_id": ["veh-0/00000", "veh-0/00000", None]})
    cells = ledgers(rows, events_per_clip(events), set(), SMALL)["fleet"]
    assert sum(cells["km"].to_pylist()) == pytest.approx((10 + 20) * 5 / 1000)
    assert sum(cells["events"].to_pylist()) == 2
    assert events_per_clip(None) == {}


def test_the_picture_is_the_same_for_the_same_cells() -> None:
    cells = ledgers(world([{"light": "day", "weather": "snow"}]), {}, set(), SMALL)["fleet"]
    first = coverage_png(cells, SMALL, "fleet")
    assert first.startswith(b"\x89PNG")
    assert coverage_png(cells, SMALL, "fleet") == first


def test_the_shipped_ledger_has_no_band_that_overlaps(tmp_path: Path) -> None:
    policy = CoveragePolicy.load()
    assert cell_of({"road_class": None, "light": "day", "weather": None, "road_users": 3.0, "mean_speed_mps": 13.9},
                   policy) == ("unknown", "day", "unknown", "busy", "50_to_80_kmph")  # fmt: skip
    for change in (
        {"density": [{"name": "a", "below": 2.0}, {"name": "b", "below": 1.0}, {"name": "c"}]},
        {"light": ["day", "unknown"]},
        {"impossible": [{"light": "day", "weather": "frogs"}]},
        {"speed_band": [{"name": "a", "below": 2.0}]},
    ):
        with pytest.raises(ValueError, match="1 validation error"):
            CoveragePolicy.model_validate(policy.model_dump() | change)
