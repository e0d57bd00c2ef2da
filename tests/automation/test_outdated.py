"""What changes for the whole world, and which drives the sensors name then: others are not touched, none is forgotten.

Belongs here: the three sensors over lakes that runs have made. Does not belong here: conditions of the graph, runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from av_assets.domain.errors import EvidenceError
from av_assets.domain.evidence.manifest import MadeFrom
from av_assets.domain.simulation.samples import short_drive
from av_assets.mining.scenes import event_windows
from partitions.drives import drives
from resources.activations import activate
from resources.lake import Lake, object_key
from resources.maps import Maps
from resources.policies import policies_of_drives, propose
from resources.weather import Weather
from sensors import outdated
from tests.automation.test_enrichment import FAR, NEAR, World
from tests.automation.test_enrichment import world as world
from tests.automation.test_trigger_policies import BRAKINGS, SHIPPED, WEST, Scene
from tests.automation.test_trigger_policies import past as past
from tests.automation.test_trigger_policies import scene as scene


@dataclass
class Looking:
    """A sensor and its cursor, as the daemon keeps it; every run key that was ever given out."""

    sensor: dg.SensorDefinition
    instance: dg.DagsterInstance
    resources: Mapping[str, Any]
    cursor: str | None = None
    keys: list[str] = field(default_factory=list)

    def __call__(self) -> list[str]:
        """The drives, or the assets without partitions, that one tick asks for."""
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources=dict(self.resources)
        )
        found = self.sensor(context)
        if isinstance(found, dg.SkipReason):
            return []
        assert isinstance(found, dg.SensorResult)
        self.cursor = found.cursor
        requests = [request for request in found.run_requests or [] if isinstance(request, dg.RunRequest)]
        keys = [request.run_key for request in requests if request.run_key]
        assert not set(keys) & set(self.keys), "Dagster starts nothing for a run key that it has seen"
        assert len(set(keys)) == len(keys)
        self.keys += keys
        return [r.partition_key or (r.asset_selection or [dg.AssetKey("?")])[0].path[-1] for r in requests]

    def until_done(self) -> list[str]:
        """What ticks ask for until nothing is left to compare."""
        asked = self()
        while json.loads(self.cursor or "{}")["after"] is not None:
            asked += self()
        return asked


@pytest.fixture
def sources(world: World) -> Looking:
    resources = {
        "lake": world.lake,
        "maps": Maps(path=str(world.folder / "map")),
        "weather": Weather(path=str(world.folder / "weather")),
    }
    return Looking(outdated.changed_sources, world.instance, resources)


@pytest.fixture
def surroundings(world: World) -> Looking:
    return Looking(outdated.changed_surroundings, world.instance, {"lake": world.lake})


@pytest.fixture
def activated(scene: Scene) -> Looking:
    return Looking(outdated.activated_policies, scene.instance, {"lake": scene.lake})


@pytest.fixture
def full(world: World) -> World:
    """Two drives in two regions, enriched from map and weather of both."""
    for script in (NEAR, FAR):
        world.shards(script)
    world.map(NEAR, FAR)
    world.weather(NEAR, FAR)
    world.look()
    for script in (NEAR, FAR):
        world.enrich(script)
    return world


class TestChangedSources:
    def test_nothing_is_asked_for_before_anything_was_made(self, world: World, sources: Looking) -> None:
        world.map(NEAR)
        assert sources() == []  # the conditions of the two assets make them for the first time

    def test_a_changed_map_file_asks_for_the_tiles_once(self, world: World, sources: Looking) -> None:
        world.map(NEAR)
        world.weather(NEAR)
        world.look()
        assert sources() == []
        world.map(NEAR, FAR)
        assert sources() == ["map_tiles"]
        assert sources() == []  # while the run waits, and after one that failed
        world.run("map_tiles")
        assert sources() == []
        world.map(NEAR)
        assert sources() == ["map_tiles"]  # back to what it was, which is a change

    def test_weather_that_comes_asks_for_the_observations_alone(self, world: World, sources: Looking) -> None:
        world.map(NEAR)
        world.look()
        world.weather(NEAR)
        assert sources() == ["weather_observations"]
        world.run("weather_observations")
        world.weather(NEAR, FAR)
        world.map(NEAR, FAR)
        assert sorted(sources()) == ["map_tiles", "weather_observations"]

    def test_a_file_that_only_got_another_time_is_no_change(self, world: World, sources: Looking) -> None:
        world.map(NEAR)
        world.look()
        world.map(NEAR)
        assert sources() == []

    def test_a_map_that_is_taken_away_is_a_change(self, world: World, sources: Looking) -> None:
        world.map(NEAR)
        world.look()
        (world.folder / "map" / "sample.osm").unlink()
        assert sources() == ["map_tiles"]


class TestChangedSurroundings:
    def test_a_world_as_it_was_asks_for_nobody(self, full: World, surroundings: Looking) -> None:
        assert surroundings() == []
        assert surroundings() == []

    def test_only_drives_near_the_change_are_asked_for(self, full: World, surroundings: Looking) -> None:
        surroundings()
        full.map(NEAR)  # the region of the other drive is gone
        full.look()
        assert surroundings() == [FAR.drive]
        assert surroundings() == []
        full.enrich(FAR)
        assert surroundings() == []
        full.map(NEAR, FAR)  # the map that there was before
        full.look()
        assert surroundings() == [FAR.drive]
        full.enrich(FAR)
        full.map(NEAR, FAR, without="Parallelstra")
        full.look()
        assert sorted(surroundings()) == sorted([NEAR.drive, FAR.drive])

    def test_a_change_where_nobody_drove_asks_for_nobody(self, full: World, surroundings: Looking) -> None:
        surroundings()
        full.map(NEAR, FAR, short_drive("veh003-20250601t090000z", region="old_town"))
        full.look()
        assert surroundings() == []

    def test_late_weather_asks_for_its_drives(self, world: World, surroundings: Looking) -> None:
        for script in (NEAR, FAR):
            world.shards(script)
        world.map(NEAR, FAR)
        world.weather(FAR)
        world.look()
        for script in (NEAR, FAR):
            world.enrich(script)
        assert surroundings() == []
        world.weather(NEAR, FAR)
        world.look()
        assert surroundings() == [NEAR.drive]
        world.enrich(NEAR)
        assert outdated_now(world) == []

    def test_archived_drives_are_left_out(self, full: World, surroundings: Looking) -> None:
        full.instance.delete_dynamic_partition(drives.name or "", FAR.drive)
        full.map()
        full.look()
        assert surroundings.until_done() == [NEAR.drive]

    def test_a_drive_that_cannot_be_read_is_asked_for_and_holds_up_nobody(
        self, full: World, surroundings: Looking
    ) -> None:
        surroundings()
        lose(full, "enriched_clips", "matched.parquet")
        lose(full, "synced_shards", "clips/00000.parquet")
        full.map(NEAR)
        full.look()
        assert sorted(surroundings.until_done()) == sorted([NEAR.drive, FAR.drive])

    def test_a_drive_whose_own_positions_are_lost_is_made_again_from_its_shards(
        self, full: World, surroundings: Looking
    ) -> None:
        before = full.digest(NEAR)
        lose(full, "enriched_clips", "matched.parquet")
        assert surroundings() == []
        assert {row["road_class"] for row in full.enrich(NEAR)} == {"secondary"}
        assert full.digest(NEAR) == before
        assert full.lake.verify(full.lake.require("enriched_clips", NEAR.drive)) == []

    def test_a_map_that_changes_while_a_drive_is_made_is_not_lost(
        self, full: World, surroundings: Looking, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The look may be over before the drive has a bundle at all: then whoever makes it must notice."""
        late = short_drive("veh003-20250601t090000z")
        full.instance.add_dynamic_partitions(drives.name or "", [late.drive])
        full.shards(late)
        publish, looked = Lake.publish, []

        def publish_late(lake: Lake, asset: str, partition: str, *rest: Any, **more: Any) -> Any:
            if asset == "enriched_clips" and not looked:
                looked.append(True)
                full.map(FAR)
                full.look()
                assert surroundings.until_done() == [NEAR.drive]
            return publish(lake, asset, partition, *rest, **more)

        monkeypatch.setattr(Lake, "publish", publish_late)
        assert {row["road_reason"] for row in full.enrich(late)} == {"outside the map"}
        assert looked


def lose(world: World, asset: str, path: str) -> None:
    entry = world.lake.require(asset, NEAR.drive).entry(path)
    (world.folder / "lake" / object_key(entry.sha256)).unlink()


def outdated_now(world: World) -> list[str]:
    """What a sensor that has never looked asks for."""
    return Looking(outdated.changed_surroundings, world.instance, {"lake": world.lake}).until_done()


class TestActivatedPolicies:
    def test_what_ships_asks_for_nobody(self, activated: Looking) -> None:
        assert activated() == []
        assert activated() == []

    def test_activation_asks_for_the_drives_whose_numbers_differ(
        self, scene: Scene, activated: Looking
    ) -> None:
        scene.judge_all()
        assert activated() == []
        key = accepted(scene, brake__levels_mps2=[3.2, 5.0, 6.4])
        assert activated() == []  # proposed and back-tested is not active
        scene.activated(key)
        assert activated() == sorted(BRAKINGS)
        assert activated() == []
        remake(scene, *BRAKINGS)
        assert activated() == []

    def test_a_version_with_the_same_numbers_asks_for_nobody(self, scene: Scene, activated: Looking) -> None:
        scene.judge_all()
        scene.activated(accepted(scene, "patch"))
        assert activated() == []

    def test_rollback_and_return_ask_each_time(self, scene: Scene, activated: Looking) -> None:
        scene.judge_all()
        key = accepted(scene, brake__levels_mps2=[3.2, 5.0, 6.4])
        for _ in range(2):
            scene.activated(key)
            assert activated() == sorted(BRAKINGS)
            remake(scene, *BRAKINGS)
            activate(scene.lake, "events", "shipped", "bob", 3)
            assert activated() == sorted(BRAKINGS)
            remake(scene, *BRAKINGS)
        assert activated() == []

    def test_rollback_before_any_run_asks_for_nobody(self, scene: Scene, activated: Looking) -> None:
        scene.judge_all()
        scene.activated(accepted(scene, brake__levels_mps2=[3.2, 5.0, 6.4]))
        assert activated() == sorted(BRAKINGS)
        activate(scene.lake, "events", "shipped", "bob", 3)
        assert activated() == []

    def test_a_cursor_that_was_reset_asks_again(self, scene: Scene, activated: Looking) -> None:
        """A person resets the cursor to have what failed started once more."""
        scene.judge_all()
        scene.activated(accepted(scene, brake__levels_mps2=[3.2, 5.0, 6.4]))
        assert activated() == sorted(BRAKINGS)
        activated.cursor = None
        assert activated() == sorted(BRAKINGS)

    def test_a_look_goes_on_in_chunks_and_remembers(
        self, scene: Scene, activated: Looking, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(outdated, "LOOKED_AT", 2)
        names = sorted(BRAKINGS)
        assert [activated() for _ in range(3)] == [[], [], []]
        scene.judge_all()
        key = accepted(scene, brake__levels_mps2=[3.2, 5.0, 6.4])
        scene.activated(key)
        assert [activated(), activated()] == [names[:2], names[2:4]]
        assert activated() == names[4:]
        assert activated() == []
        remake(scene, *names)
        activate(scene.lake, "events", "shipped", "bob", 3)
        assert activated() == names[:2]
        scene.activated(
            key
        )  # back again in the middle of a look: nobody differs any more, from the first drive on
        assert activated.until_done() == []

    def test_a_change_in_the_middle_of_a_look_starts_it_anew(
        self, scene: Scene, activated: Looking, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(outdated, "LOOKED_AT", 2)
        names = sorted(BRAKINGS)
        scene.judge_all()
        first = accepted(scene, brake__levels_mps2=[3.2, 5.0, 6.4])
        scene.activated(first)
        assert activated() == names[:2]
        remake(scene, *names[:2])
        second = accepted(scene, brake__levels_mps2=[3.3, 5.0, 6.4])
        scene.activated(second)
        assert activated.until_done() == names

    def test_archived_drives_are_left_out(
        self, scene: Scene, activated: Looking, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(outdated, "LOOKED_AT", 2)
        archived = sorted(BRAKINGS)[1::2]
        for drive in archived:
            scene.instance.delete_dynamic_partition(drives.name or "", drive)
        scene.judge_all()
        scene.activated(accepted(scene, brake__levels_mps2=[3.2, 5.0, 6.4]))
        assert activated.until_done() == sorted(set(BRAKINGS) - set(archived))

    def test_geofences_ask_for_the_drives_within(self, scene: Scene, activated: Looking) -> None:
        fenced(scene)
        assert activated() == sorted(WEST)
        remake(scene, *WEST)
        activate(scene.lake, "geofences", "shipped", "bob", 3)
        assert activated() == sorted(WEST)

    def test_numbers_of_a_region_need_the_catalog_first(self) -> None:
        """The catalog knows where a drive went: events that are found before it would stay with other numbers."""
        assert dg.AssetKey("drive_catalog") in event_windows.dependency_keys

    def test_an_active_version_that_was_tampered_with_stops_the_look(
        self, scene: Scene, activated: Looking
    ) -> None:
        scene.judge_all()
        key = accepted(scene, brake__levels_mps2=[3.2, 5.0, 6.4])
        scene.activated(key)
        entry = scene.lake.require("policy_proposals", key).entry("policy.yaml")
        scene.lake.store.put(object_key(entry.sha256), b"version: 9.9.9")
        with pytest.raises(EvidenceError, match=key):
            activated()
        activate(scene.lake, "events", "shipped", "bob", 3)
        assert activated() == []


def accepted(scene: Scene, bump: str = "minor", **edits: Any) -> str:
    """A version that was back-tested and passed."""
    key = scene.proposed(bump, **edits)
    assert scene.backtest(key)[0]["state"] == "pass"
    return key


def fenced(scene: Scene) -> None:
    """Other numbers are active in the west."""
    scene.judge_all()
    scene.judge(*[("veh001-a", 30.0 + n, True) for n in range(2)])
    west = {"west_deg": 10.9, "south_deg": 47.9, "east_deg": 11.1, "north_deg": 48.1}
    region = {"name": "west", "bbox": west, "overrides": {"brake.levels_mps2": [3.2, 5.0, 6.4]}}
    data = {"version": "1.0.0", "changes": "events", "base": SHIPPED.digest, "regions": [region]}
    file: Path = scene.folder / "geofences.yaml"
    file.write_text(yaml.safe_dump(data))
    key = propose(scene.lake, "geofences", file, "ann", 1).key
    assert scene.backtest(key)[0]["state"] == "pass"
    scene.activated(key)


def remake(scene: Scene, *names: str) -> None:
    """Bundles under the numbers that hold now, as runs of event_windows leave them."""
    for drive, policy in policies_of_drives(scene.lake, list(names)).items():
        scene.lake.publish("event_windows", drive, made_from=MadeFrom(policies={"events": policy.digest}))
