"""Each word of the house vocabulary as a story, told to the evaluator that the daemon uses.

Belongs here: what a condition requests, and what it leaves alone. Does not belong here: what the runs then do.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CODE_VERSION_TAG, DATA_VERSION_TAG
from dagster._core.events import DagsterEvent, StepMaterializationData

from partitions.calendar import weeks
from partitions.drives import drives
from sensors.conditions import every_monday, every_morning, on_changed_content, on_failed_drift_check, until_present

CHAIN = ("clips", "shards", "vectors")
ONE, TWO = "veh001-a", "veh001-b"


def chain(clips: str = "1", shards: str = "1", vectors: str = "1", content: str = "v1") -> dg.Definitions:
    """logs (landed from outside) -> clips -> shards -> vectors, every asset giving `content` as its data version."""

    @dg.asset(partitions_def=drives)
    def logs() -> dg.MaterializeResult:
        return dg.MaterializeResult(data_version=dg.DataVersion(content))

    def link(name: str, upstream: str, code_version: str) -> dg.AssetsDefinition:
        @dg.asset(
            name=name, partitions_def=drives, deps=[upstream], code_version=code_version,
            automation_condition=on_changed_content,
        )
        def made() -> dg.MaterializeResult:
            return dg.MaterializeResult(data_version=dg.DataVersion(content))

        return made

    links = [link("clips", "logs", clips), link("shards", "clips", shards), link("vectors", "shards", vectors)]
    return dg.Definitions(assets=[logs, *links])


class Story:
    """An instance and a cursor; each `look` is one tick of the daemon."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.cursor: Any = None
        self.now = datetime(2026, 3, 4, 12, 0)

    def look(self, defs: dg.Definitions) -> set[tuple[str, str | None]]:
        """What the tick requests, as (asset, partition)."""
        self.now += timedelta(seconds=30)
        result = dg.evaluate_automation_conditions(
            defs, self.instance, cursor=self.cursor, evaluation_time=self.now
        )
        self.cursor = result.cursor
        graph = defs.resolve_asset_graph()
        return {
            (key.to_user_string(), partition)
            for key in graph.get_all_asset_keys()
            for partition in _requested(result, key, graph)
        }

    def land(self, *names: str, content: str = "v1") -> None:
        self.instance.add_dynamic_partitions("drive", list(names))
        for name in names:
            self.made("logs", name, content)

    def made(self, asset: str, drive: str | None, content: str, code: str = "1") -> None:
        tags = {DATA_VERSION_TAG: content, CODE_VERSION_TAG: code}
        self.instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=drive, tags=tags))

    def checked(self, passed: bool) -> None:
        self.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(dg.AssetKey("drift"), "inputs_do_not_drift", passed, {})
        )


def _requested(result: Any, key: dg.AssetKey, graph: Any) -> set[str | None]:
    if graph.get(key).partitions_def is None:
        return {None} if result.get_num_requested(key) else set()
    return set(result.get_requested_partitions(key))


def whole(drive: str) -> set[tuple[str, str | None]]:
    return {(asset, drive) for asset in CHAIN}


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
        assert _materialize(defs, story, ("logs", "clips"), ONE)
        assert story.look(defs) == {("shards", ONE), ("vectors", ONE)}

    def test_chain_made_by_one_run_is_not_requested_again(self, story: Story) -> None:
        defs = chain()
        story.land(ONE)
        assert story.look(defs) == whole(ONE)
        assert _materialize(defs, story, CHAIN, ONE)
        assert [story.look(defs) for _ in range(2)] == [set(), set()]

    def test_chain_with_its_logs_made_by_one_run_is_not_requested_again(self, story: Story) -> None:
        """The landing sensor's run holds the whole chain, and nobody requested it through a condition."""
        defs = chain()
        story.look(defs)
        story.instance.add_dynamic_partitions("drive", [ONE])
        story.look(defs)
        assert _materialize(defs, story, ("logs", *CHAIN), ONE)
        assert [story.look(defs) for _ in range(2)] == [set(), set()]

    def test_two_drives_made_between_two_looks_are_not_requested_again(self, story: Story) -> None:
        defs = chain()
        story.look(defs)
        story.land(ONE, TWO)
        assert story.look(defs) == whole(ONE) | whole(TWO)
        assert _materialize(defs, story, CHAIN, ONE)
        assert _materialize(defs, story, CHAIN, TWO)
        assert story.look(defs) == set()

    def test_backfill_of_a_finished_chain_is_not_done_twice(self, story: Story) -> None:
        self._finished(story)
        newer = chain(content="v2")
        assert _materialize(newer, story, ("logs", *CHAIN), ONE)
        assert [story.look(newer) for _ in range(2)] == [set(), set()]

    def test_hand_run_of_one_asset_reaches_the_next(self, story: Story) -> None:
        self._finished(story)
        newer = chain(content="v2")
        assert _materialize(newer, story, ("clips",), ONE)
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
            assert _materialize(defs, story, CHAIN, name)
            assert story.look(defs) == set()
        return defs


class TestUpdateDuringARun:
    """An input changes while a run is going on. What is reported was made from the newest input (see test_production)."""

    @pytest.fixture
    def defs(self, story: Story) -> dg.Definitions:
        defs = chain()
        story.look(defs)
        story.land(ONE)
        assert story.look(defs) == whole(ONE)
        return defs

    def test_before_the_asset_is_made_is_no_news(self, story: Story, defs: dg.Definitions) -> None:
        run = _start(story, defs, ONE)
        assert story.look(defs) == set()
        story.made("logs", ONE, "v2")
        assert story.look(defs) == set()
        _make(story, run, ONE, *CHAIN)
        _end(story, run)
        assert [story.look(defs) for _ in range(2)] == [set(), set()]

    @pytest.mark.parametrize("looks", [0, 1, 2])
    def test_after_the_asset_was_made_is_requested_when_the_run_is_over(
        self, story: Story, defs: dg.Definitions, looks: int
    ) -> None:
        run = _start(story, defs, ONE)
        assert story.look(defs) == set()
        _make(story, run, ONE, "clips")
        for _ in range(looks):
            assert story.look(defs) == set()
        story.made("logs", ONE, "v2")
        _make(story, run, ONE, "shards", "vectors")
        if looks == 2:
            assert story.look(defs) <= {("clips", ONE)}
        _end(story, run)
        assert story.look(defs) == {("clips", ONE)}
        assert story.look(defs) == set()

    def test_of_a_run_that_fails_is_requested(self, story: Story, defs: dg.Definitions) -> None:
        run = _start(story, defs, ONE)
        assert story.look(defs) == set()
        story.made("logs", ONE, "v2")
        _end(story, run, "PIPELINE_FAILURE")
        assert ("clips", ONE) in story.look(defs)

    def test_between_two_looks_after_everything_was_made_is_requested(self, story: Story, defs: dg.Definitions) -> None:
        assert _materialize(defs, story, CHAIN, ONE)
        story.made("logs", ONE, "v2")
        assert story.look(defs) == {("clips", ONE)}

    def test_without_one_nothing_is_requested_afterwards(self, story: Story, defs: dg.Definitions) -> None:
        run = _start(story, defs, ONE)
        for asset in CHAIN:
            assert story.look(defs) == set()
            _make(story, run, ONE, asset)
        _end(story, run)
        assert [story.look(defs) for _ in range(2)] == [set(), set()]

    def test_run_that_fails_is_not_requested_again_and_again(self, story: Story, defs: dg.Definitions) -> None:
        run = _start(story, defs, ONE)
        assert story.look(defs) == set()
        _end(story, run, "PIPELINE_FAILURE")
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
        assert not _materialize(defs, story, ("weights",), None)
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
            "Mon 16": ["2025-06-09"], "Mon 23": ["2025-06-16"], "Mon 30": ["2025-06-23"],
        }

    def test_drift_check_asks_once_per_change_to_failing(self, story: Story) -> None:
        defs = drift_chain()
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
        story.checked(False)
        assert story.look(defs) == {("requests", None)}
        assert story.look(defs) == set()


def drift_chain() -> dg.Definitions:
    @dg.asset
    def drift() -> None: ...

    @dg.asset_check(asset=drift)
    def inputs_do_not_drift() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    @dg.asset(deps=[drift], automation_condition=on_failed_drift_check)
    def requests() -> None: ...

    return dg.Definitions(assets=[drift, requests], asset_checks=[inputs_do_not_drift])


def _materialize(defs: dg.Definitions, story: Story, names: tuple[str, ...], drive: str | None) -> bool:
    job = defs.resolve_implicit_global_asset_job_def()
    keys = [dg.AssetKey(name) for name in names]
    result = job.execute_in_process(
        instance=story.instance, asset_selection=keys, partition_key=drive, raise_on_error=False
    )
    return bool(result.success)


def _start(story: Story, defs: dg.Definitions, drive: str) -> dg.DagsterRun:
    """A run of the chain that a launcher has taken and that has not finished: steps planned, nothing made."""
    return story.instance.create_run_for_job(
        defs.resolve_implicit_global_asset_job_def(),
        asset_selection=frozenset(dg.AssetKey(name) for name in CHAIN),
        tags={"dagster/partition": drive},
        status=dg.DagsterRunStatus.STARTED,
    )


def _make(story: Story, run: dg.DagsterRun, drive: str, *assets: str) -> None:
    """Materializations with the run's id on them."""
    for asset in assets:
        made = dg.AssetMaterialization(asset, partition=drive, tags={DATA_VERSION_TAG: "v1", CODE_VERSION_TAG: "1"})
        event = DagsterEvent("ASSET_MATERIALIZATION", run.job_name, event_specific_data=StepMaterializationData(made))
        story.instance.report_dagster_event(event, run_id=run.run_id)


def _end(story: Story, run: dg.DagsterRun, how: str = "PIPELINE_SUCCESS") -> None:
    story.instance.report_dagster_event(DagsterEvent(how, run.job_name), run_id=run.run_id)
