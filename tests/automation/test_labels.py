"""Tasks, submissions and verified labels as assets: simulated people, real people, nobody, and bad files.

Belongs here: the three assets and their checks on one small drive. Does not belong here: any rule about labels
(tests/domain/labels).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from label_bundles import FRAMES, THINGS, TOO_FAR, write_auto
from label_scenes import DRIVE, START_NS, project, truth_tables, write_clips
from label_work import returned

from av_assets.cli.review import COMMANDS
from av_assets.domain.evidence.claims import RECORD_FILE, Claim, Record
from av_assets.domain.labels.exchange.coco import write_coco
from av_assets.domain.labels.exchange.returned import ReturnedBox
from av_assets.domain.labels.schema import CLASSES
from av_assets.mining import labels
from partitions.drives import drives
from resources.labeling import Annotators
from resources.lake import Lake

CHECKS = {
    "returned_rows_are_all_accounted_for",
    "verified_labels_are_agreed_on",
    "gold_tasks_are_answered_well",
    "nobody_reviews_their_own_work",
    "label_budget_is_kept",
}
TASKS = [f"{DRIVE}.camera_front.{START_NS + n * 300_000_000}" for n in range(4)]


@dataclass
class World:
    """A lake with shards and auto-labels of one drive, folders of people, and runs over them."""

    lake: Lake
    instance: dg.DagsterInstance
    folder: Path

    @property
    def people(self) -> Path:
        return self.folder / "labels"

    def simulate(self) -> None:
        folder = self.folder / "truth" / DRIVE
        folder.mkdir(parents=True)
        for name, table in truth_tables([[*THINGS, ("vehicle", TOO_FAR)]] * FRAMES).items():
            pq.write_table(table, folder / f"{name}.parquet")

    def hand_in(self, name: str, who: str, tasks: list[str], off_px: float = 0.0, **facts: Any) -> Path:
        folder = self.people / "returned" / DRIVE
        folder.mkdir(parents=True, exist_ok=True)
        boxes = []
        for cls, solid in THINGS:
            x1, y1, x2, y2 = project(solid)
            boxes.append(ReturnedBox(cls, x1 + off_px, y1, x2 + off_px, y2, None, None))
        write_coco(folder / name, [returned(task, who, *boxes, **facts) for task in tasks], CLASSES)
        return folder / name

    def run(self) -> dict[str, bool]:
        """Materialize the three assets; gives the checks."""
        definitions = dg.Definitions(
            assets=[labels.label_tasks, labels.label_submissions, labels.verified_labels],
            asset_checks=dg.load_asset_checks_from_modules([labels]),
            resources={
                "lake": self.lake,
                "annotators": Annotators(truth=str(self.folder / "truth"), labels=str(self.people)),
            },
        )
        keys = ["label_tasks", "label_submissions", "verified_labels"]
        result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance, asset_selection=[dg.AssetKey(k) for k in keys], partition_key=DRIVE
        )
        assert result.success
        return {e.check_name: e.passed for e in result.get_asset_check_evaluations()}

    def report(self, asset: str = "verified_labels", path: str = "report.json") -> dict[str, Any]:
        return dict(json.loads(self.lake.read_bytes(self.lake.require(asset, DRIVE), path)))

    def frames(self) -> list[dict[str, Any]]:
        table = self.lake.tables.read("label_frames", [("drive", "=", DRIVE)])
        assert table is not None
        return sorted(table.to_pylist(), key=lambda row: row["ref_ns"])

    def metadata(self, asset: str) -> dict[str, Any]:
        event = self.instance.get_latest_materialization_event(dg.AssetKey(asset))
        assert event is not None
        assert event.asset_materialization is not None
        return dict(event.asset_materialization.metadata)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    lake = Lake(uri=(tmp_path / "lake").as_uri(), scratch=str(tmp_path / "lake" / ".scratch"))
    shards = tmp_path / "shards"
    write_clips(shards, [None] * FRAMES)
    (shards / RECORD_FILE).write_text(Record((Claim("made_for_tests", True),)).to_json())
    lake.publish("synced_shards", DRIVE, shards)
    lake.publish("auto_labels", DRIVE, write_auto(tmp_path / "auto"))
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(drives.name or "", [DRIVE])
        yield World(lake, instance, tmp_path)


def test_simulated_people_label_every_frame(world: World) -> None:
    world.simulate()
    checks = world.run()
    assert set(checks) == CHECKS
    assert all(checks.values())
    report = world.report()
    assert (report["frames"], report["states"]["final"]) == (4, 4)
    assert [row["state"] for row in world.frames()] == ["final"] * 4
    held = {f.path for f in world.lake.require("verified_labels", DRIVE).files}
    files = ("labels", "cuboids", "drivable", "audit", "frames")
    assert held == {*(f"{name}.parquet" for name in files), "report.json"}
    shown = world.metadata("verified_labels")
    assert {"states", "annotators", "agreement", "annotator_quality", "burn_down"} <= set(shown)
    assert isinstance(shown["annotators"], dg.TableMetadataValue)
    assert {"strata", "most valuable"} <= set(world.metadata("label_tasks"))
    kind = world.metadata("label_submissions")["constraints"].value
    assert all(column in kind for column in ("**x1**", "**cls**", "**outside_px**"))


def test_a_drive_that_nobody_knows_waits_for_people_with_its_tasks(world: World) -> None:
    checks = world.run()
    assert all(checks.values())
    verified = world.lake.require("verified_labels", DRIVE)
    assert verified.files == ()
    assert verified.note == "no annotator knows this drive: its labels wait for people"
    assert world.report("label_tasks", "plan.json")["tasks"] == 4
    assert [row["state"] for row in world.frames()] == ["queued"] * 4


def test_files_that_come_back_are_another_input_and_lead_to_final_frames(world: World) -> None:
    world.run()
    before = world.lake.require("label_submissions", DRIVE).digest
    world.hand_in("maria.json", "maria", TASKS[:3])
    assert all(world.run().values())
    assert world.lake.require("label_submissions", DRIVE).digest != before
    assert [row["state"] for row in world.frames()] == ["in_review"] * 3 + ["queued"]
    assert world.lake.require("verified_labels", DRIVE).note == "no frame is final yet"
    world.hand_in("noor \u00fc 2 (final).json", "noor", TASKS[:2], off_px=1.0)
    assert all(world.run().values())
    assert [row["state"] for row in world.frames()] == ["final", "final", "in_review", "queued"]
    assert world.report()["labels"] == 2 * len(THINGS)
    held = {f.path for f in world.lake.require("label_submissions", DRIVE).files}
    assert {"returned/maria.json", "returned/noor \u00fc 2 (final).json"} <= held
    same = world.lake.require("verified_labels", DRIVE).digest
    world.run()
    assert world.lake.require("verified_labels", DRIVE).digest == same


def test_bad_files_stop_nothing_and_are_seen(world: World) -> None:
    world.hand_in("maria.json", "maria", [*TASKS[:1], "veh999-20250601t080000z.camera_front.1"])
    (world.people / "returned" / DRIVE / "no\\te\n.json").write_text("call me back")
    checks = world.run()
    assert checks == {name: name != "returned_rows_are_all_accounted_for" for name in CHECKS}
    account = world.report("label_submissions")
    assert account["constraints"] == {"submission_rejected": 4, "unknown_label_format": 1, "unknown_task": 1}
    assert world.metadata("label_submissions")["rejected rows"].value == 6
    assert [row["state"] for row in world.frames()] == ["in_review"] + ["queued"] * 3


def test_who_fails_known_answers_is_seen_and_nobody_else(world: World) -> None:
    gold = world.people / "gold" / f"{DRIVE}.json"
    gold.parent.mkdir(parents=True)
    truth = world.hand_in("x.json", "", TASKS)
    truth.rename(gold)
    world.hand_in("maria.json", "maria", TASKS)
    world.hand_in("noor.json", "noor", TASKS, off_px=100.0)
    checks = world.run()
    assert not checks["gold_tasks_are_answered_well"]
    people = world.report()["annotators"]
    assert (people["maria"]["standing"], people["noor"]["standing"]) == ("good", "below floor")
    assert (people["maria"]["gold_f1"], people["noor"]["gold_f1"]) == (1.0, 0.0)
    assert not checks["verified_labels_are_agreed_on"]


class TestCommands:
    """`av labels status` and `av labels audit`."""

    @pytest.fixture
    def call(self, world: World, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("av_assets.cli.review.open_lake", lambda: world.lake)
        commands = {command.name: command for command in COMMANDS}

        def call(name: str, *arguments: str) -> str:
            result = CliRunner().invoke(commands[name], list(arguments), catch_exceptions=False)
            assert result.exit_code == 0
            return result.output

        return call

    def test_status_tells_states_budget_and_what_is_left(self, world: World, call) -> None:
        world.hand_in("maria.json", "maria", TASKS[:3])
        world.hand_in("noor.json", "noor", TASKS[:2])
        world.run()
        [found] = json.loads(call("status", "--json"))
        assert found["states"] == {"queued": 1, "in_review": 1, "adjudication": 0, "final": 2, "rework": 0}
        assert (found["drive"], found["frames"], found["open"]) == (DRIVE, 4, 2)
        assert found["spent_minutes"] == pytest.approx(5 * 12 / 60, abs=0.01)
        assert found["minutes_to_go"] == pytest.approx(2 * (5 * 12 / 60) / 2, abs=0.01)
        assert DRIVE in call("status", DRIVE)

    def test_audit_tells_every_step_of_a_frame(self, world: World, call) -> None:
        world.hand_in("maria.json", "maria", TASKS[:1])
        world.run()
        steps = json.loads(call("audit", TASKS[0], "--json"))
        assert [(s["state_to"], s["by"]) for s in steps] == [("queued", "planner"), ("in_review", "maria")]
        assert "maria" in call("audit", TASKS[0])

    def test_what_is_not_there_is_named(self, world: World, call) -> None:
        from av_assets.domain.errors import AvError

        world.run()
        with pytest.raises(AvError, match="no_such_task"):
            call("audit", "veh001-20250601t080000z.camera_front.1")
        with pytest.raises(AvError, match="no_such_drive"):
            call("status", "veh999-20250601t080000z")
        steps = json.loads(call("audit", TASKS[1], "--json"))
        assert [s["state_to"] for s in steps] == ["queued"]
