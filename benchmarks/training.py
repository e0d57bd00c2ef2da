"""Teaching: how fast, how much of it is waiting for data, and what a second process is worth.

The shipped policy on frames of street scenes' size, from shards in a folder. Scaling uses gloo and one thread in each
process, so that two processes have twice the arithmetic of one; on two cores there is nothing left for the loader, and
it decodes in the process itself there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Figure, Say, Settings
from benchmarks.street_frames import render

if TYPE_CHECKING:
    import pyarrow as pa

PROJECT = Path(__file__).parent.parent
FRAMES, STEPS, REPEATS = 64, 16, 3
ROWS, POINTS = 50, 16_000
MAX_WAIT = 5.0  # percent
DRIVES = {"drive-a": "train"}


def run(settings: Settings, say: Say) -> list[Figure]:
    """`training`: samples/s and the share of waiting; `training.scaling`: T1 / (N TN) of two processes."""
    dataset = _dataset(settings.work)
    alone = [_train(settings.work, dataset, {}, 1, say) for _ in range(settings.times(REPEATS))]
    waits = [100 * m["wait_share"] for m in alone]
    speeds = [m["samples_per_s"] for m in alone]
    parts = {
        name[:-2]: s for name, s in alone[-1].items() if name in ("wait_s", "compute_s", "start_s", "write_s")
    }
    figures = [
        Figure("training.wait", "share of a step that waits for data, shipped policy", median(waits), "%", MAX_WAIT,
               {"wait": waits}, parts=parts, note="one process, one thread, one loader process"),
        Figure("training", "samples learned, shipped policy", median(speeds), "samples/s", None,
               {"one process": speeds}),
    ]  # fmt: skip
    shared = {"batch_size": 4, "micro_batches": 2, "loader_workers": 0}
    pairs = [
        (_train(settings.work, dataset, shared, 1, say), _train(settings.work, dataset, shared, 2, say))
        for _ in range(settings.times(REPEATS))
    ]
    speeds_of = {f"{n} process(es)": [pair[n - 1]["samples_per_s"] for pair in pairs] for n in (1, 2)}
    efficiency = [two["samples_per_s"] / (2 * one["samples_per_s"]) for one, two in pairs]
    busy = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    return [
        *figures,
        Figure("training.scaling", "efficiency of two processes, T1 / (2 T2), equal effective batch",
               median(efficiency), "x", None, speeds_of, note=f"gloo, one thread each; {busy}"),
    ]  # fmt: skip


def _dataset(work: Path) -> Path:
    """A golden dataset whose frames cost what the demo's do: pictures of 640 x 384 px, 16,000 lidar points."""
    import pyarrow.parquet as pq

    sys.path.append(str(PROJECT / "tests" / "domain"))
    from golden_folder import golden_folder  # type: ignore[import-not-found]

    (work / "golden").mkdir()
    root: Path = golden_folder(work / "golden", DRIVES, FRAMES)
    for path in root.glob("drives/*/clips/*.parquet"):
        heavy = _heavy(pq.read_table(path))
        pq.write_table(heavy, path, row_group_size=ROWS, compression="NONE", use_dictionary=False)
    return root


def _heavy(clip: pa.Table) -> pa.Table:
    """The clip with street scenes for its pictures and full turns of a lidar for its points."""
    import numpy as np
    import pyarrow as pa

    jpegs, _ = render(640, 384, len(clip), seed=1)
    clouds = np.random.default_rng(1).uniform(-50, 50, (len(clip), POINTS, 4)).astype("<f4")
    rows = clip.to_pylist()
    for row, jpeg, cloud in zip(rows, jpegs, clouds, strict=True):
        row["camera_front"]["data"] = jpeg
        row["lidar_top"] |= {"points": cloud.tobytes(), "count": POINTS}
    return pa.Table.from_pylist(rows, schema=clip.schema)


def _train(
    work: Path, dataset: Path, changes: Mapping[str, Any], processes: int, say: Say
) -> dict[str, float]:
    """Timing of a short run in processes of its own; `work` is where it leaves its checkpoint."""
    say(f"{processes} process(es)")
    from resources.launching import module_command, process_env

    told = {"dataset": str(dataset), "out": str(work / f"run-{processes}"), "changes": dict(changes)}
    done = subprocess.run(
        module_command("benchmarks.training", [json.dumps(told)], processes),
        env={**os.environ, **process_env(1), "PYTHONWARNINGS": "ignore"},
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main(told: Mapping[str, Any]) -> None:
    """One process of a run: STEPS steps, then its timing on the last line."""
    from av_assets.domain.learning.distributed import process_group
    from av_assets.domain.learning.train import train
    from av_assets.policies.training import TrainingPolicy

    fixed = {"device": "cpu", "sanity_steps": 0, "epochs": 100}
    policy = TrainingPolicy.model_validate(TrainingPolicy.load().model_dump() | fixed | told["changes"])
    steps: list[Mapping[str, Any]] = []
    with process_group(policy) as world:
        summary = train(
            policy,
            Path(told["dataset"]),
            Path(told["out"]) / "run",
            on_progress=steps.append,
            stop=lambda: len(steps) >= STEPS,
        )
        if world.is_main:
            print(json.dumps(dict(summary.timing)))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
