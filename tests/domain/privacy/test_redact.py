from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest
from scripted_camera import (
    START_NS,
    STEP_NS,
    TOPIC,
    Log,
    Scripted,
    decoded,
    image_message,
    log_ns,
    still,
    stills,
)

from av_assets.domain.errors import RedactionError
from av_assets.domain.evidence.digests import canonical_json, sha256_file
from av_assets.domain.evidence.segments import FolderSegments
from av_assets.domain.logs.drive_spec import StreamSpec
from av_assets.domain.privacy.frames import read_redacted_clips, redacted_parts
from av_assets.domain.privacy.redact import redact_drive

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from av_assets.domain.privacy.report import RedactionSummary
    from av_assets.policies.redaction import RedactionPolicy

CAMERAS = {"camera_front": StreamSpec(topic=TOPIC, kind="camera", rate_hz=10)}
BOX = (40.0, 20.0, 80.0, 60.0, 0.9)


@pytest.fixture
def short(policy: RedactionPolicy) -> RedactionPolicy:
    """Parts of two seconds."""
    return policy.model_copy(update={"segment_s": 2.0})


class Bundle:
    """Where one redaction goes, and what it keeps between attempts."""

    def __init__(self, folder: Path) -> None:
        self.out, self.kept = folder / "out", folder / "kept"

    def redact(self, log: Log, detector: Scripted, policy: RedactionPolicy) -> RedactionSummary:
        self.out.mkdir(parents=True)
        return redact_drive(log, CAMERAS, detector, policy, self.out, FolderSegments(self.kept))

    def files(self) -> dict[str, bytes]:
        return {
            str(p.relative_to(self.out)): p.read_bytes() for p in sorted(self.out.rglob("*")) if p.is_file()
        }


def passing(number: int) -> Sequence[Sequence[float]]:
    """A face that crosses the picture and is missed in two of three frames."""
    return [(2.0 * number, 30.0, 2.0 * number + 16, 50.0, 0.9)] if number % 3 == 0 else []


def test_bundle_names_every_file_it_holds(tmp_path: Path, short: RedactionPolicy):
    bundle = Bundle(tmp_path)
    messages = [image_message(still(i), i) for i in (1, 0, *range(2, 45))]
    summary = bundle.redact(Log(messages), Scripted(face=passing), short)
    files = bundle.files()
    parts = [f"camera_front/0000{k}.parquet" for k in range(3)]
    assert set(files) == {*parts, "boxes.parquet", "contact_sheet.png", "redaction_report.json"}
    assert [str(p.relative_to(bundle.out)) for p in redacted_parts(bundle.out, "camera_front")] == parts
    report = json.loads(files["redaction_report.json"])
    assert files["redaction_report.json"] == canonical_json(report)
    assert {f["path"] for f in report["files"]} == set(files) - {"redaction_report.json"}
    for record in report["files"]:
        assert sha256_file(bundle.out / record["path"]) == record["sha256"]
        assert len(files[record["path"]]) == record["bytes"]
    assert [f["rows"] for f in report["files"][:3]] == [20, 20, 5]
    assert report["models"] == {"scripted": "0" * 64}
    assert report["policies"] == {"redaction": {"version": short.version, "digest": short.digest}}
    stream = report["streams"]["camera_front"]
    assert (stream["frames_in"], stream["released"], stream["found"]) == (45, 45, {"face": 15})
    assert summary.total.to_dict() == stream


def test_boxes_tell_what_was_hidden_where(tmp_path: Path, short: RedactionPolicy):
    bundle = Bundle(tmp_path)
    summary = bundle.redact(Log(stills(45)), Scripted(face=passing), short)
    boxes = pq.read_table(bundle.out / "boxes.parquet").to_pylist()
    assert sum(b["found"] for b in boxes) == summary.total.found["face"] == 15
    assert sum(not b["found"] for b in boxes) == summary.total.carried["face"] == 30
    assert [b["sensor_ns"] for b in boxes] == sorted(b["sensor_ns"] for b in boxes)
    assert {(b["part"], b["track"]) for b in boxes} == {(0, 0), (1, 0), (2, 0)}


def test_parts_are_what_one_piece_would_be(tmp_path: Path, policy: RedactionPolicy, short: RedactionPolicy):
    """The fill reaches over the borders of parts, in both directions."""
    whole, cut = Bundle(tmp_path / "whole"), Bundle(tmp_path / "cut")
    log = Log(stills(70))
    whole.redact(log, Scripted(face=passing), policy)
    cut.redact(log, Scripted(face=passing), short)
    rows = [
        [(f.sensor_ns, f.data) for p in redacted_parts(b.out, "camera_front") for f in read_redacted_clips(p, "c")]
        for b in (whole, cut)
    ]  # fmt: skip
    assert len(redacted_parts(cut.out, "camera_front")) == 4
    assert rows[0] == rows[1]
    areas = [pq.read_table(b.out / "boxes.parquet").drop_columns(["part", "track"]) for b in (whole, cut)]
    assert areas[0].equals(areas[1])
    assert len(areas[0]) == 70


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("at", [0, 7, 21, 30, 44])
def test_result_does_not_depend_on_interruptions(at: int, tmp_path: Path, short: RedactionPolicy):
    log = Log(stills(45))
    straight = Bundle(tmp_path / "straight")
    straight.redact(log, Scripted(face=passing), short)

    def killing(number: int) -> Sequence[Sequence[float]]:
        if number == at:
            raise Killed
        return passing(number)

    resumed = Bundle(tmp_path / "resumed")
    with pytest.raises(Killed):
        resumed.redact(log, Scripted(face=killing), short)
    for path in sorted(resumed.out.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    resumed.out.rmdir()
    detector = Scripted(face=passing)
    resumed.redact(log, detector, short)
    assert resumed.files() == straight.files()
    done = max(0, (at - 5) // 20)  # a part ends half a second after its last frame
    assert min(n for batch in detector.batches for n in batch) >= done * 20 - 20


def test_finished_segments_are_not_made_again(tmp_path: Path, short: RedactionPolicy):
    bundle = Bundle(tmp_path)
    bundle.redact(Log(stills(45)), Scripted(face=passing), short)
    first, bundle.out = bundle.files(), tmp_path / "again"
    idle = Scripted(face=passing)
    bundle.redact(Log(stills(45)), idle, short)
    assert bundle.files() == first
    assert not idle.batches


def test_a_stamp_a_century_off_costs_one_part(tmp_path: Path, short: RedactionPolicy):
    bundle = Bundle(tmp_path)
    late = image_message(still(3), 3)._replace(log_ns=START_NS + 3 * 10**18)
    summary = bundle.redact(Log([*stills(3), late]), Scripted(), short)
    assert summary.total.released == 4
    assert len(redacted_parts(bundle.out, "camera_front")) == 2


def corrupt_stills() -> list[bytes]:
    good = still(0)
    bomb = bytearray(good)
    at = good.index(b"\xff\xc0") + 5
    bomb[at : at + 4] = b"\xff\xff\xff\xff"
    png = b"\x89PNG\r\n\x1a\n" + b"\0" * 40
    return [good[: len(good) // 2], b"\xff\xd8garbage", b"", bytes(bomb), png, good[:9]]


def test_corrupt_frames_are_dropped_and_counted(tmp_path: Path, policy: RedactionPolicy):
    messages = [image_message(d, i) for i, d in enumerate([still(0), *corrupt_stills(), still(7)])]
    total = Bundle(tmp_path).redact(Log(messages), Scripted(), policy).total
    assert (total.frames_in, total.released) == (8, 2)
    assert sum(total.dropped.values()) == 6
    assert {"truncated_frame", "corrupt_frame", "frame_too_large"} <= set(total.dropped)


def test_drive_of_which_nothing_is_released_fails(tmp_path: Path, policy: RedactionPolicy):
    with pytest.raises(RedactionError) as caught:
        Bundle(tmp_path).redact(Log([image_message(b"\xff\xd8no", 0)]), Scripted(), policy)
    assert caught.value.code == "no_frame_released"


def test_drive_without_camera_says_so(tmp_path: Path, policy: RedactionPolicy):
    summary = redact_drive(Log([]), {}, Scripted(), policy, tmp_path, FolderSegments(tmp_path / "kept"))
    assert summary.note == "drive has no camera"
    assert not list(tmp_path.iterdir())


def test_a_camera_without_messages_has_no_parts(tmp_path: Path, policy: RedactionPolicy):
    two = {**CAMERAS, "camera_rear": StreamSpec(topic="/none", kind="camera")}
    summary = redact_drive(
        Log(stills(3)), two, Scripted(), policy, tmp_path, FolderSegments(tmp_path / "kept")
    )
    assert summary.streams["camera_rear"].frames_in == 0
    assert redacted_parts(tmp_path, "camera_rear") == []


@pytest.mark.parametrize(
    ("changes", "kinds", "code"),
    [
        ({"mode": "strict"}, ("face", "plate"), "strict_needs_detector"),
        ({"mode": "solid", "cover": "bands"}, ("face", "plate", "vehicle"), "strict_needs_detector"),
        ({"mode": "standard"}, ("plate", "vehicle", "person"), "no_detector"),
    ],
)
def test_detector_that_lacks_a_kind_is_refused_before_any_frame(
    changes: dict[str, str], kinds: tuple[str, ...], code: str, tmp_path: Path, policy: RedactionPolicy
):
    class Closed(Log):
        def messages(self, *_: object) -> None:  # type: ignore[override]
            raise AssertionError("a frame was read")

    with pytest.raises(RedactionError) as caught:
        Bundle(tmp_path).redact(Closed([]), Scripted(kinds), policy.model_copy(update=changes))
    assert caught.value.code == code
    assert caught.value.remedy


def released_numbers(bundle: Bundle) -> set[int]:
    frames = [f for p in redacted_parts(bundle.out, "camera_front") for f in read_redacted_clips(p, "c")]
    return {(f.sensor_ns - START_NS) // STEP_NS for f in frames}


@pytest.mark.parametrize("failing", [{5}, {0, 19, 20, 44}])
def test_failures_block_their_own_frames_in_every_part(
    failing: set[int], tmp_path: Path, short: RedactionPolicy
):
    def fail(number: int) -> Sequence[Sequence[float]]:
        if number in failing:
            raise RuntimeError
        return passing(number)

    bundle = Bundle(tmp_path)
    total = bundle.redact(Log(stills(45)), Scripted(face=fail), short).total
    assert released_numbers(bundle) == set(range(45)) - failing
    assert total.dropped == {"detector_failed": len(failing)}


def test_only_cover_differs_between_modes(tmp_path: Path, policy: RedactionPolicy):
    vehicles: Callable[[int], object] = lambda _: [(40.0, 20.0, 100.0, 80.0, 0.9)]  # noqa: E731
    detector = Scripted(vehicle=vehicles, person=lambda _: ())
    hidden = {}
    for mode in ("standard", "strict"):
        bundle = Bundle(tmp_path / mode)
        summary = bundle.redact(Log(stills(3)), detector, policy.model_copy(update={"mode": mode}))
        hidden[mode] = summary.total.redacted
        assert json.loads(bundle.files()["redaction_report.json"])["mode"] == mode
    assert hidden == {"standard": 0, "strict": 3}
    assert summary.total.bands == {"plate_band": 3}
    [frame, *_] = read_redacted_clips(redacted_parts(bundle.out, "camera_front")[0], "camera_front")
    change = abs(decoded(frame.data).astype(int) - decoded(still(0)).astype(int))
    assert change[45:75, 45:95].mean() > 10 * change[:, 120:].mean()


def test_log_times_do_not_need_the_sensor(tmp_path: Path, short: RedactionPolicy):
    """Frames whose stamps all equal stay apart in log time."""
    frozen = [
        m._replace(log_ns=log_ns(i)) for i, m in enumerate([image_message(still(n), 0) for n in range(30)])
    ]
    total = Bundle(tmp_path).redact(Log(frozen), Scripted(face=passing), short).total
    assert (total.released, total.found, total.carried) == (30, {"face": 10}, {"face": 20})
