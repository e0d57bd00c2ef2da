"""Returned rows: each bad one is rejected with the rule that it breaks, and none is lost or counted twice."""

from __future__ import annotations

import json
from functools import partial
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_work import HEIGHT, WIDTH, returned, returned_box, task

from av_assets.domain.labels.exchange.returned import ReturnedSubmission
from av_assets.domain.labels.people.annotators import DrawnBox
from av_assets.domain.labels.people.submission_rules import WHOLE, Handed, box_facts, judge_submissions
from av_assets.mining.constrained_frames import frame_of, judge_boxes, returned_boxes
from av_assets.policies.annotation import AnnotationPolicy

POLICY = AnnotationPolicy.load()
TASKS = [task(n) for n in range(3)]
T0, T1 = TASKS[0].task_id, TASKS[1].task_id
PROPOSALS = {
    T0: [DrawnBox("vehicle", (300.0, 200.0, 360.0, 260.0)), DrawnBox("cone", (100.0, 100.0, 120.0, 140.0))]
}


def judge(*content: ReturnedSubmission, files: tuple[str, ...] = ()):
    names = files or ("a.json",) * len(content)
    handed = [Handed(name, n, one) for n, (name, one) in enumerate(zip(names, content, strict=True))]
    return judge_submissions(handed, TASKS, PROPOSALS, POLICY, partial(judge_boxes, POLICY))


BAD_SUBMISSIONS: dict[str, dict[str, Any]] = {
    "unknown_task": {"task_id": "veh999-20250601t080000z.camera_front.0"},
    "unknown_role": {"role": "boss"},
    "no_annotator": {"who": "  "},
    "wrong_picture_size": {"width": 1920, "height": 1080},
    "bad_seconds": {"seconds": -1.0},
}
BAD_BOXES = {
    "unknown_class": returned_box(cls="unicorn"),
    "empty_box": returned_box(x2=10.0),
    "not_finite": returned_box(y2=nan),
    "outside_picture": returned_box(x2=WIDTH + POLICY.box_tolerance_px + 0.1),
    "occlusion_out_of_range": returned_box(occlusion=1.2),
}


@pytest.mark.parametrize("constraint", BAD_SUBMISSIONS)
def test_a_bad_submission_is_rejected_with_all_its_boxes(constraint: str) -> None:
    facts = {"task_id": T0, "who": "anna"} | BAD_SUBMISSIONS[constraint]
    bad = returned(facts.pop("task_id"), facts.pop("who"), returned_box(), returned_box(x1=20), **facts)
    good = returned(T1, "ben", returned_box())
    judged = judge(bad, good)
    assert [s.annotator for s in judged.accepted] == ["ben"]
    assert [(r["row"], r["constraint"]) for r in judged.rejected] == [
        (WHOLE, constraint), (0, "submission_rejected"), (1, "submission_rejected"),
    ]  # fmt: skip
    assert json.loads(judged.rejected[0]["value"])["boxes"] == 2


@pytest.mark.parametrize("constraint", BAD_BOXES)
def test_a_bad_box_takes_its_submission_with_it_and_both_say_why(constraint: str) -> None:
    judged = judge(
        returned(T0, "anna", returned_box(), BAD_BOXES[constraint]), returned(T1, "anna", returned_box())
    )
    assert [s.task_id for s in judged.accepted] == [T1]
    assert [(r["row"], r["constraint"]) for r in judged.rejected] == [
        (WHOLE, "incomplete_submission"), (0, "submission_rejected"), (1, constraint),
    ]  # fmt: skip


BAD_SHAPES = {
    "inf": returned_box(x1=inf),
    "minus inf": returned_box(x1=-inf),
    "huge": returned_box(x1=1e300, x2=2e300),
    "negative": returned_box(x2=5.0),
    "thin": returned_box(x1=9.5, x2=10.0),
}


@pytest.mark.parametrize("bad", BAD_SHAPES.values(), ids=BAD_SHAPES)
def test_other_shapes_of_bad_boxes(bad) -> None:
    judged = judge(returned(T0, "anna", bad))
    assert judged.accepted == []
    assert judged.rejected[1]["constraint"] in ("not_finite", "empty_box")


def test_edges_a_little_outside_are_cut() -> None:
    (one,) = judge(returned(T0, "anna", returned_box(-1.5, -0.5, WIDTH + 2.0, HEIGHT))).accepted
    assert one.boxes[0].xyxy == (0.0, 0.0, WIDTH, HEIGHT)


def test_a_picture_without_objects_is_an_answer() -> None:
    (one,) = judge(returned("", "anna", file_name=f"{T0}.jpg")).accepted
    assert (one.task_id, one.boxes, one.origin) == (T0, (), "a.json")


def test_of_the_same_answer_twice_the_newer_one_counts() -> None:
    old = returned(T0, "anna", returned_box(), submitted_ns=1)
    new = returned(T0, "anna", returned_box(cls="cone"), submitted_ns=2)
    for content, files in (((new, old), ("a.json", "b.json")), ((old, new), ("b.json", "a.json"))):
        judged = judge(*content, files=files)
        assert [s.boxes[0].cls for s in judged.accepted] == ["cone"]
        assert [r["constraint"] for r in judged.rejected] == ["duplicate_submission", "submission_rejected"]
    undated = judge(returned(T0, "anna"), returned(T0, "anna", returned_box()), files=("b.json", "a.json"))
    assert [s.origin for s in undated.accepted] == ["b.json"]


@pytest.mark.parametrize(
    ("first", "second"), [("annotate", "review"), ("annotate", "adjudicate"), ("review", "adjudicate")]
)
def test_nobody_judges_their_own_work(first: str, second: str) -> None:
    for order in (1, -1):
        work = [returned(T0, "anna", returned_box(), role=r) for r in (first, second)][::order]
        judged = judge(*work)
        assert [s.role for s in judged.accepted] == [first]
        assert judged.rejected[0]["constraint"] == "self_review"
    others = judge(returned(T0, "anna", role=first), returned(T0, "ben", role=second))
    assert len(others.accepted) == 2


PIXELS = (returned_box(300, 200, 362, 262), returned_box(100, 102, 121, 141, cls="cone"))
SX, SY = 100 / WIDTH, 100 / HEIGHT
PERCENT = tuple(returned_box(b.x1 * SX, b.y1 * SY, b.x2 * SX, b.y2 * SY, cls=b.cls) for b in PIXELS)
SHARES = tuple(returned_box(b.x1 / 100, b.y1 / 100, b.x2 / 100, b.y2 / 100, cls=b.cls) for b in PERCENT)


@pytest.mark.parametrize("other", [PERCENT, SHARES], ids=["percent", "shares"])
def test_a_file_with_mixed_coordinates_is_rejected_as_a_whole_and_another_one_is_not(other) -> None:
    mixed = [returned(T0, "anna", *other), returned(T1, "anna", *PIXELS)]
    judged = judge(*mixed, returned(T0, "ben", *PIXELS), files=("a.json", "a.json", "b.json"))
    assert [s.origin for s in judged.accepted] == ["b.json"]
    assert {r["constraint"] for r in judged.rejected} == {"mixed_coordinates", "submission_rejected"}
    assert len(judged.rejected) == 6


@pytest.mark.parametrize(("boxes", "units"), [(PERCENT, "percent"), (SHARES, "normalised")])
def test_units_that_a_file_says_are_turned_into_pixels(boxes, units: str) -> None:
    (one,) = judge(returned(T0, "anna", *boxes, units=units)).accepted
    for drawn, meant in zip(one.boxes, PIXELS, strict=True):
        assert drawn.xyxy == pytest.approx((meant.x1, meant.y1, meant.x2, meant.y2))


def test_units_that_differ_within_a_file_are_mixed() -> None:
    judged = judge(returned(T0, "anna", *PERCENT, units="percent"), returned(T1, "anna", *PIXELS))
    assert judged.accepted == []


coordinate = st.one_of(st.floats(-5, 700), st.sampled_from([nan, inf, 0.5, 1e300]))
boxes = st.builds(
    returned_box, coordinate, coordinate, coordinate, coordinate,
    st.sampled_from(["vehicle", "cone", "tree", ""]), st.none(), st.one_of(st.none(), st.floats(-0.5, 1.5)),
)  # fmt: skip
submissions = st.builds(
    lambda task_id, who, drawn, role, units, stamp: returned(
        task_id, who, *drawn, role=role, units=units, submitted_ns=stamp
    ),
    st.sampled_from([T0, T1, "nowhere", ""]), st.sampled_from(["anna", "ben", ""]), st.lists(boxes, max_size=3),
    st.sampled_from(["annotate", "review", "adjudicate", "watch"]), st.sampled_from(["px", "px", "px", "percent"]),
    st.one_of(st.none(), st.integers(0, 3)),
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(["a.json", "b.xml"]), submissions), max_size=6))
def test_every_row_ends_in_exactly_one_place(content: list[tuple[str, ReturnedSubmission]]) -> None:
    handed = [Handed(name, n, one) for n, (name, one) in enumerate(content)]
    judged = judge_submissions(handed, TASKS, PROPOSALS, POLICY, partial(judge_boxes, POLICY))
    whole = {(r["origin"], r["submission"]) for r in judged.rejected if r["row"] == WHOLE}
    accepted = {s.submission_id for s in judged.accepted}
    assert len(whole) + len(accepted) == len(handed)
    assert accepted == {f"{h.file}#{h.number}" for h in handed if (h.file, h.number) not in whole}
    for one in handed:
        rows = [r["row"] for r in judged.rejected if (r["origin"], r["submission"]) == (one.file, one.number)]
        rejected = (one.file, one.number) in whole
        assert sorted(rows) == (list(range(WHOLE, len(one.content.boxes))) if rejected else [])
    rows = [box_facts(box, TASKS[0]) for s in judged.accepted for box in s.boxes]
    assert returned_boxes(POLICY).type_check(None, frame_of(rows)).success


@settings(deadline=None, max_examples=60)
@given(st.lists(boxes, min_size=1, max_size=5))
def test_row_by_row_says_what_the_constrained_frame_says(content) -> None:
    rows = [box_facts(DrawnBox(b.cls, (b.x1, b.y1, b.x2, b.y2), -1, b.occlusion), TASKS[0]) for b in content]
    bad = judge_boxes(POLICY, rows)
    whole = returned_boxes(POLICY).type_check(None, frame_of(rows))
    assert whole.success == (not bad)
    for place, row in enumerate(rows):
        alone = returned_boxes(POLICY).type_check(None, frame_of([row]))
        assert alone.success == (place not in bad)
