"""Every example of docs/sequences.md, run over the tables that the guide shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from av_assets.domain.sequences import reference
from av_assets.domain.sequences.intervals import Relation
from av_assets.domain.sequences.language import parse
from av_assets.domain.sequences.search import find
from av_assets.domain.sequences.vocabulary import KINDS
from av_assets.policies.scenes import ScenesPolicy

GUIDE = (Path(__file__).parents[3] / "docs" / "sequences.md").read_text("utf-8")
POLICY = ScenesPolicy.load()
NS = 1_000_000_000


def shown(first_column: str, *others: str) -> list[dict[str, str]]:
    """The rows of the guide's table that begins with these columns."""
    head = f"| {' | '.join([first_column, *others])} |"
    lines = GUIDE[GUIDE.index(head) :].split("\n\n")[0].splitlines()
    names, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(names, row, strict=True)) for row in rows]


def ns(seconds: str) -> int:
    return round(float(seconds) * NS)


def number(text: str) -> float | None:
    return float(text) if text else None


EXAMPLES = shown("sentence", "matches", "because")


@pytest.fixture(scope="module")
def world() -> dict[str, list[dict[str, Any]]]:
    clips = shown("drive", "clip", "start", "speed")
    events = shown("drive", "kind", "level", "start", "end", "evidence")
    scenes = shown("drive", "start", "end", "tags", "occluded")
    return {
        "events": [
            {
                **{
                    "drive": r["drive"],
                    "kind": r["kind"],
                    "level": int(r["level"]),
                    "evidence": r["evidence"],
                },
                **{"start_ns": ns(r["start"]), "end_ns": ns(r["end"])},
                "clip_id": f"{r['drive']}/{int(float(r['start']) // 5)}",
            }
            for r in events
        ],
        "clips": [
            {
                **{"drive": r["drive"], "clip_id": f"{r['drive']}/{r['clip']}", "light": r["light"]},
                **{"start_ns": ns(r["start"]), "end_ns": ns(r["start"]) + 49 * NS // 10},
                **{"mean_speed_mps": number(r["speed"]), "h3_cell": r["cell"]},
            }
            for r in clips
        ],
        "clip_context": [
            {
                **{"drive": r["drive"], "clip_id": f"{r['drive']}/{r['clip']}", "road_class": r["road"]},
                **{"weather": r["weather"] or None, "junction_distance_m": number(r["junction"])},
            }
            for r in clips
        ],
        "scenes": [
            {
                **{"drive": r["drive"], "clip_ids": [f"{r['drive']}/0"], "tags": r["tags"].split()},
                **{"start_ns": ns(r["start"]), "end_ns": ns(r["end"])},
                "occluded_pedestrians": int(r["occluded"]) if r["occluded"] else None,
            }
            for r in scenes
        ],
    }


def test_there_are_ten() -> None:
    assert len(EXAMPLES) == 10


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e["sentence"])
def test_example_gives_what_the_guide_says(
    example: dict[str, str], world: dict[str, list[dict[str, Any]]]
) -> None:
    text = example["sentence"].strip("`")
    with duckdb.connect() as connection:
        for name, rows in world.items():
            connection.register(name, pa.Table.from_pylist(rows))
        found = find(connection, text, POLICY)
    assert found.total == int(example["matches"])
    tree = parse(text, POLICY.search.near_junction_m)
    assert set(found.matches) == reference.matches(tree, world, POLICY.windows.clip_gap_s)


def test_guide_names_every_relation_and_kind() -> None:
    for relation in Relation:
        assert f'"{relation.value}"' in GUIDE
    assert all(kind in GUIDE for kind in KINDS)


def test_mistake_is_quoted_as_it_is_made() -> None:
    [quoted] = re.findall(r"`(line 1, column 17: [^`]*)`", GUIDE)
    with pytest.raises(Exception, match=re.escape(quoted)):
        parse("a then b within 5 m", 30.0)


def test_figures_are_those_of_the_policy() -> None:
    assert f"({POLICY.search.near_junction_m:g} m)" in GUIDE
