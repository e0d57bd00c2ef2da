"""Fusing what several sources saw: against hand-computed boxes, a second implementation, and in any order."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.labels.automatic.candidates import Candidate, PictureDetection
from av_assets.domain.labels.automatic.fusion import Sighting, fuse, fused_score, weighted_boxes
from av_assets.domain.labels.matching import iou_matrix
from av_assets.domain.labels.sensing.box_fit import Box3D
from av_assets.policies.label_fusion import LabelFusionPolicy

SHIPPED = LabelFusionPolicy.load()
SIZE = (640, 384)
CUBOID = Box3D(12.0, 0.0, 4.4, 1.8, 0.0, 1.5, 0.0)


class Sees:
    model_digest = "a" * 64

    def __init__(self, source: str, *classes: str) -> None:
        self.source, self.classes = source, frozenset(classes)

    def __call__(self, picture: np.ndarray) -> list[PictureDetection]:
        raise AssertionError("fusing looks at no picture")


DETECTORS = [Sees("camera", "vehicle", "pedestrian"), Sees("teacher", "vehicle", "pedestrian", "cone")]


def policy(**sources: dict[str, object]) -> LabelFusionPolicy:
    data = SHIPPED.model_dump(mode="json")
    for name, edits in sources.items():
        data["sources"][name] |= edits
    return LabelFusionPolicy.model_validate(data)


EQUAL = policy(
    **{
        name: {"score_weight": 1.0, "box_weight": 1.0, "alone": True, "min_score": 0.0, "least_height": {}}
        for name in SHIPPED.sources
    }
)


def seen_by_lidar(
    xyxy: tuple[float, float, float, float] | None, score: float, cls: str = "vehicle"
) -> Candidate:
    return Candidate("d/00000", 7, cls, score, xyxy, CUBOID, 30, {"lidar": score})


def test_two_boxes_of_one_thing_are_their_weighted_mean() -> None:
    first, second = (100.0, 100.0, 200.0, 200.0), (110.0, 100.0, 210.0, 200.0)
    [found] = fuse(
        [seen_by_lidar(first, 0.8)],
        {"camera": [PictureDetection("vehicle", second, 0.2)]},
        DETECTORS,
        SIZE,
        EQUAL,
    )
    # (0.8 * 100 + 0.2 * 110) / 1.0 and so on; no teacher looked at this frame, so it is not among those that missed.
    assert found.xyxy == pytest.approx((102.0, 100.0, 202.0, 200.0))
    assert found.score == pytest.approx((0.8 + 0.2) / 2)
    assert found.sources == {"camera": 0.2, "lidar": 0.8}
    assert found.blind == {"teacher"}
    assert (found.cuboid, found.points, found.clip_id, found.ref_ns) == (CUBOID, 30, "d/00000", 7)


def test_who_missed_it_counts_as_nothing_and_who_could_not_see_it_does_not_count() -> None:
    box = (100.0, 100.0, 200.0, 200.0)
    missed = fuse([seen_by_lidar(box, 0.8)], {"camera": []}, DETECTORS, SIZE, EQUAL)
    assert missed[0].score == pytest.approx(0.4)
    [cone] = fuse([seen_by_lidar(box, 0.8, "cone")], {"camera": []}, DETECTORS, SIZE, EQUAL)
    assert cone.score == pytest.approx(0.8)  # the camera knows no cones
    small = policy(camera={"least_height": {"vehicle": 0.5}})
    [found] = fuse([seen_by_lidar(box, 0.8)], {"camera": []}, DETECTORS, SIZE, small)
    assert "camera" in found.blind
    assert found.score == pytest.approx(0.8)
    [beside] = fuse([seen_by_lidar(None, 0.8)], {"camera": [], "teacher": []}, DETECTORS, SIZE, EQUAL)
    assert beside.blind == {"camera", "teacher"}
    assert beside.score == pytest.approx(0.8)


def test_what_no_sweep_showed_is_no_fault_of_the_lidar() -> None:
    seen = {"camera": [PictureDetection("vehicle", (10.0, 10.0, 90.0, 90.0), 0.6)]}
    [without] = fuse(None, seen, DETECTORS, SIZE, EQUAL, ("d/00001", 9))
    assert without.blind == {"lidar", "teacher"}
    assert without.score == pytest.approx(0.6)
    assert (without.clip_id, without.ref_ns, without.cuboid) == ("d/00001", 9, None)
    [missed] = fuse([], seen, DETECTORS, SIZE, EQUAL)
    assert missed.score == pytest.approx(0.3)
    far = policy(lidar={"least_height": {"vehicle": 0.5}}, camera={"alone": True, "least_height": {}})
    [found] = fuse([], seen, DETECTORS, SIZE, far)
    assert "lidar" in found.blind  # so low a box lies beyond its range


def test_as_shipped_the_pretrained_detector_makes_no_candidate_and_moves_no_box() -> None:
    box = (100.0, 100.0, 200.0, 200.0)
    seen = {"camera": [PictureDetection("vehicle", (105.0, 95.0, 205.0, 205.0), 0.9),
                       PictureDetection("pedestrian", (400.0, 100.0, 450.0, 300.0), 0.9)]}  # fmt: skip
    [alone] = fuse([seen_by_lidar(box, 0.8)], {"camera": []}, DETECTORS, SIZE, SHIPPED)
    [found] = fuse([seen_by_lidar(box, 0.8)], seen, DETECTORS, SIZE, SHIPPED)
    assert found.xyxy == box
    assert alone.score < found.score
    assert alone.score > 0.95 * 0.8


def test_a_thing_takes_one_box_of_a_source_so_two_cars_stay_two() -> None:
    near, behind = (100.0, 100.0, 200.0, 200.0), (105.0, 100.0, 205.0, 200.0)
    found = fuse([seen_by_lidar(near, 0.8), seen_by_lidar(behind, 0.7)], {}, DETECTORS, SIZE, SHIPPED)
    assert [c.xyxy for c in found] == [near, behind]


def test_classes_never_mix() -> None:
    box = (100.0, 100.0, 200.0, 200.0)
    seen = {"camera": [PictureDetection("pedestrian", box, 0.5)]}
    found = fuse([seen_by_lidar(box, 0.8)], seen, DETECTORS, SIZE, EQUAL)
    assert [c.cls for c in found] == ["vehicle", "pedestrian"]


coordinates = st.integers(0, 8).map(lambda n: n * 10.0)
boxes = st.tuples(coordinates, coordinates, st.integers(2, 6), st.integers(2, 6)).map(
    lambda b: (b[0], b[1], b[0] + 10.0 * b[2], b[1] + 10.0 * b[3])
)
scores = st.sampled_from([0.3, 0.35, 0.5, 0.7, 0.9])
detections = st.lists(
    st.builds(PictureDetection, st.sampled_from(["vehicle", "pedestrian", "cone"]), boxes, scores), max_size=5
)


@given(st.lists(st.tuples(boxes, scores), max_size=5), detections, detections, st.randoms())
def test_the_order_of_the_inputs_changes_nothing(
    lidar: list, camera: list, teacher: list, rng: random.Random
) -> None:
    def run(a: list, b: list, c: list, sources: list[str]) -> list:
        seen = {"camera": b, "teacher": c}
        things = [seen_by_lidar(box, score) for box, score in a]
        found = fuse(things, {s: seen[s] for s in sources}, DETECTORS, SIZE, EQUAL)
        return [(x.cls, x.xyxy, x.score, dict(x.sources), x.blind) for x in found]

    first = run(lidar, camera, teacher, ["camera", "teacher"])
    shuffled = [rng.sample(part, len(part)) for part in (lidar, camera, teacher)]
    assert run(*shuffled, ["teacher", "camera"]) == first


@given(st.lists(st.tuples(boxes, scores), max_size=5), detections)
def test_as_shipped_every_thing_of_the_lidar_stays_with_its_cuboid_and_box(lidar: list, camera: list) -> None:
    things = [seen_by_lidar(box, score) for box, score in lidar]
    found = fuse(things, {"camera": camera}, DETECTORS, SIZE, SHIPPED)
    assert sorted(c.xyxy for c in found) == sorted(c.xyxy for c in things)
    assert all(c.cuboid == CUBOID and 0 <= c.score <= 1 for c in found)


def test_two_detectors_that_agree_need_no_lidar() -> None:
    box = (100.0, 100.0, 200.0, 200.0)
    seen = {
        "camera": [PictureDetection("vehicle", box, 0.5)],
        "teacher": [PictureDetection("vehicle", box, 0.5)],
    }
    [found] = fuse([], seen, DETECTORS, SIZE, SHIPPED)
    assert set(found.sources) == {"camera", "teacher"}
    assert fuse([], {"teacher": seen["teacher"]}, DETECTORS, SIZE, SHIPPED) == []


def by_the_paper(sightings: list[Sighting], least: float) -> list[tuple[np.ndarray, int]]:
    """Weighted boxes fusion written down from the paper, with one box of a source per cluster."""
    clusters: list[list[Sighting]] = []
    for one in sorted(sightings, key=lambda s: (-s.score, s.source, s.xyxy)):
        best, place = least, None
        for number, members in enumerate(clusters):
            if one.source in [m.source for m in members]:
                continue
            weights = [m.score for m in members]
            mean = np.average([m.xyxy for m in members], axis=0, weights=weights)
            overlap = iou_matrix([one.xyxy], [mean])[0, 0]
            if overlap >= best and (place is None or overlap > best):
                best, place = overlap, number
        clusters[place].append(one) if place is not None else clusters.append([one])
    return [
        (np.average([m.xyxy for m in members], axis=0, weights=[m.score for m in members]), len(members))
        for members in clusters
    ]


@given(st.lists(st.tuples(st.sampled_from(["lidar", "camera", "teacher"]), boxes, scores), max_size=8))
def test_clusters_are_those_of_the_paper(rows: list) -> None:
    sightings = [Sighting(source, "vehicle", box, score) for source, box, score in rows]
    found = weighted_boxes(sightings, EQUAL)
    wanted = by_the_paper(sightings, EQUAL.overlap["vehicle"])
    assert [len(one.sightings) for one in found] == [count for _, count in wanted]
    for one, (corners, _) in zip(found, wanted, strict=True):
        assert one.xyxy == pytest.approx(tuple(corners))


def test_a_score_is_never_more_than_the_best_source_gives() -> None:
    assert fused_score({"lidar": 0.9, "teacher": 0.9}, frozenset({"camera"}), SHIPPED) == pytest.approx(0.9)
    assert fused_score({}, frozenset(SHIPPED.sources), SHIPPED) == 0.0
