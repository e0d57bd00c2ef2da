"""What gathers drives, and what reads a part of something that covers the whole world, told as stories.

Belongs here: on_changed_members, on_changed_drive, every_night. Does not belong here: the chain of one drive
(test_conditions).
"""

from __future__ import annotations

from datetime import datetime, timedelta

import dagster as dg
import pytest

from partitions.calendar import days
from partitions.drives import drives
from sensors.conditions import every_night, on_changed_drive, on_changed_members
from tests.automation.story import ONE, TWO, Story

INDEX = ("index", None)


@pytest.fixture
def story() -> Story:
    return Story(dg.DagsterInstance.ephemeral())


@dg.asset(partitions_def=drives)
def logs() -> None: ...


@dg.asset(
    deps=[dg.AssetDep(logs, partition_mapping=dg.AllPartitionMapping())],
    automation_condition=on_changed_members,
)
def index() -> None: ...


@dg.asset
def map_tiles() -> None: ...


@dg.asset(partitions_def=drives, deps=[logs, map_tiles], automation_condition=on_changed_drive)
def context_of_drive() -> None: ...


@dg.asset(automation_condition=every_night)
def upkeep() -> None: ...


@dg.asset(partitions_def=days, automation_condition=every_night)
def candidates() -> None: ...


GATHERED = dg.Definitions(assets=[logs, index])
LOCATED = dg.Definitions(assets=[logs, map_tiles, context_of_drive])
NIGHTLY = dg.Definitions(assets=[upkeep, candidates])


def test_an_index_follows_its_drives_and_does_not_wait_for_those_without_content(story: Story) -> None:
    story.look(GATHERED)
    story.land(ONE)
    story.instance.add_dynamic_partitions("drive", [TWO])  # waits in quarantine: never made
    assert story.look(GATHERED) | story.look(GATHERED) | story.look(GATHERED) == {INDEX}


def test_an_index_is_asked_for_once_a_minute_at_most(story: Story) -> None:
    story.look(GATHERED)
    asked = []
    for number in range(8):  # 30 seconds each
        story.land(f"veh001-{number}")
        asked.append(story.look(GATHERED))
        story.made("index", None, f"v{number}")
    assert 2 <= sum(found == {INDEX} for found in asked) <= 4


def test_a_drive_that_comes_right_after_a_request_is_not_lost(story: Story) -> None:
    story.look(GATHERED)
    story.land(ONE)
    while story.look(GATHERED) != {INDEX}:
        pass
    story.land(TWO)  # the run asked for a moment ago may have read its members already
    story.made("index", None, "v1")
    assert INDEX in story.look(GATHERED) | story.look(GATHERED) | story.look(GATHERED)


def test_the_same_content_again_is_no_news_for_an_index(story: Story) -> None:
    story.look(GATHERED)
    story.land(ONE)
    while story.look(GATHERED) != {INDEX}:
        pass
    story.made("index", None, "v1")
    story.look(GATHERED)
    story.made("logs", ONE, "v1")
    assert not story.look(GATHERED) | story.look(GATHERED) | story.look(GATHERED)


def test_a_new_map_asks_for_no_drive_by_itself(story: Story) -> None:
    story.made("map_tiles", None, "m1")
    story.look(LOCATED)
    story.land(ONE)
    assert ("context_of_drive", ONE) in story.look(LOCATED)
    story.made("context_of_drive", ONE, "c1")
    story.look(LOCATED)
    story.made("map_tiles", None, "m2")
    assert not story.look(LOCATED) | story.look(LOCATED)
    story.made("logs", ONE, "v2")
    assert story.look(LOCATED) == {("context_of_drive", ONE)}


def test_a_drive_waits_for_the_first_map(story: Story) -> None:
    story.look(LOCATED)
    story.land(ONE)
    assert not story.look(LOCATED)
    story.made("map_tiles", None, "m1")
    assert story.look(LOCATED) == {("context_of_drive", ONE)}


def test_the_night_asks_for_the_one_partition_and_for_the_running_day(story: Story) -> None:
    story.now = datetime(2026, 3, 4, 1, 58)
    story.look(NIGHTLY)
    asked = [story.look(NIGHTLY) for _ in range(6)]
    assert [found for found in asked if found] == [{("upkeep", None), ("candidates", "2026-03-04")}]
    story.now += timedelta(days=1)
    assert story.look(NIGHTLY) == {("upkeep", None), ("candidates", "2026-03-05")}
