"""Experiment tracking: W&B, offline unless an account is configured.

Belongs here: opening a run and what it is told. Does not belong here: training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg


class Tracking(dg.ConfigurableResource["Tracking"]):
    """W&B runs in `folder`; `mode` is offline, online or disabled."""

    folder: str
    project: str = "av-assets"
    mode: str = "offline"

    @contextmanager
    def run(self, name: str, config: Mapping[str, Any], tags: tuple[str, ...] = ()) -> Iterator[Any]:
        import wandb

        Path(self.folder).mkdir(parents=True, exist_ok=True)
        run = wandb.init(
            project=self.project,
            name=name,
            config=dict(config),
            tags=tags,
            dir=self.folder,
            mode=self.mode,
            settings=wandb.Settings(silent=True, x_disable_stats=True),
        )
        try:
            yield run
        finally:
            run.finish()
