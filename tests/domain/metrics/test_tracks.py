"""Track scores: the published sequence, cases by hand, what must not matter, and TrackEval as a second opinion."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.errors import LabelError, TransientError
from av_assets.domain.metrics.boxes import iou
from av_assets.domain.metrics.tracks import MAX_TRACKS, Frame, track_scores

A, B = (0.0, 0.0, 10.0, 10.0), (50.0, 0.0, 60.0, 10.0)
SHARES = ("idf1", "idp", "idr", "motp", "hota", "deta", "assa")


def campus(folder: Path) -> tuple[list[Frame], list[Frame], dict[str, float]]:
    held = json.loads((folder / "metrics" / "mot_TUD-Campus.json").read_text("utf-8"))
    count = int(max(row[0] for side in ("gt", "tracks") for row in held[side]))
    sides = []
    for side in ("gt", "tracks"):
        frames: list[list[Any]] = [[] for _ in range(count)]
        for frame, name, x, y, w, h in held[side]:
            frames[int(frame) - 1].append((int(name), (x, y, x + w, y + h)))
        sides.append(frames)
    return sides[0], sides[1], held["expected"]


def test_published_sequence(real_data: Path) -> None:
    truth, found, expected = campus(real_data)
    scores = track_scores(truth, found)
    for name in ("idf1", "idp", "idr", "mota", "motp"):
        assert scores[name] == pytest.approx(expected[name], abs=1e-9), name
    assert scores["switches"] == expected["num_switches"]


def test_perfect_tracks() -> None:
    frames = [[("a", A), ("b", B)]] * 5
    scores = track_scores(frames, [[(2, B), (7, A)]] * 5)
    assert scores == {"idf1": 1, "idp": 1, "idr": 1, "mota": 1, "motp": 0, "switches": 0,
                      "hota": pytest.approx(1), "deta": 1, "assa": pytest.approx(1)}  # fmt: skip


def test_ids_swapped_half_way() -> None:
    truth = [[(1, A), (2, B)]] * 4
    scores = track_scores(truth, [[(1, A), (2, B)]] * 2 + [[(2, A), (1, B)]] * 2)
    # Each object has each track for half of the time: 2 of 4 + 4 - 2 frames go together.
    assert scores["switches"] == 2
    assert scores["mota"] == pytest.approx(1 - 2 / 8)
    assert scores["idf1"] == pytest.approx(0.5)
    assert (scores["deta"], scores["assa"]) == (1, pytest.approx(1 / 3))
    assert scores["hota"] == pytest.approx((1 / 3) ** 0.5)


def test_a_track_in_two_pieces() -> None:
    scores = track_scores([[(1, A)]] * 4, [[(1, A)]] * 3 + [[(2, A)]])
    # 3 frames with 3/4, one with 1/4.
    assert scores["assa"] == pytest.approx((3 * 3 / 4 + 1 / 4) / 4)
    assert scores["idf1"] == pytest.approx(2 * 3 / 8)
    assert scores["switches"] == 1


def test_nothing_found_nothing_to_find_and_neither() -> None:
    missed = track_scores([[(1, A)]], [[]])
    assert missed == {"idf1": 0, "idp": None, "idr": 0, "mota": 0, "motp": None, "switches": 0,
                      "hota": 0, "deta": 0, "assa": 0}  # fmt: skip
    invented = track_scores([[]], [[(1, A)]])
    assert (invented["idp"], invented["idr"], invented["mota"], invented["hota"]) == (0, None, None, 0)
    for empty in ([], [[], []]):
        scores = track_scores(empty, empty)
        assert scores.pop("switches") == 0
        assert set(scores.values()) == {None}


def test_everything_beside_its_object() -> None:
    scores = track_scores([[(1, A)]], [[(1, B)]])
    assert (scores["mota"], scores["motp"], scores["idf1"], scores["hota"]) == (-1, None, 0, 0)


@pytest.mark.parametrize(
    ("truth", "found", "code"),
    [
        ([[]], [[], []], "unequal_frames"),
        ([[(1, A), (1, B)]], [[]], "repeated_track"),
        ([[]], [[(1, (0, 0, float("nan"), 1))]], "bad_track_box"),
        ([[]], [[(1, (5, 0, 1, 1))]], "bad_track_box"),
        ([[(n, A) for n in range(MAX_TRACKS + 1)]], [[]], "too_many_tracks"),
    ],
)
def test_bad_input_is_named(truth: Sequence[Frame], found: Sequence[Frame], code: str) -> None:
    with pytest.raises(LabelError) as caught:
        track_scores(truth, found)
    assert caught.value.code == code


def scripted(
    seed: int, objects: int, frames: int, lost: float, swapped: float, drift: float
) -> tuple[list[Frame], list[Frame]]:
    """A few objects that move, and tracks that miss, drift and change their ids; no two boxes are the same."""
    rng = np.random.default_rng(seed)
    place, names = rng.uniform(0, 60, (objects, 2)), rng.permutation(10)[:objects]
    truth: list[Frame] = []
    found: list[Frame] = []
    for _ in range(frames):
        place = place + rng.normal(0, 2, place.shape)
        off = place + rng.normal(0, drift, place.shape)
        seen, kept = rng.random(objects) > 0.2, rng.random(objects) >= lost
        if rng.random() < swapped:
            names = rng.permutation(10)[:objects]
        truth.append([(n, _box(place[n])) for n in range(objects) if seen[n]])
        found.append([(int(names[n]), _box(off[n])) for n in range(objects) if kept[n]])
    return truth, found


def _box(place: Any) -> tuple[float, float, float, float]:
    x, y = (float(value) for value in place)
    return x, y, x + 20.0, y + 15.0


def drives() -> st.SearchStrategy[tuple[list[Frame], list[Frame]]]:
    seeds = st.integers(0, 2**32 - 1)
    return st.builds(
        scripted,
        seeds,
        st.integers(0, 4),
        st.integers(1, 8),
        st.floats(0, 0.5),
        st.floats(0, 0.4),
        st.floats(0, 6),
    )


@settings(max_examples=60)
@given(drives())
def test_scores_are_shares(drive: tuple[list[Frame], list[Frame]]) -> None:
    scores = track_scores(*drive)
    assert all(scores[name] is None or 0 <= scores[name] <= 1 + 1e-12 for name in SHARES)
    assert scores["mota"] is None or scores["mota"] <= 1
    if scores["hota"] is not None:
        assert scores["hota"] <= max(scores["deta"], scores["assa"]) + 1e-12
        assert scores["hota"] <= (scores["deta"] * scores["assa"]) ** 0.5 + 1e-12  # Cauchy and Schwarz


@settings(max_examples=60)
@given(drives(), st.permutations(range(10)), st.randoms(use_true_random=False))
def test_names_and_order_do_not_matter(
    drive: tuple[list[Frame], list[Frame]], names: list[int], luck: Any
) -> None:
    def other(frames: list[Frame]) -> list[Frame]:
        turned = [[(f"n{names[name]}", box) for name, box in frame] for frame in frames]
        for frame in turned:
            luck.shuffle(frame)
        return turned

    truth, found = drive
    assert track_scores(other(truth), other(found)) == track_scores(truth, found)


@settings(max_examples=40)
@given(drives())
def test_mirrored_pictures_score_the_same(drive: tuple[list[Frame], list[Frame]]) -> None:
    def mirrored(frames: list[Frame]) -> list[Frame]:
        return [[(n, (1000 - x2, y1, 1000 - x1, y2)) for n, (x1, y1, x2, y2) in frame] for frame in frames]

    one, other = track_scores(*drive), track_scores(mirrored(drive[0]), mirrored(drive[1]))
    # CLEAR MOT depends on which of two objects is served first, and that on what stands left.
    for name in ("idf1", "idp", "idr", "hota", "deta", "assa"):
        assert other[name] == (None if one[name] is None else pytest.approx(one[name], abs=1e-9)), name


SCRIPT = """
import contextlib, io, json, sys
import numpy as np
with contextlib.redirect_stdout(io.StringIO()):
    from trackeval.metrics import HOTA, Identity
    results = []
    for case in json.load(sys.stdin):
        data = dict(case)
        for side in ("gt_ids", "tracker_ids"):
            data[side] = [np.array(ids, int) for ids in case[side]]
        data["similarity_scores"] = [
            np.array(table, float).reshape(len(a), len(b))
            for table, a, b in zip(case["similarity_scores"], data["gt_ids"], data["tracker_ids"])
        ]
        hota, identity = HOTA().eval_sequence(data), Identity().eval_sequence(data)
        means = {k: float(np.mean(hota[k])) for k in ("HOTA", "DetA", "AssA")}
        results.append(means | {"IDF1": float(identity["IDF1"])})
print(json.dumps(results))
"""


def as_trackeval(truth: Sequence[Frame], found: Sequence[Frame]) -> dict[str, Any]:
    numbered = []
    for frames in (truth, found):
        names: dict[Any, int] = {}
        numbered.append([[names.setdefault(name, len(names)) for name, _ in frame] for frame in frames])
        numbered.append([len(names), sum(map(len, frames))])
    tables = [
        iou(*(np.array([box for _, box in side], float).reshape(-1, 4) for side in pair)).tolist()
        for pair in zip(truth, found, strict=True)
    ]
    return {
        "gt_ids": numbered[0], "num_gt_ids": numbered[1][0], "num_gt_dets": numbered[1][1],
        "tracker_ids": numbered[2], "num_tracker_ids": numbered[3][0], "num_tracker_dets": numbered[3][1],
        "similarity_scores": tables, "num_timesteps": len(truth), "seq": "case",
    }  # fmt: skip


def test_trackeval_says_the_same(real_data: Path) -> None:
    from resources.tool_environments import tool, tool_variables

    try:
        python = tool("trackeval", "python")
    except TransientError:
        pytest.skip("the package registry cannot be reached")
    made = [
        scripted(seed, 1 + seed % 5, 20, 0.02 * (seed % 20), 0.2, 0.3 * (seed % 10)) for seed in range(60)
    ]
    cases = [campus(real_data)[:2], *made]
    ran = subprocess.run(
        [str(python), "-c", SCRIPT],
        input=json.dumps([as_trackeval(*case) for case in cases]),
        capture_output=True, text=True, check=True, timeout=120, env=tool_variables(),
    )  # fmt: skip
    for case, expected in zip(cases, json.loads(ran.stdout), strict=True):
        scores = track_scores(*case)
        for name, value in expected.items():
            assert scores[name.lower()] == pytest.approx(value, abs=1e-9), name


def test_ten_thousand_frames_take_seconds() -> None:
    truth = [[(o * 20 + f // 500, (f % 500 + 60.0 * o, 50, f % 500 + 60.0 * o + 40, 90)) for o in range(10)]
             for f in range(10_000)]  # fmt: skip
    started = time.monotonic()
    scores = track_scores(truth, truth)
    assert scores["hota"] == pytest.approx(1)
    assert time.monotonic() - started < 60  # 3 s on two cores
