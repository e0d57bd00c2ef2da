"""Every hardware word is a pod that a cluster accepts, rendered as the launcher renders it, without a cluster.

Belongs here: shape and meaning of the pods. Does not belong here: which asset names which word (tests/test_graph.py).
"""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest
from dagster_k8s.job import DagsterK8sJobConfig, construct_dagster_k8s_job, get_user_defined_k8s_config
from kubernetes.client import ApiClient

from resources.compute import TRAIN_MULTISENSOR, WORDS, Hardware

KUBERNETES = "1.33"
words = pytest.mark.parametrize("hardware", WORDS.values(), ids=lambda h: h.word)


def rendered(hardware: Hardware, tags: dict[str, str] | None = None) -> dict[str, Any]:
    """The Job that dagster-k8s would send for a step of this word."""
    config = DagsterK8sJobConfig(
        job_image=f"registry.example/{hardware.image}:1",
        dagster_home="/opt/dagster/dagster_home",
        instance_config_map="dagster-instance",
    )
    job = construct_dagster_k8s_job(
        config,
        ["dagster", "api", "execute_step"],
        f"dagster-step-{hardware.word.replace('_', '-')}",
        user_defined_k8s_config=get_user_defined_k8s_config(tags or hardware.tags),
        component="step_worker",
    )
    return ApiClient().sanitize_for_serialization(job)


def pod(job: dict[str, Any]) -> dict[str, Any]:
    return job["spec"]["template"]["spec"]


def container(job: dict[str, Any]) -> dict[str, Any]:
    return pod(job)["containers"][0]


@words
def test_word_is_a_valid_job(hardware: Hardware) -> None:
    kubernetes_validate.validate(rendered(hardware), KUBERNETES, strict=True)


@words
def test_pod_gets_what_the_word_says(hardware: Hardware) -> None:
    resources = container(rendered(hardware))["resources"]
    assert resources["requests"] == {"cpu": str(hardware.cpu), "memory": f"{hardware.memory_gib}Gi"}
    assert resources["limits"]["memory"] == f"{hardware.memory_gib}Gi"
    assert resources["limits"].get("nvidia.com/gpu") == (str(hardware.gpus) if hardware.gpus else None)


@words
def test_restarts_are_dagsters_and_finished_jobs_go_away(hardware: Hardware) -> None:
    spec = rendered(hardware)["spec"]
    assert spec["backoffLimit"] == 0
    assert spec["ttlSecondsAfterFinished"] == 3600
    assert pod(rendered(hardware))["restartPolicy"] == "Never"


@words
def test_every_mounted_volume_is_there(hardware: Hardware) -> None:
    job = rendered(hardware)
    volumes = {v["name"] for v in pod(job)["volumes"]}
    mounted = {m["name"] for m in container(job)["volumeMounts"]}
    assert mounted <= volumes
    assert ("scratch" in mounted, "shm" in mounted) == (hardware.nvme_gib > 0, hardware.gpus > 0)


@words
def test_only_gpu_words_tolerate_gpu_nodes_and_only_spot_words_seek_spot_nodes(hardware: Hardware) -> None:
    spec = pod(rendered(hardware))
    tolerated = {t["key"] for t in spec.get("tolerations", [])}
    assert ("nvidia.com/gpu" in tolerated) == (hardware.gpus > 0)
    assert ("karpenter.sh/capacity-type" in spec.get("nodeSelector", {})) == hardware.spot


def test_training_is_not_interrupted() -> None:
    assert not TRAIN_MULTISENSOR.spot
    assert pod(rendered(TRAIN_MULTISENSOR))["priorityClassName"] == "training"


def test_one_pool_holds_one_shape_of_gpu() -> None:
    pools: dict[str, set[int]] = {}
    for hardware in WORDS.values():
        pools.setdefault(hardware.pool, set()).add(hardware.gpus)
    assert all(len(shapes) == 1 for shapes in pools.values())


def test_words_are_listed_under_their_own_names() -> None:
    assert all(word == hardware.word for word, hardware in WORDS.items())


@words
def test_tags_are_the_same_bytes_every_time(hardware: Hardware) -> None:
    assert hardware.tags == Hardware(**vars(hardware)).tags


class TestMisspeltKeys:
    """Dagster looks at the tag only when it launches: this is where a typing error shows."""

    def test_unknown_resource_field_fails_validation(self) -> None:
        job = rendered(WORDS["cpu"])
        container(job)["resources"]["limit"] = {"memory": "1Gi"}
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(job, KUBERNETES, strict=True)

    @pytest.mark.parametrize("part", ["container_config", "pod_spec_config", "job_spec_config"])
    def test_unknown_key_is_refused_when_rendered(self, part: str) -> None:
        import json

        config = WORDS["cpu"].pod()
        config[part] = config[part] | {"toleratoins": []}
        with pytest.raises(Exception, match="toleratoins"):
            rendered(WORDS["cpu"], {"dagster-k8s/config": json.dumps(config)})
