"""When files of labels come back, which drives the sensor names: once for each change, and no other drive.

Belongs here: the sensor over a lake and a folder. Does not belong here: what the files say, runs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from av_assets.domain.errors import TransientError
from av_assets.domain.evidence.digests import sha256_file, sha256_json
from av_assets.domain.evidence.manifest import MadeFrom
from partitions.drives import drives
from resources.label_studio import LabelStudio
from resources.labeling import Annotators
from resources.lake import Lake
from sensors import returned_labels

ONE, TWO = "veh001-20250602t081500z", "veh002-20250602t081500z"
JUDGED = ["label_submissions", "verified_labels"]
Asked = list[tuple[str, list[str]]]


@dataclass
class Office:
    """A lake, the folder that people hand in, and the sensor with its cursor as the daemon keeps it."""

    lake: Lake
    annotators: Annotators
    instance: dg.DagsterInstance
    cursor: str | None = None
    keys: set[str] = field(default_factory=set)

    def look(self) -> Asked:
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            resources={"lake": self.lake, "annotators": self.annotators},
        )
        found = returned_labels.returned_labels(context)
        assert isinstance(found, dg.SensorResult)
        self.cursor = found.cursor
        asked: Asked = []
        for request in found.run_requests or []:
            assert isinstance(request, dg.RunRequest)
            assert request.run_key
            assert request.run_key not in self.keys, "Dagster starts nothing for a key that it knows"
            self.keys.add(request.run_key)
            asked.append(
                (request.partition_key or "", [key.path[-1] for key in request.asset_selection or []])
            )
        return asked

    def hand_in(self, drive: str, text: str, name: str = "labels.json") -> Path:
        return self._write(Path(self.annotators.labels) / "returned" / drive / name, text)

    def give_answers(self, drive: str, text: str) -> Path:
        return self._write(Path(self.annotators.labels) / "gold" / f"{drive}.json", text)

    def judge(self, drive: str) -> None:
        """What a run of label_submissions leaves: a bundle that says what it was made from."""
        gold = self.annotators.gold_of(drive)
        read: dict[str, list[Any]] = {
            "returned_labels": [_named(path) for path in self.annotators.returned(drive)],
            "gold": [_named(gold)] if gold else [],
        }
        rows = {name: sha256_json(list(given)) for name, given in read.items()}
        self.lake.publish("label_submissions", drive, made_from=MadeFrom(rows=rows))

    @staticmethod
    def _write(path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


def _named(path: Path) -> dict[str, str]:
    return {"file": path.name, "sha256": sha256_file(path)}


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Office:
    monkeypatch.delenv("AV_LABEL_STUDIO_URL", raising=False)
    instance = dg.DagsterInstance.ephemeral()
    instance.add_dynamic_partitions(drives.name or "", [ONE, TWO])
    lake = Lake(uri=(tmp_path / "lake").as_uri(), scratch=str(tmp_path / "scratch"))
    return Office(lake, Annotators(truth=str(tmp_path / "truth"), labels=str(tmp_path / "labels")), instance)


class TestReturnedFiles:
    def test_nothing_is_asked_for_before_anything_came_back(self, office: Office) -> None:
        office.judge(ONE)
        assert office.look() == []

    def test_a_file_that_comes_back_asks_for_its_drive_alone_and_once(self, office: Office) -> None:
        office.judge(ONE)
        office.judge(TWO)
        office.look()
        office.hand_in(ONE, "[]")
        assert office.look() == [(ONE, JUDGED)]
        assert office.look() == []

    def test_a_run_that_failed_is_not_asked_for_again_until_somebody_hands_in(self, office: Office) -> None:
        office.judge(ONE)
        office.hand_in(ONE, "[]")
        assert office.look() == [(ONE, JUDGED)]
        assert office.look() == []
        office.hand_in(ONE, "[1]", "more.json")
        assert office.look() == [(ONE, JUDGED)]

    def test_what_the_bundle_was_made_from_is_no_change(self, office: Office) -> None:
        office.hand_in(ONE, "[]")
        office.judge(ONE)
        assert office.look() == []

    def test_a_copy_with_the_same_bytes_is_no_change(self, office: Office) -> None:
        file = office.hand_in(ONE, "[]")
        office.judge(ONE)
        office.look()
        os.utime(file, ns=(1, 1))
        assert office.look() == []

    def test_a_file_that_is_as_it_was_before_is_a_change_again(self, office: Office) -> None:
        office.judge(ONE)
        for text in ("[1]", "[2]", "[1]"):
            office.hand_in(ONE, text)
            assert office.look() == [(ONE, JUDGED)]
            office.judge(ONE)

    def test_a_file_that_is_taken_away_is_a_change(self, office: Office) -> None:
        file = office.hand_in(ONE, "[]")
        office.judge(ONE)
        office.look()
        file.unlink()
        file.parent.rmdir()
        assert office.look() == [(ONE, JUDGED)]

    def test_a_drive_without_submissions_waits_and_is_not_forgotten(self, office: Office) -> None:
        office.hand_in(ONE, "[]")
        assert office.look() == []  # its first bundle will read the file
        office.judge(ONE)
        office.hand_in(ONE, "[1]")
        assert office.look() == [(ONE, JUDGED)]

    def test_a_drive_that_nobody_knows_is_left_alone(self, office: Office) -> None:
        office.judge("veh003-20250602t081500z")
        office.hand_in("veh003-20250602t081500z", "[]")
        assert office.look() == []

    def test_other_known_answers_are_another_plan(self, office: Office) -> None:
        office.judge(ONE)
        office.give_answers(ONE, "{}")
        assert office.look() == [(ONE, ["label_tasks", *JUDGED])]
        office.judge(ONE)
        assert office.look() == []

    def test_many_drives_are_compared_over_several_looks(
        self, office: Office, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(returned_labels, "LOOKED_AT", 1)
        for drive in (ONE, TWO):
            office.judge(drive)
            office.hand_in(drive, "[]")
        assert [office.look(), office.look(), office.look()] == [[(ONE, JUDGED)], [(TWO, JUDGED)], []]


class TestServer:
    """The server itself is tested in tests/resources/test_label_studio.py; here it is when it is asked."""

    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        asked: list[str] = []

        def pull(self: LabelStudio, drive: str, folder: Path) -> list[Path]:
            asked.append(drive)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "label-studio-annotate.json").write_text(f"[{len(asked)}]")
            return []

        monkeypatch.setenv("AV_LABEL_STUDIO_URL", "http://127.0.0.1:9")
        monkeypatch.setattr(returned_labels, "installed", lambda name: True)
        monkeypatch.setattr(LabelStudio, "drives", lambda self: [ONE, "../../elsewhere"])
        monkeypatch.setattr(LabelStudio, "pull", pull)
        return asked

    def test_new_annotations_are_brought_and_judged_and_only_drives_become_folders(
        self, office: Office, asked: list[str]
    ) -> None:
        office.judge(ONE)
        assert office.look() == [(ONE, JUDGED)]
        assert asked == [ONE]

    def test_the_server_is_asked_every_few_minutes_only(
        self, office: Office, asked: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        office.look()
        office.look()
        assert asked == [ONE]
        monkeypatch.setattr(returned_labels, "PULL_EVERY_S", 0)
        office.look()
        assert asked == [ONE, ONE]

    def test_a_server_that_is_down_does_not_stop_files(
        self, office: Office, asked: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def down(self: LabelStudio) -> list[str]:
            raise TransientError("nobody answers", code="label_studio_unreachable")

        monkeypatch.setattr(LabelStudio, "drives", down)
        office.judge(ONE)
        office.hand_in(ONE, "[]")
        assert office.look() == [(ONE, JUDGED)]

    def test_nothing_is_installed_while_a_sensor_looks(
        self, office: Office, asked: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(returned_labels, "installed", lambda name: False)
        office.look()
        assert asked == []
