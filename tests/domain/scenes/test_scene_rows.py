"""What a scene says: its context by time, its counts, its tags, its sentence; what is not known is null."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.scenes.describe import Happening, Setting, describe
from av_assets.domain.scenes.objects import covered_share
from av_assets.domain.scenes.rows import SCENES, DriveRows, scene_rows, speed_band, uncovered_ns
from av_assets.policies.scenes import ScenesPolicy

NS = 1_000_000_000
POLICY = ScenesPolicy.load()


def clip(number: int, **values: Any) -> dict[str, Any]:
    times = {"start_ns": 5 * number * NS, "end_ns": 5 * (number + 1) * NS - NS // 10}
    known = {"mean_speed_mps": 10.5556, "light": "night", "h3_cell": "891f8d7a0cbffff"}
    return {"drive": "d", "clip_id": f"d/{number:05d}", **times, **known, **values}


def context(number: int, **values: Any) -> dict[str, Any]:
    known = {"road_class": "residential", "weather": "rain", "evidence_weather": None}
    return {"drive": "d", "clip_id": f"d/{number:05d}", **known, **values}


def happening(kind: str, start_s: float, end_s: float, level: int = 1, **evidence: Any) -> dict[str, Any]:
    times = {"start_ns": round(start_s * NS), "end_ns": round(end_s * NS)}
    return {
        "drive": "d",
        "kind": kind,
        "level": level,
        "peak": 1.0,
        "evidence": json.dumps(evidence),
        **times,
    }


def label(at_s: float, cls: str, box: tuple[float, float, float, float], **values: Any) -> dict[str, Any]:
    corners = dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))
    where = {"ref_ns": round(at_s * NS), "camera": "camera_front"}
    return {**where, **corners, "cls": cls, "occlusion": None, "distance_m": None, **values}


def made(**parts: Any) -> list[dict[str, Any]]:
    known: dict[str, Any] = {
        "drive": {"drive": "d", "weather": None, "zone": None},
        "clips": [clip(n) for n in range(3)],
        "context": [context(n) for n in range(3)],
        "events": [],
        "labels": [],
        "labelled": [],
    }
    table = scene_rows(DriveRows(**(known | parts)), POLICY)
    assert table.schema.equals(SCENES)
    rows = table.to_pylist()
    assert uncovered_ns((known | parts)["clips"], rows, POLICY) == 0
    return rows


def test_a_scene_tells_what_there_was() -> None:
    events = [
        happening("cut_in", 5, 7, side="left", gap_m=6.21),
        happening("harsh_brake", 7.5, 9, 2),
    ]
    near, far = (0.0, 0.0, 10.0, 10.0), (5.0, 0.0, 15.0, 10.0)
    labels = [
        *(label(6, "vehicle", near, distance_m=8.0) for _ in range(3)),
        label(6, "pedestrian", far, distance_m=12.0),
    ]
    [_, scene, _] = made(events=events, labels=labels)
    assert scene["description"] == (
        "Night, rain, residential road at 38 km/h: a vehicle cuts in from the left 6.2 m ahead, "
        "then harsh braking of level 2; 3 vehicles, 1 occluded pedestrian."
    )
    assert (scene["start_ns"], scene["end_ns"]) == (3 * NS, 11 * NS)
    assert scene["clip_ids"] == ["d/00000", "d/00001", "d/00002"]
    assert scene["kinds"] == ["cut_in", "harsh_brake"]
    assert scene["tags"] == [
        *(
            "event:cut_in",
            "event:harsh_brake",
            "light:night",
            "object:occluded_pedestrian",
            "object:pedestrian",
        ),
        *("object:vehicle", "road:residential", "weather:rain"),
    ]
    assert (scene["max_level"], scene["speed_band"], scene["weather_from"]) == (
        2,
        "30_to_50_kmph",
        "weather_table",
    )
    assert (scene["vehicles"], scene["pedestrians"], scene["occluded_pedestrians"]) == (3, 1, 1)
    assert (scene["occlusion_from"], scene["h3_cell"]) == ("nearer_boxes", "891f8d7a0cbffff")


def test_nothing_known_is_nothing_said() -> None:
    bare = [{"clip_id": "d/00000", "start_ns": 0, "end_ns": 5 * NS, "mean_speed_mps": None}]
    [scene] = made(clips=bare, context=[])
    assert scene["description"] == "No event."
    unknown = (
        "light weather weather_from road_class speed_band max_level vehicles pedestrians occluded_pedestrians"
    )
    assert {scene[name] for name in [*unknown.split(), "occlusion_from", "h3_cell"]} == {None}
    assert (scene["tags"], scene["kinds"]) == ([], [])


def test_weather_comes_from_the_best_source_there_is() -> None:
    def weather(drive: str | None, table: str | None, seen: str | None) -> tuple[Any, Any]:
        rows = [context(n, weather=table, evidence_weather=seen) for n in range(3)]
        [scene] = made(context=rows, drive={"drive": "d", "weather": drive})
        return scene["weather"], scene["weather_from"]

    assert weather("fog", "clear", "rain") == ("clear", "weather_table")
    assert weather("fog", None, "rain") == ("rain", "vehicle_evidence")
    assert weather("fog", None, None) == ("fog", "declared")
    assert weather(None, None, None) == (None, None)


def test_context_is_what_held_longest() -> None:
    [scene] = made(context=[context(0, road_class="motorway"), context(1, road_class=None), context(2)])
    assert scene["road_class"] == "motorway"  # its clip stands for 5 s, the last one for 4.9 s
    [scene] = made(clips=[clip(0, mean_speed_mps=0.0), clip(1, mean_speed_mps=float("nan")), clip(2)])
    assert scene["speed_band"] == "below_30_kmph"


def test_unknown_kind_of_event_is_told_and_tagged_as_such() -> None:
    [first, second] = made(events=[happening("wobble", 4, 5, 3)])
    assert "an event of kind wobble of level 3" in first["description"]
    assert "event:other" in first["tags"]
    assert second["kinds"] == []
    [first, _] = made(events=[happening("turn", 4, 5) | {"evidence": "{broken"}])
    assert "a turn" in first["description"]


def test_tags_are_terms_of_the_vocabulary() -> None:
    odd = [context(n, road_class="goat_path", weather="hail") for n in range(3)]
    [scene] = made(context=odd, drive={"drive": "d", "zone": "moon"})
    assert scene["tags"] == ["light:night"]
    assert (scene["weather"], scene["road_class"]) == ("hail", "goat_path")


class TestObjects:
    PERSON = (0.0, 0.0, 10.0, 20.0)

    def counts(self, *labels: dict[str, Any], labelled: tuple[float, ...] = ()) -> tuple[Any, ...]:
        frames = [("camera_front", round(at * NS)) for at in labelled]
        [scene] = made(labels=list(labels), labelled=frames)
        names = ("vehicles", "pedestrians", "occluded_pedestrians", "occlusion_from")
        return tuple(scene[name] for name in names)

    def test_are_null_where_no_frame_was_labelled(self) -> None:
        assert self.counts() == (None, None, None, None)
        assert self.counts(label(99, "vehicle", self.PERSON)) == (None, None, None, None)

    def test_are_zero_where_a_frame_was_labelled_and_empty(self) -> None:
        assert self.counts(labelled=(2.0,)) == (0, 0, 0, None)

    def test_are_the_most_in_one_frame(self) -> None:
        labels = [label(at, "vehicle", self.PERSON) for at in (1, 1, 2, 2, 2, 3)]
        assert self.counts(*labels) == (3, 0, 0, None)

    def test_occlusion_of_the_label_goes_before_that_of_the_boxes(self) -> None:
        threshold = POLICY.objects.occluded_share
        seen = label(1, "pedestrian", self.PERSON, occlusion=threshold - 0.01, distance_m=9.0)
        hidden = label(1, "pedestrian", self.PERSON, occlusion=threshold, distance_m=9.0)
        before = label(1, "vehicle", self.PERSON, distance_m=3.0)
        assert self.counts(seen, before) == (1, 1, 0, "label")
        assert self.counts(hidden, before) == (1, 1, 1, "label")

    def test_occlusion_is_null_where_nothing_tells_it(self) -> None:
        assert self.counts(label(1, "pedestrian", self.PERSON)) == (0, 1, None, None)

    def test_farther_boxes_hide_nobody(self) -> None:
        person = label(1, "pedestrian", self.PERSON, distance_m=9.0)
        assert self.counts(person, label(1, "vehicle", self.PERSON, distance_m=9.5))[2] == 0
        assert self.counts(person, label(1, "vehicle", self.PERSON, distance_m=8.5))[2] == 1
        assert self.counts(person, label(2, "vehicle", self.PERSON, distance_m=8.5))[2] == 0

    @given(st.lists(st.tuples(*[st.integers(0, 12)] * 4), max_size=5))
    def test_covered_share_is_that_of_counted_pixels(self, corners: list[tuple[int, int, int, int]]) -> None:
        box = label(1, "pedestrian", (2, 3, 10, 11))
        others = [label(1, "vehicle", c) for c in corners]
        picture = np.zeros((12, 12), dtype=bool)
        for x1, y1, x2, y2 in corners:
            picture[y1:y2, x1:x2] = True
        assert covered_share(box, others) == pytest.approx(picture[3:11, 2:10].mean())


@given(st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(chance: random.Random) -> None:
    events = [happening("turn", 4, 5), happening("cut_in", 4, 5), happening("cut_in", 6, 6, 2)]
    labels = [label(n, "vehicle", (0, 0, n, n), distance_m=n) for n in range(1, 9)]
    parts: dict[str, list[Any]] = {"events": events, "labels": labels, "clips": [clip(n) for n in range(3)]}
    mixed = {name: chance.sample(rows, len(rows)) for name, rows in parts.items()}
    assert made(**mixed) == made(**parts)


@pytest.mark.parametrize(
    ("happened", "told"),
    [
        (Happening("cut_in", 3, 1.0, {"side": "right"}), "A vehicle cuts in from the right (level 3)."),
        (Happening("stationary_hazard", 1, 3.0, {"gap_m": 12}), "Something stands in the path 12.0 m ahead."),
        (Happening("disengagement", 1, 2.0, {"initiator": "driver"}), "The driver takes over."),
        (Happening("disengagement", 2, 2.0, {"initiator": "system"}), "The automation disengages."),
        (Happening("disengagement", 2, 2.0, {"initiator": "unknown"}), "The automation is disengaged."),
        (Happening("lane_change", 1, 3.5, {"side": "left"}), "A lane change to the left."),
        (Happening("turn", 1, 1.5, {"side": "left"}), "A left turn."),
        (Happening("hard_cornering", 2, 5.0, {}), "Hard cornering of level 2."),
        (Happening("conflict", 2, 1.24, {"measure": "ttc"}), "A conflict (TTC 1.2 s)."),
        (Happening("conflict", 2, None, {}), "A conflict of level 2."),
        (Happening("rss_violation", 1, 9.0, {"gap_m": 12, "safe_gap_m": 30}),
         "The safe distance is violated (12.0 m instead of 30.0 m)."),
    ],
)  # fmt: skip
def test_every_kind_has_its_words(happened: Happening, told: str) -> None:
    assert describe(Setting(), [happened], None, None, None) == told


def test_long_lists_are_cut_and_counted_and_standing_is_said() -> None:
    many = [Happening("turn", 1)] * 6
    text = describe(Setting(light="day", speed_mps=0.1, road_class="motorway_link"), many, 1, 3, 1)
    start = "Day, slip road of a motorway, standing: "
    end = "then 2 more events; 1 vehicle, 1 occluded pedestrian, 2 pedestrians in view."
    assert text == start + ", then ".join(["a turn"] * 4) + ", " + end


def test_speed_bands_meet_without_a_gap() -> None:
    names = [speed_band(v, POLICY.speed_bands) for v in (None, 0.0, 0.5, 8.4, 13.9, 22.3, 33.4, 99.0)]
    assert names == [None, *(b.name for b in POLICY.speed_bands), "above_120_kmph"]


def test_gap_and_overlap_of_scenes_are_found() -> None:
    rows = made()
    clips = [clip(n) for n in range(3)]
    assert uncovered_ns(clips, [*rows, rows[0]], POLICY) == rows[0]["end_ns"] + 1
    assert uncovered_ns(clips, [rows[0] | {"start_ns": 7}], POLICY) == 7
    assert uncovered_ns(clips, [], POLICY) == rows[-1]["end_ns"] + 1
