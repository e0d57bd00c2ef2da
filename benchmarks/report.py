"""The table on the terminal and the JSON file.

Belongs here: showing figures and naming the machine. Does not belong here: measuring.
"""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from benchmarks.figures import Figure

SCHEMA = 1


def load_now() -> list[float]:
    """Processes that want a core, on average over 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def machine(work: Path) -> dict[str, Any]:
    """What a reader needs to place the figures: cores, load, Python, and the kind of disk."""
    return {
        "cores": os.cpu_count(),
        "cpu": _cpu_model(),
        "load_before": load_now(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "file_system": file_system(work),
    }


def file_system(folder: Path) -> str:
    """Type of the file system that holds `folder`, "unknown" where the kernel does not say."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    path = folder.resolve()
    holding = [(len(point), kind) for point, kind in mounts if path.is_relative_to(point)]
    return max(holding)[1] if holding else "unknown"


def show(figures: Sequence[Figure], console: Console) -> None:
    """One table, then what has to be known to judge it."""
    table = Table(show_lines=False, pad_edge=False, box=None)
    for title, side in (("benchmark", "left"), ("measured", "left"), ("value", "right"), ("target", "right"),
                        ("met", "left"), ("median (low to high)", "left")):  # fmt: skip
        table.add_column(title, justify=side, overflow="fold")  # type: ignore[arg-type]
    for figure in figures:
        table.add_row(figure.name, figure.measured, shown(figure.value, figure.unit), _target(figure),
                      {True: "yes", False: "NO", None: ""}[figure.met], _samples(figure))  # fmt: skip
    console.print(table)
    for figure in figures:
        parts = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in figure.parts.items())
        cpu = ", ".join(f"{name} {median(values):.2f} s" for name, values in figure.cpu.items())
        for line in (figure.note, parts and f"time went to: {parts}", cpu and f"processor time: {cpu}"):
            if line:
                console.print(f"{figure.name}: {line}", highlight=False, soft_wrap=True)


def shown(value: float, unit: str) -> str:
    return f"{value:.2f}x" if unit == "x" else f"{value:.2f} {unit}"


def write_json(figures: Sequence[Figure], about: dict[str, Any], path: Path) -> None:
    """Everything that was measured; the table is a view of it."""
    data = {
        "schema": SCHEMA,
        "finished_ns": time.time_ns(),
        "machine": about,
        "figures": [figure.as_json() for figure in figures],
    }
    path.write_text(json.dumps(data, indent=1) + "\n", "utf-8")


def _target(figure: Figure) -> str:
    return "" if figure.target is None else f"<= {figure.target:g}"


def _samples(figure: Figure) -> str:
    return "\n".join(
        f"{name}: {median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
        for name, values in figure.samples.items()
    )


def _cpu_model() -> str:
    try:
        lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    except OSError:
        return platform.processor()
    return next((value.strip() for name, _, value in lines if name.strip() == "model name"), "unknown")
