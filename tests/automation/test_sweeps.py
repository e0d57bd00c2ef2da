"""A sweep from its specification to its report, as the daemon drives it: the sensor looks, its requests are run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from click.testing import CliRunner
from optuna.trial import TrialState

from av_assets.cli import sweeps as cli_sweeps
from av_assets.domain.errors import EvidenceError, PolicyError
from av_assets.domain.evidence.manifest import MadeFrom
from av_assets.domain.evidence.signatures import sign
from av_assets.domain.sweeps.asking import running
from av_assets.impact import of_policy
from av_assets.policies.sweeps import SweepPolicy
from av_assets.policies.training import TrainingPolicy
from av_assets.training import sweeps as module
from av_assets.training.studies import start, study_of, sweep_of
from partitions.sweeps import trial_key, trial_of
from resources.activations import activate
from resources.lake import Lake
from resources.policies import active, propose
from resources.signing import signing_key
from sensors.sweeps import REPORTS, TRIALS, sweeps_in_progress

WEEK, RELEASE = "2025-06-02", "w20250602-1a2b3c4d"


def specification(folder: Path, **changes: Any) -> Path:
    data = SweepPolicy.load().model_dump(mode="json") | {
        "sweep": "hill",
        "fixed": {"epochs": 4},
        "space": {"learning_rate": {"kind": "float", "low": 0.001, "high": 1.0}},
        "constraints": [],
        "confirm": {"top": 2, "seeds": 1},
        "pruning": {"kind": "asha", "min_epochs": 1, "eta": 2},
    }
    room = {"trials": 7, "trial_seconds": 60.0, "compute_hours": 1.0, "money": None}
    data["budget"] |= room | changes.pop("budget", {})
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(data | changes))
    return path


@dataclass
class Fleet:
    lake: Lake
    instance: dg.DagsterInstance
    asked: list[str] = field(default_factory=list)

    def look(self) -> list[dg.RunRequest]:
        """One tick: new partitions are there, and requests that were made before are not made again."""
        context = dg.build_sensor_context(instance=self.instance, resources={"lake": self.lake})
        found = sweeps_in_progress(context)
        if isinstance(found, dg.SkipReason):
            return []
        assert isinstance(found, dg.SensorResult)
        for added in found.dynamic_partitions_requests or []:
            self.instance.add_dynamic_partitions(added.partitions_def_name, list(added.partition_keys))
        new = [r for r in found.run_requests or [] if r.run_key not in self.asked]
        self.asked += [str(r.run_key) for r in new]
        return new

    def run(self, request: dg.RunRequest) -> bool:
        [key] = request.asset_selection or []
        checks = [module.sweep_reports_stay_within_their_budget, module.sweep_reports_name_a_stable_winner]
        result = dg.materialize(
            [module.sweep_trials, module.sweep_reports, *checks],
            selection=dg.AssetSelection.assets(key),
            partition_key=request.partition_key,
            instance=self.instance,
            resources={"lake": self.lake},
            tags=dict(request.tags),
            raise_on_error=False,
        )
        return bool(result.success)

    def sweep(self) -> list[bool]:
        """Look and run until nothing is asked for."""
        ended = []
        while requests := self.look():
            ended += [self.run(request) for request in requests]
        return ended

    def report(self, name: str = "hill") -> dict[str, Any]:
        return dict(json.loads(self.lake.read_bytes(self.lake.require(REPORTS, name), "report.json")))

    def golden(self, text: str = "frames") -> None:
        with self.lake.workdir() as folder:
            (folder / "dataset.json").write_text(text)
            self.lake.publish("golden_slices", WEEK, folder)


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    monkeypatch.setenv("AV_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setattr(module, "WORKER", "tests.automation.known_worker")
    lake = Lake(uri=(tmp_path / "lake").as_uri(), scratch=str(tmp_path / "lake" / ".scratch"))
    with dg.DagsterInstance.ephemeral() as instance:
        made = Fleet(lake, instance)
        made.golden()
        yield made


def test_from_a_specification_to_a_report(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(fleet.lake, specification(tmp_path, budget={"trials": 12}))
    first = fleet.look()
    assert [r.partition_key for r in first] == ["hill.0", "hill.1"], "two at once, as the specification says"
    assert not fleet.look(), "the same trials are asked for again, and are the same requests"
    assert all(fleet.run(request) for request in first)
    assert all(fleet.sweep())
    report = fleet.report()
    assert report["spent"]["trials"] == [12, 12]
    assert sum(report["trials"].values()) == 12
    assert report["trials"]["pruned"]
    assert report["stability"]["state"] == "stable", "the hill is the same with every seed"
    made = fleet.lake.require(REPORTS, "hill")
    pictures = {"history.png", "parallel.png", "pareto.png"}
    assert pictures < {f.path for f in made.files}
    assert all(fleet.lake.read_bytes(made, name).startswith(b"\x89PNG") for name in pictures)
    rows = fleet.lake.tables.read("sweep_leaderboards")
    assert rows is not None
    assert sorted(rows["number"].to_pylist()) == list(range(12))
    board = {row["number"]: row for row in rows.to_pylist()}
    assert all(board[n]["state"] != "pruned" for n in report["stability"]["order"])
    assert set(made.made_from.inputs) >= {"sweep_specs/hill", "sweep_trials/hill.0"}
    told = json.loads(fleet.lake.read_bytes(fleet.lake.require(TRIALS, "hill.0"), "trial.json"))
    assert told["metrics"]["val_map50"] == board[0]["value"]
    _proposal(fleet, tmp_path, monkeypatch, report)


def _proposal(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: dict[str, Any]) -> None:
    monkeypatch.setenv("AV_LAKE", fleet.lake.uri)
    monkeypatch.setenv("AV_POLICIES", str(tmp_path / "policies"))
    done = CliRunner().invoke(cli_sweeps.sweeps, ["report", "hill", "--propose"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    policy = TrainingPolicy.load(tmp_path / "policies" / "training.yaml")
    shipped = TrainingPolicy.load()
    changed = {
        "learning_rate": report["best"]["values"]["learning_rate"],
        "epochs": 4,
        "version": policy.version,
    }
    assert policy == shipped.model_copy(update=changed)
    assert policy.version != shipped.version
    shown = CliRunner().invoke(cli_sweeps.sweeps, ["status", "hill", "--json"], catch_exceptions=False)
    assert json.loads(shown.output)["sweeps"][0]["state"] == "finished"
    assert len(json.loads(shown.output)["sweeps"][0]["board"]) == 12
    _adopted(fleet, tmp_path, policy)


def _adopted(fleet: Fleet, tmp_path: Path, policy: TrainingPolicy) -> None:
    """What a sweep chose is activated by a second person; other numbers, and those on top of others, are not."""
    lake, file = fleet.lake, tmp_path / "policies" / "training.yaml"
    assert propose(lake, "training", file, "ann", 1).key == "training-2.2.0"
    assert of_policy(lake, "training-2.2.0") == set(), "what was taught stays as it is"
    own = yaml.safe_load(file.read_text()) | {"version": "2.9.0", "learning_rate": 0.5}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    propose(lake, "training", tmp_path / "own.yaml", "ann", 2)
    with pytest.raises(PolicyError, match="no_sweep_report"):
        activate(lake, "training", "2.9.0", "bob", 3)
    with pytest.raises(PolicyError, match="same_person"):
        activate(lake, "training", policy.version, "ann", 3)
    assert activate(lake, "training", policy.version, "bob", 3)["how"] == "sweep"
    assert active(lake, TrainingPolicy) == policy
    # The same numbers again under another version: they were not tried on top of what is active now.
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(policy.model_dump(mode="json") | {"version": "2.10.0"}))
    propose(lake, "training", tmp_path / "own.yaml", "ann", 4)
    with pytest.raises(PolicyError, match="report_outdated"):
        activate(lake, "training", "2.10.0", "bob", 5)
    refused = CliRunner().invoke(cli_sweeps.sweeps, ["report", "hill", "--propose"])
    assert "outdated_report" in str(refused.exception)
    # The next sweep starts from what is active.
    (tmp_path / "next").mkdir()
    spec = specification(tmp_path / "next", sweep="next", fixed={})
    begun = start(lake, spec)
    assert begun.spec.fixed == {"epochs": 4}, "the learning rate is searched"
    assert begun.base == policy.digest
    assert start(lake, spec).spec == begun.spec, "repeating it changes nothing"


def test_a_killed_trial_counts_and_is_launched_again_with_the_same_numbers(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_DIES", "0")
    spec = start(fleet.lake, specification(tmp_path, parallel=1, confirm={"top": 0, "seeds": 0})).spec
    ended = fleet.sweep()
    assert ended.count(False) == 1
    dead, again = study_of(spec).get_trials()[:2]
    assert (dead.state, again.state in (TrialState.COMPLETE, TrialState.PRUNED)) == (TrialState.FAIL, True)
    assert dead.user_attrs["died"]
    assert again.params == dead.params
    assert again.user_attrs["trial_seed"] == dead.user_attrs["trial_seed"]
    assert dead.intermediate_values, "what it had reported before is kept"
    report = fleet.report()
    assert report["trials"]["failed"] == 1
    assert report["spent"]["trials"] == [7, 7], "the dead one counts"
    assert report["spent"]["compute_hours"][0] > 60 / 3600, "as if it had taken all of its time"


def test_a_trial_is_ended_when_its_time_is_over(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_HANGS", "0")
    path = specification(
        tmp_path, budget={"trials": 1, "trial_seconds": 6.0}, confirm={"top": 0, "seeds": 0}, attempts=1
    )
    spec = start(fleet.lake, path).spec
    assert fleet.sweep() == [False, True]
    [trial] = study_of(spec).get_trials()
    assert trial.state == TrialState.FAIL
    assert trial.datetime_complete is not None
    assert trial.datetime_start is not None
    assert (trial.datetime_complete - trial.datetime_start).total_seconds() < 20
    report = fleet.report()
    assert report["best"] is None
    assert "no trial" in report["reason"]
    assert trial.user_attrs["reason"] == "it took all of its time"


def test_a_run_that_vanished_or_was_never_made_loses_no_trial(fleet: Fleet, tmp_path: Path) -> None:
    spec = start(fleet.lake, specification(tmp_path, parallel=2)).spec
    lost = fleet.look()
    fleet.asked.clear()  # the daemon died before it made the runs
    assert [r.run_key for r in fleet.look()] == [r.run_key for r in lost]
    key = trial_key("hill", 0)
    run = fleet.instance.create_run(
        job_name="__ASSET_JOB", run_id=None, run_config=None, status=dg.DagsterRunStatus.FAILURE,
        tags={"dagster/partition": key}, root_run_id=None, parent_run_id=None, step_keys_to_execute=None,
        execution_plan_snapshot=None, job_snapshot=None, parent_job_snapshot=None, asset_selection=None,
        asset_check_selection=None, resolved_op_selection=None, op_selection=None, remote_job_origin=None,
        job_code_origin=None, asset_graph=None,
    )  # fmt: skip
    assert run.is_finished
    [request] = fleet.look()
    assert trial_of(str(request.partition_key)) == ("hill", 2)
    study = study_of(spec)
    assert study.get_trials()[0].state == TrialState.FAIL
    assert study.get_trials()[2].params == study.get_trials()[0].params
    assert [t.number for t in running(study)] == [1, 2]


def test_a_finished_trial_is_not_run_again(fleet: Fleet, tmp_path: Path) -> None:
    start(fleet.lake, specification(tmp_path, parallel=1))
    [request] = fleet.look()
    assert fleet.run(request)
    before = fleet.lake.require(TRIALS, "hill.0").digest
    assert fleet.run(request)
    assert fleet.lake.require(TRIALS, "hill.0").digest == before


def test_a_sweep_is_fixed_to_its_dataset_and_its_specification(fleet: Fleet, tmp_path: Path) -> None:
    path = specification(tmp_path)
    first = start(fleet.lake, path)
    fleet.golden("frozen again")
    assert start(fleet.lake, path).golden.digest == first.golden.digest
    with pytest.raises(PolicyError, match="sweep_exists"):
        start(fleet.lake, specification(tmp_path, seed=7))
    with pytest.raises(EvidenceError, match="missing_bundle"):
        sweep_of(fleet.lake, "unknown")
    manifest = fleet.lake.require("sweep_specs", "hill")
    tampered = Path(fleet.lake.uri.removeprefix("file://")) / "objects"
    digest = manifest.entry("sweep.yaml").sha256
    held = tampered / digest[:2] / digest
    held.chmod(0o644)
    held.write_bytes(held.read_bytes().replace(b"trials: 7", b"trials: 9"))
    with pytest.raises(EvidenceError, match="damaged_object"):
        sweep_of(fleet.lake, "hill")
    assert not fleet.look(), "a sweep whose budget was changed launches nothing"


@pytest.mark.parametrize("wrong", ["dataset", "frames", "silent", None])
def test_a_baseline_is_compared_with_on_the_same_frames_only(
    fleet: Fleet, tmp_path: Path, wrong: str | None
) -> None:
    golden = fleet.lake.require("golden_slices", WEEK)
    with fleet.lake.workdir() as folder:
        frames = TrainingPolicy.load().max_val_frames + (wrong == "frames")
        (folder / "config.json").write_text(json.dumps({"max_val_frames": frames}))
        row = {"val_map50": 0.5, "slices": {} if wrong == "silent" else {"night": {"val_map50": 0.4}}}
        (folder / "history.json").write_text(json.dumps([{"val_map50": 0.1}, row]))
        made_from = MadeFrom(inputs={f"golden_slices/{WEEK}": golden.digest})
        fleet.lake.publish("checkpoints", RELEASE, folder, made_from=made_from)
        fleet.lake.publish("model_bundles", RELEASE, folder)
    if wrong == "dataset":
        fleet.golden("others")
    path = specification(
        tmp_path,
        baseline=RELEASE if wrong else "production",
        constraints=[{"metric": "slices/night/val_map50", "max_loss": 0.02}],
    )
    if wrong is None:
        assert start(fleet.lake, path).baseline == {"slices/night/val_map50": 0.4}
    else:
        with pytest.raises(PolicyError, match="no_comparable_baseline"):
            start(fleet.lake, path)
        assert fleet.lake.manifest("sweep_specs", "hill") is None


def test_an_unstable_winner_is_written_only_on_demand_and_never_activated(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(fleet.lake, specification(tmp_path))
    fleet.sweep()
    made = fleet.lake.require(REPORTS, "hill")
    with fleet.lake.workdir() as folder:
        found = fleet.report() | {"stability": {"state": "unstable", "values": {}}}
        (folder / "report.json").write_text(json.dumps(found))
        (folder / "training.yaml").write_bytes(fleet.lake.read_bytes(made, "training.yaml"))
        made = fleet.lake.publish(REPORTS, "hill", folder, made_from=made.made_from)
    fleet.lake.keep_signature(made, sign(signing_key(), made))
    monkeypatch.setenv("AV_LAKE", fleet.lake.uri)
    monkeypatch.setenv("AV_POLICIES", str(tmp_path / "policies"))
    refused = CliRunner().invoke(cli_sweeps.sweeps, ["report", "hill", "--propose"])
    assert "unstable_winner" in str(refused.exception)
    assert not (tmp_path / "policies").exists()
    taken = CliRunner().invoke(cli_sweeps.sweeps, ["report", "hill", "--propose", "--unstable"])
    assert taken.exit_code == 0, taken.output
    propose(fleet.lake, "training", tmp_path / "policies" / "training.yaml", "ann", 1)
    with pytest.raises(PolicyError, match="report_not_passed"):
        activate(fleet.lake, "training", "2.2.0", "bob", 2)
