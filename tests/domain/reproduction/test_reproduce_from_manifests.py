"""Checkpoints made again from their manifests, and evaluations taken apart along their manifests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from real_lake import LATER, WEEK, freeze, publish, release_of
from scored import QUICK, evaluation, predict

from av_assets.cli import diff as cli_diff
from av_assets.cli import reproduce as cli_reproduce
from av_assets.domain.errors import DatasetError, EvidenceError, PolicyError
from av_assets.domain.evidence.manifest import Manifest
from av_assets.policies.evaluation import EvaluationPolicy
from av_assets.policies.training import TrainingPolicy
from av_assets.production import environment_digest
from av_assets.reproduction import explain, reproduce
from resources.lake import Lake


def kept(
    lake: Lake, taught: tuple[Path, TrainingPolicy], golden: Manifest, name: str = "", **origin: Any
) -> Manifest:
    from av_assets.training.checkpoints import checkpoints

    folder, policy = taught
    [version] = checkpoints.code_versions_by_key.values()
    mine = {
        "code_version": version,
        "environment": environment_digest(),
        "policies": {"training": policy.digest},
    }
    return publish(lake, "checkpoints", name or release_of(golden), folder, [golden], **(mine | origin))


def test_a_checkpoint_comes_out_to_the_bit_and_what_was_otherwise_is_named(
    lake: Lake, golden: Path, taught: tuple[Path, TrainingPolicy], tmp_path: Path
) -> None:
    dataset = freeze(lake, WEEK, golden)
    release, before = release_of(dataset), kept(lake, taught, dataset)
    found = reproduce(lake, f"checkpoints/{release}", tmp_path / "again")
    assert found["identical"], found["files"]
    assert {f["path"]: f["state"] for f in found["files"]}["checkpoint.pt"] == "identical"
    assert not found["ingredients"]
    assert not found["note"]
    assert not found["misnamed"]
    assert lake.require("checkpoints", release).digest == before.digest, "nothing was published"
    # The same bytes from other code, under the name of another dataset: identical, and both are told.
    kept(lake, taught, dataset, "w20250602-00000000", code_version="0")
    found = reproduce(lake, "checkpoints/w20250602-00000000", tmp_path / "once-more")
    assert found["identical"]
    assert [d["ingredient"] for d in found["ingredients"]] == ["code version"]
    assert f"golden@{dataset.content[:12]}" in found["misnamed"]


def test_a_checkpoint_of_another_machine_differs_and_the_machine_is_named(
    lake: Lake,
    golden: Path,
    taught: tuple[Path, TrainingPolicy],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import shutil

    folder, policy = taught
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    (other / "checkpoint.pt").write_bytes((folder / "checkpoint.pt").read_bytes() + b"other bits")
    facts = json.loads((folder / "environment.json").read_bytes())
    (other / "environment.json").write_text(
        json.dumps(facts | {"cpu_capability": "AVX9", "torch": "1.0", "threads": 64})
    )
    history = json.loads((folder / "history.json").read_bytes())
    history[0]["loss"] += 1.0
    (other / "history.json").write_text(json.dumps(history))
    config = json.loads((folder / "config.json").read_bytes())
    (other / "config.json").write_text(json.dumps(config | {"epochs": 2, "max_seconds": 3600.0}))
    dataset = freeze(lake, WEEK, golden)
    name = f"checkpoints/{release_of(dataset)}"
    kept(lake, (other, policy), dataset, environment="0" * 64)
    done = CliRunner().invoke(cli_reproduce.reproduce, [name])
    assert done.exit_code == 2, done.output
    shown = done.output.splitlines()
    assert "not the same" in shown[0]
    assert "  checkpoint.pt differs" in shown
    assert any(line.startswith("    0/loss: ") for line in shown)
    for named in (
        "environment: locked environment",
        "hardware: cpu_capability AVX9 ->",
        "threads: threads 64 -> 1",
    ):
        assert any(named in line for line in shown), named
    monkeypatch.setenv("AV_LAKE", lake.uri)
    refused = CliRunner().invoke(cli_reproduce.reproduce, [name, "--out", str(other)])
    assert "not_empty" in str(refused.exception)


def test_what_cannot_be_made_again_says_what_is_missing(
    lake: Lake, golden: Path, taught: tuple[Path, TrainingPolicy], tmp_path: Path
) -> None:
    dataset = freeze(lake, WEEK, golden)
    gone = Manifest.model_validate(dataset.model_dump() | {"note": "never published"})
    kept(lake, taught, gone)
    with pytest.raises(EvidenceError, match="missing_input") as lost:
        reproduce(lake, f"checkpoints/{release_of(gone)}", tmp_path / "a")
    assert f"golden@{gone.content[:8]}" in lost.value.reason
    assert release_of(dataset) in lost.value.remedy
    with pytest.raises(EvidenceError, match="not_reproducible"):
        reproduce(lake, f"golden_slices/{WEEK}", tmp_path / "b")
    with pytest.raises(EvidenceError, match="missing_bundle"):
        reproduce(lake, f"checkpoints/{release_of(dataset)}", tmp_path / "c")
    old = tmp_path / "old"
    old.mkdir()
    (old / "config.json").write_text('{"version": "0.1.0"}')
    kept(lake, (old, taught[1]), dataset)
    with pytest.raises(PolicyError, match="other_policy"):
        reproduce(lake, f"checkpoints/{release_of(dataset)}", tmp_path / "d")
    lake.store.put(f"datasets/golden/erased/{dataset.content}.json", b"{}")
    with pytest.raises(DatasetError, match="erased_version"):
        reproduce(lake, f"checkpoints/{release_of(dataset)}", tmp_path / "e")


class Evaluations:
    """Two evaluations in a lake, with everything that they were made from."""

    def __init__(self, lake: Lake, folder: Path) -> None:
        self.lake, self.folder = lake, folder
        self.policy = EvaluationPolicy.load()

    def model(self, dataset: Manifest, facts: dict[str, Any], **origin: Any) -> Manifest:
        release = release_of(dataset)
        made = self.folder / f"model-{release}"
        made.mkdir()
        (made / "environment.json").write_text(json.dumps({"seed": 13, "threads": 1} | facts))
        training = {"policies": {"training": "1" * 64}, "code_version": "3"} | origin
        checkpoint = publish(self.lake, "checkpoints", release, made, [dataset], **training)
        packed = self.folder / f"bundle-{release}"
        packed.mkdir()
        (packed / "model.onnx").write_text(checkpoint.digest)
        return publish(self.lake, "model_bundles", release, packed, [checkpoint], code_version="2")

    def judge(self, root: Path, seed: int, dataset: Manifest, model: Manifest, **origin: Any) -> None:
        release = release_of(dataset)
        made = self.folder / f"eval-{release}"
        made.mkdir()
        found = evaluation(root, predict(root, made / "predictions.parquet", seed, 3.0, 0.8), QUICK)
        (made / "report.json").write_text(json.dumps(found.report))
        told = {"code_version": "3", "policies": {"evaluation": self.policy.digest}} | origin
        publish(self.lake, "eval_reports", release, made, [model, dataset], **told)


@pytest.mark.parametrize(
    ("facts", "origin", "told"),
    [
        ({"seed": 14}, {}, "seed"),
        ({}, {"policies": {"training": "2" * 64}}, "training config"),
        ({}, {"code_version": "4"}, "checkpoints code"),
        ({"seed": 14}, {"code_version": "4"}, "checkpoints code and seed"),
    ],
)
def test_the_part_of_the_model_is_told_by_what_it_was_made_from(
    lake: Lake, golden: Path, tmp_path: Path, facts: dict[str, Any], origin: dict[str, Any], told: str
) -> None:
    made = Evaluations(lake, tmp_path)
    first, second = (freeze(lake, week, golden) for week in (WEEK, LATER))
    made.judge(golden, 1, first, made.model(first, {}))
    made.judge(golden, 2, second, made.model(second, facts, **origin))
    (tmp_path / "work").mkdir()
    names = f"eval_reports/{release_of(first)}", f"eval_reports/{release_of(second)}"
    found = explain(lake, *names, tmp_path / "work", {})
    assert found["model_part"] == told
    figures = found["slices"]["all"]["map50"]
    assert figures["parts"]["model"] == pytest.approx(figures["change"])
    assert figures["change"] != 0
    assert not found["because"]["data"]
    shown = CliRunner().invoke(cli_diff.diff, list(names), catch_exceptions=False)
    assert f"model ({told})" in shown.output
    assert "frames: 24 of both, 0 left, 0 came" in shown.output


def test_thresholds_that_nobody_knows_any_more_are_told_with_the_code_and_known_ones_apart(
    lake: Lake, golden: Path, tmp_path: Path
) -> None:
    import yaml

    made = Evaluations(lake, tmp_path)
    first, second = (freeze(lake, week, golden) for week in (WEEK, LATER))
    made.judge(golden, 1, first, made.model(first, {}))
    strict = made.policy.model_copy(update={"version": "9.0.0", "score_floor": 0.5})
    made.judge(golden, 1, second, made.model(second, {}), policies={"evaluation": strict.digest})
    names = f"eval_reports/{release_of(first)}", f"eval_reports/{release_of(second)}"
    (tmp_path / "work").mkdir()
    (tmp_path / "more").mkdir()
    unknown = explain(lake, *names, tmp_path / "work", {})
    assert [d["what"] for d in unknown["because"]["code"]] == ["evaluation"]
    assert "thresholds" not in unknown["slices"]["all"]["map50"]["parts"]
    known = explain(lake, *names, tmp_path / "more", {strict.digest: strict})
    assert [d["what"] for d in known["because"]["thresholds"]] == ["evaluation"]
    assert known["slices"]["all"]["map50"]["parts"]["thresholds"] < 0
    path = tmp_path / "evaluation.yaml"
    path.write_text(yaml.safe_dump(strict.model_dump(mode="json")))
    shown = CliRunner().invoke(
        cli_diff.diff, [*names, "--policy", str(path), "--json"], catch_exceptions=False
    )
    assert json.loads(shown.output) == known
