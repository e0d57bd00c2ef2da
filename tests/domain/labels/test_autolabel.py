"""The pass over a drive: files as agreed, stable ids, provenance, and empty results with a reason."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from detectors import Told
from hypothesis import given, settings
from hypothesis import strategies as st
from label_scenes import CAR, CONE, WALKER, calibration, project, sweep, write_clips

from av_assets.domain.evidence.digests import sha256_bytes
from av_assets.domain.evidence.timing import Stopwatch
from av_assets.domain.labels.automatic.autolabel import Labeller, auto_label_drive, slice_of_clip
from av_assets.domain.labels.automatic.candidates import PictureDetection
from av_assets.domain.labels.schema import AUTO_LABELS, CANDIDATES, CUBOIDS, DRIVABLE, TRACKS
from av_assets.policies.autolabels import AutolabelPolicy
from av_assets.policies.label_fusion import LabelFusionPolicy

POLICY = AutolabelPolicy.load().model_copy(update={"every_kth_frame": 2})
FUSION = LabelFusionPolicy.load()
LABELLER = Labeller(POLICY, FUSION)
SCHEMAS = {
    "labels": AUTO_LABELS,
    "cuboids": CUBOIDS,
    "tracks": TRACKS,
    "candidates": CANDIDATES,
    "drivable": DRIVABLE,
}


def moving(frames: int, hidden: tuple[int, ...] = ()) -> list:
    """A car that drives away at 2 m/s, a walker and a cone that the vehicle approaches; the car is gone in `hidden`."""
    return [
        sweep(
            [
                *([] if i in hidden else [(CAR[0] + 0.2 * i, *CAR[1:])]),
                (WALKER[0] - 0.3 * i, *WALKER[1:]),
                (CONE[0] - 0.1 * i, *CONE[1:]),
            ],
            i,
        )
        for i in range(frames)
    ]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def rows(folder: Path, name: str) -> list[dict]:
    return pq.read_table(folder / f"{name}.parquet").to_pylist()


def test_a_drive_is_labelled_and_objects_keep_their_ids(tmp_path: Path, out: Path) -> None:
    watch = Stopwatch()
    report = auto_label_drive(write_clips(tmp_path, moving(9)), calibration(), LABELLER, out, watch)
    for name, schema in SCHEMAS.items():
        assert pq.read_table(out / f"{name}.parquet").schema.equals(schema)
    assert (report["frames"], report["frames_tracked"], report["reason"]) == (5, 9, "")
    assert report["objects"] == {"vehicle": 5, "pedestrian": 5, "cone": 5}
    assert report["tracks"] == 3
    ids = {(row["cls"], row["label_id"]) for row in rows(out, "labels")}
    assert len(ids) == 3
    assert ids == {(row["cls"], row["label_id"]) for row in rows(out, "cuboids")}
    assert ids == {(row["cls"], row["label_id"]) for row in rows(out, "tracks")}
    assert set(watch.seconds) == {"spot", "track", "write"}


def test_every_label_says_where_it_came_from(tmp_path: Path, out: Path) -> None:
    clips = write_clips(tmp_path, moving(3))
    report = auto_label_drive(clips, calibration(), LABELLER, out)
    digests = {
        (r["clip_id"], r["ref_ns"]): (
            sha256_bytes(r["camera_front"]["data"]),
            sha256_bytes(r["lidar_top"]["points"]),
        )
        for path in clips
        for r in pq.read_table(path).to_pylist()
    }
    labels, cuboids = rows(out, "labels"), rows(out, "cuboids")
    assert labels
    for row in labels:
        assert row["labeller_digest"] == report["labeller_digest"] == LABELLER.digest
        assert (row["rule"], row["state"], row["model_digest"]) == ("lidar", "observed", None)
        assert row["frame_digest"] == digests[row["clip_id"], row["ref_ns"]][0]
    assert all(row["sweep_digest"] == digests[row["clip_id"], row["ref_ns"]][1] for row in cuboids)
    assert len(rows(out, "drivable")) == 2


def test_the_same_drive_gives_the_same_bytes(tmp_path: Path) -> None:
    clips = write_clips(tmp_path, moving(4))
    results = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        auto_label_drive(clips, calibration(), LABELLER, folder)
        results.append({p.name: p.read_bytes() for p in folder.iterdir()})
    assert results[0] == results[1]


def test_any_number_or_model_changes_the_provenance() -> None:
    policy = AutolabelPolicy.model_validate(POLICY.model_dump() | {"min_score": POLICY.min_score + 0.01})
    fusion = LabelFusionPolicy.model_validate(
        FUSION.model_dump() | {"default": {**FUSION.default, "cone": 0.9}}
    )
    model, other = Told([[]]), Told([[]], model_digest="another")
    digests = {
        one.digest
        for one in (
            LABELLER,
            replace(LABELLER, policy=policy),
            replace(LABELLER, fusion=fusion),
            replace(LABELLER, detectors=[model]),
            replace(LABELLER, detectors=[other]),
        )
    }
    assert len(digests) == 5


def test_labels_below_the_threshold_never_leave(tmp_path: Path, out: Path) -> None:
    slices = {"rain": {"vehicle": 1.0, "pedestrian": 0.0, "cone": 0.0}}
    thresholds = {cls: {"rain": least} for cls, least in slices["rain"].items()}
    strict = replace(
        LABELLER, fusion=FUSION.model_copy(update={"thresholds": thresholds}), slice_of=lambda clip: "rain"
    )
    auto_label_drive(write_clips(tmp_path, moving(7)), calibration(), strict, out)
    offered = rows(out, "candidates")
    assert {row["cls"] for row in offered} == {"vehicle", "pedestrian", "cone"}
    assert {row["slice"] for row in offered} == {"rain"}
    for name in ("labels", "cuboids", "tracks"):
        assert {row["cls"] for row in rows(out, name)} == {"pedestrian", "cone"}


@pytest.fixture(scope="module")
def offered(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[dict]]:
    """A drive in the rain, and all that its pass offers as labels."""
    folder, out = (tmp_path_factory.mktemp(name) for name in ("clips", "offered"))
    clips = write_clips(folder, moving(7))
    auto_label_drive(clips, calibration(), replace(LABELLER, slice_of=lambda clip: "rain"), out)
    return clips, rows(out, "candidates")


@given(st.data())
@settings(max_examples=12, deadline=None)
def test_labels_are_the_candidates_that_reach_their_threshold(
    offered: tuple[list[Path], list[dict]], data: st.DataObject
) -> None:
    clips, candidates = offered
    scores = [round(row["score"], 4) for row in candidates]
    least = st.sampled_from(scores) | st.floats(0, 1)  # also exactly a score
    named = st.dictionaries(st.sampled_from(["rain", "night", "all"]), least)
    thresholds = {cls: data.draw(named, label=cls) for cls in FUSION.default}
    strict = FUSION.model_copy(update={"thresholds": thresholds})
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        labeller = replace(LABELLER, fusion=strict, slice_of=lambda clip: "rain")
        auto_label_drive(clips, calibration(), labeller, out)
        assert rows(out, "candidates") == candidates  # thresholds hide nothing
        labels, cuboids = rows(out, "labels"), rows(out, "cuboids")
    good = []
    for row in candidates:
        own = thresholds[row["cls"]]
        bar = own.get("rain", own.get("all", FUSION.default[row["cls"]]))
        if round(row["score"], 4) >= round(bar, 4):
            good.append((row["ref_ns"], f"auto-{row['track']:04d}", row["x1"] is not None))
    assert [(r["ref_ns"], r["label_id"]) for r in labels] == sorted(g[:2] for g in good if g[2])
    assert [(r["ref_ns"], r["label_id"]) for r in cuboids] == sorted(g[:2] for g in good)


def test_a_short_gap_is_bridged_and_says_so(tmp_path: Path, out: Path) -> None:
    frames = moving(11, hidden=(5, 6, 7))
    clips = write_clips(tmp_path, frames, per_clip=11)
    report = auto_label_drive(clips, calibration(), LABELLER, out)
    cars = {r["ref_ns"]: r for r in rows(out, "cuboids") if r["cls"] == "vehicle"}
    bridged = [r for r in cars.values() if r["state"] == "bridged"]
    assert (len(cars), len(bridged), report["bridged"]) == (6, 1, 1)
    assert bridged[0]["rule"] == "bridged"
    assert bridged[0]["points"] == 0
    assert bridged[0]["x_m"] == pytest.approx(CAR[0] + 0.2 * 6, abs=0.5)
    (track,) = (r for r in rows(out, "tracks") if r["cls"] == "vehicle")
    assert (track["frames"], track["observed"], track["bridged"]) == (11, 8, 3)
    auto_label_drive(clips, calibration(), replace(LABELLER, policy=patient(2)), out)
    assert all(r["state"] == "observed" for r in rows(out, "cuboids"))


def patient(bridge_frames: int) -> AutolabelPolicy:
    return POLICY.model_copy(
        update={"tracks": POLICY.tracks.model_copy(update={"bridge_frames": bridge_frames})}
    )


def test_a_camera_that_agrees_is_named_and_measured(tmp_path: Path, out: Path) -> None:
    x1, y1, x2, y2 = project(CAR)
    seen = PictureDetection("vehicle", (x1 - 1, y1, x2 + 1, y2), 0.9)
    camera = Told([[seen]])
    frames = [sweep([CAR], i) for i in range(7)]
    report = auto_label_drive(
        write_clips(tmp_path, frames), calibration(), replace(LABELLER, detectors=[camera]), out
    )
    labels = rows(out, "labels")
    assert {(r["rule"], r["model_digest"]) for r in labels} == {("lidar+camera", "told")}
    assert camera.pictures == report["frames"] == 4
    (track,) = rows(out, "tracks")
    assert 0 < track["reprojection_px"] < 6
    assert report["self_consistency"]["reprojection_px"] == pytest.approx(track["reprojection_px"], abs=1e-3)
    assert report["sources"]["camera"] == {"frames": 4, "seen": 4, "model_digest": "told"}


def test_a_frame_that_the_lidar_missed_has_no_labels(tmp_path: Path, out: Path) -> None:
    report = auto_label_drive(write_clips(tmp_path, [None, None, *moving(2)]), calibration(), LABELLER, out)
    assert (report["frames"], report["drivable"]) == (2, 1)


def test_without_a_camera_there_are_cuboids_only(tmp_path: Path, out: Path) -> None:
    report = auto_label_drive(write_clips(tmp_path, moving(7), camera=False), calibration(), LABELLER, out)
    assert (report["reason"], report["labels"]) == ("", 0)
    assert {r["cls"] for r in rows(out, "cuboids")} == {"vehicle", "pedestrian", "cone"}
    assert all(r["x1"] is None for r in rows(out, "candidates"))


@pytest.mark.parametrize("lost", ["lidar", "cameras"])
def test_without_a_lidar_or_calibration_detectors_label_the_picture(
    tmp_path: Path, out: Path, lost: str
) -> None:
    boxes = [
        [PictureDetection("vehicle", (100.0 + 4 * i, 150.0, 160.0 + 4 * i, 190.0), 0.8)] for i in range(4)
    ]
    known = {**calibration(), **({"cameras": {}, "lidars": {}} if lost == "cameras" else {})}
    clips = write_clips(tmp_path, moving(7), lidar=lost != "lidar")
    auto_label_drive(clips, known, replace(LABELLER, detectors=[Told(boxes)]), out)
    labels = rows(out, "labels")
    assert [round(r["x1"]) for r in labels] == pytest.approx([100, 104, 108, 112], abs=3)
    assert {(r["rule"], r["label_id"]) for r in labels} == {("camera", "auto-0000")}
    assert rows(out, "cuboids") == []


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("both", "no lidar_top and no camera_front"),
        ("lidar", "no lidar_top and no detector for camera_front"),
        ("lidars", "no calibration of lidar_top and no detector for camera_front"),
    ],
)
def test_what_is_missing_gives_empty_tables_and_a_reason(
    tmp_path: Path, out: Path, missing: str, reason: str
) -> None:
    known = {**calibration(), **({missing: {}} if missing == "lidars" else {})}
    clips = write_clips(tmp_path, moving(2), lidar=missing == "lidars", camera=missing != "both")
    report = auto_label_drive(clips, known, LABELLER, out)
    assert (report["labels"], report["reason"]) == (0, reason)
    for name, schema in SCHEMAS.items():
        table = pq.read_table(out / f"{name}.parquet")
        assert table.schema.equals(schema)
        assert table.num_rows == 0
    assert json.loads((out / "report.json").read_text())["reason"] == reason


def test_speeds_are_over_ground_where_the_vehicle_measures_its_own(tmp_path: Path, out: Path) -> None:
    clips = write_clips(tmp_path, moving(7))
    auto_label_drive(clips, calibration(), LABELLER, out)
    assert all(r["vx_mps"] is None for r in rows(out, "cuboids"))


def test_slices_are_named_by_light_and_weather() -> None:
    pairs = [
        ("day", "clear"),
        ("night", "clear"),
        ("day", "rain"),
        ("night", "rain"),
        (None, None),
        (None, "fog"),
    ]
    named = {pair: slice_of_clip(*pair) for pair in pairs}
    assert list(named.values()) == ["day", "night", "rain", "night-rain", "unknown", "fog"]
