"""Training in the cluster: the same asset sends a pod of its hardware word, which trains and reports in its log."""

import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster_k8s.client import DagsterK8sError

from av_assets.domain.learning import checkpoint as ckpt
from av_assets.policies.training import TrainingPolicy
from av_assets.training.checkpoints import checkpoints
from resources.compute import TRAIN_MULTISENSOR
from resources.launching import Cluster, pod_spec
from resources.pods import PodClient
from tests.faults.training_lake import golden_lake, release_of, tiny_policy
from tests.kubernetes.fake_cluster import FakeCluster, image_environment


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster(image_environment()) as running:
        yield running


def pods(cluster: FakeCluster, folder: Path) -> PodClient:
    """As an installation on that cluster configures it."""
    here = Cluster("registry.example/av", "7", namespace="av", env={"AV_HOME": str(folder / "node")})
    return PodClient(here, kubeconfig_file=str(cluster.kubeconfig(folder / "kubeconfig")), poll_interval=0.1)


def test_the_asset_trains_in_a_pod_of_its_hardware_word(
    cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tiny_policy(processes=1)
    monkeypatch.setattr(TrainingPolicy, "load", classmethod(lambda cls, path=None: policy))
    lake, golden = golden_lake(tmp_path)
    with dg.DagsterInstance.ephemeral() as instance:
        release = release_of(golden, instance)
        result = dg.materialize(
            [checkpoints],
            instance=instance,
            partition_key=release,
            resources={"lake": lake, "pipes": pods(cluster, tmp_path)},
        )
        log = "\n".join(
            record.event_log_entry.user_message
            for record in instance.get_records_for_run(result.run_id).records
        )
    assert result.success
    assert cluster.refused == []

    [pod] = cluster.created
    [container] = pod["spec"]["containers"]
    assert container["image"] == "registry.example/av/av-train-multisensor-cu12:7"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == str(TRAIN_MULTISENSOR.gpus)
    assert pod["spec"]["priorityClassName"] == "training"
    assert pod["spec"]["restartPolicy"] == "Never"
    assert not cluster.pods  # deleted once it was over

    made = lake.require("checkpoints", release)
    assert {"checkpoint.pt", "history.json", "environment.json"} <= {entry.path for entry in made.files}
    assert json.loads(lake.read_bytes(made, "environment.json"))["dataset_digest"]
    assert "effective_batch 4" in log  # said before the first step
    assert "step 6/6 loss" in log
    [event] = result.get_asset_materialization_events()
    metadata = event.materialization.metadata
    assert metadata["training/samples_per_s"].value > 0
    assert 0 <= metadata["training/wait_share"].value <= 1
    assert list(lake.store.keys("segments/")) == []
    (tmp_path / "out").mkdir()
    lake.checkout(made, tmp_path / "out")
    assert ckpt.load(tmp_path / "out" / "checkpoint.pt")["step"] == 6


def test_a_pod_that_dies_is_an_error_of_the_client(cluster: FakeCluster, tmp_path: Path) -> None:
    client = pods(cluster, tmp_path)

    @dg.asset
    def dies(context: dg.AssetExecutionContext) -> None:
        client.run(
            context=context,
            image="any",
            command=["python", "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"],
        )

    result = dg.materialize([dies], raise_on_error=False)
    error = result.failure_data_for_node("dies")
    assert error is not None
    assert error.error is not None
    assert DagsterK8sError.__name__ in str(error.error)


def test_a_misspelt_pod_is_refused_by_the_cluster(cluster: FakeCluster, tmp_path: Path) -> None:
    """What makes the test above worth something: the cluster does look."""
    spec = pod_spec(TRAIN_MULTISENSOR, Cluster("r", "1"))
    spec["containers"][0] |= {"name": "x", "image": "r/x:1", "comand": ["true"]}
    code, status = cluster.create(
        "av", {"metadata": {"name": "x"}, "spec": {"containers": spec["containers"]}}
    )
    assert (code, status["reason"]) == (422, "Invalid")
    assert cluster.created == []
    assert "comand" in cluster.refused[0]
