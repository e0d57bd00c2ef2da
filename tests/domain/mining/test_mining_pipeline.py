"""Mining as a whole: the account of the funnel, copies, order, and what the funnel says of those it removed."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.errors import AvError
from av_assets.domain.mining.explain import why_empty, why_not
from av_assets.domain.mining.pipeline import Mined, sift
from av_assets.domain.mining.selection import coverage, likeness_of
from tests.domain.mining import mining_cases as cases

LIGHTS, WEATHERS, ROADS = ("day", "night", None), ("clear", "rain", None), ("motorway", "residential", None)
CLIP = st.fixed_dictionaries(
    {
        "light": st.sampled_from(LIGHTS),
        "weather": st.sampled_from(WEATHERS),
        "road_class": st.sampled_from(ROADS),
        "mean_speed_mps": st.one_of(st.none(), st.floats(0, 40)),
    }
)
ASKED = st.sampled_from(
    [
        {},
        {"light": ["night"]},
        {"light": ["day", "unknown"], "mean_speed_mps": {"min": 5, "below": 30}},
        {"weather": {"none_of": ["clear"]}, "road_class": {"known": True}},
        {"weather": {"known": False}},
    ]
)


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, Any]:
    drawn = draw(st.lists(CLIP, min_size=1, max_size=14))
    drives = draw(st.lists(st.sampled_from("abc"), min_size=len(drawn), max_size=len(drawn)))
    clips = [{"clip_id": f"veh-{d}/{n:05d}", **c} for n, (d, c) in enumerate(zip(drives, drawn, strict=True))]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    vectors = {c["clip_id"]: cases.unit(*rng.normal(size=6)) for c in clips if rng.random() < 0.9}
    hashes = {c["clip_id"]: [int(h) for h in rng.integers(0, 2**63, 2)] for c in clips if rng.random() < 0.9}
    return {
        "clips": clips,
        "vectors": vectors,
        "hashes": hashes,
        "where": draw(ASKED),
        "budget": draw(st.integers(1, 5)),
        "training": {"veh-c": "golden_slices/2025-06-02, split train"} if draw(st.booleans()) else {},
    }


def run(world: dict[str, Any], clips: list[dict[str, Any]] | None = None) -> Mined:
    quotas = (
        {"rain": {"where": {"weather": ["rain"]}, "at_most": 1}} if "weather" not in world["where"] else {}
    )
    asked = cases.spec(where=world["where"], budget=world["budget"], quotas=quotas)
    rows = world.get("rows") or cases.catalogue(clips or world["clips"])
    return cases.mined(asked, rows, world["vectors"], world["hashes"], world["training"])


@settings(max_examples=30)
@given(worlds())
def test_every_clip_is_accounted_for_once(world: dict[str, Any]) -> None:
    made = run(world)
    stages = made.funnel.stages
    assert stages[0].entered == len(world["clips"]) if stages else True
    for stage, after in pairwise(stages):
        assert stage.entered - stage.removed == after.entered
    assert stages[-1].entered - stages[-1].removed == len(made.chosen)
    table = made.funnel.to_table({c["clip_id"]: c["clip_id"].split("/")[0] for c in world["clips"]})
    assert sorted(table["clip_id"].to_pylist()) == sorted(c["clip_id"] for c in world["clips"])
    assert {r["clip_id"] for r in table.to_pylist() if r["kept"]} == {r["clip_id"] for r in made.chosen}
    for stage in stages:
        assert stage.removed == sum(r["stage"] == stage.name for r in table.to_pylist())
    for row in table.to_pylist():  # every removal has a sentence
        answers = why_not(row["clip_id"], table.to_pylist())
        assert len(answers) == 1
        assert answers[0].sentence
        assert answers[0].inside == row["kept"]
    assert bool(why_empty(stages)) == (not made.chosen)


@settings(max_examples=30)
@given(worlds(), st.randoms(use_true_random=False))
def test_the_order_of_the_catalogue_plays_no_part(world: dict[str, Any], random: Any) -> None:
    rows = cases.catalogue(world["clips"])
    order = list(range(rows.num_rows))
    random.shuffle(order)
    shuffled = run(world | {"rows": rows.take(order)})
    made = run(world)
    assert [c["clip_id"] for c in shuffled.chosen] == [c["clip_id"] for c in made.chosen]
    assert shuffled.funnel.decided == made.funnel.decided


@settings(max_examples=30)
@given(worlds(), st.data())
def test_a_copy_of_a_clip_changes_nothing_that_is_chosen(world: dict[str, Any], data: st.DataObject) -> None:
    whole = [
        c for c in world["clips"] if c["clip_id"] in world["vectors"] and c["clip_id"] in world["hashes"]
    ]
    if not whole:
        return
    original = data.draw(st.sampled_from(whole))["clip_id"]
    copy = f"{original}1"
    more = [*world["clips"], next(c for c in world["clips"] if c["clip_id"] == original) | {"clip_id": copy}]
    known = {
        "vectors": world["vectors"] | {copy: world["vectors"][original]},
        "hashes": world["hashes"] | {copy: world["hashes"][original]},
    }
    before, after = run(world), run(world | known, more)
    assert [c["clip_id"] for c in after.chosen] == [c["clip_id"] for c in before.chosen]
    ids = sorted(world["vectors"])
    likeness = likeness_of([world["vectors"][clip] for clip in ids])

    def covered(made: Mined) -> float:
        return coverage(likeness, [ids.index(c["clip_id"]) for c in made.chosen if c["clip_id"] in ids])

    assert covered(after) == covered(before)


def test_sentences_speak_of_what_decided() -> None:
    clips = [
        {"clip_id": "a/00000", "light": "day", "sun_elevation_deg": 23.14},
        {"clip_id": "a/00001", "light": None, "light_reason": "no GNSS position"},
        *({"clip_id": f"b/{n:05d}", "light": "night", "weather": "rain"} for n in range(4)),
        {"clip_id": "c/00000", "light": "night", "weather": "clear"},
        {"clip_id": "d/00000", "light": "night", "weather": "clear"},
        {"clip_id": "d/00001", "light": "night", "weather": "clear"},
    ]
    hashes = {"b/00000": [0b111], "b/00001": [0b000], "b/00002": [2**40 - 1], "b/00003": [2**64 - 1]}
    vectors = {"b/00002": cases.unit(1, 0), "b/00003": cases.unit(1, 0.001), "c/00000": cases.unit(0, 1)}
    asked = cases.spec(
        where={"light": ["night"]}, budget=2, quotas={"rain": {"where": {"weather": ["rain"]}, "at_most": 1}}
    )
    made = cases.mined(
        asked, cases.catalogue(clips), vectors, hashes, {"c": "golden_slices/2025-06-02, split test"}
    )
    drives = {c["clip_id"]: c["clip_id"][0] for c in clips}
    rows = made.funnel.to_table(drives).to_pylist()

    def said(subject: str) -> str:
        (answer,) = why_not(subject, rows)
        return answer.sentence

    assert said("a/00000") == "where light is 'night': it was day (sun at 23.1 deg)"
    assert said("a/00001") == "where light is 'night': it is not known: no GNSS position"
    assert said("b/00001") == "near duplicate of b/00000: Hamming 3 <= 8"
    assert said("b/00003") == "shows the same as b/00002: cosine 1.0000 > 0.99"
    assert said("c/00000") == "training has its drive already: golden_slices/2025-06-02, split test"
    chosen = [c["clip_id"] for c in made.chosen]
    assert len(chosen) == 2
    assert sum(c.startswith("b/") for c in chosen) <= 1
    left = ({"b/00000", "b/00002"} | {"d/00000", "d/00001"}) - set(chosen)
    assert {said(c).split(":")[0] for c in left} <= {
        "quota of slice rain was full",
        "budget of 2 spent",
    }
    (drive,) = why_not("a", rows)
    assert (drive.stage, drive.clips) == ("where.light", {"where.light": 2})
    assert why_not("z", rows) == []


def test_budget_speaks_of_gains() -> None:
    clips = [{"clip_id": f"a/{n:05d}", "light": "day"} for n in range(3)]
    vectors = {c["clip_id"]: cases.unit(*(float(i == n) for i in range(3))) for n, c in enumerate(clips)}
    made = cases.mined(cases.spec(budget=1), cases.catalogue(clips), vectors)
    rows = made.funnel.to_table({c["clip_id"]: "a" for c in clips}).to_pylist()
    (answer,) = why_not("a/00002", rows)
    assert answer.stage == "budget"
    assert answer.numbers["gain"] <= answer.numbers["last_gain"]
    assert f"below the last chosen {answer.numbers['last_gain']:.4g}" in answer.sentence


def test_an_empty_answer_names_the_filter_that_emptied_it() -> None:
    clips = [
        {"clip_id": f"a/{n:05d}", "light": "night", "weather": w}
        for n, w in enumerate(("rain", "clear", None))
    ]
    asked = cases.spec(where={"light": ["night"], "weather": ["snow", "rain"], "mean_speed_mps": {"min": 1}})
    made = cases.mined(asked, cases.catalogue(clips))
    expected = "where.mean_speed_mps removed the last 1 of 3 clips after where.weather 3 -> 1"
    assert why_empty(made.funnel.stages) == expected
    assert why_empty([]) == "the catalogue holds no clip"


def test_searches_are_joined_by_and_and_their_ranks_are_fused() -> None:
    rows = cases.catalogue([{"clip_id": f"a/{n:05d}"} for n in range(5)])
    asked = cases.spec(
        text="rain at night", sequence="cut_in then harsh_brake", weights=_relevance_only(), budget=5
    )
    texts, sequences = ["a/00003", "a/00001", "a/00000"], ["a/00003", "a/00000", "a/00001", "a/00004"]
    sifted = sift(asked, rows, lambda _: texts, lambda _: sequences, {})
    assert sifted.rows["clip_id"].to_pylist() == ["a/00000", "a/00001", "a/00003"]
    made = cases.settle(sifted, cases.Evidence({}, lambda _: {}), cases.policy())
    by_hand = {"a/00000": 1 / 63 + 1 / 62, "a/00001": 1 / 62 + 1 / 63, "a/00003": 2 / 61}
    assert made.chosen[0]["clip_id"] == "a/00003"
    for row in made.chosen:
        assert row["relevance"] == pytest.approx(by_hand[row["clip_id"]] / by_hand["a/00003"])


def test_a_search_that_fails_empties_the_answer_and_says_why() -> None:
    def broken(_: str) -> list[str]:
        raise AvError("an unknown word", code="sequence_syntax")

    sifted = sift(cases.spec(sequence="cut_in thn"), cases.catalogue([{"clip_id": "a/0"}]), list, broken, {})
    made = cases.settle(sifted, cases.Evidence({}, lambda _: {}), cases.policy())
    assert (
        why_empty(made.funnel.stages)
        == "sequence removed the last 1 of 1 clips ([sequence_syntax] an unknown word)"
    )


def test_like_keeps_the_nearest_and_never_the_clip_itself() -> None:
    rows = cases.catalogue([{"clip_id": f"a/{n:05d}"} for n in range(4)])
    vectors = {f"a/{n:05d}": cases.unit(1, n) for n in range(3)}
    made = cases.mined(cases.spec(like="a/00000"), rows, vectors, numbers=cases.policy(like_nearest=1))
    assert [c["clip_id"] for c in made.chosen] == ["a/00001"]
    drives = dict.fromkeys(rows["clip_id"].to_pylist(), "a")
    said = {
        r["clip_id"]: why_not(r["clip_id"], [r])[0].sentence for r in made.funnel.to_table(drives).to_pylist()
    }
    assert said["a/00000"] == "like a/00000: the clip itself"
    assert said["a/00002"] == "like a/00000: rank 2 with cosine 0.447, the nearest 1 count"
    assert said["a/00003"] == "like a/00000: the clip has no vector"
    missing = cases.mined(cases.spec(like="z/00000"), rows, vectors)
    assert why_empty(missing.funnel.stages) == "like removed the last 4 of 4 clips (z/00000 has no vector)"


def test_limits_keep_the_newest_and_the_best() -> None:
    rows = cases.catalogue([{"clip_id": f"a/{n:05d}"} for n in range(6)])
    scores = {f"a/{n:05d}": [0.5 if n == 4 else 0.99] for n in range(6)}
    numbers = cases.policy(max_candidates=4, pool=1)
    made = cases.mined(cases.spec(), rows, numbers=numbers, scores=scores)
    stages = {clip: stage for clip, (stage, _, _) in made.funnel.decided.items()}
    assert [clip for clip, stage in stages.items() if stage == "limit"] == ["a/00000", "a/00001"]
    assert [c["clip_id"] for c in made.chosen] == ["a/00004"]


def test_where_asks_events_and_scenes_of_the_clip() -> None:
    clips = [{"clip_id": f"a/{n:05d}"} for n in range(3)]
    events = pa.Table.from_pylist(
        [
            {"drive": "a", "kind": "cut_in", "clip_id": "a/00000", "level": 2, "tags": ["x"],
             "start_ns": 4 * cases.NS, "end_ns": 6 * cases.NS},
            {"drive": "b", "kind": "turn", "clip_id": "b/00000", "level": 1, "tags": None, "start_ns": 0,
             "end_ns": 10**12},
        ]
    )  # fmt: skip
    scenes = pa.Table.from_pylist(
        [{"drive": "a", "clip_ids": ["a/00001", "a/00002"], "tags": ["y"], "max_level": 3, "pedestrians": 2}]
    )
    rows = cases.catalogue(clips, events=events, scenes=scenes)
    assert rows["events"].to_pylist() == [["cut_in"], ["cut_in"], []]
    assert rows["tags"].to_pylist() == [["x"], ["x", "y"], ["y"]]
    assert rows["scene_level"].to_pylist() == [None, 3, 3]
    asked = cases.spec(where={"events": "cut_in", "pedestrians": {"min": 2}})
    assert [c["clip_id"] for c in cases.mined(asked, rows).chosen] == ["a/00001"]
    quiet = cases.spec(where={"events": {"none_of": ["cut_in"]}})
    assert [c["clip_id"] for c in cases.mined(quiet, rows).chosen] == ["a/00002"]


def test_unknown_parts_give_their_weight_away_and_are_said() -> None:
    rows = cases.catalogue([{"clip_id": f"a/{n:05d}", "light": "day"} for n in range(2)])
    made = cases.mined(cases.spec(), rows, scores={"a/00000": [0.5]}, disagreement={"a/00000": 0.25})
    found = {row["clip_id"]: row for row in made.chosen}
    assert found["a/00000"]["unknown"] == []
    assert found["a/00000"]["score"] == pytest.approx((0 + 1.0 + 0.25) / 3)
    assert found["a/00001"]["unknown"] == ["uncertainty", "disagreement"]
    assert found["a/00001"]["score"] == 0.0


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_a_thousand_clips_are_mined_in_one_go(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = cases.catalogue(
        [{"clip_id": f"a/{n:05d}", "light": str(rng.choice(["day", "night"]))} for n in range(300)]
    )
    vectors = {f"a/{n:05d}": cases.unit(*rng.normal(size=8)) for n in range(300)}
    numbers = cases.policy(semdedup_cell=50)
    made = cases.mined(cases.spec(budget=20), rows, vectors, numbers=numbers)
    assert len(made.chosen) == 20


def _relevance_only() -> dict[str, float]:
    return {"relevance": 1.0, "rarity": 0.0, "uncertainty": 0.0, "disagreement": 0.0, "diversity": 0.0}
