"""Charts of frozen datasets as PNG bytes: what slices and splits hold, and what changed between two versions.

Belongs here: drawing. Does not belong here: counting, comparing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from av_assets.domain.labels.pictures import nothing_png
from av_assets.domain.metrics.pictures import COLOURS, figure_of, png_of

MAX_LINES: Final = 40
_GREY, _PALE = "#888888", "#cccccc"
_SPLIT_COLOURS: Final = {"train": COLOURS[0], "val": COLOURS[4], "test": COLOURS[1]}


def slice_counts_png(slices: Mapping[str, Mapping[str, Any]], title: str = "") -> bytes:
    """Drives, frames and objects of every slice; those too small to prove anything are hatched and say why.

    Args:
        slices: name -> drives, frames, objects (numbers, None where not known), thin (why it proves nothing, or "").
    """
    from matplotlib.ticker import MaxNLocator

    title = title or f"{len(slices)} slices"
    if not slices:
        return nothing_png(title, "no slice is defined")
    names = list(slices)[:MAX_LINES]
    figure = figure_of(9.0, 1.3 + 0.34 * len(names))
    panels = figure.subplots(1, 3, sharey=True)
    for axes, what in zip(panels, ("drives", "frames", "objects"), strict=True):
        for place, name in enumerate(reversed(names)):
            _bar(axes, place, slices[name].get(what), COLOURS[0], bool(slices[name].get("thin")))
        axes.set_xlabel(what)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0.2)
        axes.spines[["top", "right"]].set_visible(False)
    labels = [_named(name, slices[name].get("thin")) for name in reversed(names)]
    panels[0].set_yticks(range(len(names)), labels, fontsize=8)
    panels[0].set_ylim(-0.6, len(names) - 0.4)
    thin = sum(bool(s.get("thin")) for s in slices.values())
    figure.suptitle(f"{title}, {thin} too small to prove anything (hatched)", fontsize=10)
    return png_of(figure)


def _named(name: str, thin: Any) -> str:
    return f"{name}\n{thin}" if isinstance(thin, str) and thin else name


def _bar(axes: Any, place: int, value: float | None, colour: str, thin: bool = False) -> None:
    if value is None:
        axes.text(0, place, " not known", va="center", fontsize=8, color=_GREY)
        return
    axes.barh(
        place,
        value,
        height=0.65,
        color="white" if thin else colour,
        edgecolor=colour,
        hatch="///" if thin else None,
    )
    axes.text(value, place, f" {value:,.0f}", va="center", fontsize=8)


def splits_png(splits: Mapping[str, Mapping[str, Any]], title: str = "") -> bytes:
    """Drives and frames of each split, and objects by class.

    Args:
        splits: train, val, test -> drives, frames, objects (class -> boxes).
    """
    if not any(split.get("drives") for split in splits.values()):
        return nothing_png(title or "splits", "no drive is in any split")
    names = sorted(
        splits, key=lambda name: (list(_SPLIT_COLOURS).index(name) if name in _SPLIT_COLOURS else 9, name)
    )
    classes = sorted({cls for split in splits.values() for cls in split.get("objects", {})})
    figure = figure_of(9.0, max(2.4, 1.2 + 0.26 * len(classes) * len(names)))
    drives, frames, objects = figure.subplots(1, 3, width_ratios=[1, 1, 2])
    for axes, what in ((drives, "drives"), (frames, "frames")):
        total = sum(split.get(what) or 0 for split in splits.values())
        for place, name in enumerate(reversed(names)):
            value = splits[name].get(what) or 0
            axes.barh(place, value, height=0.65, color=_SPLIT_COLOURS.get(name, _GREY))
            axes.text(value, place, f" {value:,} ({value / max(total, 1):.0%})", va="center", fontsize=8)
        axes.set_yticks(range(len(names)), list(reversed(names)) if axes is drives else [""] * len(names))
        axes.set_xlabel(what)
        axes.margins(x=0.55)
    _objects(objects, splits, names, classes)
    for axes in (drives, frames, objects):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title or "splits", fontsize=10)
    return png_of(figure)


def _objects(
    axes: Any, splits: Mapping[str, Mapping[str, Any]], names: Sequence[str], classes: Sequence[str]
) -> None:
    step = 0.8 / max(1, len(names))
    for place, cls in enumerate(reversed(classes)):
        for number, name in enumerate(names):
            at = place + 0.4 - step * (number + 0.5)
            value = splits[name].get("objects", {}).get(cls, 0)
            axes.barh(at, value, height=step * 0.9, color=_SPLIT_COLOURS.get(name, _GREY))
            axes.text(value, at, f" {value:,} {name}", va="center", fontsize=7)
    axes.set_yticks(range(len(classes)), list(reversed(classes)))
    axes.set_xlabel("objects")
    axes.margins(x=0.25)


def diff_png(changes: Mapping[str, Mapping[str, int]], before: str = "before", after: str = "after") -> bytes:
    """What was removed (left), stayed, changed and was added (right) between two versions.

    Args:
        changes: drives, frames, labels, ... -> removed, same, changed, added (counts; absent is 0).
        before, after: names of the versions.
    """
    title = f"from {before} to {after}"
    names = [name for name, counts in changes.items() if any(counts.values())]
    if not names:
        return nothing_png(title, "both versions are empty")
    figure = figure_of(9.0, 1.7 + 0.5 * len(names))
    axes = figure.subplots()
    for place, name in enumerate(reversed(names)):
        _change(axes, place, changes[name])
    axes.set_yticks(range(len(names)), list(reversed(names)))
    axes.axvline(0, color="#222222", linewidth=0.8)
    gone = max(_share(changes[name], "removed") for name in names)
    axes.set(
        xlabel="share of all that either version holds",
        xlim=(-gone - 0.03, 1.02),
        ylim=(-0.6, len(names) - 0.4),
    )
    axes.xaxis.set_major_formatter(lambda share, _: f"{abs(share):.0%}")
    handles = [axes.barh(0, 0, color=colour, label=kind) for kind, colour in _KINDS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=10)
    return png_of(figure)


_KINDS: Final = {"removed": COLOURS[1], "same": _PALE, "changed": COLOURS[4], "added": COLOURS[0]}


def _change(axes: Any, place: int, counts: Mapping[str, int]) -> None:
    right = 0.0
    for kind, colour in _KINDS.items():
        value = counts.get(kind, 0)
        share = _share(counts, kind)
        left = -share if kind == "removed" else right
        axes.barh(place, share, left=left, height=0.6, color=colour)
        if value and share > 0.04:
            axes.text(left + share / 2, place, f"{value:,}", ha="center", va="center", fontsize=8)
        elif value:
            axes.text(left + share / 2, place + 0.34, f"{value:,}", ha="center", va="bottom", fontsize=7)
        right += 0.0 if kind == "removed" else share


def _share(counts: Mapping[str, int], kind: str) -> float:
    return counts.get(kind, 0) / max(1, sum(counts.get(name, 0) for name in _KINDS))
