"""Pictures of a sweep: how it went, which values gave what, what matters, what the best cost.

Belongs here: drawing. Does not belong here: figures.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.policies.sweeps import Choice, Goal, SweepPolicy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
GREY = "#b8b8b8"


def sweep_pictures(rows: Sequence[Row], report: Row, spec: SweepPolicy) -> dict[str, bytes]:
    """PNGs by name from rows of the leaderboard (`values` and `metrics` as mappings) and the report."""
    explored = sorted((r for r in rows if r["kind"] == "explore"), key=lambda r: r["number"])
    found = {"history.png": _history(explored, spec), "parallel.png": _parallel(explored, spec)}
    if "fanova" in report["importance"]:
        found["importance.png"] = _importance(report["importance"])
    if len(spec.goals) > 1:
        found["pareto.png"] = _pareto(explored, spec.goals[0], spec.goals[1])
    return found


def _history(rows: Sequence[Row], spec: SweepPolicy) -> bytes:
    """The value of every trial, and the best one so far among those that may win."""
    figure, axes = _figure()
    up = spec.goals[0].direction == "maximize"
    done = [r for r in rows if r["value"] is not None]
    for label, colour, marker, picked in (
        ("keeps every constraint", "tab:blue", "o", [r for r in done if r["feasible"]]),
        ("breaks one", "tab:orange", "x", [r for r in done if not r["feasible"]]),
    ):
        axes.scatter(
            [r["number"] for r in picked], [r["value"] for r in picked], c=colour, marker=marker, label=label
        )
    stopped = [r["number"] for r in rows if r["state"] in ("pruned", "failed")]
    floor = min((r["value"] for r in done), default=0.0)
    axes.scatter(stopped, [floor] * len(stopped), c=GREY, marker="|", label="pruned or failed")
    best, xs, ys = (-math.inf if up else math.inf), [], []
    for row in (r for r in done if r["feasible"]):
        best = max(best, row["value"]) if up else min(best, row["value"])
        xs.append(row["number"])
        ys.append(best)
    axes.step(xs, ys, where="post", c="tab:blue", lw=1)
    axes.set(xlabel="trial", ylabel=spec.goals[0].metric)
    axes.locator_params(axis="x", integer=True)
    _legend(axes)
    return _png(figure)


def _parallel(rows: Sequence[Row], spec: SweepPolicy) -> bytes:
    """One line per trial over all dimensions; colour is the value, grey has none."""
    from matplotlib import colormaps

    names = [*spec.space, spec.goals[0].metric]
    figure, axes = _figure(width=2 + 1.3 * len(names))
    values = [r["value"] for r in rows if r["value"] is not None]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    for row in sorted(rows, key=lambda r: (r["value"] is not None, r["value"] or 0.0)):
        heights = [_height(spec, name, row["values"].get(name)) for name in spec.space]
        share = None if row["value"] is None else (row["value"] - low) / ((high - low) or 1.0)
        colour = GREY if share is None else colormaps["viridis"](share)
        heights += [] if share is None else [share]
        axes.plot(range(len(heights)), heights, c=colour, lw=0.8, alpha=0.5 if share is None else 1)
    for place, name in enumerate(names):
        first, last = (low, high) if place == len(spec.space) else _ends(spec, name)
        axes.axvline(place, c="black", lw=0.5)
        axes.text(place, -0.06, _short(first), ha="center", va="top", fontsize=7)
        axes.text(place, 1.03, _short(last), ha="center", fontsize=7)
    axes.set_xticks(range(len(names)), names, fontsize=7, rotation=12)
    axes.tick_params(axis="x", pad=14)
    axes.set(yticks=[], xlim=(-0.3, len(names) - 0.7), ylim=(0, 1))
    return _png(figure)


def _height(spec: SweepPolicy, name: str, value: Any) -> float:
    """0..1 on the axis of a dimension."""
    part = spec.space[name]
    if isinstance(part, Choice):
        texts = [str(v) for v in map(_plain, part.values)]
        return texts.index(str(_plain(value))) / (len(texts) - 1)
    low, high, at = float(part.low), float(part.high), float(value)
    if part.log:
        low, high, at = math.log(low), math.log(high), math.log(at)
    return (at - low) / (high - low)


def _ends(spec: SweepPolicy, name: str) -> tuple[Any, Any]:
    part = spec.space[name]
    return (part.values[0], part.values[-1]) if isinstance(part, Choice) else (part.low, part.high)


def _importance(found: Row) -> bytes:
    names = list(found["fanova"])[::-1]
    figure, axes = _figure()
    for offset, kind, label in ((-0.2, "ped_anova", "PED-ANOVA"), (0.2, "fanova", "fANOVA")):
        shares = [found[kind].get(name, 0.0) for name in names]
        axes.barh(np.arange(len(names)) + offset, shares, 0.38, label=label)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set(xlabel=f"share in the outcome of {found['trials']} trials")
    _legend(axes)
    return _png(figure)


def _pareto(rows: Sequence[Row], first: Goal, second: Goal) -> bytes:
    figure, axes = _figure()
    done = [
        r for r in rows if first.metric in r["metrics"] and second.metric in r["metrics"] and r["feasible"]
    ]
    for label, colour, picked in (
        ("beaten", GREY, [r for r in done if not r["on_front"]]),
        ("Pareto set", "tab:red", [r for r in done if r["on_front"]]),
    ):
        xs = [r["metrics"][second.metric] for r in picked]
        axes.scatter(xs, [r["metrics"][first.metric] for r in picked], c=colour, label=label)
    axes.set(xlabel=second.metric, ylabel=first.metric)
    _legend(axes)
    return _png(figure)


def _legend(axes: Axes) -> None:
    """Above the axes: points lie anywhere in them."""
    axes.legend(fontsize=7, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(_plain(value))


def _figure(width: float = 6.4) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 3.6), layout="constrained")
    return figure, figure.subplots()


def _png(figure: Figure) -> bytes:
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=110, metadata={"Software": None})
    return held.getvalue()
