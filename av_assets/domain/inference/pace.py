"""How fast the way through a drive was, and which part of it held up the others.

Belongs here: those figures and their picture. Does not belong here: measuring (evidence.timing).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

PARTS: Final = ("read", "decode", "compute", "write")


@dataclass(frozen=True)
class Progress:
    """One way through a drive.

    Attributes:
        realtime: seconds of driving per second of work; None where nothing was driven or done.
        seconds: of each of PARTS, and "wait", the time for which the network had nothing to do. Decoding happens beside
            the network: of its time only the wait holds it up.
        bottleneck: the part to make faster first; empty where nothing was done.
    """

    span_s: float
    wall_s: float
    seconds: Mapping[str, float]
    bottleneck: str

    @property
    def realtime(self) -> float | None:
        return self.span_s / self.wall_s if self.wall_s > 0 and self.span_s > 0 else None

    def to_json(self) -> dict[str, Any]:
        realtime = None if self.realtime is None else round(self.realtime, 3)
        return {
            "span_s": round(self.span_s, 3), "wall_s": round(self.wall_s, 3), "realtime": realtime,
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
            "bottleneck": self.bottleneck,
        }  # fmt: skip


def progress(span_s: float, wall_s: float, seconds: Mapping[str, float], compute_share: float) -> Progress:
    """Figures of a way through a drive.

    The network is the bottleneck while it works for at least `compute_share` of the time. Else it is whatever else took
    longest: reading and writing by their own time, decoding by the time that the network waited for it.
    """
    held = {name: float(seconds.get(name, 0.0)) for name in (*PARTS, "wait")}
    cost = {"read": held["read"], "decode": held["wait"], "write": held["write"]}
    if wall_s <= 0 or not any(held.values()):
        name = ""
    elif held["compute"] >= compute_share * wall_s:
        name = "compute"
    else:
        name = max(cost, key=lambda part: cost[part])
        name = name if cost[name] > 0 else "compute"
    return Progress(span_s, wall_s, held, name)


def bottleneck_png(found: Progress, title: str) -> bytes:
    """PNG: where the time went, a bar each; the bottleneck is named."""
    from av_assets.domain.metrics.pictures import figure_of, png_of

    figure = figure_of(6.4, 2.2)
    axes = figure.subplots()
    names = [*PARTS, "wait"]
    colours = [
        "#d55e00" if _part(name) == found.bottleneck and name != "decode" else "#56b4e9" for name in names
    ]
    values = [found.seconds[name] for name in names]
    axes.barh(names, values, color=colours)
    for place, value in enumerate(values):
        axes.text(value, place, f" {value:.2f} s", va="center", fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel(f"s, of {found.wall_s:.2f} s in all; decode runs beside compute", fontsize=8)
    axes.tick_params(labelsize=8)
    figure.suptitle(f"{title}: {found.bottleneck or 'nothing'} is the bottleneck", fontsize=9)
    return png_of(figure)


def _part(name: str) -> str:
    return "decode" if name == "wait" else name
