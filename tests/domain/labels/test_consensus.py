"""Votes on boxes: order has no say, agreement removes nothing, half of the people are a dispute."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.labels.matching import iou_matrix
from av_assets.domain.labels.people.annotators import DrawnBox
from av_assets.domain.labels.people.consensus import places, settle, vote
from av_assets.domain.labels.schema import CLASSES
from av_assets.policies.annotation import AnnotationPolicy

POLICY = AnnotationPolicy.load()
# Few places and small sizes, so that boxes do meet; fractions, so that means are no multiples of anything.
drawn_box = st.builds(
    lambda cls, x, y, w, h: DrawnBox(cls, (x, y, x + w, y + h)),
    st.sampled_from(CLASSES[:2]),
    st.floats(0, 12),
    st.floats(0, 6),
    st.floats(8, 14),
    st.floats(8, 14),
)
opinion = st.lists(drawn_box, max_size=5)
opinions = st.lists(opinion, min_size=2, max_size=4)


def box(x: float, cls: str = "vehicle", side: float = 10.0) -> DrawnBox:
    return DrawnBox(cls, (x, 0.0, x + side, side))


def is_there(wanted: DrawnBox, boxes: tuple[DrawnBox, ...]) -> bool:
    same = [b.xyxy for b in boxes if b.cls == wanted.cls]
    return bool(same) and iou_matrix([wanted.xyxy], same).max() >= POLICY.agree_iou - 1e-9


@settings(deadline=None)
@given(opinions, st.randoms())
def test_the_order_of_people_and_boxes_has_no_say(people: list[list[DrawnBox]], luck) -> None:
    shuffled = [luck.sample(boxes, len(boxes)) for boxes in luck.sample(people, len(people))]
    one, two = vote(people, POLICY.agree_iou), vote(shuffled, POLICY.agree_iou)
    assert sorted(one.agreed, key=repr) == sorted(two.agreed, key=repr)
    assert sorted(one.tied, key=repr) == sorted(two.tied, key=repr)


@settings(deadline=None, max_examples=300)
@given(opinions)
def test_one_more_person_who_agrees_removes_nothing(people: list[list[DrawnBox]]) -> None:
    before = vote(people, POLICY.agree_iou).agreed
    after = vote([*people, list(before)], POLICY.agree_iou).agreed
    assert all(is_there(wanted, after) for wanted in before)


@settings(deadline=None, max_examples=300)
@given(opinions, opinion)
def test_nor_does_who_comes_after_a_decision(people: list[list[DrawnBox]], judge: list[DrawnBox]) -> None:
    before = settle(people, judge, POLICY)
    after = settle([*people, list(before)], judge, POLICY)
    assert all(is_there(wanted, after) for wanted in before)


@settings(deadline=None)
@given(opinions)
def test_final_boxes_are_wanted_by_more_than_half_and_do_not_double(people: list[list[DrawnBox]]) -> None:
    agreed = vote(people, POLICY.agree_iou).agreed
    for i, one in enumerate(agreed):
        # Half an overlap is left of `agree_iou` after taking the mean; a box that nobody drew there has none.
        near = [
            any(b.cls == one.cls and iou_matrix([one.xyxy], [b.xyxy])[0, 0] > 0.5 for b in p) for p in people
        ]
        assert 2 * sum(near) > len(people)
        others = [b for j, b in enumerate(agreed) if j != i and b.cls == one.cls]
        assert not any(iou_matrix([one.xyxy], [b.xyxy])[0, 0] >= POLICY.agree_iou for b in others)


@settings(deadline=None)
@given(opinion)
def test_one_opinion_twice_is_agreed_on_but_for_doubles_in_it(boxes: list[DrawnBox]) -> None:
    result = vote([boxes, boxes], POLICY.agree_iou)
    assert result.open == ()
    assert all(is_there(wanted, result.agreed) for wanted in boxes)


def test_two_who_see_different_things_dispute_and_three_outvote() -> None:
    both, extra = box(0), box(50)
    two = vote([[both, extra], [both]], POLICY.agree_iou)
    assert (two.agreed, two.tied, two.outvoted) == ((both,), (extra,), ())
    three = vote([[both, extra], [both], [both]], POLICY.agree_iou)
    assert (three.tied, three.outvoted) == ((), (extra,))
    assert vote([[both, extra], [both, extra], [both]], POLICY.agree_iou).agreed == (both, extra)


def test_corners_are_the_mean_of_those_who_agree() -> None:
    (agreed,) = vote([[box(0)], [box(1)]], POLICY.agree_iou).agreed
    assert agreed.xyxy == pytest.approx((0.5, 0.0, 10.5, 10.0))


def test_another_class_at_one_place_is_one_dispute() -> None:
    result = vote([[box(0)], [box(0.5, "pedestrian")]], POLICY.agree_iou)
    assert len(result.tied) == 2
    assert places(result.tied, POLICY.match_iou) == 1


def test_the_third_person_decides_where_somebody_drew_and_nowhere_else() -> None:
    people = [[box(0), box(50)], [box(0), box(100, "pedestrian")]]
    judged = settle(people, [box(0.5), box(50.5, "cone"), box(200)], POLICY)
    assert [(b.cls, b.xyxy[0]) for b in judged] == [("vehicle", 0.0), ("cone", 50.5)]
