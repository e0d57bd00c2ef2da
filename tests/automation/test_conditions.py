"""Each word of the house vocabulary as a story, told to the evaluator that the daemon uses.

Belongs here: what a condition requests, and what it leaves alone. Does not belong here: what the runs then do.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import dagster as dg
import pytest

from partitions.calendar import weeks
from partitions.releases import releases
from sensors.conditions import (
    every_monday,
    every_morning,
    on_failed_drift_check,
    on_new_release,
    until_present,
)
from tests.automation.story import CHAIN, ONE, TWO, Story, chain, end, make, materialize, start, whole


@pytest.fixture
def story() -> Iterator[Story]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Story(instance)


class TestOnChangedContent:
    def test_new_drive_gets_its_whole_chain_in_one_tick(self, story: Story) -> None:
        defs = chain()
        assert story.look(defs) == set()
        story.land(ONE)
        assert story.look(defs) == whole(ONE)
        assert story.look(defs) == set()

    def test_drive_that_landed_before_anyone_looked_is_requested(self, story: Story) -> None:
        story.land(ONE, TWO)
        assert story.look(chain()) == whole(ONE) | whole(TWO)

    def test_drive_registered_before_its_logs_arrive_waits_for_them(self, story: Story) -> None:
        defs = chain()
        story.instance.add_dynamic_partitions("drive", [ONE])
        assert story.look(defs) == set()
        assert story.look(defs) == set()
        story.made("logs", ONE, "v1")
        assert story.look(defs) == whole(ONE)

    def test_finished_chain_is_left_alone(self, story: Story) -> None:
        defs = self._finished(story)
        assert [story.look(defs) for _ in range(3)] == [set(), set(), set()]

    def test_same_content_again_requests_nothing(self, story: Story) -> None:
        defs = self._finished(story)
        story.made("logs", ONE, "v1")
        assert story.look(defs) == set()

    def test_other_content_requests_the_next_asset_of_that_drive(self, story: Story) -> None:
        defs = self._finished(story, ONE, TWO)
        story.made("logs", ONE, "v2")
        asked = story.look(defs)
        assert ("clips", ONE) in asked
        assert {drive for _, drive in asked} == {ONE}

    def test_content_that_settles_again_stops_the_wave(self, story: Story) -> None:
        defs = self._finished(story)
        story.made("clips", ONE, "v2")
        assert story.look(defs) == {("shards", ONE)}
        story.made("shards", ONE, "v1")
        assert story.look(defs) == set()

    def test_wave_goes_on_where_content_changes(self, story: Story) -> None:
        defs = self._finished(story)
        story.made("clips", ONE, "v2")
        assert story.look(defs) == {("shards", ONE)}
        story.made("shards", ONE, "v2")
        assert story.look(defs) == {("vectors", ONE)}

    def test_code_bump_requests_every_drive_of_that_asset_only(self, story: Story) -> None:
        self._finished(story, ONE, TWO)
        bumped = chain(shards="2")
        assert story.look(bumped) == {("shards", ONE), ("shards", TWO)}
        for drive in (ONE, TWO):
            story.made("shards", drive, "v1", code="2")
        assert story.look(bumped) == set()

    def test_quarantined_drive_is_not_asked_for_again_and_again(self, story: Story) -> None:
        defs = chain()
        story.look(defs)
        story.land(ONE)
        assert story.look(defs) == whole(ONE)
        story.instance.report_runless_asset_event(dg.AssetObservation("clips", partition=ONE))
        assert [story.look(defs) for _ in range(3)] == [set(), set(), set()]

    def test_quarantined_drive_that_lands_again_goes_all_the_way(self, story: Story) -> None:
        defs = chain()
        story.look(defs)
        story.land(ONE)
        assert story.look(defs) == whole(ONE)  # and clips found it rotten: nothing was made
        story.made("logs", ONE, "v2")
        for asset in CHAIN:
            assert story.look(defs) & {(asset, ONE)}
            story.made(asset, ONE, "v2")
        assert story.look(defs) == set()

    def test_run_of_a_landed_drive_that_makes_two_assets_is_followed_by_the_rest(self, story: Story) -> None:
        """As the landing sensor starts them: the key first, then one run for the first assets."""
        defs = chain()
        story.look(defs)
        story.instance.add_dynamic_partitions("drive", [ONE])
        story.look(defs)
        assert materialize(defs, story, ("logs", "clips"), ONE)
        assert story.look(defs) == {("shards", ONE), ("vectors", ONE)}

    def test_chain_made_by_one_run_is_not_requested_again(self, story: Story) -> None:
        defs = chain()
        story.land(ONE)
        assert story.look(defs) == whole(ONE)
        assert materialize(defs, story, CHAIN, ONE)
        assert [story.look(defs) for _ in range(2)] == [set(), set()]

    def test_chain_with_its_logs_made_by_one_run_is_not_requested_again(self, story: Story) -> None:
        """The landing sensor's run holds the whole chain, and nobody requested it through a condition."""
        defs = chain()
        story.look(defs)
        story.instance.add_dynamic_partitions("drive", [ONE])
        story.look(defs)
        assert materialize(defs, story, ("logs", *CHAIN), ONE)
        assert [story.look(defs) for _ in range(2)] == [set(), set()]

    def test_two_drives_made_between_two_looks_are_not_requested_again(self, story: Story) -> None:
        defs = chain()
        story.look(defs)
        story.land(ONE, TWO)
        assert story.look(defs) == whole(ONE) | whole(TWO)
        assert materialize(defs, story, CHAIN, ONE)
        assert materialize(defs, story, CHAIN, TWO)
        assert story.look(defs) == set()

    def test_backfill_of_a_finished_chain_is_not_done_twice(self, story: Story) -> None:
        self._finished(story)
        newer = chain(content="v2")
        assert materialize(newer, story, ("logs", *CHAIN), ONE)
        assert [story.look(newer) for _ in range(2)] == [set(), set()]

    def test_hand_run_of_one_asset_reaches_the_next(self, story: Story) -> None:
        self._finished(story)
        newer = chain(content="v2")
        assert materialize(newer, story, ("clips",), ONE)
        assert ("shards", ONE) in story.look(newer)

    def test_drive_that_never_lands_does_not_hold_others_up(self, story: Story) -> None:
        defs = chain()
        story.look(defs)
        story.instance.add_dynamic_partitions("drive", [TWO])  # never lands
        story.land(ONE)
        assert story.look(defs) == whole(ONE)

    def _finished(self, story: Story, *names: str) -> dg.Definitions:
        defs = chain()
        names = names or (ONE,)
        story.look(defs)
        story.land(*names)
        assert story.look(defs) == {pair for name in names for pair in whole(name)}
        for name in names:
            assert materialize(defs, story, CHAIN, name)
            assert story.look(defs) == set()
        return defs


class TestUpdateDuringARun:
    """An input changes while a run is going on; what is reported was made from the newest (see test_production)."""

    @pytest.fixture
    def defs(self, story: Story) -> dg.Definitions:
        defs = chain()
        story.look(defs)
        story.land(ONE)
        assert story.look(defs) == whole(ONE)
        return defs

    def test_before_the_asset_is_made_is_no_news(self, story: Story, defs: dg.Definitions) -> None:
        run = start(story, defs, ONE)
        assert story.look(defs) == set()
        story.made("logs", ONE, "v2")
        assert story.look(defs) == set()
        make(story, run, ONE, *CHAIN)
        end(story, run)
        assert [story.look(defs) for _ in range(2)] == [set(), set()]

    @pytest.mark.parametrize("looks", [0, 1, 2])
    def test_after_the_asset_was_made_is_requested_once(
        self, story: Story, defs: dg.Definitions, looks: int
    ) -> None:
        run = start(story, defs, ONE)
        assert story.look(defs) == set()
        make(story, run, ONE, "clips")
        for _ in range(looks):
            assert story.look(defs) == set()
        story.made("logs", ONE, "v2")
        make(story, run, ONE, "shards", "vectors")
        end(story, run)
        assert story.look(defs) == {("clips", ONE)}
        assert story.look(defs) == set()

    def test_of_a_run_that_fails_is_requested(self, story: Story, defs: dg.Definitions) -> None:
        run = start(story, defs, ONE)
        assert story.look(defs) == set()
        story.made("logs", ONE, "v2")
        end(story, run, "PIPELINE_FAILURE")
        assert ("clips", ONE) in story.look(defs)

    def test_between_two_looks_after_everything_was_made_is_requested(
        self, story: Story, defs: dg.Definitions
    ) -> None:
        assert materialize(defs, story, CHAIN, ONE)
        story.made("logs", ONE, "v2")
        assert story.look(defs) == {("clips", ONE)}

    def test_without_one_nothing_is_requested_afterwards(self, story: Story, defs: dg.Definitions) -> None:
        run = start(story, defs, ONE)
        for asset in CHAIN:
            assert story.look(defs) == set()
            make(story, run, ONE, asset)
        end(story, run)
        assert [story.look(defs) for _ in range(2)] == [set(), set()]

    def test_run_that_fails_is_not_requested_again_and_again(
        self, story: Story, defs: dg.Definitions
    ) -> None:
        run = start(story, defs, ONE)
        assert story.look(defs) == set()
        end(story, run, "PIPELINE_FAILURE")
        assert [story.look(defs) for _ in range(3)] == [set(), set(), set()]


class TestOtherWords:
    def test_until_present_asks_until_it_is_there_and_then_never(self, story: Story) -> None:
        @dg.asset(automation_condition=until_present)
        def weights() -> None: ...

        defs = dg.Definitions(assets=[weights])
        assert story.look(defs) == {("weights", None)}
        story.made("weights", None, "v1")
        assert [story.look(defs) for _ in range(2)] == [set(), set()]

    def test_until_present_leaves_a_failure_to_a_person(self, story: Story) -> None:
        @dg.asset(automation_condition=until_present)
        def weights() -> None:
            raise RuntimeError("no network")

        defs = dg.Definitions(assets=[weights])
        assert story.look(defs) == {("weights", None)}
        assert not materialize(defs, story, ("weights",), None)
        assert [story.look(defs) for _ in range(2)] == [set(), set()]

    @pytest.mark.parametrize("condition", [every_monday, every_morning])
    def test_calendar_words_fire_once_after_their_tick(
        self, story: Story, condition: dg.AutomationCondition
    ) -> None:
        @dg.asset(partitions_def=weeks, automation_condition=condition)
        def golden() -> None: ...

        defs = dg.Definitions(assets=[golden])
        story.now = datetime(2025, 6, 16, 5, 0)  # a Monday
        assert story.look(defs) == set()
        story.now = datetime(2025, 6, 16, 6, 1)
        assert story.look(defs) == {("golden", "2025-06-09")}
        story.made("golden", "2025-06-09", "v1")
        story.now = datetime(2025, 6, 16, 15, 0)
        assert story.look(defs) == set()

    def test_every_monday_skips_the_other_days_and_moves_on_a_week(self, story: Story) -> None:
        @dg.asset(partitions_def=weeks, automation_condition=every_monday)
        def golden() -> None: ...

        defs = dg.Definitions(assets=[golden])
        story.now = datetime(2025, 6, 16, 5, 0)
        story.look(defs)
        asked = {}
        for day in range(15):
            story.now = datetime(2025, 6, 16, 7, 0) + timedelta(days=day)
            asked[story.now.strftime("%a %d")] = sorted(p for _, p in story.look(defs))
        assert {day: weeks_ for day, weeks_ in asked.items() if weeks_} == {
            "Mon 16": ["2025-06-09"],
            "Mon 23": ["2025-06-16"],
            "Mon 30": ["2025-06-23"],
        }

    def test_drift_check_asks_once_per_change_to_failing(self, story: Story) -> None:
        defs = drift_chain()
        story.made("drift", None, "v1")
        asked = [len(story.look(defs))]
        for passed in (True, False, None, False, True, False):
            if passed is not None:
                story.checked(passed)
            requested = story.look(defs)
            asked.append(len(requested))
            if requested:
                story.made("requests", None, f"v{len(asked)}")
        assert asked == [0, 0, 1, 0, 0, 0, 1]

    def test_drift_that_failed_before_anyone_looked_is_asked_for(self, story: Story) -> None:
        defs = drift_chain()
        story.made("drift", None, "v1")
        story.checked(False)
        assert story.look(defs) == {("requests", None)}
        assert story.look(defs) == set()

    def test_drift_asks_for_the_newest_report_only(self, story: Story) -> None:
        defs = drift_chain(weeks)
        story.now = datetime(2025, 7, 1, 12, 0)
        for week in ("2025-06-16", "2025-06-23"):
            story.made("drift", week, "v1")
        assert story.look(defs) == set()
        story.checked(False)
        assert story.look(defs) == {("requests", "2025-06-23")}
        story.made("requests", "2025-06-23", "v1")
        assert story.look(defs) == set()

    def test_drift_of_a_period_without_a_report_is_not_asked_for(self, story: Story) -> None:
        defs = drift_chain(weeks)
        story.now = datetime(2025, 7, 1, 12, 0)
        story.made("drift", "2025-06-16", "v1")
        story.checked(False)
        assert [story.look(defs) for _ in range(2)] == [set(), set()]


class TestOnNewRelease:
    def test_other_weeks_of_the_dataset_are_not_its_business(self, story: Story) -> None:
        @dg.asset(partitions_def=weeks)
        def golden_slices() -> None: ...

        @dg.asset(partitions_def=releases, deps=[golden_slices], automation_condition=on_new_release)
        def checkpoints() -> None: ...

        defs = dg.Definitions(assets=[golden_slices, checkpoints])
        story.made("golden_slices", "2025-06-02", "v1")
        assert story.look(defs) == set()
        story.instance.add_dynamic_partitions("release", ["w20250602-1a2b3c4d"])
        assert story.look(defs) == {("checkpoints", "w20250602-1a2b3c4d")}
        story.made("checkpoints", "w20250602-1a2b3c4d", "v1")
        story.made("golden_slices", "2025-06-09", "v1")
        assert [story.look(defs) for _ in range(2)] == [set(), set()]


def drift_chain(over: dg.PartitionsDefinition | None = None) -> dg.Definitions:
    @dg.asset(partitions_def=over)
    def drift() -> None: ...

    @dg.asset_check(asset=drift)
    def inputs_do_not_drift() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    @dg.asset(deps=[drift], partitions_def=over, automation_condition=on_failed_drift_check)
    def requests() -> None: ...

    return dg.Definitions(assets=[drift, requests], asset_checks=[inputs_do_not_drift])
