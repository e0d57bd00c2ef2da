from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.privacy.modes import band_of, required_kinds, to_cover
from av_assets.domain.privacy.tracks import Region
from av_assets.policies.redaction import RedactionPolicy

POLICY = RedactionPolicy.load()
STRICT = POLICY.model_copy(update={"mode": "strict"})
SHAPE = (720, 1280, 3)


def region(kind: str, *box: float, score: float = 0.9) -> Region:
    return Region(kind, score, np.array(box, np.float32), found=True)


def covered(*regions: Region, policy: RedactionPolicy = STRICT) -> list[tuple[str, list[float]]]:
    return [(r.kind, [round(float(side)) for side in r.box]) for r in to_cover(regions, SHAPE, policy)]


@pytest.mark.parametrize(
    ("mode", "cover", "kinds"),
    [
        ("standard", "bands", ("face", "plate")),
        ("strict", "findings", ("face", "plate", "vehicle", "person")),
        ("solid", "findings", ("face", "plate")),
        ("solid", "bands", ("face", "plate", "vehicle", "person")),
    ],
)
def test_a_mode_says_what_it_needs(mode: str, cover: str, kinds: tuple[str, ...]):
    assert required_kinds(POLICY.model_copy(update={"mode": mode, "cover": cover})) == kinds


def test_whole_objects_are_never_covered_by_standard():
    both = (region("vehicle", 100, 100, 300, 250), region("face", 10, 10, 20, 20))
    assert covered(*both, policy=POLICY) == [("face", [10, 10, 20, 20])]


def test_bands_stand_where_nothing_finer_was_found():
    car, walker = region("vehicle", 100, 100, 300, 200), region("person", 600, 100, 660, 300)
    assert covered(car, walker) == [
        ("plate_band", [100, 130, 300, 200]),
        ("head_band", [600, 100, 660, 156]),
    ]
    plate, face = region("plate", 180, 160, 220, 170), region("face", 620, 110, 640, 140)
    assert covered(car, walker, plate, face) == [
        ("plate", [180, 160, 220, 170]),
        ("face", [620, 110, 640, 140]),
    ]


@pytest.mark.parametrize(
    "plate",
    [
        region("plate", 180, 160, 220, 170, score=0.1),  # too faint to be trusted
        region("plate", 180, 104, 220, 114),  # on the roof
        region("plate", 400, 160, 440, 170),  # beside the vehicle
    ],
)
def test_doubtful_plates_do_not_stand_for_the_band(plate: Region):
    assert ("plate_band", [100, 130, 300, 200]) in covered(region("vehicle", 100, 100, 300, 200), plate)


def test_one_plate_stands_for_one_vehicle():
    truck, car = region("vehicle", 100, 100, 500, 400), region("vehicle", 200, 250, 350, 390)
    plate = region("plate", 250, 350, 290, 362)
    assert covered(truck, car, plate) == [
        ("plate", [250, 350, 290, 362]),
        ("plate_band", [100, 190, 500, 400]),
    ]


def test_vehicles_too_small_for_a_legible_plate_are_left():
    assert covered(region("vehicle", 100, 100, 130, 120)) == []


def test_the_view_out_of_a_vehicle_is_no_vehicle():
    whole = (0.0, 0.0, 1275.0, 719.0)
    assert covered(region("vehicle", *whole, score=0.3)) == []
    assert covered(region("vehicle", *whole, score=0.8)) == [("plate_band", [0, 0, 1275, 719])]


def test_vehicle_cut_off_at_the_top_is_covered_from_there():
    assert covered(region("vehicle", 0, 0, 1280, 500)) == [("plate_band", [0, 0, 1280, 500])]


def test_head_of_a_body_cut_off_by_the_border_is_covered():
    """Head and shoulders only: a head is as high as the shoulders are wide, not a quarter of what is seen."""
    assert covered(region("person", 600, 500, 800, 720)) == [("head_band", [600, 500, 800, 660])]


sides = st.tuples(st.integers(-50, 1300), st.integers(-50, 700), st.integers(36, 900), st.integers(10, 700))


@given(sides, st.floats(0.33, 0.95), st.floats(0.0, 0.7))
def test_band_covers_every_place_of_a_plate(box: tuple[int, ...], height: float, left: float):
    """A plate anywhere in the lower two thirds, whatever part of the vehicle is in the picture."""
    x, y, wide, high = box
    band = band_of(np.array([x, y, x + wide, y + high], np.float32), SHAPE, POLICY.plate_band, 0.01)
    plate_x, plate_y = x + left * wide, y + height * high
    assert band[0] <= plate_x <= plate_x + 0.3 * wide <= band[2] + 1
    assert band[1] <= plate_y <= band[3]


@given(sides)
def test_bands_stay_in_their_boxes(box: tuple[int, ...]):
    x, y, wide, high = box
    for rule in (POLICY.plate_band, POLICY.head_band):
        band = band_of(np.array([x, y, x + wide, y + high], np.float32), SHAPE, rule, 0.01)
        assert y <= band[1] <= band[3] <= y + high
        assert (band[0], band[2]) == (x, x + wide)
