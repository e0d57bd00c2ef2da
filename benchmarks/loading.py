"""What it costs to load the code location: every run, tick and click on reload pays it.

Fresh processes only, timed from outside, so that the start of the interpreter counts. `memory` reads what the
idle platform (webserver, daemon, code server) holds; it takes half a minute and is measured on request only.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.figures import Figure, Say, Settings, paired_ratio, take_turns

PROJECT = Path(__file__).parent.parent
TARGET_S = 2.5
REPEATS = 5
SETTLE_S = 5.0
GRAPH = "from av_assets.definitions import defs; defs.resolve_asset_graph()"
DAGSTER = "import dagster"
# ru_maxrss would count what the parent held when it forked.
_PEAK = "; print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"


def run(settings: Settings, say: Say) -> list[Figure]:
    """`load`: seconds until the graph is resolved, its ratio to `import dagster`, and the memory of both."""
    peaks: dict[str, list[float]] = {"av_assets": [], "dagster": []}
    ours = partial(_fresh, GRAPH, peaks["av_assets"])
    peer = partial(_fresh, DAGSTER, peaks["dagster"])
    for warm in (ours, peer):  # byte code is compiled once per installation, not per start
        warm()
    for values in peaks.values():
        values.clear()
    turns = take_turns(("av_assets", ours), ("dagster", peer), settings.times(REPEATS), say)
    load_s, ratio = median(turns.seconds["av_assets"]), paired_ratio(turns.seconds)
    ours_mb, dagster_mb = median(peaks["av_assets"]), median(peaks["dagster"])
    measured = "fresh process: import av_assets.definitions, resolve the graph"
    return [
        Figure("load", measured, load_s, "s", TARGET_S, turns.seconds, cpu=turns.cpu),
        Figure("load.ratio", "the same / import dagster", ratio, "x", None),
        Figure("load.rss", "peak memory of the same", ours_mb, "MB", None, peaks,
               note=f"{ours_mb - dagster_mb:.0f} MB more than dagster alone"),
    ]  # fmt: skip


def _fresh(code: str, peaks_mb: list[float]) -> None:
    command = [sys.executable, "-W", "ignore", "-c", code + _PEAK]
    done = subprocess.run(command, check=True, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    peaks_mb.append(int(done.stdout.split()[-1]) * 1024 / 1e6)


def memory(settings: Settings, say: Say) -> list[Figure]:
    """`memory`: resident memory of `dagster dev` at rest, the sum over its processes."""
    from av_assets.platform import Platform
    from resources.environment import prepare

    os.environ["AV_HOME"] = str(settings.work / "home")
    os.environ["DAGSTER_HOME"] = str(settings.work / "home" / "dagster")
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
    say("starting webserver, daemon and code server")
    here = prepare()
    _start_no_run(here.dagster_home / "dagster.yaml")
    started = time.perf_counter()
    with Platform(here, _free_port()):
        up_s = time.perf_counter() - started
        say("waiting for it to come to rest")
        time.sleep(SETTLE_S)
        held = resident_mb_below(os.getpid())
    values = {name: [mb] for name, mb in held.items()}
    note = f"shared pages count once per process; up after {up_s:.1f} s"
    measured = "webserver + daemon + code server at rest"
    return [Figure("memory", measured, sum(held.values()), "MB", None, values, note=note)]


def _start_no_run(configuration: Path) -> None:
    """Let the queue give out nothing.

    On an empty installation automation asks for the pretrained models at once: their run would be counted, would
    fetch packages, and would outlive the measurement.
    """
    text = configuration.read_text("utf-8")
    limit = "max_concurrent_runs: 0"
    changed = re.sub(r"max_concurrent_runs: \d+", limit, text)
    assert limit in changed, "the laptop's configuration limits runs under another name"
    configuration.write_text(changed, "utf-8")


def resident_mb_below(root: int) -> dict[str, float]:
    """Resident memory of all descendants of a process, by what each was started as."""
    listing = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,rss=,args="], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    rows = [line.split(None, 3) for line in listing.splitlines()]
    inside, held = {root}, dict[str, float]()
    for _ in rows:  # children may be listed before their parents
        grown = inside | {int(pid) for pid, parent, *_ in rows if int(parent) in inside}
        if grown == inside:
            break
        inside = grown
    for pid, _, kib, args in rows:
        if int(pid) in inside and int(pid) != root:
            name = _role(args)
            held[name] = held.get(name, 0.0) + int(kib) * 1024 / 1e6
    return held


def _role(args: str) -> str:
    roles = (
        ("dagster_webserver", "webserver"),
        ("dagster._daemon", "daemon"),
        ("code-server", "code server"),
        ("api grpc", "code server"),
    )
    return next((role for mark, role in roles if mark in args), "dagster dev")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
