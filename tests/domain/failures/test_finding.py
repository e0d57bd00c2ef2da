"""From what a model saw to failures: which frames count, and what each kind of evidence adds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from av_assets.domain.errors import ModelError
from av_assets.domain.failures.cases import cases_of
from av_assets.domain.failures.doubt import Seen
from av_assets.domain.failures.finding import DriveEvidence, find_failures
from av_assets.domain.failures.reports import ERRORS, failure_report, kinds_png
from av_assets.policies.failures import Bound, FailurePolicy

CLASSES = ("vehicle", "pedestrian")
EVERYTHING = Bound(share=1.0, least=0.5)
POLICY = FailurePolicy.load().model_copy(
    update={
        "erring": EVERYTHING,
        "uncertain": EVERYTHING,
        "disagreeing": EVERYTHING,
        "flickering": EVERYTHING,
    }
)
CLIP, STEP_NS = "veh001/00000", 100_000_000


def seen(number: int, *found: tuple[float, float, int]) -> Seen:
    boxes = np.array([[x, 0, x + 20, 20] for x, *_ in found], np.float32).reshape(-1, 4)
    scores, classes = ([f[i] for f in found] for i in (1, 2))
    return Seen(number * STEP_NS, boxes, np.array(scores, np.float32), np.array(classes, np.int64))


def label(x: float, cls: str = "vehicle", **more: Any) -> dict[str, Any]:
    return {"cls": cls, "x1": x, "y1": 0.0, "x2": x + 20, "y2": 20.0, "distance_m": 12.0} | more


def frame(number: int) -> tuple[str, int]:
    return CLIP, number * STEP_NS


def test_errors_are_told_with_class_and_distance() -> None:
    evidence = DriveEvidence("veh001", {frame(0): seen(0, (100, 0.9, 0))}, labelled={frame(0): [label(0)]})
    found = find_failures([evidence], CLASSES, POLICY)
    assert sorted((f[2], tuple(f[4])) for f in found.failures) == [
        ("background", ("class:vehicle", "distance:unknown")),
        ("missed", ("class:vehicle", "distance:below-15m")),
    ]
    assert (found.labelled, found.map50()) == (1, 0.0)
    missed = next(row for row in found.rows if row["kind"] == "missed")
    assert (missed["score"], missed["predicted_cls"], missed["x2"]) == (None, None, 20.0)
    assert pa.Table.from_pylist(found.rows, schema=ERRORS).num_rows == 2


def test_frames_that_were_learnt_from_say_nothing() -> None:
    frames = {frame(n): seen(n, (100, 0.9, 0)) for n in range(3)}
    labels = {frame(n): [label(0)] for n in range(3)}
    evidence = DriveEvidence("veh001", frames, frozenset({frame(0), frame(1)}), labels)
    found = find_failures([evidence], CLASSES, POLICY)
    assert (found.trained, found.labelled, found.looked_at) == (2, 1, {CLIP: 1})
    assert {f[1] for f in found.failures} == {2 * STEP_NS}
    assert found.bounds["flickering"]["known"] == 0


def test_unlabelled_frames_fail_by_doubt_and_disagreement_alone() -> None:
    evidence = DriveEvidence(
        "veh001",
        {frame(0): seen(0, (0, 0.5, 0)), frame(1): seen(1, (0, 0.99, 0))},
        others={frame(1): [label(200)]},
    )
    found = find_failures([evidence], CLASSES, POLICY)
    assert {(f[1], f[2]) for f in found.failures} == {(0, "uncertain"), (STEP_NS, "disagreeing")}
    assert (found.errors, found.kinds(), found.map50()) == (None, {}, None)
    report = failure_report(found, cases_of(found.looked_at, found.failures), [], [])
    assert (report["frames_labelled"], report["map50"], report["kinds"]) == (0, None, {})
    assert kinds_png(report, "r").startswith(b"\x89PNG")


def test_ignored_objects_are_those_of_the_evaluation() -> None:
    tiny = label(0) | {"x2": 4.0}
    hidden = label(50, occlusion=0.9)
    evidence = DriveEvidence("veh001", {frame(0): seen(0)}, labelled={frame(0): [tiny, hidden]})
    assert find_failures([evidence], CLASSES, POLICY).failures == []


def test_a_class_that_the_model_does_not_know_is_refused() -> None:
    evidence = DriveEvidence("veh001", {frame(0): seen(0)}, labelled={frame(0): [label(0, "tram")]})
    with pytest.raises(ModelError, match="tram") as refused:
        find_failures([evidence], CLASSES, POLICY)
    assert (refused.value.code, refused.value.drive) == ("class_mismatch", "veh001")


def test_no_drive_has_no_failure() -> None:
    found = find_failures([], CLASSES, POLICY)
    assert (found.failures, found.looked_at, found.units) == ([], {}, {})


def test_only_the_worst_frames_make_a_case() -> None:
    policy = POLICY.model_copy(
        update={"erring": Bound(share=0.1, least=2), "uncertain": Bound(share=0.1, least=2)}
    )
    frames = {frame(n): seen(n, (0, 0.99, 0)) for n in range(10)}
    labels = {frame(n): [label(0)] for n in range(9)} | {frame(9): [label(100), label(200), label(0)]}
    found = find_failures([DriveEvidence("veh001", frames, labelled=labels)], CLASSES, policy)
    assert {f[1] for f in found.failures} == {9 * STEP_NS}
    assert [row["hard"] for row in found.rows] == [True, True]
    assert found.bounds["erring"] == {"known": 10, "standing_out": 1}
    assert found.units == {(CLIP, 0): True}
