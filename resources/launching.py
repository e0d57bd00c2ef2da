"""Where a training command runs: a child of this process, a pod of the cluster, or a job over several nodes.

    laptop      PipesSubprocessClient: a child; torchrun where several processes train
    cluster     pods.PodClient (PipesK8sClient): one pod of the hardware word, torchrun inside it
    many nodes  train_job: the manifest of a Kubeflow TrainJob, whose torch runtime tells torchrun about the other nodes

Belongs here: command lines, pods and jobs of work that Dagster starts through Pipes. Does not belong here: what a
hardware word means (`compute`), what the command does, when to try again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import dagster as dg
from dagster._core.errors import DagsterPipesExecutionError

from av_assets.domain.errors import TransientError
from resources.compute import Hardware

LOOPBACK: Final = "127.0.0.1"
TRAIN_JOB: Final = ("trainer.kubeflow.org/v1alpha1", "TrainJob")
TORCH_RUNTIME: Final = "torch-distributed"
# What a TrainJob may change of its runtime's pods; priority class and secrets belong to the runtime itself.
PATCHABLE: Final = ("nodeSelector", "serviceAccountName", "tolerations", "volumes")


@dataclass(frozen=True)
class Cluster:
    """What a pod needs to know beyond its hardware word.

    Attributes:
        registry: where images of the code locations are, with a trailing path if there is one.
        tag: their version.
        env: settings of the installation (AV_LAKE and the like); no secrets.
        secrets: names of Kubernetes secrets whose keys become environment variables.
    """

    registry: str
    tag: str
    namespace: str = "default"
    service_account: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()

    def image(self, hardware: Hardware) -> str:
        return f"{self.registry}/{hardware.image}:{self.tag}"


def module_command(module: str, arguments: Sequence[str], processes: int, python: str = "") -> list[str]:
    """Run a module, with torchrun where more than one process shares the work.

    torchrun is never asked to restart a process: the run does that, and training goes on from its checkpoint.
    """
    interpreter = python or sys.executable
    if processes == 1:
        return [interpreter, "-m", module, *arguments]
    rendezvous = ["--standalone", "--local-addr", LOOPBACK, f"--nproc-per-node={processes}"]
    return [interpreter, "-m", "torch.distributed.run", *rendezvous, "-m", module, *arguments]


def processes_for(wanted: int, micro_batches: int, gpus: int) -> int:
    """Processes of a node: as the policy wants, else one per GPU as far as the micro batches can be shared out."""
    if wanted:
        return wanted
    return max(n for n in range(1, max(1, gpus) + 1) if micro_batches % n == 0)


def cluster_of(pipes: dg.PipesClient) -> Cluster | None:
    """The cluster that a client sends pods to; None where it starts children of this process."""
    found = getattr(pipes, "cluster", None)
    return found if isinstance(found, Cluster) else None


def gpus_of(pipes: dg.PipesClient, hardware: Hardware) -> int:
    """GPUs that the command will find: those of the hardware word in a cluster, those of this machine elsewhere."""
    if cluster_of(pipes) is not None:
        return hardware.gpus
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def launch(
    pipes: dg.PipesClient,
    context: dg.AssetExecutionContext,
    hardware: Hardware,
    module: str,
    arguments: Sequence[str],
    processes: int,
    threads: int,
) -> dg.PipesClientCompletedInvocation:
    """Run the module and wait for it; what it says through Pipes appears in the run's log while it says it.

    Raises:
        TransientError: worker_ended, otherwise than with 0, or it vanished; which of the two, the caller knows.
    """
    env, cluster = process_env(threads), cluster_of(pipes)
    if cluster is None:
        command = module_command(module, arguments, processes)
        return _waited(lambda: pipes.run(context=context, command=command, env=env), ())
    from dagster_k8s.client import DagsterK8sError

    return _waited(
        lambda: pipes.run(
            context=context,
            namespace=cluster.namespace,
            command=module_command(module, arguments, processes, "python"),
            image=cluster.image(hardware),
            env={**cluster.env, **env},
            base_pod_meta={"labels": {"av/hardware": hardware.word.replace("_", "-")}},
            base_pod_spec=pod_spec(hardware, cluster),
        ),
        (DagsterK8sError,),
    )


def _waited(
    run: Callable[[], dg.PipesClientCompletedInvocation], ends: tuple[type[Exception], ...]
) -> dg.PipesClientCompletedInvocation:
    ended: tuple[type[Exception], ...] = (DagsterPipesExecutionError, *ends)
    try:
        return run()
    except ended as error:
        raise TransientError(str(error), code="worker_ended") from error


def process_env(threads: int) -> dict[str, str]:
    """OMP_NUM_THREADS as the policy says, and what cuBLAS needs to give the same bits every time."""
    return {"OMP_NUM_THREADS": str(threads), "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


def pod_spec(hardware: Hardware, cluster: Cluster) -> dict[str, Any]:
    """The pod of the hardware word, as `compute` spells it for steps of Dagster."""
    config = hardware.pod()
    container = json.loads(json.dumps(config["container_config"]))  # the client writes into it
    if cluster.secrets:
        container["env_from"] = [{"secret_ref": {"name": name}} for name in cluster.secrets]
    spec: dict[str, Any] = {**config["pod_spec_config"], "containers": [container], "restart_policy": "Never"}
    if cluster.service_account:
        spec["service_account_name"] = cluster.service_account
    return spec


def train_job(
    name: str,
    hardware: Hardware,
    cluster: Cluster,
    module: str,
    arguments: Sequence[str],
    nodes: int,
    processes: int,
    threads: int,
) -> dict[str, Any]:
    """The manifest of a Kubeflow TrainJob over several nodes of the hardware word.

    The torch runtime sets the PET_* variables that torchrun reads: nodes, rank, address of the first. Restarts are
    left to the run, as everywhere.
    """
    from dagster_k8s.models import k8s_model_from_dict, k8s_snake_case_dict
    from kubernetes.client import ApiClient, V1PodSpec  # type: ignore[import-untyped]

    spec = pod_spec(hardware, cluster)
    pod = ApiClient().sanitize_for_serialization(
        k8s_model_from_dict(V1PodSpec, k8s_snake_case_dict(V1PodSpec, _named(spec)))
    )
    [container] = pod["containers"]
    mounts = {"volumeMounts": container["volumeMounts"]} if container.get("volumeMounts") else {}
    patched = {name: pod[name] for name in PATCHABLE if pod.get(name)}
    patched["containers"] = [{"name": "node", **mounts}]
    env = {**cluster.env, **process_env(threads)}
    version, kind = TRAIN_JOB
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": cluster.namespace,
            "labels": {"av/hardware": hardware.word.replace("_", "-")},
        },
        "spec": {
            "runtimeRef": {"name": TORCH_RUNTIME},
            "trainer": {
                "image": cluster.image(hardware),
                "command": ["python", "-m", "torch.distributed.run", "-m", module, *arguments],
                "numNodes": nodes,
                "numProcPerNode": processes,
                "resourcesPerNode": container["resources"],
                "env": [{"name": key, "value": value} for key, value in sorted(env.items())],
            },
            "runtimePatches": [
                {
                    "manager": "av.assets/launching",
                    "trainingRuntimeSpec": {
                        "template": {
                            "spec": {
                                "replicatedJobs": [
                                    {"name": "node", "template": {"spec": {"template": {"spec": patched}}}}
                                ]
                            }
                        }
                    },
                }
            ],
        },
    }


def _named(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {**spec, "containers": [{**container, "name": "node"} for container in spec["containers"]]}
