"""The labeller's report over a small lake: who counts, what the checks say, and from proposal to rollback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from av_assets.cli import thresholds as cli_thresholds
from av_assets.domain.errors import AvError, PolicyError
from av_assets.domain.evidence.manifest import MadeFrom
from av_assets.domain.labels.quality.thresholds import threshold_of
from av_assets.impact import of_policy
from av_assets.mining import labeller_reports as module
from av_assets.mining.labeller_reports import labeller_reports
from av_assets.policies.label_fusion import LabelFusionPolicy
from resources.activations import activate
from resources.lake import Lake
from resources.policies import active, propose
from resources.policy_versions import history
from sensors.outdated import activated_label_fusion

SHIPPED = LabelFusionPolicy.load()
LEAST = threshold_of("vehicle", "day", SHIPPED)
NEXT = f"1.{int(SHIPPED.version.split('.')[1]) + 1}.0"
FRAMES = 30


def row(drive: str, n: int, x: float, score: float, track: int) -> dict[str, Any]:
    return {
        "clip_id": f"{drive}/0", "ref_ns": n, "camera": "camera_front", "cls": "vehicle", "score": score,
        "track": track, "label_id": f"t{track}", "slice": "day", "distance_m": 9.0, "rule": "lidar",
        "sources": "{}", "x1": x, "y1": 0.0, "x2": x + 10, "y2": 10.0,
    }  # fmt: skip


@dataclass
class Fleet:
    lake: Lake
    instance: dg.DagsterInstance
    folder: Path
    number: int = 0

    def _publish(self, asset: str, drive: str, note: str = "", **tables: list[dict[str, Any]]) -> None:
        self.number += 1
        out = self.folder / str(self.number)
        out.mkdir()
        for name, rows in tables.items():
            pq.write_table(pa.Table.from_pylist(rows), out / f"{name}.parquet")
        self.lake.publish(asset, drive, out, note=note)

    def label(self, drive: str, right: bool = True) -> None:
        """An object in every frame; the labeller is right where it is sure, and often wrong where it is not."""
        rng = np.random.default_rng([*drive.encode()])
        found = [
            row(drive, n, 1.0 if right else 80.0, float(rng.uniform(LEAST + 0.3, 1)), 0)
            for n in range(FRAMES)
        ]
        found += [row(drive, n, 50.0, float(rng.uniform(LEAST, LEAST + 0.2)), 9) for n in range(0, FRAMES, 2)]
        self._publish("auto_labels", drive, candidates=found)

    def verify(self, drive: str, note: str = "", state: str = "final") -> None:
        truth = [row(drive, n, 0.0, 1.0, 0) for n in range(FRAMES)]
        frames = [{"clip_id": f"{drive}/0", "ref_ns": n, "state": state} for n in range(FRAMES)]
        self._publish("verified_labels", drive, note, **({} if note else {"labels": truth, "frames": frames}))

    def make(self) -> dict[str, bool]:
        checks = [module.auto_labels_reach_their_target, module.labeller_is_calibrated]
        result = dg.materialize(
            [labeller_reports, *checks], resources={"lake": self.lake}, instance=self.instance
        )
        assert result.success
        return {e.check_name: e.passed for e in result.get_asset_check_evaluations()}

    def read(self, name: str) -> dict[str, Any]:
        return dict(json.loads(self.lake.read_bytes(self.lake.require("labeller_reports", "all"), name)))


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    (tmp_path / "made").mkdir()
    lake = Lake(uri=(tmp_path / "lake").as_uri(), scratch=str(tmp_path / "lake" / ".scratch"))
    with dg.DagsterInstance.ephemeral() as instance:
        yield Fleet(lake, instance, tmp_path / "made")


def verified(fleet: Fleet, count: int = 20, right: bool = True) -> None:
    for n in range(count):
        fleet.label(f"veh{n:03d}-20250601t080000z", right)
        fleet.verify(f"veh{n:03d}-20250601t080000z")


def proposed(fleet: Fleet, folder: Path, **edits: Any) -> Path:
    import yaml

    made = fleet.lake.require("labeller_reports", "all")
    data = yaml.safe_load(fleet.lake.read_bytes(made, "label_fusion.yaml")) | edits
    path = folder / "label_fusion.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def test_only_drives_that_people_finished_count(fleet: Fleet) -> None:
    fleet.label("d1")
    fleet.verify("d1")
    fleet.label("d2")
    fleet.verify("d2", note="no annotator knows this drive")
    fleet.label("d3")
    fleet.verify("d3", state="in_review")
    fleet.verify("d4")
    fleet.make()
    report = fleet.read("quality_report.json")
    assert sorted(report["chosen_on"] + report["judged_on"]) == ["d1", "d3"]
    assert report["frames"] == FRAMES


def test_an_empty_fleet_gives_a_report_that_says_so(fleet: Fleet) -> None:
    assert all(fleet.make().values())
    assert fleet.read("thresholds.json")["reason"] == "no drive has labels that people verified"
    assert not fleet.lake.require("labeller_reports", "all").matching("label_fusion.yaml")


def test_the_report_is_made_again_only_when_a_member_changed(fleet: Fleet) -> None:
    verified(fleet, 3)
    fleet.make()
    first = fleet.lake.require("labeller_reports", "all")
    fleet.make()
    assert fleet.lake.require("labeller_reports", "all").digest == first.digest
    fleet.label("veh001-20250601t080000z", right=False)
    fleet.make()
    assert fleet.lake.require("labeller_reports", "all").content != first.content


def test_the_checks_fail_where_labels_are_wrong(fleet: Fleet) -> None:
    verified(fleet, right=False)
    assert fleet.make() == {"auto_labels_reach_their_target": False, "labeller_is_calibrated": False}


def test_from_proposal_to_rollback(fleet: Fleet, tmp_path: Path) -> None:
    verified(fleet)
    assert (
        fleet.make()["auto_labels_reach_their_target"] is False
    )  # precision 2/3 under the shipped thresholds
    path = proposed(fleet, tmp_path)
    key = propose(fleet.lake, "label_fusion", path, "ann", 1).key
    assert key == f"label_fusion-{NEXT}"
    assert of_policy(fleet.lake, key) == {
        ("auto_labels", drive) for drive in fleet.lake.partitions("auto_labels")
    }
    with pytest.raises(PolicyError) as error:
        activate(fleet.lake, "label_fusion", NEXT, "ann", 2)
    assert error.value.code == "same_person"
    record = activate(fleet.lake, "label_fusion", NEXT, "bob", 3)
    assert record["how"] == "report"
    assert record["backtest"] == fleet.lake.require("labeller_reports", "all").content
    now = active(fleet.lake, LabelFusionPolicy)
    assert now.thresholds["vehicle"]["all"] > LEAST
    assert fleet.make()["auto_labels_reach_their_target"] is True
    activate(fleet.lake, "label_fusion", "shipped", "bob", 4)
    assert active(fleet.lake, LabelFusionPolicy) == SHIPPED
    assert activate(fleet.lake, "label_fusion", NEXT, "bob", 5)["how"] == "rollback"
    assert [r["version"] for r in history(fleet.lake, "label_fusion")] == [NEXT, "shipped", NEXT]


def test_numbers_that_no_report_chose_are_not_activated(fleet: Fleet, tmp_path: Path) -> None:
    verified(fleet)
    fleet.make()
    path = proposed(fleet, tmp_path, default={"vehicle": 0.01, "pedestrian": 0.3, "cone": 0.3})
    propose(fleet.lake, "label_fusion", path, "ann", 1)
    with pytest.raises(PolicyError) as error:
        activate(fleet.lake, "label_fusion", NEXT, "bob", 2)
    assert error.value.code == "report_outdated"


def test_without_a_report_nothing_is_activated(fleet: Fleet, tmp_path: Path) -> None:
    import yaml

    data = SHIPPED.model_dump(mode="json") | {"version": NEXT, "teacher": "w20250602-c43d008c"}
    (tmp_path / "label_fusion.yaml").write_text(yaml.safe_dump(data))
    propose(fleet.lake, "label_fusion", tmp_path / "label_fusion.yaml", "ann", 1)
    with pytest.raises(PolicyError) as error:
        activate(fleet.lake, "label_fusion", NEXT, "bob", 2)
    assert error.value.code == "no_labeller_report"


def test_the_commands_show_and_propose(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_thresholds, "open_lake", lambda: fleet.lake)
    monkeypatch.setenv("AV_POLICIES", str(tmp_path / "policies"))
    from resources.environment import environment

    def call(command: Any, *arguments: str) -> str:
        result = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
        assert result.exit_code == 0
        return result.output

    with pytest.raises(AvError, match="no report"):
        call(cli_thresholds.quality)
    verified(fleet)
    fleet.make()
    assert "vehicle" in call(cli_thresholds.quality)
    assert json.loads(call(cli_thresholds.quality, "--json"))["drives"] == 20
    assert "reached" in call(cli_thresholds.thresholds)
    call(cli_thresholds.thresholds, "--propose")
    written = LabelFusionPolicy.load(environment().policies / "label_fusion.yaml")
    assert written.version == NEXT
    assert environment().policies == tmp_path / "policies"
    monkeypatch.setattr("resources.policies.active", lambda *_: written)
    with pytest.raises(AvError, match="no longer active"):
        call(cli_thresholds.thresholds, "--propose")


def test_an_activation_remakes_the_labels_that_were_made_under_another_version(
    fleet: Fleet, tmp_path: Path
) -> None:
    verified(fleet)
    fleet.make()
    fleet.instance.add_dynamic_partitions("drive", ["old", "new"])
    for drive, policy in (
        ("old", SHIPPED),
        ("new", LabelFusionPolicy.load(proposed(fleet, tmp_path))),
        ("gone", SHIPPED),
    ):
        (tmp_path / drive).mkdir()
        made_from = MadeFrom(policies={policy.name: policy.digest})
        fleet.lake.publish("auto_labels", drive, tmp_path / drive, made_from=made_from)
    cursor = None

    def asked() -> list[str | None]:
        nonlocal cursor
        context = dg.build_sensor_context(
            fleet.instance,
            cursor=cursor,
            resources={"lake": fleet.lake},
            sensor_name="activated_label_fusion",
        )
        result = activated_label_fusion(context)
        if isinstance(result, dg.SkipReason):
            return []
        assert isinstance(result, dg.SensorResult)
        cursor = result.cursor
        return [r.partition_key for r in result.run_requests or []]

    assert asked() == ["new"]  # it was labelled under numbers that are not active
    assert asked() == []
    propose(fleet.lake, "label_fusion", tmp_path / "label_fusion.yaml", "ann", 1)
    activate(fleet.lake, "label_fusion", NEXT, "bob", 2)
    assert asked() == ["old"]
    assert asked() == []
