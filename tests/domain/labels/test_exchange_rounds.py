"""What each round gives to people, and that it is theirs alone to decide.

Belongs here: choosing tasks and proposals, writing pictures. Does not belong here: formats, servers.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from av_assets.cli.labels import labels
from av_assets.cli.lake import open_lake
from av_assets.domain.labels.exchange.coco import write_coco
from av_assets.domain.labels.exchange.returned import ReturnedBox, ReturnedSubmission, read_returned
from av_assets.domain.labels.exchange.rounds import round_frames
from av_assets.domain.labels.schema import CLASSES

DRIVE = "veh001-20250602t081500z"


def task(number: int, wanted: int = 1) -> dict[str, Any]:
    return {
        "task_id": f"{DRIVE}.camera_front.{number}",
        "ref_ns": number,
        "camera": "camera_front",
        "width": 640,
        "height": 384,
        "annotations_wanted": wanted,
        "gold": number == 1,
    }


def box(x1: float, **more: Any) -> dict[str, Any]:
    corners = {"x1": x1, "y1": 1.0, "x2": x1 + 5, "y2": 9.0}
    return {"cls": "cone", "label_id": "auto-0001", "occlusion": None, **corners, **more}


TASKS = [task(number) for number in range(4)] + [task(4, wanted=0)]
AUTO = [box(float(n), camera="camera_front", ref_ns=n) for n in range(5)]
STATES = {
    task(n)["task_id"]: state for n, state in enumerate(("queued", "in_review", "adjudication", "final"))
}
SUBMISSIONS = [
    {"submission_id": f"{who}-{n}", "task_id": task(n)["task_id"], "annotator": who, "role": role}
    for n in (1, 2)
    for who, role in (("ann", "annotate"), ("ben", "review"))
]
BOXES = [box(100.0 + n, submission_id=row["submission_id"]) for n, row in enumerate(SUBMISSIONS)]


def frames(round_: str) -> list[ReturnedSubmission]:
    return round_frames(round_, TASKS, AUTO, SUBMISSIONS, BOXES, STATES)


def numbers(found: list[ReturnedSubmission]) -> list[tuple[int, list[float]]]:
    return [(int(frame.task_id.rsplit(".", 1)[1]), [b.x1 for b in frame.boxes]) for frame in found]


def test_annotating_begins_with_the_machines_boxes_of_frames_that_are_open() -> None:
    assert numbers(frames("annotate")) == [(0, [0.0]), (1, [1.0])]


def test_before_anybody_drew_every_frame_of_the_plan_is_annotated_and_none_beyond_the_budget() -> None:
    assert numbers(round_frames("annotate", TASKS, AUTO)) == [(n, [float(n)]) for n in range(4)]


def test_reviewing_begins_with_the_authors_boxes() -> None:
    assert numbers(frames("review")) == [(1, [100.0])]


def test_adjudicating_shows_every_answer_and_nobodys_name() -> None:
    found = frames("adjudicate")
    assert numbers(found) == [(2, [102.0]), (2, [103.0])]
    assert not any("ann" in frame.submission_id or frame.annotator for frame in found)


@pytest.mark.parametrize("round_", ["annotate", "review", "adjudicate"])
def test_nobody_is_told_which_answers_are_known(round_: str) -> None:
    assert "gold" not in repr(frames(round_))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AV_HOME", str(tmp_path))
    monkeypatch.delenv("AV_LABELS", raising=False)
    monkeypatch.delenv("AV_LABEL_STUDIO_URL", raising=False)
    open_lake().publish("label_tasks", DRIVE)
    return tmp_path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    drawn = ReturnedBox("cone", 1.0, 2.0, 3.0, 4.0, None, None)
    answer = ReturnedSubmission("s", "t", "t.jpg", "", "annotate", 1.0, None, 9, 9, "px", (drawn,))
    write_coco(tmp_path / "came back.json", [answer], CLASSES)
    return tmp_path / "came back.json"


class TestHandingIn:
    def test_a_file_lands_as_it_came_under_its_digest_and_once(self, home: Path, file: Path) -> None:
        for _ in range(2):
            done = CliRunner().invoke(labels, ["import", DRIVE, str(file)], catch_exceptions=False)
            assert "1 submissions" in done.output
        (landed,) = (home / "labels" / "returned" / DRIVE).iterdir()
        assert landed.read_bytes() == file.read_bytes()
        assert landed.name == f"{hashlib.sha256(file.read_bytes()).hexdigest()[:16]}.json"

    def test_who_drew_is_added_where_the_file_does_not_say(self, home: Path, file: Path) -> None:
        CliRunner().invoke(labels, ["import", DRIVE, str(file), "--annotator", "ann"], catch_exceptions=False)
        (landed,) = (home / "labels" / "returned" / DRIVE).iterdir()
        (found,) = read_returned(landed)
        assert (found.annotator, found.submission_id, len(found.boxes)) == ("ann", "s", 1)

    def test_nothing_lands_where_one_file_cannot_be_read(self, home: Path, file: Path) -> None:
        bad = home / "bad.json"
        bad.write_text("{")
        done = CliRunner().invoke(labels, ["import", DRIVE, str(file), str(bad)])
        assert "bad_coco" in str(done.exception)
        assert not (home / "labels").exists()

    def test_a_drive_is_a_drive_and_no_path(self, home: Path, file: Path) -> None:
        done = CliRunner().invoke(labels, ["import", "../elsewhere", str(file)])
        assert "invalid_drive_id" in str(done.exception)

    def test_a_drive_without_tasks_is_refused(self, home: Path, file: Path) -> None:
        done = CliRunner().invoke(labels, ["import", "veh001-20250602t081501z", str(file)])
        assert "missing_bundle" in str(done.exception)
        assert not (home / "labels").exists()

    def test_without_a_server_it_is_said_what_to_do(self, home: Path) -> None:
        assert "no_label_studio" in str(CliRunner().invoke(labels, ["pull"]).exception)
