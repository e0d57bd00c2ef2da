"""The hardware words: what an asset's one word means in cores, memory, GPUs, local disk, image, pool and pod.

Belongs here: every number and key of a pod; nothing else in the project spells one. Does not belong here: which asset
needs which word (the asset says that).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Hardware:
    """One compute profile.

    Attributes:
        cpu: requested cores.
        memory_gib: requested and limiting memory.
        gpus: whole NVIDIA GPUs.
        nvme_gib: node-local scratch, an ephemeral volume.
        image: image of the code location that runs it.
        spot: may run on interruptible nodes, since every stage resumes.
        priority: Kubernetes priority class.
    """

    word: str
    cpu: int
    memory_gib: int
    image: str
    gpus: int = 0
    nvme_gib: int = 0
    spot: bool = False
    priority: str = "batch"

    @property
    def pool(self) -> str:
        """Pools hold one shape each, since Dagster's slots have no weights."""
        return f"gpu-{self.gpus}" if self.gpus else self.word

    @property
    def tags(self) -> dict[str, str]:
        """For `op_tags`: reaches step pods; the condition sensors put the same on runs."""
        return {"hardware": self.word, "dagster-k8s/config": json.dumps(self.pod(), sort_keys=True)}

    def pod(self) -> dict[str, Any]:
        """The `dagster-k8s/config` of this word."""
        resources: dict[str, Any] = {
            "requests": {"cpu": str(self.cpu), "memory": f"{self.memory_gib}Gi"},
            "limits": {"memory": f"{self.memory_gib}Gi"},
        }
        if self.gpus:
            resources["limits"]["nvidia.com/gpu"] = str(self.gpus)
        container: dict[str, Any] = {"resources": resources}
        spec: dict[str, Any] = {"priority_class_name": self.priority, "volumes": []}
        mounts: list[dict[str, Any]] = []
        if self.nvme_gib:
            spec["volumes"].append({"name": "scratch", "empty_dir": {"size_limit": f"{self.nvme_gib}Gi"}})
            mounts.append({"name": "scratch", "mount_path": "/scratch"})
        if self.gpus:
            spec["volumes"].append({"name": "shm", "empty_dir": {"medium": "Memory"}})
            mounts.append({"name": "shm", "mount_path": "/dev/shm"})
        if mounts:
            container["volume_mounts"] = mounts
        tolerations = (
            [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}] if self.gpus else []
        )
        if self.spot:
            spec["node_selector"] = {"karpenter.sh/capacity-type": "spot"}
            tolerations.append({"key": "spot", "operator": "Exists", "effect": "NoSchedule"})
        if tolerations:
            spec["tolerations"] = tolerations
        return {
            "container_config": container,
            "pod_spec_config": spec,
            # A pod that Kubernetes itself restarts exits 0 without having worked: Dagster's retries bring runs back.
            "job_spec_config": {"backoff_limit": 0, "ttl_seconds_after_finished": 3600},
        }


LIGHT = Hardware("light", cpu=1, memory_gib=2, image="av-preproc", spot=True)
CPU = Hardware("cpu", cpu=4, memory_gib=16, image="av-preproc", nvme_gib=200, spot=True)
DECODE = Hardware("decode", cpu=16, memory_gib=64, image="av-preproc", nvme_gib=1000, spot=True)
DETECT = Hardware(
    "detect", cpu=8, memory_gib=32, image="av-batch-infer-cu12", gpus=1, nvme_gib=500, spot=True
)
EVALUATE = Hardware("evaluate", cpu=8, memory_gib=32, image="av-eval", gpus=1, nvme_gib=200)
TRAIN_MULTISENSOR = Hardware(
    "train_multisensor",
    cpu=32,
    memory_gib=256,
    image="av-train-multisensor-cu12",
    gpus=8,
    nvme_gib=4000,
    priority="training",
)

WORDS: dict[str, Hardware] = {h.word: h for h in (LIGHT, CPU, DECODE, DETECT, EVALUATE, TRAIN_MULTISENSOR)}
