"""What becomes of frames: two people for every final label, good and bad annotators told apart, lots judged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_work import KnownFrames, no_proposals, submission, task, things

from av_assets.domain.labels.matching import iou_matrix
from av_assets.domain.labels.people.account import own_reviews
from av_assets.domain.labels.people.annotators import DrawnBox
from av_assets.domain.labels.people.decisions import decide, decide_frame
from av_assets.domain.labels.people.drawing import draw_submissions
from av_assets.domain.labels.people.label_qa import opinions_on_things, people_report, skills
from av_assets.domain.labels.people.priority import FrameValue
from av_assets.domain.labels.people.submissions import Submission
from av_assets.domain.labels.people.tasks import PlannedFrame, plan_tasks
from av_assets.domain.labels.schema import CLASSES
from av_assets.policies.annotation import AnnotationPolicy, AnnotatorProfile

POLICY = AnnotationPolicy.load()
NAMES = ("anna", "ben", "carla", "dora")
some_boxes = st.lists(
    st.builds(
        lambda cls, x, w: DrawnBox(cls, (x, 0.0, x + w, 10.0)),
        st.sampled_from(CLASSES[:2]), st.floats(0, 25), st.floats(8, 12),
    ),
    max_size=4,
)  # fmt: skip
# Every person has one role at most, as the rules for submissions see to.
work = st.dictionaries(
    st.sampled_from(NAMES), st.tuples(st.sampled_from(["annotate", "review", "adjudicate"]), some_boxes)
)


def submissions(one, done) -> list[Submission]:
    return [submission(one, who, boxes, role) for who, (role, boxes) in done.items()]


@settings(deadline=None, max_examples=300)
@given(
    st.integers(1, 2),
    work,
    st.sets(st.sampled_from(NAMES), max_size=2),
    st.sampled_from(["", "lot"]),
    st.randoms(),
)
def test_final_implies_two_people_and_order_has_no_say(wanted, done, barred, second_look, luck) -> None:
    one = task(wanted=wanted)
    given_work = submissions(one, done)
    frame = decide_frame(one, given_work, POLICY, frozenset(barred), second_look)
    again = decide_frame(
        one, luck.sample(given_work, len(given_work)), POLICY, frozenset(barred), second_look
    )
    assert (frame.boxes, frame.history.steps, frame.need) == (again.boxes, again.history.steps, again.need)
    assert list(own_reviews(frame.history.rows())) == []
    assert (frame.state == "final") == (frame.need is None)
    if frame.state == "final":
        assert len(set(frame.people)) == len(frame.people) >= 2
        assert set(frame.people) <= set(done)
    else:
        assert frame.boxes == ()
        assert frame.need is not None
        assert not (frame.need.role != "adjudicate" and set(done) - frame.need.excluded)


@settings(deadline=None, max_examples=300)
@given(st.integers(1, 2), work, st.sampled_from(["annotate", "review", "adjudicate"]))
def test_one_more_agreeing_submission_never_removes_a_final_box(wanted, done, role) -> None:
    one = task(wanted=wanted)
    before = decide_frame(one, submissions(one, done), POLICY)
    if before.state != "final":
        return
    more = submission(one, "emil", before.boxes, role)
    after = decide_frame(one, [*submissions(one, done), more], POLICY)
    assert after.state == "final"
    for wanted_box in before.boxes:
        same = [b.xyxy for b in after.boxes if b.cls == wanted_box.cls]
        assert same
        assert iou_matrix([wanted_box.xyxy], same).max() >= POLICY.agree_iou - 1e-9


def test_the_way_of_a_frame_that_is_drawn_once() -> None:
    one, boxes = task(wanted=1), things(6)
    assert decide([one], [], {}, POLICY).frames[one.task_id].state == "queued"
    drawn = [submission(one, "anna", boxes)]
    frame = decide_frame(one, drawn, POLICY)
    assert (frame.state, frame.need.role, frame.need.excluded) == ("in_review", "review", {"anna"})
    seen = decide_frame(one, [*drawn, submission(one, "ben", boxes[:5], "review")], POLICY)
    assert (seen.state, len(seen.boxes), seen.people) == ("final", 5, ("anna", "ben"))
    changed = [*drawn, submission(one, "ben", boxes[:1], "review")]
    frame = decide_frame(one, changed, POLICY)
    assert (frame.state, frame.need.role, frame.need.excluded) == (
        "adjudication",
        "adjudicate",
        {"anna", "ben"},
    )
    judged = decide_frame(one, [*changed, submission(one, "dora", boxes, "adjudicate")], POLICY)
    assert (judged.state, len(judged.boxes), judged.people) == ("final", 6, ("anna", "ben", "dora"))


def test_beyond_the_budget_a_frame_waits_and_says_so() -> None:
    one = task(wanted=0)
    frame = decide_frame(one, [], POLICY)
    assert frame.state == "queued"
    assert "budget" in frame.history.rows()[0]["reason"]


def profile(name: str, error: float) -> AnnotatorProfile:
    return AnnotatorProfile(
        name=name, jitter_px=0.3, jitter_share=0.01, bias_share=0.0, miss_rate=error, confusion_rate=error / 2,
        false_rate=0.0, trusts_iou=0.95, frame_s=5.0, object_s=4.0,
    )  # fmt: skip


RATES = {"anna": 0.02, "ben": 0.15, "carla": 0.45}
MIXED = POLICY.model_copy(update={"annotators": tuple(profile(n, r) for n, r in RATES.items())})


def drive(frames: int, wanted: int, gold_every: int, policy: AnnotationPolicy, stratum: str = ""):
    tasks = [task(n, wanted, gold=n % gold_every == 0, stratum=stratum) for n in range(frames)]
    truth = KnownFrames({n: things(12, n) for n in range(frames)})
    gold = {t.task_id: truth.boxes(t) for t in tasks if t.gold}
    return tasks, truth, gold, draw_submissions(tasks, no_proposals(), truth, gold, policy, 3)


def test_good_and_bad_annotators_are_found_in_the_right_order() -> None:
    tasks, _, gold, drawn = drive(40, 2, 4, MIXED)
    decisions = decide(tasks, drawn, gold, MIXED)
    skill = skills(opinions_on_things(drawn, MIXED.match_iou))
    report = people_report(drawn, decisions.gold, skill)
    assert sorted(RATES, key=lambda n: -report[n]["skill"]) == list(RATES)
    assert sorted(RATES, key=lambda n: -report[n]["gold_f1"]) == list(RATES)
    assert report["anna"]["skill"] == pytest.approx(0.97, abs=0.08)
    assert report["anna"]["standing"] == "good"


def test_single_work_of_who_fails_known_answers_is_drawn_by_somebody_else() -> None:
    tasks, _, gold, drawn = drive(40, 1, 2, MIXED)
    decisions = decide(tasks, drawn, gold, MIXED)
    assert decisions.gold["carla"].standing == "below floor"
    assert decisions.gold["anna"].standing == "good"
    by_carla = {s.task_id for s in drawn if s.annotator == "carla" and s.role == "annotate"}
    assert by_carla
    for key in by_carla:
        frame = decisions.frames[key]
        assert "rework" in [step.state_to for step in frame.history.steps]
        assert "carla" not in frame.people
    assert {frame.state for frame in decisions.frames.values()} == {"final"}


def test_nobody_can_see_which_answers_are_known() -> None:
    tasks, truth, _, drawn = drive(12, 2, 3, POLICY)
    blind = [task(n, 2, gold=False) for n in range(12)]
    assert drawn == draw_submissions(blind, no_proposals(), truth, {}, POLICY, 3)
    assert any(t.gold for t in tasks)


def test_one_task_more_changes_nothing_in_the_others_and_a_seed_changes_all() -> None:
    truth = KnownFrames({n: things(6, n) for n in range(9)})
    few, more = [task(n) for n in range(8)], [task(n) for n in range(9)]
    one = draw_submissions(few, no_proposals(), truth, {}, POLICY, 3)
    two = draw_submissions(more, no_proposals(), truth, {}, POLICY, 3)
    assert {s.submission_id: s for s in one}.items() <= {s.submission_id: s for s in two}.items()
    assert one != draw_submissions(few, no_proposals(), truth, {}, POLICY, 4)


def test_simulated_people_go_on_where_real_ones_stopped() -> None:
    one, boxes = task(), things(5)
    real = submission(one, "maria", boxes)
    drawn = draw_submissions([one], no_proposals(), KnownFrames({0: boxes}), {}, POLICY, 3, [real])
    assert {s.role for s in drawn} <= {"annotate", "adjudicate"}
    assert sum(s.role == "annotate" for s in drawn) == 1
    assert decide_frame(one, [real, *drawn], POLICY).people[:2] == (drawn[0].annotator, "maria")


@pytest.mark.parametrize(("miss", "verdict"), [(0.0, "accepted"), (0.4, "refused")])
def test_a_lot_is_refused_where_its_sample_is_bad_and_everything_is_drawn_twice(
    miss: float, verdict: str
) -> None:
    people = tuple(profile(n, miss) for n in RATES)
    policy = POLICY.model_copy(
        update={"annotators": people, "sampling_plan": "acceptance", "gold_floor": 0.0}
    )
    tasks = [task(n, 2, stratum="acceptance") for n in range(8)] + [task(n, 1) for n in range(8, 40)]
    truth = KnownFrames({n: things(8, n) for n in range(40)})
    drawn = draw_submissions(tasks, no_proposals(), truth, {}, policy, 1)
    decisions = decide(tasks, drawn, {}, policy)
    assert decisions.lot is not None
    assert decisions.lot.verdict == verdict
    twice = sum(s.role == "annotate" for s in drawn)
    assert twice == (48 if verdict == "accepted" else 80)
    assert {frame.state for frame in decisions.frames.values()} == {"final"}


def test_final_boxes_are_close_to_the_truth_after_review_and_after_two_annotations() -> None:
    for wanted in (1, 2):
        tasks, truth, gold, drawn = drive(30, wanted, 10, POLICY)
        found, missed, wrong, overlaps = 0, 0, 0, []
        frames = decide(tasks, drawn, gold, POLICY).frames
        for one in tasks:
            frame = frames[one.task_id]
            overlap = iou_matrix([b.xyxy for b in truth.boxes(one)], [b.xyxy for b in frame.boxes])
            best = overlap.max(axis=1)
            found, missed = found + int((best > 0.5).sum()), missed + int((best <= 0.5).sum())
            wrong += int((overlap.max(axis=0) <= 0.5).sum())
            overlaps += best[best > 0.5].tolist()
        assert found / (found + missed) >= 0.98
        assert wrong <= 2
        assert np.mean(overlaps) > 0.88


def planned(number: int, *classes: str) -> PlannedFrame:
    value = FrameValue(number / 100, 1.0, 1.0)
    at = (task(number).task_id, "clip", number, "camera_front", number, 640, 384, "0" * 64)
    return PlannedFrame(*at, frozenset(classes), len(classes), value)


@pytest.mark.parametrize("plan", ["stratified", "acceptance"])
def test_plans_draw_all_safety_frames_twice_and_of_the_others_a_sample(plan: str) -> None:
    policy = POLICY.model_copy(update={"sampling_plan": plan, "error_margin": 0.2, "budget_minutes": 1e6})
    frames = [
        planned(n, "pedestrian", "vehicle") if n % 10 == 0 else planned(n, *["vehicle"] * (n % 3))
        for n in range(90)
    ]
    tasks, figures = plan_tasks(frames, policy, np.random.default_rng(0), None)
    again, _ = plan_tasks(frames, policy, np.random.default_rng(0), None)
    assert tasks == again
    assert {t.task_id for t in tasks if t.stratum == "safety"} == {
        f.task_id for f in frames if "pedestrian" in f.classes
    }
    assert [t.stratum for t in tasks[:9]] == ["safety"] * 9
    assert all((t.annotations_wanted == 1) == (t.stratum == "review") for t in tasks)
    sampled = [t for t in tasks if t.stratum in ("sample", "acceptance")]
    if plan == "acceptance":
        assert (figures["sampling"]["letter"], figures["sampling"]["lot"]) == ("E", 81)
        assert len(sampled) == figures["sampling"]["sample"] == 13
    else:
        strata = [figures["sampling"][name] for name in ("empty", "few", "many")]
        assert sum(s["frames"] for s in strata) == 81
        assert len(sampled) == sum(s["sample"] for s in strata) < 81
    assert sum(t.gold for t in tasks) == 9
