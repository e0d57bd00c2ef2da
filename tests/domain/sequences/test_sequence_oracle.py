"""The SQL against the plain loops: random sentences over random tables give the same matches."""

from __future__ import annotations

import json
from typing import Any

import duckdb
import h3
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.sequences import reference
from av_assets.domain.sequences.compile import as_query, compile_steps
from av_assets.domain.sequences.intervals import Relation
from av_assets.domain.sequences.language import parse
from av_assets.domain.sequences.search import Match, Proof, find, read_vocabulary
from av_assets.policies.scenes import ScenesPolicy

POLICY = ScenesPolicy.load()
NS = 1_000_000_000
CELLS = [h3.latlng_to_cell(48.1, 11.5 + step * 0.02, 9) for step in range(3)]
SCHEMAS = {
    "events": pa.schema(
        [
            *(("drive", pa.string()), ("kind", pa.string()), ("level", pa.int32())),
            *(("start_ns", pa.int64()), ("end_ns", pa.int64()), ("clip_id", pa.string())),
            *(("peak", pa.float64()), ("evidence", pa.string()), ("tags", pa.list_(pa.string()))),
        ]
    ),
    "clips": pa.schema(
        [
            *(
                ("drive", pa.string()),
                ("clip_id", pa.string()),
                ("start_ns", pa.int64()),
                ("end_ns", pa.int64()),
            ),
            *(("mean_speed_mps", pa.float64()), ("light", pa.string()), ("h3_cell", pa.string())),
        ]
    ),
    "clip_context": pa.schema(
        [
            *(("drive", pa.string()), ("clip_id", pa.string()), ("road_class", pa.string())),
            *(
                ("junction_distance_m", pa.float64()),
                ("weather", pa.string()),
                ("evidence_weather", pa.string()),
            ),
        ]
    ),
    "scenes": pa.schema(
        [
            *(("drive", pa.string()), ("scene_id", pa.string()), ("clip_ids", pa.list_(pa.string()))),
            *(("start_ns", pa.int64()), ("end_ns", pa.int64()), ("tags", pa.list_(pa.string()))),
            ("occluded_pedestrians", pa.int32()),
        ]
    ),
    "similarities": pa.schema(
        [("reference", pa.string()), ("clip_id", pa.string()), ("similarity", pa.float32())]
    ),
}
KINDS = ("cut_in", "harsh_brake", "lane_change")
TYPICAL = {  # a row of each kind, so that every evidence key is known with its types
    **{"drive": "z", "level": 1, "start_ns": 0, "end_ns": 1, "clip_id": "z/00000", "peak": 1.0, "tags": []},
    "evidence": json.dumps({"side": "left", "gap_m": 2.0, "seen": True}),
}
Tables = dict[str, list[dict[str, Any]]]
drives, seconds = st.sampled_from(["a", "b"]), st.integers(0, 12)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    start, length = draw(seconds), draw(st.integers(-1, 5))
    evidence = {
        "side": draw(st.sampled_from(["left", "right", None, 3])),
        "gap_m": draw(maybe(st.floats(0, 5).map(lambda x: round(x, 1)))),
        "seen": draw(st.booleans()),
    }
    return {
        "drive": draw(drives),
        "kind": draw(st.sampled_from(["cut_in", "harsh_brake", "lane_change"])),
        "level": draw(maybe(st.integers(1, 3))),
        "start_ns": start * NS,
        "end_ns": (start + length) * NS,
        "clip_id": f"a/{start // 5:05d}",
        "peak": draw(st.sampled_from([None, float("nan"), 1.0, 2.5])),
        "evidence": draw(
            st.sampled_from([json.dumps(evidence), json.dumps(evidence), "{broken", None, "[1]"])
        ),
        "tags": draw(maybe(st.lists(st.sampled_from(["x", "y"]), max_size=2))),
    }


@st.composite
def clips(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    rows, contexts = [], []
    for drive in "ab":
        at = draw(st.integers(0, 3)) * NS
        for number in range(draw(st.integers(0, 4))):
            end = at + draw(st.integers(1, 3)) * NS
            key = {"drive": drive, "clip_id": f"{drive}/{number:05d}"}
            rows.append(
                {
                    **key,
                    "start_ns": at,
                    "end_ns": end,
                    "mean_speed_mps": draw(st.sampled_from([None, float("nan"), 5.0, 20.0])),
                    "light": draw(st.sampled_from(["night", "day", None])),
                    "h3_cell": draw(st.sampled_from([*CELLS, None])),
                }
            )
            weather = st.sampled_from(["rain", "clear", None])
            if draw(st.integers(0, 4)):
                contexts.append(
                    {
                        **key,
                        "road_class": draw(st.sampled_from(["motorway", "service", None])),
                        "junction_distance_m": draw(st.sampled_from([None, 5.0, 40.0, 400.0])),
                        "weather": draw(weather),
                        "evidence_weather": draw(weather),
                    }
                )
            at = end + draw(st.sampled_from([NS // 10, NS // 2, NS // 2 + 1, 2 * NS, -NS // 2]))
    return rows, contexts


@st.composite
def scenes(draw: st.DrawFn) -> dict[str, Any]:
    start = draw(seconds) * NS
    return {
        "drive": draw(drives),
        "scene_id": "s",
        "clip_ids": draw(st.lists(st.sampled_from(["a/00000", "a/00001"]), max_size=2)),
        "start_ns": start,
        "end_ns": start + draw(st.integers(0, 9)) * NS,
        "tags": draw(st.lists(st.sampled_from(["weather:rain", "event:turn"]), max_size=2)),
        "occluded_pedestrians": draw(maybe(st.integers(0, 2))),
    }


@st.composite
def worlds(draw: st.DrawFn) -> Tables:
    rows, contexts = draw(clips())
    similar = [
        {
            "reference": "a/00000",
            "clip_id": r["clip_id"],
            "similarity": draw(st.sampled_from([0.5, 0.75, 1.0])),
        }
        for r in rows
    ]
    return {
        "events": [*draw(st.lists(events(), max_size=10)), *(TYPICAL | {"kind": k} for k in KINDS)],
        "clips": rows,
        "clip_context": contexts,
        "scenes": draw(st.lists(scenes(), max_size=3)),
        "similarities": similar,
    }


ATOMS = [
    *("cut_in", "harsh_brake", "turn", "lane_change", "cut_in(level >= 2)", "cut_in(side = left)"),
    *(
        "cut_in(side != left)",
        "harsh_brake(gap_m < 2.5, level != 3)",
        "cut_in(seen = true)",
        "cut_in(peak != 1)",
    ),
    *(
        "cut_in(duration_s > 1, tags has x)",
        "night",
        "day",
        "rain",
        "clip",
        "clip(light != night)",
        "speed > 36 km/h",
    ),
    *("speed != 5", "road_class = motorway", "within 50 m of a junction", "near junction"),
    *("clear(speed <= 20, road_class != service)", "scene", 'scene(tags has "weather:rain")'),
    *("scene(occluded_pedestrians >= 1)", "similar to a/00000 above 0.6", f'in cell "{CELLS[0]}"'),
    *(f'in cell "{h3.cell_to_parent(CELLS[1], coarse)}"' for coarse in (8, 6)),
    *("rain(start_ns > 3, end_ns >= 0)", "clip(clip_id = 'a/00001', road_class = motorway)"),
]
times = st.sampled_from(["0 s", "500 ms", "1 s", "3 s", "0.1 min"])


@st.composite
def sentences(draw: st.DrawFn, depth: int = 3) -> str:
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        return draw(st.sampled_from(ATOMS))
    a, b, within = draw(sentences(depth - 1)), draw(sentences(depth - 1)), draw(times)
    words = [
        "during",
        "contains",
        "while",
        "and",
        "or",
        "not",
        "and not",
        "then",
        *(r.value for r in Relation),
    ]
    word = draw(st.sampled_from(words))
    if word == "then":
        tail = draw(st.sampled_from(["", f" within {within}", f" within {within} of start"]))
    else:
        tail = draw(st.sampled_from(["", f" within {within}"])) if word.endswith("not") else ""
    after = draw(st.sampled_from(["", "", "", " near junction", f' in cell "{CELLS[0]}"']))
    return f"(({a}) {word} ({b}){tail}){after}"


def connection(tables: Tables) -> duckdb.DuckDBPyConnection:
    connected = duckdb.connect(config={"threads": 1})
    for name, rows in tables.items():
        if name != "similarities":
            connected.register(name, pa.Table.from_pylist(rows, schema=SCHEMAS[name]))
    return connected


def similarities(tables: Tables) -> pa.Table:
    known = [*tables["similarities"], {"reference": "a/00000", "clip_id": "-", "similarity": 0.0}]
    return pa.Table.from_pylist(known, schema=SCHEMAS["similarities"])


def searched(text: str, tables: Tables) -> list[Match]:
    with connection(tables) as connected:
        return list(find(connected, text, POLICY, 1_000_000, similarities(tables)).matches)


def by_loops(text: str, tables: Tables) -> set[Match]:
    tree = parse(text, POLICY.search.near_junction_m)
    return reference.matches(tree, tables, POLICY.windows.clip_gap_s)


def key(match: Match) -> str:
    return repr(match)


@settings(max_examples=40)
@given(text=sentences(), tables=worlds())
def test_sql_and_loops_find_the_same(text: str, tables: Tables) -> None:
    found = searched(text, tables)
    assert len(found) == len(set(found))
    assert sorted(found, key=key) == sorted(by_loops(text, tables), key=key)


@pytest.mark.parametrize("text", ATOMS)
@settings(max_examples=2)
@given(tables=worlds())
def test_every_kind_of_atom_agrees(text: str, tables: Tables) -> None:
    assert set(searched(text, tables)) == by_loops(text, tables)


@settings(max_examples=8)
@given(text=sentences(), tables=worlds(), shift_s=st.integers(-5, 2_000_000_000))
def test_shifted_tables_give_shifted_matches(text: str, tables: Tables, shift_s: int) -> None:
    if "_ns >" in text:
        return
    shift = shift_s * NS
    moved = {
        name: [r | {k: r[k] + shift for k in ("start_ns", "end_ns") if k in r} for r in rows]
        for name, rows in tables.items()
    }
    expected = [
        Match(
            m.drive,
            m.start_ns + shift,
            m.end_ns + shift,
            tuple(Proof(p.kind, p.start_ns + shift, p.end_ns + shift, p.clip_id) for p in m.proof),
        )
        for m in searched(text, tables)
    ]
    assert searched(text, moved) == expected


@settings(max_examples=8)
@given(text=sentences(), tables=worlds(), data=st.data())
def test_order_of_rows_does_not_matter(text: str, tables: Tables, data: st.DataObject) -> None:
    mixed = {name: data.draw(st.permutations(rows)) for name, rows in tables.items()}
    assert searched(text, mixed) == searched(text, tables)


@settings(max_examples=10)
@given(text=sentences(), tables=worlds())
def test_one_statement_gives_what_the_steps_give(text: str, tables: Tables) -> None:
    with connection(tables) as connected:
        connected.register("similarities", similarities(tables))
        tree = parse(text, POLICY.search.near_junction_m)
        steps = compile_steps(tree, read_vocabulary(connected), POLICY.windows.clip_gap_s)
        rows = connected.execute(*as_query(steps)).fetchall()
    found = {Match(d, s, e, tuple(Proof(**p) for p in proof)) for d, s, e, proof in rows}
    assert found == set(searched(text, tables))


@settings(max_examples=10)
@given(text=sentences(), tables=worlds())
def test_proof_rows_are_rows_of_the_tables(text: str, tables: Tables) -> None:
    held = {(r["drive"], r["kind"], r["start_ns"], r["end_ns"], r["clip_id"]) for r in tables["events"]}
    for match in searched(text, tables):
        assert match.proof
        for proof in match.proof:
            if proof.kind in ("cut_in", "harsh_brake", "lane_change"):
                assert (match.drive, *proof) in held


@settings(max_examples=4)
@given(a=sentences(1), b=sentences(1), tables=worlds())
def test_inverse_relations_mirror_each_other(a: str, b: str, tables: Tables) -> None:
    def times(text: str) -> set[tuple[str, int, int]]:
        return {(m.drive, m.start_ns, m.end_ns) for m in searched(text, tables)}

    assert times(f"({a}) before ({b})") == times(f"({b}) after ({a})")
    assert times(f"({a}) overlaps ({b})") == times(f"({b}) overlapped by ({a})")
    assert times(f"({a}) strictly contains ({b})") == times(f"({a}) strictly contains ({b})")
    assert times(f"({a}) starts ({b})") == times(f"({b}) started by ({a})")
    assert times(f"({a}) then ({b})") == times(f"({a}) before ({b}) or ({a}) meets ({b})")
