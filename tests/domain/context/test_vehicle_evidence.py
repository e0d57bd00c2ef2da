"""What wipers, rain sensors and pictures show, and what they do not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.context.clips import bounds, clips_of_points, moments, read_clips
from av_assets.domain.context.evidence import conflict, evidence, holds, luma_and_contrast
from av_assets.domain.context.rows import (
    GROUPS,
    context_report,
    context_rows,
    note_of,
    report_json,
    unexplained,
)
from av_assets.domain.errors import RedactionError
from av_assets.domain.roads.facts import POINTS, ROAD_COLUMNS, matched_points
from av_assets.domain.sync.shards import (
    Times,
    clip_path,
    clip_table,
    signals_column,
    struct_column,
    write_clip,
)
from av_assets.policies.context import ContextPolicy
from av_assets.policies.roads import RoadsPolicy

POLICY = ContextPolicy.load().evidence
DRIVE = "veh001-20250601t080000z"
ROWS = 50
START_NS = 1_748_764_800_000_000_000


def write(
    folder: Path,
    number: int,
    signals: Mapping[str, Any],
    pictures: Mapping[int, bytes] | None = None,
    rows: int = ROWS,
) -> None:
    """One clip of `rows` frames at 10 Hz; signals as one value or one per row; pictures row -> JPEG."""
    ref_ns = START_NS + (number * ROWS + np.arange(rows, dtype=np.int64)) * 100_000_000
    columns: dict[str, pa.Array] = {}
    if pictures is not None:
        valid = np.array([row in pictures for row in range(rows)], np.bool_)
        data = {
            "data": pa.array([pictures.get(row) for row in range(rows)], pa.binary()),
            "encoding": pa.array(["jpeg" if ok else None for ok in valid], pa.string()),
        }
        columns["camera_front"] = struct_column(data, Times(ref_ns, ref_ns, ref_ns * 0, valid))
    if signals:
        columns["signals"] = signals_column(
            {name: np.broadcast_to(np.asarray(values, float), rows) for name, values in signals.items()}
        )
    keyframe = np.arange(rows) % 5 == 0
    write_clip(
        clip_table(DRIVE, number, number * ROWS, ref_ns, keyframe, columns),
        clip_path(folder, number),
        3,
        0,
        1 << 26,
    )


def clips_of(folder: Path) -> Any:
    return read_clips(
        list((folder / "clips").glob("*.parquet")), [*POLICY.wiper_signals, *POLICY.rain_sensor_signals]
    )


def shown(folder: Path) -> list[dict[str, Any]]:
    return evidence(clips_of(folder), POLICY)


def jpeg(luma: int) -> bytes:
    return bytes(cv2.imencode(".jpg", np.full((48, 64, 3), luma, np.uint8))[1])


class TestWipers:
    def test_held_wipers_are_rain_across_the_border_of_clips(self, tmp_path: Path) -> None:
        level = np.where(np.arange(2 * ROWS) >= 25, 2.0, 0.0)
        write(tmp_path, 0, {"wiper_level": level[:ROWS]})
        write(tmp_path, 1, {"wiper_level": level[ROWS:]})
        write(tmp_path, 2, {"wiper_level": 0.0})
        found = shown(tmp_path)
        assert [row["evidence_weather"] for row in found] == ["rain", "rain", None]
        assert [row["wiper_level"] for row in found] == [2.0, 2.0, 0.0]

    def test_a_wash_is_no_rain(self, tmp_path: Path) -> None:
        write(tmp_path, 0, {"wiper_level": np.where(np.arange(ROWS) < 30, 1.0, 0.0)})
        [row] = shown(tmp_path)
        assert (row["wiper_level"], row["evidence_weather"]) == (1.0, None)
        assert "no sign of rain" in row["evidence_reason"]

    def test_wipers_at_rest_never_mean_clear(self, tmp_path: Path) -> None:
        write(tmp_path, 0, {"wiper_level": 0.0, "can_rain_sensor": 0.0}, {0: jpeg(200)})
        [row] = shown(tmp_path)
        assert row["evidence_weather"] is None
        assert row["evidence_reason"] == "what the vehicle shows is no sign of rain, nor of any other weather"

    def test_signal_of_a_bus_is_known_by_the_end_of_its_name(self, tmp_path: Path) -> None:
        write(tmp_path, 0, {"body_wiper_level": 2.0, "swiper_level_max": 9.0, "can_rain_sensor": 1.0})
        [row] = shown(tmp_path)
        assert (row["wiper_level"], row["rain_sensor"], row["evidence_weather"]) == (2.0, 1.0, "rain")

    def test_vehicle_without_any_of_it_says_so(self, tmp_path: Path) -> None:
        write(tmp_path, 0, {"speed_mps": 1.0})
        [row] = shown(tmp_path)
        assert row["evidence_reason"] == "no wiper signal; no rain sensor signal; no camera"
        assert {row[name] for name in GROUPS["evidence"][:-1]} == {None}

    def test_signal_that_is_never_known_is_none(self, tmp_path: Path) -> None:
        write(tmp_path, 0, {"wiper_level": np.nan, "rain_sensor": np.nan})
        assert shown(tmp_path)[0]["wiper_level"] is None

    @given(st.lists(st.sampled_from([0.0, 1.0, 2.0, np.nan]), max_size=40), st.data())
    def test_holds_agree_with_a_walk_through_the_samples(
        self, values: list[float], data: st.DataObject
    ) -> None:
        steps = data.draw(st.lists(st.sampled_from([1, 2, 9]), min_size=len(values), max_size=len(values)))
        times = np.cumsum(np.array(steps, np.int64)) * 100_000_000
        found = holds(times, np.array(values, float), 1.0, 0.4, 0.5)
        expected = [False] * len(values)
        run: list[int] = []
        for number in range(len(values) + 1):
            goes_on = (
                number < len(values)
                and values[number] >= 1.0
                and (not run or times[number] - times[run[-1]] <= 500_000_000)
            )
            if not goes_on:
                if run and times[run[-1]] - times[run[0]] >= 400_000_000:
                    for member in run:
                        expected[member] = True
                run = []
            if number < len(values) and values[number] >= 1.0:
                run.append(number)
        assert found.tolist() == expected


class TestPictures:
    def test_luma_and_contrast_of_known_pictures(self) -> None:
        grey = np.full((40, 60, 3), 102, np.uint8)
        assert luma_and_contrast(grey) == pytest.approx((0.4, 0.0), abs=1e-9)
        halves = np.zeros((40, 60, 3), np.uint8)
        halves[:, 30:] = 255
        assert luma_and_contrast(halves) == pytest.approx((0.5, 0.5))
        green = np.zeros((4, 4, 3), np.uint8)
        green[..., 1] = 255
        assert luma_and_contrast(green)[0] == pytest.approx(0.587)

    def test_only_keyframes_are_looked_at(self, tmp_path: Path) -> None:
        write(tmp_path, 0, {"wiper_level": 0.0}, {0: jpeg(51), 7: jpeg(255), 45: jpeg(153)})
        [row] = shown(tmp_path)
        assert row["image_luma"] == pytest.approx(0.4, abs=0.01)
        assert row["image_contrast"] == pytest.approx(0.0, abs=0.01)

    def test_clip_without_a_valid_picture_says_so(self, tmp_path: Path) -> None:
        write(tmp_path, 0, {}, {})
        assert shown(tmp_path)[0]["evidence_reason"].endswith("no picture in this clip")

    def test_picture_that_does_not_decode_says_so(self, tmp_path: Path) -> None:
        write(tmp_path, 0, {}, {0: b"no jpeg"})
        write(tmp_path, 1, {}, {0: b"no jpeg", 45: jpeg(102)})
        broken, other = shown(tmp_path)
        assert broken["image_luma"] is None
        assert broken["evidence_reason"].endswith("no picture of this clip can be decoded")
        assert other["image_luma"] == pytest.approx(0.4, abs=0.01)

    def test_shard_without_the_mark_of_redaction_is_refused(self, tmp_path: Path) -> None:
        write(tmp_path, 0, {}, {0: jpeg(102)})
        path = clip_path(tmp_path, 0)
        pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
        with pytest.raises(RedactionError, match="unredacted_file"):
            shown(tmp_path)


class TestClips:
    def test_moment_is_the_middle_with_the_nearest_known_position(self, tmp_path: Path) -> None:
        latitude = np.where(np.arange(ROWS) < 10, 50.0 + np.arange(ROWS), np.nan)
        write(tmp_path, 0, {"latitude_deg": latitude, "longitude_deg": 10.0})
        write(tmp_path, 1, {"latitude_deg": np.nan, "longitude_deg": np.nan})
        write(tmp_path, 2, {})
        found = moments(clips_of(tmp_path))
        assert found.time_ns.tolist() == [START_NS + s * 100_000_000 for s in (25, 75, 125)]
        np.testing.assert_array_equal(found.latitude_deg, [59.0, np.nan, np.nan])

    def test_matched_points_hold_the_same_positions(self, tmp_path: Path) -> None:
        latitude = np.where(np.arange(ROWS) < 10, 50.0 + np.arange(ROWS), np.nan)
        for number in range(3):
            write(tmp_path, number, {"latitude_deg": latitude + number, "longitude_deg": 10.0})
        clips = clips_of(tmp_path)
        points = matched_points([clip.track() for clip in clips], None, RoadsPolicy.load())
        again = clips_of_points(points)
        assert [clip.clip_id for clip in again] == [clip.clip_id for clip in clips]
        for one, other in zip(clips, again, strict=True):
            np.testing.assert_array_equal(one.ref_ns, other.ref_ns)
            np.testing.assert_array_equal(one.latitude_deg, other.latitude_deg)
        assert clips_of_points(points.slice(0, 0)) == []

    def test_empty_clip_is_a_clip_without_anything(self, tmp_path: Path) -> None:
        write(tmp_path, 0, {"wiper_level": 1.0, "latitude_deg": 1.0, "longitude_deg": 1.0}, {}, rows=0)
        [clip] = clips_of(tmp_path)
        assert clip.clip_id == f"{DRIVE}/00000"
        assert np.isnan(moments([clip]).latitude_deg).all()
        assert shown(tmp_path)[0]["evidence_weather"] is None

    def test_bounds_leave_jumps_out_and_part_at_the_date_line(self, tmp_path: Path) -> None:
        longitude = np.linspace(179.999, 180.001, ROWS)
        longitude = np.where(longitude > 180, longitude - 360, longitude)
        write(tmp_path, 0, {"latitude_deg": 1.0, "longitude_deg": longitude})
        west, east = bounds(clips_of(tmp_path), RoadsPolicy.load())
        assert west.max_longitude_deg == pytest.approx(-179.999)
        assert east.min_longitude_deg == pytest.approx(179.999)
        latitude = np.where(np.arange(ROWS) == 20, 0.0, 50.0)
        write(tmp_path, 0, {"latitude_deg": latitude, "longitude_deg": 10.0})
        [box] = bounds(clips_of(tmp_path), RoadsPolicy.load())
        assert box.min_latitude_deg == 50.0
        write(tmp_path, 0, {})
        assert bounds(clips_of(tmp_path), RoadsPolicy.load()) == []


class TestRows:
    ROAD = dict.fromkeys(ROAD_COLUMNS, None) | {"road_reason": "no map"}

    def test_conflict_needs_both_sides(self) -> None:
        cases = [
            ("clear", "rain"),
            ("rain", "rain"),
            ("storm", "rain"),
            ("fog", "rain"),
            (None, "rain"),
            ("clear", None),
        ]
        assert [conflict(*case, POLICY) for case in cases] == [True, False, False, True, None, None]

    def test_null_without_a_reason_is_found(self) -> None:
        weather = dict.fromkeys(GROUPS["weather"], None)
        own = dict.fromkeys(GROUPS["evidence"], 1.0) | {"evidence_weather": "rain", "evidence_reason": None}
        rows = context_rows(DRIVE, ["c"], [[self.ROAD], [weather], [own]], [None])
        assert {found["column"] for found in unexplained(rows)} == set(GROUPS["weather"][:-1])
        told = [weather | {"weather_reason": "no position"}]
        assert unexplained(context_rows(DRIVE, ["c"], [[self.ROAD], told, [own]], [None])) == []

    def test_what_the_road_leaves_open_is_named(self) -> None:
        road = dict.fromkeys(ROAD_COLUMNS, 1) | {
            "road_class": "x",
            "road_class_source": "tag",
            "speed_limit_source": "x",
        }
        road |= {"curvature_1pm": None, "road_reason": None}
        cells = [
            dict.fromkeys(GROUPS[name], None) | {f"{name}_reason": "x"} for name in ("weather", "evidence")
        ]
        [row] = context_rows(DRIVE, ["c"], [[road], *([cell] for cell in cells)], [None]).to_pylist()
        assert row["road_reason"] == "not known here: curvature_1pm"

    def test_report_counts_and_the_note_says_what_is_missing(self) -> None:
        weather = dict.fromkeys(GROUPS["weather"], None) | {"weather_reason": "no position"}
        own = dict.fromkeys(GROUPS["evidence"], None) | {"evidence_reason": "no camera"}
        rows = context_rows(DRIVE, ["c", "d"], [[self.ROAD] * 2, [weather] * 2, [own] * 2], [None] * 2)
        report = context_report(rows, POINTS.empty_table())
        assert report["known"] == {"road": 0, "weather": 0, "evidence": 0}
        assert report["reasons"]["weather"] == {"no position": 2}
        assert note_of(report) == "no road known: no map; no weather known: no position"
        assert report_json(report).endswith("}\n")
        assert note_of(context_report(rows.slice(0, 0), POINTS.empty_table())) == "no clip in this drive"
