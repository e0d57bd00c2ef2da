"""The loop that makes every per-drive asset, run over a toy chain: logs -> clips -> shards.

Belongs here: recording, reuse, quarantine, crashes. Does not belong here: any real asset.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from av_assets.domain.errors import EvidenceError, LogError, TransientError
from av_assets.domain.evidence.claims import RECORD_FILE, Claim
from av_assets.gates import Gate, gate_result, require_passed
from av_assets.production import Work, each_drive, environment_digest
from av_assets.setting_aside import completeness
from partitions.drives import drives
from resources import quarantine
from resources.lake import Lake

CHAIN = ("raw_logs", "clips", "shards")
CHECK = "raw_logs_leave_no_drive_in_quarantine"
SEVERAL = dg.BackfillPolicy.multi_run(max_partitions_per_run=10)


@dataclass
class Toy:
    """The chain with its lake and instance, and what its `make` functions were called with."""

    lake: Lake
    instance: dg.DagsterInstance
    content: dict[str, str] = field(default_factory=dict)
    failures: dict[tuple[str, str], Exception] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    code: dict[str, str] = field(default_factory=dict)
    meanwhile: Callable[[], None] = lambda: None
    bad: set[str] = field(default_factory=set)  # what clips of which drives claim and do not keep

    def definitions(self) -> dg.Definitions:
        assets = [
            self._asset(name, reads) for name, reads in zip(CHAIN, ([], ["raw_logs"], ["clips"]), strict=True)
        ]

        @dg.asset_check(asset="raw_logs", name=CHECK)
        def check() -> dg.AssetCheckResult:
            found = completeness(self.lake)
            return dg.AssetCheckResult(passed=found.passed, severity=found.severity, metadata=found.metadata)

        @dg.asset_check(asset="clips", name="clips_are_good", blocking=True)
        def gated(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
            return gate_result(context, self.lake, "clips")

        return dg.Definitions(assets=assets, asset_checks=[check, gated], resources={"lake": self.lake})

    def _asset(self, name: str, reads: list[str]) -> dg.AssetsDefinition:
        def make(work: Work) -> str:
            self.calls.append((name, work.partition))
            if (name, work.partition) in self.failures:
                raise self.failures[name, work.partition]
            above = [(work.checkout(r) / "data.txt").read_text() for r in reads]
            self.meanwhile()
            (work.out / "data.txt").write_text(
                "".join(above) or work.partition + self.content.get(work.partition, "")
            )
            return ""

        def judge(folder: Path) -> list[Claim]:
            drive = (folder / "data.txt").read_text()[:1]
            return [Claim("clips_are_good", drive not in self.bad, "the clip is bad", subject="camera")]

        gate = Gate("clips_are_good", judge) if name == "clips" else None

        @dg.asset(
            name=name,
            deps=reads,
            partitions_def=drives,
            output_required=False,
            backfill_policy=SEVERAL,
            code_version=self.code.get(name, "1"),
        )
        def made(context: dg.AssetExecutionContext, lake: Lake) -> Iterator[dg.MaterializeResult]:
            yield from each_drive(
                context,
                lake,
                reads,
                [],
                make,
                lambda _, manifest: {"described": manifest.partition},
                gate=gate,
                guarded=[asset for asset in reads if asset == "clips"],
            )

        return made

    def run(self, *names: str, only: Sequence[str] = CHAIN) -> dg.ExecuteInProcessResult:
        """One run over one drive, or over the range from the first to the last."""
        self.calls.clear()
        keys = {
            "dagster/asset_partition_range_start": names[0],
            "dagster/asset_partition_range_end": names[-1],
        }
        how = {"partition_key": names[0]} if len(names) == 1 else {"tags": keys}
        return (
            self.definitions()
            .resolve_implicit_global_asset_job_def()
            .execute_in_process(
                instance=self.instance,
                asset_selection=[dg.AssetKey(a) for a in only],
                raise_on_error=False,
                **how,
            )
        )

    def recorded(self, asset: str) -> list[tuple[str | None, str]]:
        """(drive, data version) of every materialization there ever was, in order."""
        records = self.instance.fetch_materializations(dg.AssetKey(asset), limit=100, ascending=True).records
        events = [r.asset_materialization for r in records]
        return [(e.partition, (e.tags or {})[DATA_VERSION_TAG]) for e in events if e]

    def content_of(self, asset: str, drive: str) -> str:
        return self.lake.require(asset, drive).content

    def check_passed(self, asset: str = "raw_logs", name: str = CHECK) -> bool:
        key = dg.AssetCheckKey(dg.AssetKey(asset), name)
        [record] = self.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
        assert record.event is not None
        evaluation = record.event.dagster_event.asset_check_evaluation_data  # type: ignore[union-attr]
        return bool(evaluation.passed)


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[Toy]:
    lake = Lake(uri=(tmp_path / "lake").as_uri(), scratch=str(tmp_path / "lake" / ".scratch"))
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("drive", ["a", "b", "c"])
        yield Toy(lake, instance)


def skipped(result: dg.ExecuteInProcessResult) -> set[str | None]:
    return {e.step_key for e in result.all_events if e.event_type_value == "STEP_SKIPPED"}


class TestOneDrive:
    def test_is_recorded_once_by_content_and_described(self, toy: Toy) -> None:
        result = toy.run("a")
        assert result.success
        for asset in CHAIN:
            assert toy.recorded(asset) == [("a", toy.content_of(asset, "a"))]
        event = toy.instance.get_latest_materialization_event(dg.AssetKey("clips"))
        assert event is not None
        assert event.asset_materialization is not None
        metadata = event.asset_materialization.metadata
        assert metadata["described"].value == "a"
        assert (metadata["files"].value, metadata["reused"].value) == (2, False)  # data and record
        assert "seconds/publish" in metadata

    def test_lineage_names_the_manifests_that_were_read(self, toy: Toy) -> None:
        toy.run("a")
        made_from = toy.lake.require("shards", "a").made_from
        assert made_from.inputs == {"clips/a": toy.lake.require("clips", "a").digest}
        assert (made_from.code_version, made_from.environment) == ("1", environment_digest())

    def test_missing_input_fails_the_run_with_its_name(self, toy: Toy) -> None:
        result = toy.run("a", only=["clips"])
        assert not result.success
        assert "raw_logs/a was not materialized" in str(result.failure_data_for_node("clips"))


class TestRangeOfDrives:
    def test_every_drive_is_recorded_exactly_once_with_its_own_version(self, toy: Toy) -> None:
        assert toy.run("a", "b", "c").success
        for asset in CHAIN:
            recorded = toy.recorded(asset)
            assert recorded == [(drive, toy.content_of(asset, drive)) for drive in "abc"]
            assert len({version for _, version in recorded}) == 3

    def test_catalog_counts_the_drives_as_materialized(self, toy: Toy) -> None:
        toy.run("a", "b")
        assert toy.instance.get_materialized_partitions(dg.AssetKey("shards")) == {"a", "b"}

    def test_poisoned_drive_leaves_the_others_alone(self, toy: Toy) -> None:
        toy.failures["raw_logs", "b"] = LogError("cut off", code="truncated")
        assert toy.run("a", "b", "c").success
        for asset in CHAIN:
            assert [drive for drive, _ in toy.recorded(asset)] == ["a", "c"]
        assert [(r["drive"], r["code"]) for r in quarantine.listing(toy.lake)] == [("b", "truncated")]
        assert not toy.check_passed()

    def test_crash_in_one_drive_keeps_what_the_others_made_and_fails_the_step(self, toy: Toy) -> None:
        toy.failures["clips", "b"] = ZeroDivisionError("a bug")
        result = toy.run("a", "b", "c")
        assert not result.success
        assert [drive for drive, _ in toy.recorded("clips")] == ["a", "c"]
        assert "1 of 3 drives crashed in clips: b" in str(result.failure_data_for_node("clips"))
        assert quarantine.listing(toy.lake) == []

    def test_repeat_after_a_crash_makes_only_what_is_missing(self, toy: Toy) -> None:
        toy.failures["clips", "b"] = ZeroDivisionError("a bug")
        toy.run("a", "b", "c")
        toy.failures.clear()
        assert toy.run("a", "b", "c").success
        assert toy.calls == [("clips", "b"), ("shards", "a"), ("shards", "b"), ("shards", "c")]
        assert toy.instance.get_materialized_partitions(dg.AssetKey("shards")) == {"a", "b", "c"}

    def test_busy_world_stops_the_batch_for_a_retry(self, toy: Toy) -> None:
        toy.failures["clips", "b"] = TransientError("disk full", code="disk_full")
        assert not toy.run("a", "b", "c").success
        assert [drive for drive, _ in toy.recorded("clips")] == ["a"]
        assert quarantine.listing(toy.lake) == []

    def test_drive_that_was_never_ingested_fails_the_batch_after_the_others(self, toy: Toy) -> None:
        toy.run("a", only=["raw_logs"])
        toy.run("c", only=["raw_logs"])
        result = toy.run("a", "b", "c", only=["clips"])
        assert not result.success
        assert "raw_logs/b was not materialized" in str(result.failure_data_for_node("clips"))
        assert [drive for drive, _ in toy.recorded("clips")] == ["a", "c"]

    def test_damaged_input_in_a_batch_is_not_passed_over(self, toy: Toy) -> None:
        toy.run("a", "b", only=["raw_logs"])
        [entry] = toy.lake.require("raw_logs", "b").files
        toy.lake.store.delete(f"objects/{entry.sha256[:2]}/{entry.sha256}")
        result = toy.run("a", "b", only=["clips"])
        assert not result.success
        assert [drive for drive, _ in toy.recorded("clips")] == ["a"]

    def test_range_whose_every_drive_is_poisoned_succeeds_and_records_nothing(self, toy: Toy) -> None:
        for drive in "ab":
            toy.failures["raw_logs", drive] = LogError("cut off")
        result = toy.run("a", "b")
        assert result.success
        assert {"clips", "shards"} <= skipped(result)
        assert [toy.recorded(asset) for asset in CHAIN] == [[], [], []]


class TestPoison:
    def test_run_succeeds_downstream_is_skipped_and_the_check_is_red(self, toy: Toy) -> None:
        toy.failures["clips", "a"] = LogError("cut off", code="truncated", file="0.mcap")
        result = toy.run("a")
        assert result.success
        assert "shards" in skipped(result)
        assert toy.recorded("clips") == []
        [row] = quarantine.listing(toy.lake)
        assert (row["drive"], row["stage"], row["code"], row["file"]) == ("a", "clips", "truncated", "0.mcap")
        assert row["run_id"] == result.run_id
        assert not toy.check_passed()

    def test_observation_on_the_asset_says_why(self, toy: Toy) -> None:
        toy.failures["clips", "a"] = LogError("cut off", code="truncated")
        toy.run("a")
        [record] = toy.instance.fetch_observations(dg.AssetKey("clips"), limit=5).records
        assert record.asset_observation is not None
        assert record.asset_observation.partition == "a"
        assert record.asset_observation.metadata["code"].value == "truncated"

    def test_repaired_drive_leaves_the_quarantine_and_the_check_turns_green(self, toy: Toy) -> None:
        toy.failures["clips", "a"] = LogError("cut off")
        toy.run("a")
        toy.failures.clear()
        assert toy.run("a").success
        assert quarantine.listing(toy.lake) == []
        assert toy.check_passed()

    def test_last_drive_out_turns_the_check_green_even_where_the_check_is_not_run(self, toy: Toy) -> None:
        toy.failures["clips", "a"] = LogError("cut off")
        toy.run("a")
        toy.failures.clear()
        assert toy.run("a", only=["clips", "shards"]).success
        assert toy.check_passed()


class TestReuse:
    def test_bundle_made_from_the_same_is_not_made_again(self, toy: Toy) -> None:
        toy.run("a")
        digests = {asset: toy.lake.require(asset, "a").digest for asset in CHAIN}
        assert toy.run("a").success
        assert toy.calls == []
        assert {asset: toy.lake.require(asset, "a").digest for asset in CHAIN} == digests
        assert Counter(toy.recorded("clips")) == {("a", toy.content_of("clips", "a")): 2}

    def test_new_code_is_called_again_and_what_follows_reads_another_manifest(self, toy: Toy) -> None:
        toy.run("a")
        content = toy.content_of("clips", "a")
        toy.code["clips"] = "2"
        toy.run("a")
        assert toy.calls == [("clips", "a"), ("shards", "a")]
        assert toy.content_of("clips", "a") == content
        assert toy.lake.require("clips", "a").made_from.code_version == "2"

    def test_changed_content_goes_through_the_chain(self, toy: Toy) -> None:
        toy.run("a")
        before = {asset: toy.content_of(asset, "a") for asset in CHAIN}
        toy.content["a"] = " again"
        toy.code["raw_logs"] = "2"
        toy.run("a")
        assert [toy.content_of(asset, "a") != before[asset] for asset in CHAIN] == [True, True, True]

    def test_bundle_that_lost_an_object_is_made_again(self, toy: Toy) -> None:
        toy.run("a")
        [entry] = toy.lake.require("shards", "a").files
        toy.lake.store.delete(f"objects/{entry.sha256[:2]}/{entry.sha256}")
        toy.run("a")
        assert ("shards", "a") in toy.calls or ("raw_logs", "a") in toy.calls
        assert toy.lake.verify(toy.lake.require("shards", "a")) == []

    def test_changed_lock_is_another_environment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        digests = set()
        for text in ("numpy==1", "numpy==2"):
            (tmp_path / "lock.txt").write_text(text)
            monkeypatch.setenv("AV_LOCK", str(tmp_path / "lock.txt"))
            digests.add(environment_digest())
        assert len(digests) == 2


class TestInputThatChangesMeanwhile:
    def test_is_read_again_before_the_asset_is_reported(self, toy: Toy) -> None:
        toy.run("a", only=["raw_logs"])
        toy.meanwhile = lambda: _replace(toy, "a", "late") if len(toy.calls) == 1 else None
        assert toy.run("a", only=["clips"]).success
        assert toy.calls == [("clips", "a"), ("clips", "a")]
        assert toy.lake.read_bytes(toy.lake.require("clips", "a"), "data.txt") == b"late"
        assert len(toy.recorded("clips")) == 1

    def test_that_never_settles_is_a_transient_failure(self, toy: Toy) -> None:
        toy.run("a", only=["raw_logs"])
        toy.meanwhile = lambda: _replace(toy, "a", f"late {len(toy.calls)}")
        assert not toy.run("a", only=["clips"]).success
        assert toy.recorded("clips") == []


def _replace(toy: Toy, drive: str, text: str) -> None:
    with toy.lake.workdir() as folder:
        (folder / "data.txt").write_text(text)
        toy.lake.publish("raw_logs", drive, folder)


def test_nothing_of_a_crashed_make_is_left_behind(toy: Toy) -> None:
    toy.failures["raw_logs", "a"] = ZeroDivisionError("a bug")
    assert not toy.run("a").success
    assert toy.lake.partitions("raw_logs") == []
    assert list(Path(toy.lake.scratch).iterdir()) == []


class TestGates:
    def test_failed_claim_stops_its_drive_only_and_shows_what_failed(self, toy: Toy) -> None:
        toy.bad = {"b"}
        assert toy.run("a", "b", "c").success
        assert [drive for drive, _ in toy.recorded("clips")] == ["a", "c"]
        assert [drive for drive, _ in toy.recorded("shards")] == ["a", "c"]
        [row] = quarantine.listing(toy.lake)
        assert (row["drive"], row["stage"], row["code"]) == ("b", "clips", "clips_are_good")
        assert row["reason"] == "camera: the clip is bad"
        assert toy.lake.require("clips", "b").entry(RECORD_FILE)  # the evidence stays

    def test_one_bad_drive_alone_ends_well_with_a_failed_check(self, toy: Toy) -> None:
        toy.bad = {"a"}
        result = toy.run("a")
        assert result.success
        assert "shards" in skipped(result)
        assert not toy.check_passed("clips", "clips_are_good")
        toy.bad = set()
        toy.lake.store.delete("manifests/clips/a/current.json")
        assert toy.run("a").success
        assert toy.check_passed("clips", "clips_are_good")
        assert quarantine.listing(toy.lake) == []

    def test_next_asset_refuses_what_failed_even_when_it_is_asked_for_alone(self, toy: Toy) -> None:
        toy.bad = {"a"}
        toy.run("a")
        quarantine.release(toy.lake, "a", "clips")  # somebody waves it through
        result = toy.run("a", only=["shards"])
        assert not result.success
        assert "upstream_failed" in str(result.failure_data_for_node("shards"))

    def test_next_asset_refuses_what_was_never_checked(self, toy: Toy, tmp_path: Path) -> None:
        toy.run("a", only=["raw_logs"])
        (tmp_path / "smuggled").mkdir()
        (tmp_path / "smuggled" / "data.txt").write_text("a")
        manifest = toy.lake.publish("clips", "a", tmp_path / "smuggled")
        with pytest.raises(EvidenceError, match="no record of its checks"):
            require_passed(toy.lake, manifest)
        assert not toy.run("a", only=["shards"]).success

    def test_tolerated_failure_goes_on_and_is_still_told(
        self, toy: Toy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from av_assets.policies.gates import GatePolicy

        policy = GatePolicy(version="1.0.0", tolerated={"clips_are_good": "known and harmless"})
        monkeypatch.setattr(GatePolicy, "load", classmethod(lambda cls: policy))
        toy.bad = {"a"}
        assert toy.run("a").success
        assert [drive for drive, _ in toy.recorded("shards")] == ["a"]
        record = toy.lake.read_bytes(toy.lake.require("clips", "a"), RECORD_FILE)
        assert b"known and harmless" in record
