"""Statements about calibrations in any order, which of them counts when."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.errors import CalibrationError
from av_assets.domain.geometry.calibration import Calibration, CameraCalibration, LidarCalibration
from av_assets.domain.geometry.ledger import CalibrationLedger, LedgerEntry, entries_from
from av_assets.domain.geometry.ledger_files import (
    CALIBRATION_SCHEMA,
    ledger_of_table,
    ledger_table,
    read_ledger,
    write_ledger,
)
from av_assets.domain.geometry.resolution import DAY_NS, difference, problems, resolve_calibration
from av_assets.policies.calibration import CalibrationPolicy

if TYPE_CHECKING:
    from pathlib import Path

POLICY = CalibrationPolicy.load()
VEHICLE = "veh042"
K = ((500.0, 0.0, 320.0), (0.0, 500.0, 192.0), (0.0, 0.0, 1.0))
OPTICAL = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])


def turned(deg: float, axis: int = 2) -> Any:
    angle, pose = np.radians(deg), np.eye(4)
    i, j = [k for k in range(3) if k != axis]
    pose[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
    return pose


def rows(pose: Any) -> Any:
    return tuple(tuple(map(float, row)) for row in pose)


def mounted(x_m: float = 1.5, deg: float = 0, focal: float = 500.0) -> Calibration:
    """A camera and a lidar, moved and turned a little by the arguments."""
    camera, lidar = turned(deg), turned(deg)
    camera[:3, :3] = camera[:3, :3] @ OPTICAL
    camera[:3, 3], lidar[:3, 3] = (x_m, 0.1, 1.2), (1.0, 0.0, x_m)
    lens = {"width": 640, "height": 384, "K": ((focal, 0, 320), (0, focal, 192), (0, 0, 1)), "D": (0.01, 0.0)}
    return Calibration(
        cameras={"camera_front": CameraCalibration(**lens, ego_SE3_camera=rows(camera))},
        lidars={"lidar_top": LidarCalibration(ego_SE3_lidar=rows(lidar))},
        source="log",
    )


NOTHING = Calibration(missing=("camera_front", "lidar_top"))
DRIVES = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from([1.5, 1.6, 1.7]), st.integers(1, 3)),
    max_size=8,
    unique_by=lambda d: d[0],
)


def statements(drives: list[tuple[int, float, int]]) -> list[list[LedgerEntry]]:
    return [
        entries_from(mounted(x), VEHICLE, f"drive-{day}", day * DAY_NS, (day * 10 + hours) * DAY_NS // 10)
        for day, x, hours in drives
    ]


@settings(max_examples=30, deadline=None)
@given(DRIVES, st.randoms(use_true_random=False))
def test_neither_order_nor_repetition_of_drives_matters(
    drives: list[tuple[int, float, int]], rng: Any
) -> None:
    told = statements(drives)
    ledger = CalibrationLedger.of(entry for one in told for entry in one)
    mixed = told + [one for one in told if rng.random() < 0.5]
    rng.shuffle(mixed)
    other = CalibrationLedger(())
    for one in mixed:
        other = other.with_entries(one)
    assert other == ledger
    assert other.intervals() == ledger.intervals()
    assert CalibrationLedger.of(ledger.intervals()).intervals() == ledger.intervals()
    assert ledger_of_table(ledger_table(ledger.entries)) == ledger
    if drives:
        gone = f"drive-{drives[0][0]}"
        assert ledger.without_drive(gone) == CalibrationLedger.of(e for one in told[1:] for e in one)


@settings(max_examples=30, deadline=None)
@given(DRIVES, st.floats(0, 45))
def test_at_most_one_statement_is_valid_and_it_is_the_latest(
    drives: list[tuple[int, float, int]], day: float
) -> None:
    at_ns = round(day * DAY_NS)
    ledger = CalibrationLedger.of(entry for one in statements(drives) for entry in one)
    valid = [
        e
        for e in ledger.intervals()
        if e.sensor == "lidar_top" and e.valid_from_ns <= at_ns < (e.valid_to_ns or 0)
    ]
    assert len(valid) <= 1
    entry = ledger.at(VEHICLE, "lidar_top", at_ns)
    earlier = [d for d in sorted(drives) if d[0] * DAY_NS <= at_ns]
    assert (entry is None) == (not earlier)
    if entry is not None:
        assert entry.drive == f"drive-{earlier[-1][0]}"
        assert np.isclose(entry.ego_SE3_sensor[2][3], earlier[-1][1])
    if valid:
        assert valid == [entry]


def test_logs_that_agree_leave_no_gap_and_one_between_them_makes_one() -> None:
    two = CalibrationLedger.of(e for one in statements([(1, 1.5, 1), (9, 1.5, 1)]) for e in one)
    entry = two.at(VEHICLE, "lidar_top", 5 * DAY_NS)
    assert entry is not None
    assert entry.valid_to_ns == 9 * DAY_NS
    three = two.with_entries(statements([(4, 1.6, 1)])[0])
    ends = [e.valid_to_ns for e in three.intervals() if e.sensor == "lidar_top"]
    assert ends == [11 * DAY_NS // 10, 41 * DAY_NS // 10, 91 * DAY_NS // 10]


def person(**changes: Any) -> LedgerEntry:
    entry = entries_from(mounted(), VEHICLE, "d", 0)[1]
    return LedgerEntry.model_validate(
        entry.model_dump() | {"source": "person", "valid_to_ns": None} | changes
    )


def test_a_log_that_agrees_does_not_close_what_a_person_declared() -> None:
    same, other = (CalibrationLedger.of([person(), *statements([(5, x, 1)])[0]]) for x in (1.5, 1.6))
    assert (
        resolve_calibration(NOTHING, same, VEHICLE, 9 * DAY_NS, POLICY).sensors["lidar_top"].state == "ledger"
    )
    assert (
        resolve_calibration(NOTHING, other, VEHICLE, 9 * DAY_NS, POLICY).sensors["lidar_top"].state == "stale"
    )
    assert (
        resolve_calibration(NOTHING, other, VEHICLE, 4 * DAY_NS, POLICY).sensors["lidar_top"].state
        == "ledger"
    )


def test_of_statements_that_begin_together_a_persons_counts() -> None:
    file = person(source="file", ego_SE3_sensor=rows(turned(3)))
    entry = CalibrationLedger.of([file, person()]).at(VEHICLE, "lidar_top", 7)
    assert entry is not None
    assert entry.source == "person"


def test_the_order_of_resolution() -> None:
    ledger = CalibrationLedger.of(statements([(10, 1.6, 1)])[0])
    found = resolve_calibration(mounted(), ledger, VEHICLE, 10 * DAY_NS, POLICY)
    assert (found.calibration.cameras, found.calibration.source) == (mounted().cameras, "log")
    assert found.sensors["camera_front"].conflict == {"deg": 0.0, "m": 0.1, "focal_share": 0.0}
    assert found.flagged == {"camera_front": ("conflict",), "lidar_top": ("conflict",)}
    found = resolve_calibration(NOTHING, ledger, VEHICLE, 10 * DAY_NS + 5, POLICY)
    assert (found.calibration.cameras, found.calibration.lidars) == (
        mounted(1.6).cameras,
        mounted(1.6).lidars,
    )
    assert (found.calibration.source, found.calibration.missing, found.flagged) == ("ledger", (), {})
    assert found.sensors["lidar_top"].entry_drive == "drive-10"
    found = resolve_calibration(NOTHING, ledger, VEHICLE, 30 * DAY_NS, POLICY)
    assert (found.sensors["lidar_top"].state, found.sensors["lidar_top"].age_days) == ("stale", 19.9)
    assert found.flagged == {"camera_front": ("stale",), "lidar_top": ("stale",)}
    for at_ns, flags in ((41 * DAY_NS, ("too_old",)), (9 * DAY_NS, ())):
        found = resolve_calibration(NOTHING, ledger, VEHICLE, at_ns, POLICY)
        assert found.calibration == NOTHING
        assert found.sensors["lidar_top"].flags == flags
    half = mounted().model_copy(update={"cameras": {}, "missing": ("camera_front",)})
    found = resolve_calibration(half, ledger, VEHICLE, 10 * DAY_NS, POLICY)
    assert found.calibration.source == "mixed"
    json.dumps(found.to_dict(), allow_nan=False)


def test_another_vehicle_or_none_takes_nothing_from_the_ledger() -> None:
    ledger = CalibrationLedger.of(statements([(1, 1.5, 1)])[0])
    for vehicle, flags in (("veh043", ()), ("unknown", ("no_vehicle",))):
        found = resolve_calibration(NOTHING, ledger, vehicle, DAY_NS, POLICY)
        assert found.calibration == NOTHING
        assert found.sensors["lidar_top"].flags == flags
        log = resolve_calibration(mounted(), ledger, vehicle, DAY_NS, POLICY)
        assert log.calibration == mounted()
    assert entries_from(mounted(), "unknown", "d", 0) == []


SKEWED = np.diag([1.0, 1.0, 1.01, 1.0])
MIRRORED = np.diag([1.0, 1.0, -1.0, 1.0])


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"ego_SE3_sensor": rows(SKEWED)}, "rotation"),
        ({"ego_SE3_sensor": rows(MIRRORED)}, "rotation"),
        ({"ego_SE3_sensor": rows(np.eye(4) + np.eye(4, k=-3))}, "last_row"),
        ({"ego_SE3_sensor": rows(np.eye(4) + 20 * np.eye(4, k=3))}, "translation"),
        ({"K": ((-500, 0, 320), (0, 500, 192), (0, 0, 1))}, "focal_length"),
        ({"K": ((500, 0, 700), (0, 500, 192), (0, 0, 1))}, "principal_point"),
        ({"K": ((500, 0, 320), (0, 500, 192), (0, 0, 2))}, "camera_matrix"),
    ],
)
def test_what_cannot_be_is_not_used(changes: dict[str, Any], problem: str) -> None:
    entry = entries_from(mounted(), VEHICLE, "d", 0)[0]
    fields = entry.model_dump() | {"source": "file", "valid_to_ns": None}
    if "K" in changes:
        fields["intrinsics"] = fields["intrinsics"] | changes
    else:
        fields |= changes
    wrong = LedgerEntry.model_validate(fields)
    assert problems(entry, POLICY) == ()
    assert problem in problems(wrong, POLICY)
    found = resolve_calibration(NOTHING, CalibrationLedger.of([wrong]), VEHICLE, 5, POLICY)
    assert found.calibration == NOTHING
    assert f"rejected_ledger:{problem}" in found.sensors["camera_front"].flags


def test_a_log_that_cannot_be_right_gives_way_to_the_ledger() -> None:
    far = mounted(x_m=400.0)
    found = resolve_calibration(far, CalibrationLedger.of(statements([(0, 1.5, 9)])[0]), VEHICLE, 7, POLICY)
    assert found.calibration.lidars == mounted().lidars
    assert found.sensors["lidar_top"].flags == ("rejected_log:translation",)
    found = resolve_calibration(far, CalibrationLedger(()), VEHICLE, 7, POLICY)
    assert found.calibration == NOTHING


def test_rounded_rotations_and_other_picture_sizes_are_flagged() -> None:
    rounded = person(ego_SE3_sensor=rows(np.round(turned(40), 3)))
    found = resolve_calibration(NOTHING, CalibrationLedger.of([rounded]), VEHICLE, 5, POLICY)
    assert found.sensors["lidar_top"].flags == ("rotation_rounded",)
    rotation = np.array(found.calibration.lidars["lidar_top"].ego_SE3_lidar)[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    sizes = {"camera_front": (1280, 768)}
    found = resolve_calibration(mounted(), CalibrationLedger(()), VEHICLE, 5, POLICY, sizes)
    assert found.flagged == {"camera_front": ("image_size_differs",)}


@settings(max_examples=50, deadline=None)
@given(st.floats(-179, 179), st.integers(0, 2), st.floats(-1, 1))
def test_differences_are_measured_in_degrees_and_metres(deg: float, axis: int, away_m: float) -> None:
    pose = turned(deg, axis)
    pose[1, 3] = away_m
    found = difference(person(ego_SE3_sensor=rows(np.eye(4))), person(ego_SE3_sensor=rows(pose)))
    assert found == pytest.approx({"deg": abs(deg), "m": abs(away_m)}, abs=2e-6)


def test_files_come_back_as_they_were(tmp_path: Path) -> None:
    ledger = CalibrationLedger.of([person(), *statements([(3, 1.6, 1)])[0]])
    write_ledger(ledger, tmp_path / "calibration_ledger.yaml")
    text = (tmp_path / "calibration_ledger.yaml").read_text("utf-8")
    assert read_ledger(tmp_path / "calibration_ledger.yaml", POLICY) == ledger
    write_ledger(read_ledger(tmp_path / "calibration_ledger.yaml", POLICY), tmp_path / "again.yaml")
    assert (tmp_path / "again.yaml").read_text("utf-8") == text
    rows_ = [{k: v for k, v in e.model_dump(mode="json").items() if k != "source"} for e in ledger.entries]
    (tmp_path / "x.json").write_text(json.dumps({"entries": rows_}), "utf-8")
    assert {e.source for e in read_ledger(tmp_path / "x.json", POLICY).entries} == {"file"}
    (tmp_path / "forged.yaml").write_text(text.replace("- 1.6", "- 1.7"), "utf-8")
    with pytest.raises(CalibrationError) as error:
        read_ledger(tmp_path / "forged.yaml", POLICY)
    assert error.value.code == "ledger_digest"


ALIASES = "a: &a [x,x]\nb: &b [*a,*a,*a,*a]\nentries: [*b,*b]\n"


@pytest.mark.parametrize(
    "text",
    ["", "entries: 3", "entries: [1]", "entries: [{}]", "{", "\x00", ALIASES, "entries: []\nmore: 1", "[" * 5000,
     "entries:\n- {vehicle: v, sensor: s, kind: lidar, valid_from_ns: 0, ego_SE3_sensor: [[.nan]]}"],
)  # fmt: skip
def test_what_is_no_ledger_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text, "utf-8")
    with pytest.raises(CalibrationError) as error:
        read_ledger(tmp_path / "x.yaml", POLICY)
    assert (error.value.code, error.value.file) == ("bad_ledger", str(tmp_path / "x.yaml"))


def test_files_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    write_ledger(CalibrationLedger.of(statements([(3, 1.6, 1)])[0]), path)
    for limit in ({"max_entries": 1}, {"max_file_bytes": 100}):
        with pytest.raises(CalibrationError, match=r"more than 1|larger than 100"):
            read_ledger(path, CalibrationPolicy.model_validate(POLICY.model_dump() | limit))


def test_rows_carry_a_digest_that_is_checked() -> None:
    table = ledger_table(statements([(3, 1.6, 1)])[0])
    assert table.schema == CALIBRATION_SCHEMA
    column = pa.array(["0" * 64] * len(table))
    forged = table.set_column(table.schema.get_field_index("digest"), "digest", column)
    with pytest.raises(CalibrationError) as error:
        ledger_of_table(forged)
    assert error.value.code == "ledger_digest"
