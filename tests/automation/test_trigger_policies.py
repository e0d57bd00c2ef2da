"""A version of the events policy from the edited file to its activation and back, over a small history.

The history is made by hand: five drives, each with brakings of known strength at known times, one of them also with a
radar. So every number of a back-test is known beforehand.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import h3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner

from av_assets.cli import policies as cli_policies
from av_assets.domain.errors import AvError, EvidenceError, LogError, PolicyError
from av_assets.domain.evidence.manifest import MadeFrom
from av_assets.domain.triggers.versions import Version
from av_assets.impact import of_asset, of_map, of_policy, preview
from av_assets.policies.events import EventsPolicy
from av_assets.policies.triggers import GeofencesPolicy
from av_assets.reliability.trigger_policies import (
    policy_backtests,
    policy_backtests_hold_their_limits,
    run_backtest,
    trigger_policies,
)
from partitions.drives import drives
from partitions.policies import policies
from resources import quarantine
from resources.activations import activate
from resources.adjudications import adjudicate
from resources.lake import Lake
from resources.policies import active, outdated_drives, policies_of_drives, propose, rollout
from resources.policy_versions import history

S = 10**9
START_NS = 1_748_764_800 * S
BRAKINGS = {
    "veh001-a": (3.6, 5.6),
    "veh001-b": (2.6, 3.6),
    "veh002-a": (3.6,),
    "veh002-b": (3.8, 7.0),
    "veh002-c": (),
}
WITH_RADAR = "veh002-c"
WEST = {"veh001-a", "veh001-b"}
SHIPPED = EventsPolicy.load()


@dataclass
class Scene:
    lake: Lake
    instance: dg.DagsterInstance
    folder: Path

    def defs(self) -> dg.Definitions:
        above = [dg.AssetSpec(name, partitions_def=drives) for name in ("synced_shards", "drive_catalog")]
        return dg.Definitions(
            assets=[*above, trigger_policies, policy_backtests],
            asset_checks=[policy_backtests_hold_their_limits],
            resources={"lake": self.lake},
        )

    def file(self, bump: str, edits: Mapping[str, Any], kind: str = "events") -> Path:
        data = active(self.lake, EventsPolicy).model_dump(mode="json") | {"version": raised(self.lake, bump)}
        for key, value in edits.items():
            *path, last = key.split(".")
            part = data
            for name in path:
                part = part[name]
            part[last] = value
        path = self.folder / f"{kind}.yaml"
        path.write_text(yaml.safe_dump(data))
        return path

    def proposed(self, bump: str = "minor", **edits: Any) -> str:
        file = self.file(bump, {key.replace("__", "."): value for key, value in edits.items()})
        return propose(self.lake, "events", file, "ann", 1).key

    def backtest(self, key: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        report, rows = run_backtest(self.defs(), self.instance, self.lake, key)
        return report, {row["kind"]: row for row in rows}

    def judge(self, *rows: tuple[str, float, bool]) -> None:
        """Verdicts on brakings that begin so many seconds after the start of a drive."""
        adjudicate(
            self.lake,
            [
                {
                    "drive": drive,
                    "kind": "harsh_brake",
                    "start_ns": START_NS + round(at_s * S),
                    "end_ns": START_NS + round((at_s + 2) * S),
                    "verdict": said,
                    "by": "bob",
                    "at_ns": 1,
                }
                for drive, at_s, said in rows
            ],
        )

    def judge_all(self) -> None:
        """Every braking of 3.6 m/s2 and more was one; that of 2.6 was not."""
        rows = [
            (d, 8.0 + 20 * n, depth > 3) for d, all_of in BRAKINGS.items() for n, depth in enumerate(all_of)
        ]
        self.judge(*rows)

    def activated(self, key: str, by: str = "bob") -> dict[str, Any]:
        kind, _, version = key.partition("-")
        return activate(self.lake, kind, version, by, 2)


def raised(lake: Lake, bump: str) -> str:
    numbers = list(Version(active(lake, EventsPolicy).version).numbers)
    place = ("major", "minor", "patch").index(bump)
    numbers[place:] = [numbers[place] + 1, *[0] * (2 - place)]
    return ".".join(map(str, numbers))


def clip(drive: str, depths: tuple[float, ...]) -> pa.Table:
    """A minute at 10 Hz; the n-th braking lasts 2 s from 8 + 20 n s on; WEST drives stand in another cell."""
    t = np.arange(600) / 10
    accel = np.zeros(600)
    for number, depth in enumerate(depths):
        at = 8.0 + 20 * number
        accel -= depth * np.clip(np.minimum(t - at, at + 2 - t) / 0.2, 0, 1)
    latitude, longitude = 48.0, 11.0 if drive in WEST else 12.0
    columns: dict[str, Any] = {
        "clip_id": pa.array([f"{drive}/00000"] * 600),
        "ref_ns": pa.array(START_NS + np.rint(t * S).astype(np.int64)),
    }
    if drive == WITH_RADAR:
        track = {"track_id": 1, "x_m": 30.0, "y_m": 0.0, "vx_mps": 0.0, "vy_mps": 0.0}
        columns["radar_front"] = pa.array([{"tracks": [track]}] * 600)
    columns["signals"] = pa.StructArray.from_arrays(
        [
            pa.array(accel),
            pa.array(np.full(600, 20.0)),
            pa.array([latitude] * 600),
            pa.array([longitude] * 600),
        ],
        ["accel_mps2", "speed_mps", "latitude_deg", "longitude_deg"],
    )
    return pa.table(columns)


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with the drives of BRAKINGS; tests work on copies."""
    root = tmp_path_factory.mktemp("past") / "lake"
    lake = Lake(uri=root.as_uri(), scratch=str(root / ".scratch"))
    rows, streams = [], []
    for drive, depths in BRAKINGS.items():
        with lake.workdir() as folder:
            (folder / "clips").mkdir()
            pq.write_table(clip(drive, depths), folder / "clips" / "00000.parquet")
            shards = lake.publish("synced_shards", drive, folder)
        made_from = MadeFrom(
            inputs={f"synced_shards/{drive}": shards.digest}, policies={"events": SHIPPED.digest}
        )
        lake.publish("event_windows", drive, made_from=made_from)
        longitude = 11.0 if drive in WEST else 12.0
        place = {"min_latitude_deg": 48.0, "max_latitude_deg": 48.0}
        place |= {"min_longitude_deg": longitude, "max_longitude_deg": longitude}
        row = {"drive": drive, "vehicle": drive[:6], "start_ns": START_NS, "end_ns": START_NS + 60 * S}
        rows.append({**row, **place, "of": "all"})
        streams.append({"drive": drive, "kind": "radar" if drive == WITH_RADAR else "imu", "of": "all"})
    lake.tables.replace("drives", pa.Table.from_pylist(rows), key="of", value="all")
    lake.tables.replace("streams", pa.Table.from_pylist(streams), key="of", value="all")
    return root


@pytest.fixture
def scene(tmp_path: Path, past: Path) -> Iterator[Scene]:
    shutil.copytree(past, tmp_path / "lake")
    lake = Lake(uri=(tmp_path / "lake").as_uri(), scratch=str(tmp_path / "lake" / ".scratch"))
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("drive", list(BRAKINGS))
        yield Scene(lake, instance, tmp_path)


def test_a_version_goes_from_the_file_to_activation_and_back(scene: Scene) -> None:
    scene.judge_all()
    key = scene.proposed(brake__levels_mps2=[3.2, 5.0, 6.4])
    report, kinds = scene.backtest(key)
    assert (report["state"], report["reasons"], report["kinds"]) == ("pass", [], ["harsh_brake"])
    assert (kinds["harsh_brake"]["active_alerts"], kinds["harsh_brake"]["proposed_alerts"]) == (6, 6)
    record = scene.activated(key)
    assert (record["how"], record["number"], record["previous"]) == ("backtest", 1, "shipped")
    assert active(scene.lake, EventsPolicy).brake.levels_mps2 == (3.2, 5.0, 6.4)
    assert activate(scene.lake, "events", "shipped", "ann", 3)["how"] == "shipped"
    assert active(scene.lake, EventsPolicy) == SHIPPED
    # one that was active before needs no back-test, though the one it had was made against another version
    assert scene.activated(key)["how"] == "rollback"
    assert [r["version"] for r in history(scene.lake, "events")] == [key[7:], "shipped", key[7:]]
    rows = scene.lake.tables.read("policy_activations")
    assert rows is not None
    assert sorted(zip(rows["number"].to_pylist(), rows["by"].to_pylist(), strict=True)) == [
        (1, "bob"),
        (2, "ann"),
        (3, "bob"),
    ]


def test_a_backtest_counts_what_is_known_beforehand(scene: Scene) -> None:
    scene.judge_all()
    report, kinds = scene.backtest(scene.proposed(brake__levels_mps2=[2.4, 5.0, 6.4]))
    row = kinds["harsh_brake"]
    hours = 5 * 59.9 / 3600
    assert row["hours"] == pytest.approx(hours)
    assert (row["judged_true"], row["judged_false"]) == (6, 1)
    assert (row["active_alerts"], row["proposed_alerts"], row["proposed_unjudged"]) == (6, 7, 0)
    assert (row["active_recall"], row["proposed_recall"]) == (1.0, 1.0)
    assert (row["active_precision"], row["proposed_precision"]) == (1.0, pytest.approx(6 / 7))
    assert row["active_per_h"] == pytest.approx(6 / hours)
    assert report["state"] == "fail"
    assert "harsh_brake: precision 1.000 -> 0.857" in report["reasons"][0]
    changes = scene.lake.tables.read("policy_backtest_changes")
    assert changes is not None
    added = [r for r in changes.to_pylist() if r["change"] == "added"]
    assert [(r["drive"], r["proposed_level"], r["verdict"]) for r in added] == [("veh001-b", 1, False)]
    held = scene.lake.tables.read("policy_backtest_cells")
    assert held is not None
    cells = {r["h3_cell"]: r for r in held.to_pylist() if r["kind"] == "harsh_brake"}
    west, east = (h3.latlng_to_cell(48.0, longitude, 9) for longitude in (11.0, 12.0))
    assert (cells[west]["active"], cells[west]["proposed"]) == (3, 4)
    assert (cells[east]["active"], cells[east]["proposed"]) == (3, 3)
    made = scene.lake.require("policy_backtests", report["key"])
    assert scene.lake.read_bytes(made, "heat.png")[:4] == b"\x89PNG"


def test_losing_adjudicated_events_fails_and_is_not_activated(scene: Scene) -> None:
    scene.judge_all()
    key = scene.proposed(brake__levels_mps2=[4.5, 5.0, 6.4])
    report, kinds = scene.backtest(key)
    assert report["state"] == "fail"
    assert kinds["harsh_brake"]["proposed_recall"] == pytest.approx(2 / 6)
    with pytest.raises(PolicyError, match=r"recall 1\.000 -> 0\.333") as error:
        scene.activated(key)
    assert error.value.code == "backtest_not_passed"
    checks = scene.instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey("policy_backtests"), "policy_backtests_hold_their_limits"), limit=1
    )
    assert checks[0].status.value == "FAILED"


def test_without_verdicts_there_is_no_evidence(scene: Scene) -> None:
    key = scene.proposed(brake__levels_mps2=[3.2, 5.0, 6.4])
    with pytest.raises(PolicyError, match="no back-test"):
        scene.activated(key)
    report, _ = scene.backtest(key)
    assert (report["state"], report["reasons"]) == (
        "insufficient",
        ["harsh_brake: 0 true events adjudicated of 5"],
    )
    with pytest.raises(PolicyError, match="insufficient"):
        scene.activated(key)
    scene.judge_all()  # other verdicts make another back-test
    assert scene.backtest(key)[0]["state"] == "pass"
    assert scene.activated(key)["how"] == "backtest"


def test_only_drives_that_can_change_are_replayed(scene: Scene) -> None:
    report, _ = scene.backtest(scene.proposed(cut_in__max_gap_m=41.0))
    assert (report["replayed"], report["left_alone"]) == ([WITH_RADAR], 4)
    assert report["kinds"] == ["cut_in"]
    assert of_policy(scene.lake, report["key"]) == {("event_windows", WITH_RADAR)}


def test_a_version_that_changes_nothing_passes_and_remakes_nothing(scene: Scene) -> None:
    key = scene.proposed("patch")
    report, kinds = scene.backtest(key)
    assert (report["state"], report["replayed"], kinds) == ("pass", [], {})
    assert of_policy(scene.lake, key) == set()
    scene.activated(key)
    assert outdated_drives(scene.lake, "event_windows") == []


def test_a_backtest_against_another_active_version_is_outdated(scene: Scene) -> None:
    scene.judge_all()
    first = scene.proposed(brake__levels_mps2=[3.2, 5.0, 6.4])
    second = scene.file(
        "minor", {"brake.levels_mps2": [3.3, 5.0, 6.4], "version": _next(raised(scene.lake, "minor"))}
    )
    key = propose(scene.lake, "events", second, "ann", 1).key
    assert scene.backtest(first)[0]["state"] == scene.backtest(key)[0]["state"] == "pass"
    scene.activated(first)
    with pytest.raises(PolicyError, match="another active version") as error:
        scene.activated(key)
    assert error.value.code == "backtest_outdated"
    scene.backtest(key)
    assert scene.activated(key)["previous"] == first[7:]


def _next(version: str) -> str:
    major, minor, patch = version.split(".")
    return f"{major}.{int(minor) + 1}.{patch}"


def test_whoever_wrote_a_version_does_not_activate_it(scene: Scene) -> None:
    scene.judge_all()
    key = scene.proposed(brake__levels_mps2=[3.2, 5.0, 6.4])
    scene.backtest(key)
    with pytest.raises(PolicyError, match="ann wrote") as error:
        scene.activated(key, by=" ann ")
    assert error.value.code == "same_person"


@pytest.mark.parametrize("asset", ["policy_proposals", "policy_backtests"])
def test_what_was_tampered_with_blocks_activation_and_is_named(scene: Scene, asset: str) -> None:
    scene.judge_all()
    key = scene.proposed(brake__levels_mps2=[3.2, 5.0, 6.4])
    scene.backtest(key)
    manifest = scene.lake.require(asset, key)
    entry = manifest.files[-1]
    scene.lake.store.put(f"objects/{entry.sha256[:2]}/{entry.sha256}", b"other bytes")
    with pytest.raises(EvidenceError, match=f"{entry.path} of {asset}/{key}") as error:
        scene.activated(key)
    assert error.value.code == "damaged_object"
    assert history(scene.lake, "events") == []


@pytest.mark.parametrize("asset", ["policy_proposals", "policy_backtests"])
def test_a_manifest_that_nobody_signed_blocks_activation(scene: Scene, asset: str) -> None:
    scene.judge_all()
    key = scene.proposed(brake__levels_mps2=[3.2, 5.0, 6.4])
    scene.backtest(key)
    with scene.lake.workdir() as folder:
        scene.lake.checkout(scene.lake.require(asset, key), folder / "held")
        scene.lake.publish(asset, key, folder / "held", note="forged")
    with pytest.raises(EvidenceError, match=f"{asset}/{key}") as error:
        scene.activated(key)
    assert error.value.code == "unsigned"


def test_a_damaged_active_version_stops_decisions_and_the_kill_switch_still_works(scene: Scene) -> None:
    scene.judge_all()
    key = scene.proposed(brake__levels_mps2=[3.2, 5.0, 6.4])
    scene.backtest(key)
    scene.activated(key)
    entry = scene.lake.require("policy_proposals", key).entry("policy.yaml")
    scene.lake.store.put(f"objects/{entry.sha256[:2]}/{entry.sha256}", b"version: 9.9.9")
    with pytest.raises(EvidenceError):
        active(scene.lake, EventsPolicy)
    activate(scene.lake, "events", "shipped", "bob", 3)
    assert active(scene.lake, EventsPolicy) == SHIPPED


def test_geofences_change_the_drives_within_and_no_others(scene: Scene) -> None:
    scene.judge_all()
    west = {"west_deg": 10.9, "south_deg": 47.9, "east_deg": 11.1, "north_deg": 48.1}
    data = {
        "version": "1.0.0",
        "changes": "events",
        "base": SHIPPED.digest,
        "regions": [{"name": "west", "bbox": west, "overrides": {"brake.levels_mps2": [3.2, 5.0, 6.4]}}],
    }
    file = scene.folder / "geofences.yaml"
    file.write_text(yaml.safe_dump(data))
    key = propose(scene.lake, "geofences", file, "ann", 1).key
    report, _ = scene.backtest(key)
    assert report["replayed"] == sorted(WEST)
    assert (report["kinds"], report["state"]) == (
        ["harsh_brake"],
        "insufficient",
    )  # three true events in the west
    scene.judge(*[("veh001-a", 30.0 + n, True) for n in range(2)])
    report, kinds = scene.backtest(key)
    assert kinds["harsh_brake"]["judged_true"] == 5
    assert report["state"] == "pass"
    scene.activated(key)
    numbers = policies_of_drives(scene.lake, [*BRAKINGS, "unknown"])
    assert {d for d, p in numbers.items() if p.brake.levels_mps2 == (3.2, 5.0, 6.4)} == WEST
    assert outdated_drives(scene.lake, "event_windows") == sorted(WEST)
    some = ["veh001-a", "veh002-a", "veh404-x"]
    assert outdated_drives(scene.lake, "event_windows", drives=some) == ["veh001-a"]
    assert outdated_drives(scene.lake, "event_windows", drives=[]) == []
    other = scene.proposed(cut_in__max_gap_m=41.0)
    report, _ = scene.backtest(other)
    assert report["sections"] == [
        "brake",
        "cut_in",
    ]  # under another base the geofences change nothing any more
    now = rollout(scene.lake)
    assert not now.dormant
    assert now.with_version(SHIPPED.model_copy(update={"version": "9.0.0"})).dormant
    activate(scene.lake, "geofences", "shipped", "bob", 3)
    assert active(scene.lake, GeofencesPolicy).regions == ()


def test_a_version_and_its_backtest_are_requested_once_and_together(scene: Scene) -> None:
    key = scene.proposed(brake__levels_mps2=[3.2, 5.0, 6.4])
    look = dg.evaluate_automation_conditions(scene.defs(), scene.instance)
    assert look.total_requested == 0
    scene.instance.add_dynamic_partitions(policies.name or "", [key])
    look = dg.evaluate_automation_conditions(scene.defs(), scene.instance, cursor=look.cursor)
    assert look.get_requested_partitions(dg.AssetKey("trigger_policies")) == {key}
    assert look.get_requested_partitions(dg.AssetKey("policy_backtests")) == {key}
    scene.backtest(key)
    look = dg.evaluate_automation_conditions(scene.defs(), scene.instance, cursor=look.cursor)
    assert look.total_requested == 0


def test_a_version_that_cannot_be_validated_is_not_backtested_again_and_again(scene: Scene) -> None:
    scene.instance.add_dynamic_partitions(policies.name or "", ["events-7.7.7"])
    first = dg.evaluate_automation_conditions(scene.defs(), scene.instance)
    assert first.total_requested == 2
    run = (
        scene.defs()
        .resolve_implicit_global_asset_job_def()
        .execute_in_process(
            instance=scene.instance,
            partition_key="events-7.7.7",
            asset_selection=[dg.AssetKey("trigger_policies"), dg.AssetKey("policy_backtests")],
            raise_on_error=False,
        )
    )
    assert not run.success
    cursor = first.cursor
    for _ in range(3):
        look = dg.evaluate_automation_conditions(scene.defs(), scene.instance, cursor=cursor)
        assert look.total_requested == 0
        cursor = look.cursor
    with pytest.raises(PolicyError, match="never proposed"):
        run_backtest(scene.defs(), scene.instance, scene.lake, "events-7.7.7")


def test_the_impact_of_a_version_is_told_with_times_before_it_is_active(scene: Scene) -> None:
    @dg.asset(partitions_def=drives, deps=["synced_shards"])
    def event_windows() -> None: ...

    defs = dg.Definitions(assets=[dg.AssetSpec("synced_shards", partitions_def=drives), event_windows])
    start = of_policy(scene.lake, scene.proposed(brake__levels_mps2=[3.2, 5.0, 6.4]))
    assert start == {("event_windows", drive) for drive in BRAKINGS}
    blind = preview("policy", defs, scene.lake, scene.instance, start)
    assert [(r["asset"], r["partitions"], r["certain"], r["n"]) for r in blind.rows()] == [
        ("event_windows", 5, 5, 0)
    ]
    assert blind.total.unknown == ("event_windows",)
    for number in range(10):
        event = dg.AssetMaterialization(
            "event_windows",
            partition="veh001-a",
            metadata={"seconds/total": float(number + 1), "reused": number == 9},
        )
        scene.instance.report_runless_asset_event(event)
    told = preview("policy", defs, scene.lake, scene.instance, start)
    assert told.rows()[0]["n"] == 9
    assert (told.rows()[0]["p50_s"], told.rows()[0]["p90_s"]) == (5.0, 9.0)
    assert (told.total.p50_s, told.total.p90_s) == (
        25.0,
        45.0,
    )  # an instance without a queue runs one at a time
    assert told.to_dict()["partitions"][0]["how"] == "certain"


def test_the_impact_of_an_asset_follows_what_was_made_from_it(scene: Scene) -> None:
    defs = dg.Definitions(
        assets=[dg.AssetSpec("synced_shards", partitions_def=drives), _windows("on_changed_content")]
    )
    start = of_asset(defs, scene.lake, "synced_shards", ["veh001-a"])
    found = preview("asset", defs, scene.lake, scene.instance, start)
    assert [(r.asset, r.partition, r.how) for r in found.remade] == [
        ("synced_shards", "veh001-a", "certain"),
        ("event_windows", "veh001-a", "possible"),
    ]
    for wrong, names in (("no_such", ()), ("synced_shards", ("veh999-a",))):
        with pytest.raises(AvError):
            of_asset(defs, scene.lake, wrong, names)


def _windows(label: str) -> dg.AssetsDefinition:
    condition = dg.AutomationCondition.missing().with_label(label)

    @dg.asset(partitions_def=drives, deps=["synced_shards"], automation_condition=condition)
    def event_windows() -> None: ...

    return event_windows


def test_the_impact_of_a_map_is_on_the_drives_that_meet_it(scene: Scene) -> None:
    @dg.asset(partitions_def=drives, deps=["synced_shards", "map_tiles"])
    def event_windows() -> None: ...

    shards = dg.AssetSpec("synced_shards", partitions_def=drives)
    defs = dg.Definitions(assets=[shards, dg.AssetSpec("map_tiles"), event_windows])
    west = of_map(defs, scene.lake, (10.9, 47.9, 11.0, 48.0))
    assert west == {("event_windows", drive) for drive in WEST}
    assert of_map(defs, scene.lake, (0.0, 0.0, 1.0, 1.0)) == set()
    assert len(of_map(defs, scene.lake, None)) == len(BRAKINGS)
    assert preview("map", defs, scene.lake, scene.instance, set()).rows() == []
    with pytest.raises(AvError, match="nothing in the graph reads the map"):
        of_map(dg.Definitions(assets=[shards]), scene.lake, None)


def test_drives_in_quarantine_and_older_weeks_have_no_part(scene: Scene) -> None:
    quarantine.put(scene.lake, "veh001-a", "synced_shards", LogError("cut off"), run_id="r", now_ns=1)
    old = scene.lake.tables.read("drives", [("drive", "=", "veh001-b")])
    assert old is not None
    rows = [{**row, "of": "old", "drive": "veh009-z", "start_ns": 1} for row in old.to_pylist()]
    scene.lake.tables.replace("drives", pa.Table.from_pylist(rows), key="of", value="old")
    scene.lake.publish("synced_shards", "veh009-z")
    report, _ = scene.backtest(scene.proposed(brake__levels_mps2=[3.2, 5.0, 6.4]))
    assert report["replayed"] == sorted(set(BRAKINGS) - {"veh001-a"})


def test_the_commands_tell_what_the_assets_found(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("open_lake", scene.lake),
        ("open_instance", scene.instance),
        ("_definitions", scene.defs()),
    ):
        monkeypatch.setattr(cli_policies, name, lambda value=value: value)
    commands = {command.name: command for command in cli_policies.COMMANDS}

    def call(*arguments: str) -> tuple[str, int]:
        done = CliRunner().invoke(commands[arguments[0]], arguments[1:])
        return done.output, done.exit_code

    scene.judge_all()
    good, bad = scene.proposed(brake__levels_mps2=[3.2, 5.0, 6.4]), _next(raised(scene.lake, "minor"))
    file = scene.file("minor", {"brake.levels_mps2": [2.4, 5.0, 6.4], "version": bad})
    propose(scene.lake, "events", file, "ann", 1)
    text, code = call("policy", "backtest", f"events-{bad}")
    assert (code, "fail" in text, "6 -> 7" in text, "1.000 -> 0.857" in text) == (1, True, True, True)
    text, code = call("policy", "backtest", good, "--json")
    assert (code, json.loads(text)["state"]) == (0, "pass")
    assert json.loads(text)["by_kind"][0]["proposed_recall_low"] == pytest.approx(0.025 ** (1 / 6))
    # this small graph has no event_windows
    assert "nothing would be remade" in call("impact", "policy", good)[0]
    text, code = call("impact", "asset", "synced_shards", "veh001-a")
    assert (code, "unknown" in text, "at least 0 s" in text) == (0, True, True)
    assert json.loads(call("impact", "code", "synced_shards", "--json")[0])["assets"][0]["partitions"] == 5
    assert "bad_bbox" in str(CliRunner().invoke(commands["impact"], ["map", "--bbox", "1,2"]).exception)
    assert call("policy", "activate", "events", good[7:], "--by", "bob")[1] == 0
    assert f"events {good[7:]} is active" in call("policy", "list")[0]
