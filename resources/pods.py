"""Dagster Pipes to pods of one cluster; apart from `launching`, since the Kubernetes client is slow to load.

Belongs here: that client. Does not belong here: what a pod looks like (`compute`, `launching`).
"""

from __future__ import annotations

from typing import Any

from dagster_k8s import PipesK8sClient

from resources.launching import Cluster


class PodClient(PipesK8sClient):  # type: ignore[misc]
    """The resource `pipes` of an installation whose work runs in the cluster."""

    def __init__(self, cluster: Cluster, **settings: Any) -> None:
        """`settings` as `PipesK8sClient` takes them."""
        super().__init__(**settings)
        self.cluster = cluster
