"""Command lines, pods and jobs: what is sent is what the schemas of their receivers allow."""

import sys

import dagster as dg
import kubernetes_validate
import pytest
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob
from kubernetes.client import ApiClient, V1PodSpec
from pydantic import ValidationError

from av_assets.domain.errors import TransientError
from resources.compute import TRAIN_MULTISENSOR, WORDS, Hardware
from resources.launching import (
    Cluster,
    gpus_of,
    launch,
    module_command,
    pod_spec,
    processes_for,
    train_job,
)
from resources.pods import PodClient

CLUSTER = Cluster(
    "registry.example/av", "7", namespace="av", service_account="trainer", env={"AV_LAKE": "s3://l"}
)
KUBERNETES = "1.33"


def test_one_process_needs_no_torchrun() -> None:
    assert module_command("a.b", ["x"], 1) == [sys.executable, "-m", "a.b", "x"]
    command = module_command("a.b", ["x"], 2, "python")
    assert command[:3] == ["python", "-m", "torch.distributed.run"]
    assert command[-3:] == ["-m", "a.b", "x"]
    assert "--nproc-per-node=2" in command
    assert not [word for word in command if "max-restarts" in word]


@pytest.mark.parametrize(
    ("wanted", "micro_batches", "gpus", "processes"),
    [(0, 1, 0, 1), (0, 1, 8, 1), (0, 8, 8, 8), (0, 12, 8, 6), (0, 6, 4, 3), (3, 6, 8, 3), (2, 2, 0, 2)],
)
def test_processes_share_the_micro_batches_evenly(
    wanted: int, micro_batches: int, gpus: int, processes: int
) -> None:
    assert processes_for(wanted, micro_batches, gpus) == processes


def test_a_cluster_has_the_gpus_of_the_hardware_word() -> None:
    assert gpus_of(PodClient(CLUSTER), TRAIN_MULTISENSOR) == 8


@pytest.mark.parametrize("hardware", WORDS.values(), ids=lambda h: h.word)
def test_the_pod_is_the_one_of_the_hardware_word(hardware: Hardware) -> None:
    from dagster_k8s.models import k8s_model_from_dict, k8s_snake_case_dict

    spec = pod_spec(hardware, CLUSTER)
    spec["containers"][0] |= {"name": "worker", "image": CLUSTER.image(hardware)}
    shown = ApiClient().sanitize_for_serialization(
        k8s_model_from_dict(V1PodSpec, k8s_snake_case_dict(V1PodSpec, spec))
    )
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": shown}
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    assert shown["serviceAccountName"] == "trainer"
    assert shown["containers"][0]["resources"]["requests"]["cpu"] == str(hardware.cpu)


def test_the_spec_of_a_word_is_not_changed_by_what_is_added_to_it() -> None:
    before = TRAIN_MULTISENSOR.pod()
    pod_spec(TRAIN_MULTISENSOR, Cluster("r", "1", secrets=("s3",)))["containers"][0]["image"] = "x"
    assert TRAIN_MULTISENSOR.pod() == before


def test_several_nodes_are_a_train_job_that_kubeflow_accepts() -> None:
    job = train_job("w20250602", TRAIN_MULTISENSOR, CLUSTER, "a.b", ["{}"], nodes=4, processes=8, threads=2)
    parsed = TrainerV1alpha1TrainJob.from_dict(job)
    assert parsed is not None
    assert parsed.to_dict() == job  # the models drop what they do not know: nothing was
    trainer = job["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (4, 8)
    assert trainer["resourcesPerNode"]["limits"]["nvidia.com/gpu"] == "8"
    assert trainer["image"] == "registry.example/av/av-train-multisensor-cu12:7"
    patch = job["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"][0]
    pod = patch["template"]["spec"]["template"]["spec"]
    assert {volume["name"] for volume in pod["volumes"]} == {"scratch", "shm"}
    assert [t["key"] for t in pod["tolerations"]] == ["nvidia.com/gpu"]


def test_kubeflow_refuses_a_job_with_a_wrong_type() -> None:
    job = train_job("x", TRAIN_MULTISENSOR, CLUSTER, "a.b", [], nodes=4, processes=8, threads=2)
    job["spec"]["trainer"]["numNodes"] = "four"
    with pytest.raises(ValidationError):
        TrainerV1alpha1TrainJob.from_dict(job)


@pytest.mark.parametrize(
    "end", ["import sys; sys.exit(3)", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
)
def test_a_child_that_ends_badly_is_worth_another_try(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from resources import launching

    monkeypatch.setattr(launching, "module_command", lambda *_: [sys.executable, "-c", end])
    caught: list[TransientError] = []

    @dg.asset
    def fails(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        try:
            launch(dg.PipesSubprocessClient(), context, TRAIN_MULTISENSOR, "", [], 1, 1)
        except TransientError as error:
            caught.append(error)
        return dg.MaterializeResult()

    dg.materialize([fails])
    assert [error.code for error in caught] == ["worker_ended"]
