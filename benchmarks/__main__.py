"""`python -m benchmarks [NAME ...]`: one table of ratios, measured in one run.

Belongs here: choosing, running and reporting. Does not belong here: any measurement.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from benchmarks import (
    cache,
    catalog,
    dagster_overhead,
    datasets,
    fleet,
    front,
    inference,
    ingest,
    loader,
    loading,
    redaction,
    search,
    sync,
    training,
)
from benchmarks.figures import Figure, Say, Settings
from benchmarks.report import load_now, machine, show, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PIECES: dict[str, Callable[[Settings, Say], list[Figure]]] = {
    "ingest": ingest.run,
    "sync": sync.run,
    "front": front.run,
    "front.memory": front.memory,
    "redaction": redaction.run,
    "dagster": dagster_overhead.run,
    "catalog": catalog.run,
    "search": search.run,
    "fleet": fleet.run,
    "datasets": datasets.run,
    "loader": loader.run,
    "inference": inference.run,
    "cache": cache.run,
    "training": training.run,
    "load": loading.run,
    "memory": loading.memory,
}
ON_REQUEST = ("front.memory", "redaction", "memory")
USUAL = tuple(name for name in PIECES if name not in ON_REQUEST)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 only with --strict, where a target was missed."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.names) - set(PIECES):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(PIECES)}")
    warnings.filterwarnings("ignore", module="dagster")
    console, progress = Console(), Console(stderr=True)
    about = machine(chosen.work or Path(tempfile.gettempdir()))
    figures: list[Figure] = []
    for name in chosen.names or USUAL:
        with tempfile.TemporaryDirectory(prefix="bench-", dir=chosen.work) as folder:
            settings = Settings(Path(folder), chosen.repeats, chosen.size_mb * 1_000_000)
            figures += _measured(name, settings, progress)
    show(figures, console)
    about["load_after"] = load_now()
    busy = f"load {about['load_before'][0]} before and {about['load_after'][0]} after"
    console.print(f"{about['cores']} cores, {busy}; compare ratios, not seconds", highlight=False)
    if chosen.json:
        write_json(figures, about, chosen.json)
    return int(chosen.strict and any(figure.met is False for figure in figures))


def _measured(name: str, settings: Settings, progress: Console) -> list[Figure]:
    """Run one piece under a spinner, where somebody is looking."""
    spinner = progress.status(name) if progress.is_terminal else nullcontext()
    with spinner as status:
        return PIECES[name](settings, lambda what: status.update(f"{name}: {what}") if status else None)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME",
                        help=f"of {', '.join(PIECES)}; default: {', '.join(USUAL)}")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there")
    parser.add_argument("--strict", action="store_true", help="fail where a target is missed")
    parser.add_argument("--repeats", type=int, default=0, metavar="N", help="instead of the usual number")
    parser.add_argument("--size-mb", type=int, default=1000, metavar="MB", help="of recordings to ingest")
    parser.add_argument("--work", type=Path, metavar="DIR", help="folder on the disk to measure")
    return parser


if __name__ == "__main__":
    sys.exit(main())
