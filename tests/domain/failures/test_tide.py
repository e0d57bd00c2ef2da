"""Kinds of errors against hand-made cases of the paper's figure, and what must hold whatever is detected."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.failures.tide import (
    CORRECT,
    FALSE,
    IGNORED,
    KINDS,
    MISSED,
    Errors,
    classify,
    costs,
    map_after,
)
from av_assets.domain.metrics.boxes import Boxes, iou
from av_assets.domain.metrics.matching import map50, match

OBJECT = [0.0, 0.0, 10.0, 10.0]
HALF_OFF = [0.0, 0.0, 10.0, 3.0]  # IoU 0.3 with OBJECT
ELSEWHERE = [50.0, 50.0, 60.0, 60.0]


def errors_of(
    truth: list[tuple[list[float], int]],
    found: list[tuple[list[float], int, float]],
    ignore: list[bool] | None = None,
    classes: int = 3,
) -> Errors:
    objects = Boxes.of_frame(0, [b for b, _ in truth], [c for _, c in truth])
    seen = Boxes.of_frame(0, [b for b, *_ in found], [c for _, c, _ in found], [s for *_, s in found])
    ignored = np.array(ignore if ignore is not None else [False] * len(truth), bool)
    return classify(objects, seen, ignored, classes)


@pytest.mark.parametrize(
    ("box", "cls", "kind", "is_missed"),
    [
        (OBJECT, 1, "classification", False),  # in place, of another class
        (HALF_OFF, 0, "localisation", False),  # of the class, out of place
        (HALF_OFF, 1, "both", True),
        (ELSEWHERE, 0, "background", True),
        ([0.0, 0.0, 10.0, 1.0], 0, "localisation", False),  # IoU 0.1 is t_b: the object is still aimed at
        ([0.0, 0.0, 10.0, 0.9], 0, "background", True),
        ([0.0, 0.0, 10.0, 1.0], 1, "background", True),
        ([0.0, 0.0, 10.0, 5.0], 1, "classification", False),  # IoU 0.5 is t_f
    ],
)
def test_one_wrong_detection(box: list[float], cls: int, kind: str, is_missed: bool) -> None:
    errors = errors_of([(OBJECT, 0)], [(box, cls, 0.9)])
    assert errors.counts() == dict.fromkeys(KINDS, 0) | {kind: 1, MISSED: int(is_missed)}
    assert errors.covered.tolist() == [not is_missed]
    assert errors.target[0] == (-1 if kind in ("both", "background") else 0)


def test_the_second_detection_of_an_object_is_a_duplicate() -> None:
    errors = errors_of([(OBJECT, 0)], [(OBJECT, 0, 0.5), (OBJECT, 0, 0.9)])
    assert [FALSE[errors.kind[0]], int(errors.kind[1])] == ["duplicate", CORRECT]
    assert not errors.missed.any()
    assert errors.target.tolist() == [0, 0]


def test_a_missed_object_is_one_that_nothing_aims_at() -> None:
    errors = errors_of([(OBJECT, 0), (ELSEWHERE, 1)], [(HALF_OFF, 0, 0.9)])
    assert errors.missed.tolist() == [False, True]


def test_what_lies_on_an_ignored_object_is_no_error() -> None:
    errors = errors_of([(OBJECT, 0)], [(OBJECT, 0, 0.9), (HALF_OFF, 0, 0.8)], [True])
    assert errors.kind.tolist() == [IGNORED, IGNORED]
    assert sum(errors.counts().values()) == 0
    assert map_after(errors) is None
    assert costs(errors) == dict.fromkeys(KINDS)


def test_boxes_of_other_pictures_are_no_business_of_this_one() -> None:
    truth = Boxes.of_frame(0, [OBJECT], [0])
    found = Boxes.of_frame(1, [OBJECT], [0], [0.9])
    errors = classify(truth, found, np.zeros(1, bool), 1)
    assert errors.counts() == dict.fromkeys(KINDS, 0) | {"background": 1, MISSED: 1}


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        ([(OBJECT, 1, 0.9)], "classification"),
        ([(HALF_OFF, 0, 0.9)], "localisation"),
        ([], MISSED),
    ],
)
def test_correcting_the_only_error_makes_everything_right(
    found: list[tuple[list[float], int, float]], kind: str
) -> None:
    errors = errors_of([(OBJECT, 0)], found)
    assert map_after(errors) == 0.0
    assert map_after(errors, (kind,)) == 1.0
    assert costs(errors)[kind] == 1.0


def test_a_false_positive_above_the_right_one_costs_half() -> None:
    errors = errors_of([(OBJECT, 0)], [(ELSEWHERE, 0, 0.9), (OBJECT, 0, 0.5)])
    assert map_after(errors) == pytest.approx(0.5)
    assert costs(errors) == pytest.approx(dict.fromkeys(KINDS, 0.0) | {"background": 0.5})


def test_two_corrected_detections_of_one_object_leave_the_better_one() -> None:
    errors = errors_of([(OBJECT, 0)], [(HALF_OFF, 0, 0.9), ([0, 0, 10, 4], 0, 0.8)])
    assert errors.counts()["localisation"] == 2
    assert map_after(errors, ("localisation",)) == 1.0


def test_fixing_what_a_correct_detection_outranks_changes_nothing() -> None:
    errors = errors_of([(OBJECT, 0)], [(OBJECT, 0, 0.9), (HALF_OFF, 0, 0.5)])
    assert errors.counts()["localisation"] == 1
    assert map_after(errors) == map_after(errors, ("localisation",)) == 1.0


corner = st.integers(0, 12)
box = st.tuples(corner, corner, st.integers(1, 8), st.integers(1, 8)).map(
    lambda v: [float(v[0]), float(v[1]), float(v[0] + v[2]), float(v[1] + v[3])]
)
cases = st.tuples(
    st.lists(st.tuples(st.integers(0, 2), box, st.integers(0, 2), st.booleans()), max_size=8),
    st.lists(st.tuples(st.integers(0, 2), box, st.integers(0, 2), st.integers(1, 9)), max_size=12),
)


def drawn(case: tuple[list, list]) -> tuple[Boxes, Boxes, np.ndarray]:
    truth, found = case
    objects = Boxes.concat([Boxes.of_frame(f, [b], [c]) for f, b, c, _ in truth])
    seen = Boxes.concat([Boxes.of_frame(f, [b], [c], [s / 10]) for f, b, c, s in found])
    return objects, seen, np.array([i for *_, i in truth], bool)


@given(cases)
def test_every_detection_and_every_object_is_accounted_for_once(case: tuple[list, list]) -> None:
    truth, found, ignore = drawn(case)
    errors, matches = classify(truth, found, ignore, 3), match(truth, found, ignore, 3)
    false = sum(count for kind, count in errors.counts().items() if kind != MISSED)
    assert false + int((errors.kind == CORRECT).sum()) + int((errors.kind == IGNORED).sum()) == len(found)
    assert ((errors.kind == CORRECT) == matches.correct).all()
    assert ((errors.kind == IGNORED) == matches.ignored).all()
    detected = int((errors.kind == CORRECT).sum())
    assert detected + int(errors.missed.sum()) + int(errors.covered.sum()) + int(ignore.sum()) == len(truth)
    found_objects = errors.target[errors.kind == CORRECT]
    assert len(set(found_objects.tolist())) == detected  # no object is found twice


@given(cases)
def test_kinds_keep_to_their_definitions(case: tuple[list, list]) -> None:
    """By brute force over all objects of the picture, without the module's tables."""
    truth, found, ignore = drawn(case)
    errors = classify(truth, found, ignore, 3)
    for row, kind in enumerate(errors.kind.tolist()):
        if kind < 0:
            continue
        counted = [i for i in range(len(truth)) if truth.frame[i] == found.frame[row] and not ignore[i]]
        overlap = {i: float(iou(found.xyxy[row : row + 1], truth.xyxy[i : i + 1])[0, 0]) for i in counted}
        own = max((v for i, v in overlap.items() if truth.cls[i] == found.cls[row]), default=0.0)
        other = max((v for i, v in overlap.items() if truth.cls[i] != found.cls[row]), default=0.0)
        if FALSE[kind] == "localisation":
            assert 0.1 <= own < 0.5
        elif FALSE[kind] == "classification":
            assert other >= 0.5
        elif FALSE[kind] == "duplicate":
            assert own >= 0.5
        elif FALSE[kind] == "background":
            assert max(own, other) <= 0.1
        else:
            assert own < 0.1 < other < 0.5


@given(cases)
def test_identities_of_average_precision(case: tuple[list, list]) -> None:
    truth, found, ignore = drawn(case)
    errors = classify(truth, found, ignore, 3)
    before = map_after(errors)
    if before is None:
        assert map50(truth, found, ignore, 3) is None
        return
    assert before == pytest.approx(map50(truth, found, ignore, 3))
    assert map_after(errors, KINDS) == pytest.approx(1.0)  # all corrected is perfect
    for kind in ("both", "duplicate", "background", MISSED):
        assert map_after(errors, (kind,)) >= before - 1e-12  # taking away what is wrong never hurts
