"""What a spec may say, what is refused, and the worked example of the guide."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from av_assets.domain.errors import PolicyError
from av_assets.domain.mining.membership import NS_PER_DAY, DriveFacts, why_not_member
from av_assets.domain.mining.text import matching_clips
from av_assets.policies.mining import MiningPolicy, MiningSpec, dump_specs, load_specs
from tests.domain.mining import mining_cases as cases

GUIDE = Path(__file__).parents[3] / "docs" / "mining.md"


@pytest.mark.parametrize(
    ("keys", "first", "second"),
    [
        ({"where": {"light": {"any_of": ["day"], "none_of": ["day", "night"]}}},
         "where.light.any_of", "where.light.none_of"),
        ({"where": {"mean_speed_mps": {"min": 20, "max": 10}}}, "where.mean_speed_mps.min", "where.mean_speed_mps.max"),
        ({"where": {"mean_speed_mps": {"min": 20, "below": 20}}},
         "where.mean_speed_mps.min", "where.mean_speed_mps.below"),
        ({"where": {"light": {"any_of": ["day"], "known": False}}}, "where.light.known", "where.light.any_of"),
        ({"where": {"light": {"any_of": ["unknown"], "known": True}}}, "where.light.known", "where.light.any_of"),
        ({"where": {"light": ["day"]}, "quotas": {"dark": {"where": {"light": ["night"]}, "at_most": 1}}},
         "where.light.any_of", "quotas.dark.where.light.any_of"),
        ({"where": {"mean_speed_mps": {"max": 5}},
          "quotas": {"q": {"where": {"mean_speed_mps": {"min": 9}}, "at_most": 1}}},
         "where.mean_speed_mps.max", "quotas.q.where.mean_speed_mps.min"),
    ],
)  # fmt: skip
def test_contradictions_name_both_keys(
    keys: dict[str, object], first: str, second: str, tmp_path: Path
) -> None:
    with pytest.raises(PolicyError) as caught:
        cases.spec(**keys)
    assert caught.value.code == "contradictory_spec"
    assert f"{first} and {second} contradict" in caught.value.reason
    import yaml

    file = tmp_path / "s.yaml"
    file.write_text(yaml.safe_dump({"specs": [{"name": "asked", "budget": 1, **keys}]}))
    with pytest.raises(PolicyError) as from_file:
        load_specs(file)
    assert (from_file.value.code, from_file.value.file) == ("contradictory_spec", str(file))


def test_lists_may_hold_two_values_at_once() -> None:
    cases.spec(where={"events": ["cut_in"]}, quotas={"q": {"where": {"events": ["turn"]}, "at_most": 1}})


@pytest.mark.parametrize(
    "keys",
    [
        {"where": {"passwords": ["x"]}},
        {"where": {"light": {"min": 3}}},
        {"where": {"mean_speed_mps": ["fast"]}},
        {"where": {"mean_speed_mps": {"min": float("nan")}}},
        {"where": {"light": {}}},
        {"where": {"light": []}},
        {"budget": 0},
        {"weights": dict.fromkeys(("relevance", "rarity", "uncertainty", "disagreement", "diversity"), 0)},
        {"name": "../x"},
        {"else": 1},
    ],
)
def test_what_no_spec_may_say(keys: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        cases.spec(**keys)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("specs: [", "policy_unreadable"),
        ("specs: []", "policy_invalid"),
        ("[" * 5000, "policy_unreadable"),
        ("\x00", "policy_unreadable"),
        ("x: " + "y" * (1 << 20), "policy_too_large"),
        ("specs: [{name: a, budget: 1}, {name: a, budget: 2}]", "duplicate_spec"),
        ("a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nspecs: [*b,*b]", "policy_invalid"),
    ],
)
def test_bad_files_are_refused(text: str, code: str, tmp_path: Path) -> None:
    file = tmp_path / "specs.yaml"
    file.write_text(text)
    with pytest.raises(PolicyError) as caught:
        load_specs(file)
    assert caught.value.code == code
    assert caught.value.file == str(file)


def test_specs_come_back_as_they_were_written(tmp_path: Path) -> None:
    specs = MiningPolicy.load().specs
    file = tmp_path / "specs.yaml"
    file.write_text(dump_specs(specs))
    assert load_specs(file) == specs


def test_text_finds_all_words_best_first_and_takes_no_syntax() -> None:
    texts = [
        ("a", "heavy rain at night on a motorway, rain on rain"),
        ("b", "rain in the morning, then a long dry evening, with a night that came much later"),
        ("c", "clear night"),
    ]
    assert matching_clips(texts, "Rainy NIGHT") == []
    assert matching_clips(texts, "rains NIGHT") == ["a", "b"]
    assert matching_clips(texts, 'night" OR "x') == []
    assert matching_clips(texts, "***") == []
    assert matching_clips([("a", "x"), ("a", "night")], "nights") == ["a"]


DATASET = {
    "week": "2025-06-02",
    "members": [{"drive": "in", "split": "test", "frames": 7}],
    "slices": {"all": ["in"], "night": ["in"], "rain": []},
    "left_out": {"thin": "0 of 1 labelled frames"},
}


@pytest.mark.parametrize(
    ("drive", "facts", "stage", "sentence"),
    [
        ("in", (0, "", None), "member", "it is a member: split test, 7 frames, slices all, night"),
        ("thin", (0, "", None), "min_frames", "left out when it was planned: 0 of 1 labelled frames"),
        ("x", (0, None, "raw_logs: bad_log: torn"), "quarantine",
         "the drive is in quarantine: raw_logs: bad_log: torn"),
        ("x", (None, None, None), "catalog", "the catalogue does not know the drive"),
        ("x", (9 * NS_PER_DAY, "", None), "week", "it started 2.0 days after the week had ended"),
        ("x", (0, None, None), "labels", "it has no verified labels"),
        ("x", (0, "no camera", None), "labels", "its verified labels are empty: no camera"),
        ("x", (0, "", None), "frozen", "the dataset was frozen before the drive's labels were verified: "
         "it can enter a later week"),
    ],
)  # fmt: skip
def test_why_a_drive_is_no_member(
    drive: str, facts: tuple[int | None, str | None, str | None], stage: str, sentence: str
) -> None:
    answer = why_not_member(f"{drive}/00001", drive, DATASET, 0, DriveFacts(*facts))
    assert (answer.stage, answer.sentence) == (stage, sentence)
    assert answer.inside == (stage == "member")


def test_the_example_of_the_guide_gives_what_the_guide_says(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    file = tmp_path / "specs.yaml"
    file.write_text(blocks[0])
    (spec,) = load_specs(file)
    assert isinstance(spec, MiningSpec)
    night = {"light": "night", "weather": "rain", "mean_speed_mps": 14.0}
    clips = [
        {"clip_id": "veh001-a/00000", **night, "road_class": "residential"},
        {"clip_id": "veh001-a/00001", **night, "road_class": "residential"},
        {"clip_id": "veh001-a/00002", **night, "road_class": "motorway"},
        {"clip_id": "veh002-b/00000", **night, "light": "day"},
    ]
    made = cases.mined(spec, cases.catalogue(clips))
    assert [row["clip_id"] for row in made.chosen] == ["veh001-a/00002", "veh001-a/00000"]
    assert made.funnel.decided["veh001-a/00001"][0] == "quota"
    assert made.funnel.decided["veh002-b/00000"][0] == "where.light"
