"""Two releases whose checkpoints, bundles and evaluations were made by what the platform makes them with."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from golden_folder import golden_folder
from real_lake import LATER, WEEK, freeze, publish, release_of

from av_assets.cli import diff as cli_diff
from av_assets.cli import reproduce as cli_reproduce
from av_assets.domain.evidence.manifest import Manifest
from av_assets.policies.evaluation import EvaluationPolicy
from av_assets.policies.packaging import PackagingPolicy
from av_assets.policies.training import TrainingPolicy
from av_assets.production import environment_digest
from av_assets.reproduction import explain, reproduce
from resources.lake import Lake

if TYPE_CHECKING:
    from av_assets.domain.learning.train import TrainSummary

SPLITS = {"drive-a": "train", "drive-b": "val", "drive-c": "test", "drive-d": "test"}


@dataclass(frozen=True)
class Release:
    """Folders of one release, by asset."""

    golden_slices: Path
    checkpoints: Path
    model_bundles: Path
    eval_reports: Path
    training: TrainingPolicy


def evaluated(bundle: Path, golden: Path, out: Path) -> Path:
    """What eval_reports keeps; latency is no part of it."""
    from av_assets.domain.metrics.evaluate import evaluate_bundle

    evaluate_bundle(bundle, golden, EvaluationPolicy.load(), out)
    (out / "latency.json").unlink()
    return out


@pytest.fixture(scope="session")
def first(
    golden: Path, taught: tuple[Path, TrainingPolicy], tmp_path_factory: pytest.TempPathFactory
) -> Release:
    from av_assets.domain.packaging.export import export_bundle

    folder, bundle = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("packed")
    few = PackagingPolicy.load().model_copy(update={"parity_inputs": 2, "torchscript_inputs": 1})
    export_bundle(taught[0] / "checkpoint.pt", bundle, few)
    return Release(golden, taught[0], bundle, evaluated(bundle, golden, folder / "report"), taught[1])


@pytest.fixture(scope="session")
def second(
    trained: TrainSummary, bundle: Path, tiny: TrainingPolicy, tmp_path_factory: pytest.TempPathFactory
) -> Release:
    """A drive came, people moved boxes of another, and the network was taught for longer with another seed.

    Neither is learnt from: the network of `trained` is the one that this dataset teaches, too.
    """
    folder = tmp_path_factory.mktemp("second")
    wider = golden_folder(folder / "golden", SPLITS | {"drive-e": "test"})
    _move_boxes(wider / "drives" / "drive-c" / "labels.parquet")
    report = evaluated(bundle, wider, folder / "report")
    return Release(wider, trained.checkpoint.parent, bundle, report, tiny)


def _move_boxes(path: Path) -> None:
    rows = pq.read_table(path).to_pylist()
    for row in rows[::3]:
        row["x1"], row["x2"] = row["x1"] + 30.0, row["x2"] + 30.0
    pq.write_table(pa.Table.from_pylist(rows), path)


def keep(lake: Lake, week: str, made: Release, evaluation: Path | None = None) -> Manifest:
    """Publish a release with the manifests that its assets would write; gives that of the evaluation."""
    from av_assets.promotion.bundles import model_bundles
    from av_assets.promotion.evaluation import eval_reports
    from av_assets.training.checkpoints import checkpoints

    def origin(
        asset: object, *policies: PackagingPolicy | EvaluationPolicy | TrainingPolicy
    ) -> dict[str, object]:
        [version] = asset.code_versions_by_key.values()  # type: ignore[attr-defined]
        digests = {policy.name: policy.digest for policy in policies}
        return {"code_version": version, "environment": environment_digest(), "policies": digests}

    judged = EvaluationPolicy.load()
    dataset = freeze(lake, week, made.golden_slices)
    name, teaching = release_of(dataset), origin(checkpoints, made.training)
    taught = publish(lake, "checkpoints", name, made.checkpoints, [dataset], **teaching)
    packing = origin(model_bundles, PackagingPolicy.load(), judged)
    packed = publish(lake, "model_bundles", name, made.model_bundles, [taught, dataset], **packing)
    report = evaluation or made.eval_reports
    return publish(lake, "eval_reports", name, report, [packed, dataset], **origin(eval_reports, judged))


def test_an_evaluation_comes_out_to_the_bit_whatever_is_current_now(
    lake: Lake, first: Release, tmp_path: Path
) -> None:
    before = keep(lake, WEEK, first)
    release = before.partition
    # What is current now is another dataset and another model; neither is what it was made from.
    (tmp_path / "newer").mkdir()
    (tmp_path / "newer" / "dataset.json").write_text("frozen again")
    freeze(lake, WEEK, tmp_path / "newer")
    publish(lake, "model_bundles", release, tmp_path / "newer", [])
    found = reproduce(lake, f"eval_reports/{release}", tmp_path / "again")
    assert found["identical"], found["files"]
    assert not found["ingredients"]
    assert not found["misnamed"]
    made = {f["path"] for f in found["files"]}
    assert {"report.json", "predictions.parquet", "pr_curves_3d.png", "bev_examples.png"} <= made
    assert "latency.json" not in made
    assert lake.require("eval_reports", release).digest == before.digest, "nothing was published"


def test_an_evaluation_that_does_not_come_out_shows_the_figures_and_its_policy(
    lake: Lake, first: Release, tmp_path: Path
) -> None:
    shutil.copytree(first.eval_reports, tmp_path / "told")
    report = json.loads((tmp_path / "told" / "report.json").read_bytes())
    was = report["slices"]["all"]["map50"]
    report["slices"]["all"]["map50"] = 0.875
    (tmp_path / "told" / "report.json").write_text(json.dumps(report))
    made = keep(lake, WEEK, first, tmp_path / "told")
    strict = EvaluationPolicy.load().model_copy(update={"score_floor": 0.9})
    origin = made.made_from.model_copy(update={"policies": {"evaluation": strict.digest}})
    with lake.workdir() as folder:
        lake.publish("eval_reports", made.partition, lake.checkout(made, folder / "out"), made_from=origin)
    done = CliRunner().invoke(cli_reproduce.reproduce, [f"eval_reports/{made.partition}"])
    assert done.exit_code == 2, done.output
    shown = done.output.splitlines()
    assert "  report.json differs" in shown
    assert f"    slices/all/map50: 0.875 -> {was}" in shown
    assert not any("predictions.parquet" in line for line in shown)
    assert any(line.startswith("  policy: evaluation ") for line in shown)


def test_two_releases_are_taken_apart_with_what_their_networks_said(
    lake: Lake, first: Release, second: Release, tmp_path: Path
) -> None:
    made = keep(lake, WEEK, first), keep(lake, LATER, second)
    names = f"eval_reports/{made[0].partition}", f"eval_reports/{made[1].partition}"
    work = tmp_path / "work"
    work.mkdir()
    found = explain(lake, *names, work, {})
    assert found["frames"] == {"both": 24, "before": 0, "after": 12}
    for metric in ("map50", "ece", "map3d", "nds"):
        one = found["slices"]["all"][metric]
        assert set(one["parts"]) == {"code", "data", "labels", "model"}, one
        assert one["parts"]["code"] == 0, "scored again from what was kept: the very figures of the reports"
        assert sum(one["parts"].values()) == pytest.approx(one["change"], abs=1e-12)
    in_picture, in_space = (found["slices"]["all"][m]["parts"] for m in ("map50", "map3d"))
    assert in_picture["labels"] < 0
    assert min(in_picture["model"], in_space["model"]) > 0, "the second was taught for longer"
    assert in_space["labels"] == 0, "the cuboids stayed where they were"
    assert found["model_part"] == "training config and training data and seed"
    assert {d["what"] for d in found["because"]["model"]} == {"training", "golden_slices", "seed"}
    assert found["because"]["thresholds"] == []
    shown = CliRunner().invoke(cli_diff.diff, list(names), catch_exceptions=False)
    assert "model (training config and training data and seed)" in shown.output
    assert f"{in_space['model']:+.4f}" in shown.output
