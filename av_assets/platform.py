"""The running platform on one machine: the Dagster processes, and asking them for work.

Belongs here: starting, stopping and asking. Does not belong here: what the work is.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import dagster as dg

from av_assets.domain.errors import AvError
from resources.environment import PROJECT, Environment, child_environment

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 20.0
SHARED = ("pretrained_models", "map_tiles", "weather_observations")  # what drives read that is no drive's
_LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}"""


class Platform:
    """Webserver, daemon and code server as one child process group, stopped by its process id.

    Use as a context manager; leaving it ends what it started.
    """

    def __init__(self, here: Environment, port: int = 3000, host: str = "127.0.0.1") -> None:
        self.url = f"http://{host}:{port}"
        self._here, self._port, self._host = here, port, host
        self._process: subprocess.Popen[bytes] | None = None
        self.log = here.home / "logs" / "dagster.log"

    def __enter__(self) -> Self:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "dagster",
            "dev",
            "-w",
            str(PROJECT / "workspace.yaml"),
            "-h",
            self._host,
            "-p",
            str(self._port),
        ]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=child_environment(), start_new_session=True
            )
        self._wait_until_loaded()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(ProcessLookupError):
            # Runs are children of the code server and would go on; bundles are whole or absent, so ending them is safe.
            os.killpg(self._process.pid, signal.SIGTERM)

    def _wait_until_loaded(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                raise AvError(
                    "Dagster ended while starting", code="start_failed", file=self.log, remedy="read the log"
                )
            if is_serving(self.url):
                return
            time.sleep(0.5)
        raise AvError("Dagster did not come up", code="start_failed", file=self.log, remedy="read the log")


def is_serving(url: str) -> bool:
    """Whether a webserver answers at `url` and has the code location loaded."""
    try:
        data = ask(url, "{ workspaceOrError { ... on Workspace { locationEntries { loadStatus } } } }", {})
    except (OSError, urllib.error.URLError, ValueError):
        return False
    entries = data["workspaceOrError"].get("locationEntries") or []
    return bool(entries) and all(e["loadStatus"] == "LOADED" for e in entries)


def ask(url: str, query: str, variables: dict[str, Any]) -> Any:
    """One GraphQL request to the webserver."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"{url}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)["data"]


def request_run(url: str, assets: Sequence[str], partition: str) -> str:
    """Ask the run queue for assets at one partition, as the catalog's Materialize button does; returns the run id.

    Raises:
        AvError: the webserver refused.
    """
    params = {
        "mode": "default",
        "runConfigData": "{}",
        "selector": {
            "repositoryLocationName": "av_assets",
            "repositoryName": "__repository__",
            "jobName": "__ASSET_JOB",
            "assetSelection": [{"path": [asset]} for asset in assets],
        },
        "executionMetadata": {"tags": [{"key": "dagster/partition", "value": partition}]},
    }
    found = ask(url, _LAUNCH, {"params": params})["launchRun"]
    if found["__typename"] != "LaunchRunSuccess":
        raise AvError(f"the run was refused: {found}", code="launch_refused", remedy="look at the catalog")
    return str(found["run"]["runId"])


def submit_backfill(
    instance: dg.DagsterInstance, assets: Sequence[str], drives: Sequence[str], title: str
) -> str:
    """Hand a backfill of `assets` over `drives` to the daemon; returns its id. The catalog shows and can cancel it."""
    from dagster._core.execution.backfill import PartitionBackfill

    from av_assets.definitions import defs

    backfill = PartitionBackfill.from_asset_partitions(
        backfill_id=uuid.uuid4().hex[:8],
        asset_graph=defs.resolve_asset_graph(),
        partition_names=list(drives),
        asset_selection=[dg.AssetKey(a) for a in assets],
        backfill_timestamp=time.time(),
        tags={},
        dynamic_partitions_store=instance,
        all_partitions=False,
        title=title,
        description=None,
        run_config=None,
    )
    instance.add_backfill(backfill)
    return backfill.backfill_id


def materialize_here(
    instance: dg.DagsterInstance, assets: Sequence[str], drive: str, say: Callable[[str], None]
) -> bool:
    """Run the chain for one drive in this process, without a daemon; returns whether it succeeded."""
    from av_assets.definitions import defs

    if not instance.has_dynamic_partition("drive", drive):
        instance.add_dynamic_partitions("drive", [drive])
    job = defs.resolve_implicit_global_asset_job_def()

    def run(names: Sequence[str], partition: str | None) -> bool:
        result = job.execute_in_process(
            run_config={"loggers": {"console": {"config": {"log_level": "WARNING"}}}},
            instance=instance,
            partition_key=partition,
            asset_selection=[dg.AssetKey(n) for n in names],
            raise_on_error=False,
        )
        return bool(result.success)

    made = {name: instance.get_latest_materialization_event(dg.AssetKey(name)) for name in SHARED}
    missing = [name for name, event in made.items() if event is None]
    done = (not missing or run(missing, None)) and run(assets, drive)
    say(f"{drive}: {'done' if done else 'failed'}")
    return done


def folders_to_land(source: Path) -> list[Path]:
    """What in `source` is a drive or a log of its own: itself, its children, or theirs."""
    from av_assets.domain.errors import LogError
    from av_assets.domain.logs.files.formats import find_logs

    def holds_logs(path: Path) -> bool:
        try:
            find_logs(path)
        except LogError:
            return False
        return True

    found: list[Path] = []
    for child in sorted(p for p in source.iterdir() if not p.name.startswith(".")):
        direct = child.is_dir() and any(p.is_file() and holds_logs(p) for p in child.iterdir())
        if (child.is_file() and holds_logs(child)) or (
            direct and all(p.is_file() for p in child.iterdir()) and not _is_collection(child)
        ):
            found.append(child)
        elif child.is_dir():
            found += folders_to_land(child)
    return found


def _is_collection(folder: Path) -> bool:
    """Several ROS 1 bags side by side are several drives; the files of a split recording are one."""
    return not (folder / "metadata.yaml").exists() and sum(p.suffix == ".bag" for p in folder.iterdir()) > 1
