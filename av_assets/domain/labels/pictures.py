"""Charts of how good labels are and what they cost, as PNG bytes; the same numbers give the same bytes.

Every chart states its unit and how many things it counts, and says in words what is missing where there is nothing.
Belongs here: drawing numbers. Does not belong here: computing them, road pictures (sheets).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from av_assets.domain.metrics.pictures import COLOURS, figure_of, png_of

Rows = Sequence[Mapping[str, Any]]
MAX_LINES: Final = 40
MAX_PANELS: Final = 9
STATES: Final = ("queued", "rework", "in_review", "adjudication", "final")
_GOOD, _POOR, _GREY = COLOURS[0], COLOURS[1], "#888888"
_STATE_COLOURS: Final = dict(
    zip(STATES, ("#bbbbbb", COLOURS[1], COLOURS[5], COLOURS[4], COLOURS[2]), strict=True)
)


def nothing_png(title: str, says: str) -> bytes:
    """A picture that says in words what is missing."""
    figure = figure_of(9.0, 1.6)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.text(0.5, 0.5, says, ha="center", va="center", fontsize=11, color="#555555", wrap=True)
    figure.suptitle(title, fontsize=10)
    return png_of(figure)


def confusion_png(matrix: npt.ArrayLike, classes: Sequence[str], title: str = "") -> bytes:
    """Counts (K, K) of boxes: people in rows, the labeller in columns; coloured by share of a row."""
    counts = np.asarray(matrix, np.float64).reshape(len(classes), len(classes))
    title = title or "verified labels against automatic ones"
    if not counts.sum():
        return nothing_png(title, "no box was compared")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = figure_of(min(9.0, 3.2 + 1.3 * len(classes)), min(8.0, 1.8 + 0.75 * len(classes)))
    axes = figure.subplots()
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for i, j in np.ndindex(*counts.shape):
        ink = "white" if shares[i, j] > 0.55 else "#222222"
        says = f"{counts[i, j]:.0f}\n{shares[i, j]:.0%}" if counts[i, j] else "-"
        axes.text(j, i, says, ha="center", va="center", fontsize=9, color=ink)
    axes.set_xticks(range(len(classes)), classes)
    axes.set_yticks(
        range(len(classes)), [f"{c} (n={n:.0f})" for c, n in zip(classes, counts.sum(axis=1), strict=True)]
    )
    axes.set(xlabel="labeller says", ylabel="people say")
    axes.set_title(f"{title}, {counts.sum():.0f} boxes", fontsize=10)
    figure.colorbar(drawn, ax=axes, label="share of the row")
    return png_of(figure)


def agreement_png(
    values: Mapping[str, float | None],
    accept: float | None = None,
    tentative: float | None = None,
    measure: str = "Krippendorff's alpha",
) -> bytes:
    """A dot per drive, measure or pair of people; the lowest 40.

    Args:
        accept, tentative: limits of Krippendorff's alpha (2004), drawn where given.
    """
    known = sorted((v, name) for name, v in values.items() if v is not None and math.isfinite(v))
    missing = [name for name, v in values.items() if v is None or not math.isfinite(v)]
    if not known:
        return nothing_png(measure, "not defined: no two people have drawn the same frame")
    shown = known[:MAX_LINES][::-1]
    start = min(0.0, known[0][0])
    figure = figure_of(9.0, 1.4 + 0.26 * len(shown))
    axes = figure.subplots()
    for place, (value, _) in enumerate(shown):
        axes.plot([start, value], [place, place], color="#dddddd", linewidth=1.2, zorder=1)
        axes.scatter(value, place, s=36, color=_GOOD, zorder=2)
        axes.text(value + 0.013, place, f"{value:.3f}", fontsize=8, va="center")
    for limit, says in ((accept, "alpha accepted"), (tentative, "tentative")):
        if limit is not None:
            axes.axvline(limit, color="#555555", linestyle="--", linewidth=0.9)
            axes.text(limit, 1.0, f"{says} from {limit:g} ", fontsize=7, ha="left" if limit == accept else "right",
                      va="bottom", transform=axes.get_xaxis_transform())  # fmt: skip
    axes.set_yticks(range(len(shown)), [name for _, name in shown], fontsize=8)
    axes.set(xlim=(start - 0.02, 1.1), ylim=(-0.7, len(shown) - 0.3), xlabel=measure)
    notes = [f"the {MAX_LINES} lowest of {len(known)}"] * (len(known) > MAX_LINES)
    notes += [f"not defined: {len(missing)}"] * bool(missing)
    axes.set_title(", ".join([measure, *notes]), fontsize=10, pad=16)
    return png_of(figure)


def annotators_png(people: Mapping[str, Mapping[str, Any]]) -> bytes:
    """How much of each person's work is right, with its interval, and how long a frame takes them; the 40 lowest.

    Args:
        people: name -> quality (share of boxes right on known answers, None: not known), low, high (its interval),
            n (boxes that it counts), skill (share right as others see it, None: not known), seconds (per frame).
    """
    if not people:
        return nothing_png("annotators", "nobody has annotated yet")

    def rank(name: str) -> tuple[bool, float, str]:
        quality = people[name].get("quality")
        return quality is None, quality or 0.0, name

    names = sorted(people, key=rank)[:MAX_LINES][::-1]
    figure = figure_of(9.0, 1.7 + 0.36 * len(names))
    left, right = figure.subplots(1, 2, width_ratios=[2, 1], sharey=True)
    for place, name in enumerate(names):
        _interval(left, place, people[name])
        seconds = people[name].get("seconds")
        if seconds is not None:
            right.barh(place, seconds, height=0.55, color=COLOURS[5])
            right.text(seconds, place, f" {seconds:.1f}", fontsize=8, va="center")
    left.set_yticks(
        range(len(names)), [f"{n} (n={people[n].get('n') or 0} boxes)" for n in names], fontsize=8
    )
    left.set(xlabel="share right", ylim=(-0.7, len(names) - 0.3))
    left.grid(axis="x", color="#dddddd", linewidth=0.6)
    right.set(xlabel="seconds per frame")
    right.margins(x=0.2)
    _legend_of_people(figure)
    figure.suptitle(f"{len(people)} annotators", fontsize=10)
    return png_of(figure)


def _interval(axes: Any, place: int, who: Mapping[str, Any]) -> None:
    quality, skill = who.get("quality"), who.get("skill")
    if who.get("low") is not None and who.get("high") is not None:
        axes.plot([who["low"], who["high"]], [place, place], color=_GOOD, linewidth=2.4, alpha=0.45)
    if skill is not None:
        axes.scatter(skill, place, s=34, facecolor="white", edgecolor=_POOR, marker="D", zorder=2)
    if quality is not None:
        axes.scatter(quality, place, s=34, color=_GOOD, zorder=3)
        axes.text(quality, place + 0.18, f"{quality:.3f}", fontsize=7, ha="center", va="bottom")
    elif skill is None:
        axes.text(0.5, place, "not known yet", fontsize=8, va="center", color=_GREY,
                  transform=axes.get_yaxis_transform(), ha="center")  # fmt: skip


def _legend_of_people(figure: Any) -> None:
    from matplotlib.lines import Line2D

    gold = Line2D(
        [], [], color=_GOOD, marker="o", alpha=0.8, label="boxes of hidden gold tasks, 95 % interval"
    )
    skill = Line2D([], [], color="none", markeredgecolor=_POOR, markerfacecolor="white", marker="D",
                   label="by the others alone (Dawid and Skene)")  # fmt: skip
    figure.legend(handles=[gold, skill], loc="outside lower center", ncols=2, fontsize=8, frameon=False)


def burn_down_png(rows: Rows, budget_minutes: float | None = None) -> bytes:
    """Open frames over the time that people spent on them, and where the frames stand now.

    Rows carry no time of day: finished frames are taken in the order in which they were recorded.

    Args:
        rows: of the table `label_frames`: state, seconds, ref_ns.
        budget_minutes: what may be spent in all; None where nobody has said.
    """
    if not rows:
        return nothing_png("label budget", "no frame was sent to people")
    done = sorted(
        (r for r in rows if r["state"] == "final"), key=lambda r: (r["ref_ns"], r.get("task_id") or "")
    )
    minutes = np.cumsum([0.0, *((r.get("seconds") or 0.0) / 60 for r in done)])
    # What was spent on frames that are still open is spent too.
    spent = sum(r.get("seconds") or 0.0 for r in rows) / 60
    left = len(rows) - np.arange(len(minutes))
    figure = figure_of(9.0, 3.6)
    line, bars = figure.subplots(1, 2, width_ratios=[2, 1])
    line.step(minutes, left, where="post", color=COLOURS[0], linewidth=1.8)
    line.fill_between(minutes, left, step="post", color=COLOURS[0], alpha=0.15)
    needed = _outlook(line, minutes, left, len(done))
    reach = max(float(minutes[-1]), needed, 0.1)
    if budget_minutes is not None:
        near = budget_minutes <= 2 * reach  # a budget far away would press the line into the corner
        reach = max(reach, budget_minutes) if near else reach
        says = f"budget {budget_minutes:,.0f} min" + ("" if near else ", beyond the axis")
        line.plot([budget_minutes] * 2, [0, len(rows)], color=COLOURS[1], linestyle="--", label=says)
    line.set(xlabel="minutes of people spent", ylabel="frames not final", ylim=(0, len(rows) * 1.05))
    line.set_xlim(0, reach * 1.05)
    if line.get_legend_handles_labels()[0]:
        line.legend(fontsize=8, loc="upper right")
    _states(bars, Counter(str(r["state"]) for r in rows))
    figure.suptitle(
        f"{len(done)} of {len(rows)} frames final, {spent:.0f} minutes of people spent", fontsize=10
    )
    return png_of(figure)


def _outlook(axes: Any, minutes: npt.NDArray[np.float64], left: npt.NDArray[np.int64], done: int) -> float:
    """The line to the end at the mean cost so far; gives the minutes at which it ends."""
    if not done or not left[-1]:
        return float(minutes[-1])
    end = float(minutes[-1] + minutes[-1] / done * left[-1])
    axes.plot(
        [minutes[-1], end],
        [left[-1], 0],
        color=_GREY,
        linestyle=":",
        label=f"at this pace {end:.0f} min in all",
    )
    return end


def _states(axes: Any, counts: Counter[str]) -> None:
    names = [*STATES, *sorted(set(counts) - set(STATES))]
    for place, name in enumerate(reversed(names)):
        axes.barh(place, counts[name], color=_STATE_COLOURS.get(name, _GREY))
        axes.text(counts[name], place, f" {counts[name]}", va="center", fontsize=8)
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in reversed(names)], fontsize=8)
    axes.set(xlabel="frames")
    axes.margins(x=0.2)


def thresholds_png(curves: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Precision over recall as the threshold falls, its lower bound, and the threshold that was chosen; at most 9.

    Args:
        curves: class or class/slice -> recall, precision, lower (N,), threshold (N,), chosen (None: none was, for want
            of boxes or of precision), target, n (labels that it was judged on), reason (why there is no curve).
    """
    if not curves:
        return nothing_png("thresholds", "no threshold was learned: there are no verified labels")
    names = list(curves)[:MAX_PANELS]
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    figure = figure_of(9.0, 0.7 + 2.7 * lines)
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    for axes, name in zip(panels, names, strict=False):
        _threshold(axes, name, curves[name])
    more = f", {len(curves) - len(names)} more not shown" if len(curves) > len(names) else ""
    figure.suptitle("precision as the threshold falls; band: down to its lower bound" + more, fontsize=10)
    return png_of(figure)


def _threshold(axes: Any, name: str, curve: Mapping[str, Any]) -> None:
    recall, precision, lower, at = (
        np.asarray(curve.get(k) if curve.get(k) is not None else [], np.float64)
        for k in ("recall", "precision", "lower", "threshold")
    )
    axes.set(xlim=(0, 1.02), ylim=(0, 1.05), xlabel="recall", ylabel="precision")
    axes.set_title(f"{name} (n={curve.get('n') or 0})", fontsize=9)
    if not len(recall):
        says = curve.get("reason") or "nothing to judge by"
        axes.text(0.5, 0.5, says, ha="center", va="center", fontsize=8, wrap=True, color="#555555")
        return
    axes.plot(recall, precision, color=COLOURS[0], linewidth=1.5)
    axes.fill_between(recall, lower, precision, color=COLOURS[0], alpha=0.2)
    if (target := curve.get("target")) is not None:
        axes.axhline(target, color=_GREY, linestyle="--", linewidth=0.9)
    chosen = curve.get("chosen")
    if chosen is None:
        axes.text(0.5, 0.12, "none was chosen: the default holds", ha="center", fontsize=8, color=_POOR)
        return
    i = int(np.argmin(np.abs(at - chosen)))
    axes.scatter(recall[i], precision[i], s=40, color=COLOURS[1], zorder=3, marker="D")
    says = f"score >= {chosen:.2f}\nprecision {precision[i]:.2f} (>= {lower[i]:.2f})\nrecall {recall[i]:.2f}"
    axes.text(0.04, 0.06, says, fontsize=8, va="bottom")
