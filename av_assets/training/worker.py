"""The training process: started by checkpoints through Pipes, on a laptop as a child, in the cluster as a pod.

    python -m av_assets.training.worker SPEC        one process
    torchrun ... -m av_assets.training.worker SPEC  several; the first one reports and writes

SPEC is JSON: {release, seed, policy, dataset: {uri, endpoint, bundle, digest}, state: {uri, endpoint, key}}; folders
are those of the environment that the worker finds itself in. Every checkpoint goes to the lake as well, so that a run
whose node is lost goes on elsewhere.

Belongs here: one attempt at a training run, from its dataset to its results. Does not belong here: the loop
(`domain.learning`), what lies where in the lake (`keeping`), when to try again (`checkpoints`).
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from dagster_pipes import open_dagster_pipes

from av_assets.domain.errors import EvidenceError, PoisonError, TransientError
from av_assets.domain.evidence.manifest import Manifest
from av_assets.domain.loading.sources import ShardRef
from av_assets.policies.training import TrainingPolicy
from av_assets.training.keeping import Keeping
from resources.environment import environment
from resources.lake import Lake
from resources.objects import FolderStore
from resources.shard_cache.sources import shard_source
from resources.tracking import Tracking

REPORT_EVERY_S: Final = 5.0
OUTPUTS: Final = ("checkpoint.pt", "best.pt", "config.json", "history.json", "curves.png", "environment.json")
SHARDS: Final = "drives/*/clips/*.parquet"
STOPPED: Final = 75  # EX_TEMPFAIL: try again, it goes on from here


class Reporter:
    """Says every few seconds where training is, in the run's log and to W&B."""

    def __init__(self, say: Any, run: Any) -> None:
        self._say, self._run, self._last = say, run, 0.0

    def begin(self, facts: Mapping[str, Any]) -> None:
        """What is known before the first step."""
        self._say(", ".join(f"{name} {value}" for name, value in facts.items()))

    def __call__(self, progress: Mapping[str, Any]) -> None:
        self._run.log({k: v for k, v in progress.items() if k != "step"}, step=progress["step"])
        if time.monotonic() - self._last > REPORT_EVERY_S or progress["step"] == progress["steps"]:
            self._last = time.monotonic()
            self._say(
                "step {step}/{steps} loss {loss:.3f} {samples_per_s:.0f} samples/s eta {eta_s:.0f} s "
                "wait {wait_s:.1f} s compute {compute_s:.1f} s".format(**progress)
            )


class _Nobody:
    """Takes the place of a W&B run in processes that report nothing."""

    summary: Final[dict[str, Any]] = {}

    def log(self, values: Mapping[str, Any], step: int) -> None:
        pass


def main(arguments: list[str]) -> int:
    """Train, report, and leave the outputs in the lake; exit code 0, STOPPED, or 1 with the reason in the lake."""
    from av_assets.domain.learning.distributed import process_group

    spec = json.loads(arguments[0])
    policy = TrainingPolicy.model_validate(spec["policy"])
    asked_to_stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):  # Kubernetes sends the one, Dagster the other
        signal.signal(number, lambda caught, _: asked_to_stop.append(caught))
    with process_group(policy) as world:
        return _work(spec, policy, world, asked_to_stop)


def _work(spec: Mapping[str, Any], policy: TrainingPolicy, world: Any, asked_to_stop: list[int]) -> int:
    from av_assets.domain.learning.train import train

    keeping = Keeping.at(spec["state"])
    state = environment().scratch / "training" / spec["state"]["key"].replace("/", "-")
    if world.is_main:
        keeping.begin()
    try:
        resume, source = _prepare(spec, keeping, state, world)
        with _reporting(spec, policy, world) as reporter:
            summary = train(
                policy,
                state / "dataset",
                state / "run",
                resume,
                reporter,
                spec["seed"],
                lambda: bool(asked_to_stop),
                source=source,
                on_start=reporter.begin,
                on_checkpoint=keeping.keep,
            )
    except (PoisonError, EvidenceError) as error:
        print(error, file=sys.stderr)
        keeping.refuse(error)
        return 1
    if summary.ended_by == "stop":
        return STOPPED
    if world.is_main:
        facts = {k: round(float(v), 4) for k, v in summary.timing.items()}
        keeping.deliver(state / "run", OUTPUTS, facts | {"processes": summary.world_size})
    world.gather(None)  # nobody leaves before the results are safe
    if world.local_rank == 0:
        shutil.rmtree(state)
    return 0


def _prepare(spec: Mapping[str, Any], keeping: Keeping, state: Path, world: Any) -> tuple[Path | None, Any]:
    """(the newest checkpoint, where shards come from); the first process of a node fetches, the others wait."""
    from av_assets.domain.learning.checkpoint import newest_sound

    place = spec["dataset"]
    lake = Lake(uri=place["uri"], scratch=str(state), endpoint=place["endpoint"])
    manifest = lake.past_manifest(place["bundle"], place["digest"])
    if manifest is None:
        raise EvidenceError("the dataset is not in the lake", code="missing_bundle", file=place["bundle"])
    if world.local_rank == 0:
        (state / "run").mkdir(parents=True, exist_ok=True)
        keeping.take_up(state / "run")
        _lay_out(lake, manifest, state / "dataset")
    world.gather(None)
    laid_out = isinstance(lake.store, FolderStore)
    source = None if laid_out else DatasetShards(manifest, shard_source(lake, manifest))
    return newest_sound(state / "run"), source


def _lay_out(lake: Lake, manifest: Manifest, target: Path) -> None:
    """The dataset anew, since what an earlier attempt left may be torn; its shards only where they are links."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    paths = [entry.path for entry in manifest.files]
    if not isinstance(lake.store, FolderStore):
        paths = [path for path in paths if not PurePosixPath(path).match(SHARDS)]
    lake.checkout(manifest, target, *paths)


@dataclass(frozen=True)
class DatasetShards:
    """The shards of a frozen dataset from this node's cache of the lake; pickled into loaders' workers.

    The index of a dataset whose shards are not laid out knows their digests, and the manifest their sizes.
    """

    manifest: Manifest
    source: Any

    @contextmanager
    def local(self, ref: ShardRef) -> Iterator[Path]:
        """Raises EvidenceError where the dataset has no such shard, and what the source raises."""
        entry = self.manifest.entry(ref.path)
        with self.source.local(ShardRef(entry.sha256, entry.bytes, ref.path)) as path:
            yield path


@contextmanager
def _reporting(spec: Mapping[str, Any], policy: TrainingPolicy, world: Any) -> Iterator[Reporter]:
    if not world.is_main:
        yield Reporter(lambda _: None, _Nobody())
        return
    tracking = Tracking(folder=str(environment().home / "wandb"))
    with (
        open_dagster_pipes() as pipes,
        tracking.run(spec["release"], policy.model_dump(mode="json"), ("checkpoints",)) as run,
    ):
        yield Reporter(pipes.log.info, run)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except TransientError as error:
        sys.exit(str(error))
