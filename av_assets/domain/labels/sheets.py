"""Labels drawn where they are: boxes in redacted pictures, cuboids and tracks from above.

Belongs here: drawing. Road pictures come in as `RedactedFrame` only. Does not belong here: choosing frames, charts of
numbers (pictures).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from av_assets.domain.errors import RedactionError
from av_assets.domain.labels.pictures import nothing_png
from av_assets.domain.labels.quality.confusion import unmatched
from av_assets.domain.metrics.pictures import figure_of, png_of
from av_assets.domain.privacy.frames import RedactedFrame
from av_assets.domain.search.pictures import _few_colours
from av_assets.domain.viewing.overlay import COLOURS, OTHER

Rows = Sequence[Mapping[str, Any]]
LabelledFrame = tuple[str, RedactedFrame, Rows]
"""Title, picture, and rows with cls, x1, y1, x2, y2 in pixels; score, rule, state and status are optional."""
ComparedFrame = tuple[str, RedactedFrame, Rows, Rows]
"""Title, picture, rows before (auto-labels), rows after (verified labels, with status)."""

MAX_FRAMES: Final = 12
MAX_TRACKS: Final = 30
TILE_PX: Final = 640
STATUS: Final = {
    "accepted": ("#56b4e9", "accepted as it was"),
    "corrected": ("#e69f00", "corrected (~)"),
    "added": ("#f6a6d8", "added (+)"),
    "removed": ("#ff5c1a", "removed (x)"),
}
_MARKS: Final = {"corrected": "~", "added": "+", "removed": "x"}
_DASHED: Final = (0, (3, 2))
BRIDGED: Final = "not seen in this frame, bridged"
_BEHIND_M, _AHEAD_M, _ASIDE_M = 10.0, 55.0, 18.0
_LEAST_PT = 10.0  # people and cones are smaller than a dot from above


def colour_of(cls: str) -> tuple[float, float, float]:
    """The colour of a class in every picture of labels, each channel 0..1."""
    red, green, blue = COLOURS.get(cls, OTHER)
    return red / 255, green / 255, blue / 255


def is_dashed(row: Mapping[str, Any]) -> bool:
    """Boxes that no source saw in this very frame, or that stay below the threshold, are drawn dashed."""
    return "bridged" in (row.get("state"), row.get("rule")) or row.get("status") == "below"


def overlay_sheet(
    frames: Sequence[LabelledFrame], columns: int = 2, title: str = "", dashed: str = BRIDGED
) -> bytes:
    """PNG: frames in a grid with their boxes in the colour of the class and the score above; at most 12 frames.

    `dashed` says in the legend what the dashed boxes are.

    Raises:
        RedactionError: a picture that is not a RedactedFrame.
    """
    shown = list(frames)[:MAX_FRAMES]
    if not shown:
        return nothing_png(title or "labels", "no labelled frame to show")
    columns = max(1, min(columns, len(shown)))
    lines = -(-len(shown) // columns)
    figure = figure_of(9.6, 0.75 + lines * (9.6 / columns * _aspect(shown[0][1]) + 0.22))
    grid = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes in grid:
        axes.set_axis_off()
    for axes, (caption, frame, rows) in zip(grid, shown, strict=False):
        _show(axes, frame, caption)
        for row in rows:
            _box(axes, row, colour_of(row["cls"]), is_dashed(row), _score(row))
    everything = [row for _, _, rows in shown for row in rows]
    _legend_of_classes(figure, everything, dashed)
    figure.suptitle(title or f"{len(everything)} labels in {len(shown)} frames", fontsize=10)
    return _few_colours(png_of(figure))


def before_after_sheet(frames: Sequence[ComparedFrame], title: str = "") -> bytes:
    """PNG: a row per frame, what the machine proposed on the left and what people made of it on the right; at most 6.

    A box counts as removed where no verified box overlaps it by half.

    Raises:
        RedactionError: a picture that is not a RedactedFrame.
    """
    shown = list(frames)[: MAX_FRAMES // 2]
    if not shown:
        return nothing_png(title or "before and after", "no verified frame to show")
    figure = figure_of(9.6, 0.75 + len(shown) * (4.8 * _aspect(shown[0][1]) + 0.22))
    counts: Counter[str] = Counter()
    grid = figure.subplots(len(shown), 2, squeeze=False)
    for (left, right), (caption, frame, before, after) in zip(grid, shown, strict=True):
        _show(left, frame, f"{caption}: proposed, {len(before)} boxes")
        _show(right, frame, f"verified, {len(after)} boxes")
        gone = unmatched(before, after)
        for row in before:
            lost = any(row is other for other in gone)
            _box(left, row, STATUS["removed"][0] if lost else "white", is_dashed(row),
                 "x" if lost else "")  # fmt: skip
        for row in after:
            status = row.get("status") or "accepted"
            _box(right, row, STATUS.get(status, STATUS["accepted"])[0], False, _MARKS.get(status, ""))
        counts.update(row.get("status") or "accepted" for row in after)
        counts["removed"] += len(gone)
    _legend(figure, [(colour, f"{says}: {counts[status]}") for status, (colour, says) in STATUS.items()])
    figure.suptitle(title or f"what people changed in {len(shown)} frames", fontsize=10)
    return _few_colours(png_of(figure))


def birds_eye_png(cuboids: Rows, tracks: Rows = (), panels: int = 4, title: str = "") -> bytes:
    """PNG: cuboids from above in the ego frame at evenly spread times, and below them how long each track was seen.

    Args:
        cuboids: rows with ref_ns, label_id, cls, x_m, y_m, length_m, width_m, yaw_rad; vx_mps, vy_mps, state optional.
        tracks: rows with label_id, cls, first_ns, last_ns; those that were seen longest are drawn, at most 30.
    """
    times = sorted({row["ref_ns"] for row in cuboids})
    if not times:
        return nothing_png(title or "cuboids from above", "no cuboid in this drive")
    chosen = [times[i] for i in np.unique(np.linspace(0, len(times) - 1, max(1, panels)).round().astype(int))]
    figure = figure_of(9.6, 7.6 if tracks else 5.2)
    upper, lower = figure.subfigures(2, 1, height_ratios=[5, 2.6]) if tracks else (figure, None)
    for axes, ref_ns in zip(upper.subplots(1, len(chosen), squeeze=False)[0], chosen, strict=True):
        seen = [row for row in cuboids if row["ref_ns"] == ref_ns]
        far = sum(not -_BEHIND_M <= row["x_m"] <= _AHEAD_M or abs(row["y_m"]) > _ASIDE_M for row in seen)
        beyond = f", {far} outside" if far else ""
        axes.set_title(f"{(ref_ns - times[0]) / 1e9:.1f} s: {len(seen)}{beyond}", fontsize=8)
        _above(axes, seen)
        axes.set_xlabel("m to the right", fontsize=7)
        if axes.get_subplotspec().is_first_col():
            axes.set_ylabel("m ahead", fontsize=7)
    if lower is not None:
        _lives(lower.subplots(), tracks, times[0])
    _legend_of_classes(upper, cuboids)
    says = f"{len(cuboids)} cuboids in {len(times)} frames, from above; lines: way of one second"
    figure.suptitle(title or says, fontsize=10)
    return png_of(figure)


def _show(axes: Any, frame: RedactedFrame, caption: str) -> None:
    if not isinstance(frame, RedactedFrame):
        raise RedactionError("label pictures take redacted frames only", code="unredacted_frame")
    import cv2

    pixels = frame.pixels()
    height, width = pixels.shape[:2]
    scale = min(1.0, TILE_PX / width)
    small = cv2.resize(
        pixels, (round(width * scale), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
    )
    axes.imshow(small, extent=(0, width, height, 0), interpolation="antialiased")
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    axes.set_title(caption, fontsize=8, pad=2)


def _box(axes: Any, row: Mapping[str, Any], colour: Any, dashed: bool, text: str) -> None:
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    x1, y1, x2, y2 = (float(row[name]) for name in ("x1", "y1", "x2", "y2"))
    # What lies inside the picture takes no part in the layout, which would measure each of them.
    outline = [withStroke(linewidth=2.6, foreground="black", alpha=0.55)]
    axes.add_patch(
        Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=1.4,
                  linestyle=_DASHED if dashed else "-", path_effects=outline, in_layout=False)
    )  # fmt: skip
    if text:
        halo = [withStroke(linewidth=1.6, foreground="black")]
        axes.text(
            x1, y1 - 2, text, fontsize=6.5, color=colour, clip_on=True, va="bottom", fontweight="bold",
            in_layout=False, path_effects=halo,
        )  # fmt: skip


def _score(row: Mapping[str, Any]) -> str:
    score = row.get("score")
    return "" if score is None else f"{score:.2f}"


def _aspect(frame: RedactedFrame) -> float:
    if not isinstance(frame, RedactedFrame):
        raise RedactionError("label pictures take redacted frames only", code="unredacted_frame")
    height, width = frame.pixels().shape[:2]
    return float(min(2.0, height / width))


def _legend_of_classes(figure: Any, rows: Rows, says: str = BRIDGED) -> None:
    counts = Counter(str(row["cls"]) for row in rows)
    known = [name for name in COLOURS if name in counts]
    entries = [
        (colour_of(name), f"{name}: {counts[name]}") for name in [*known, *sorted(set(counts) - set(known))]
    ]
    dashed = sum(map(is_dashed, rows))
    _legend(figure, entries, f"{says}: {dashed}" if dashed else "")


def _legend(figure: Any, entries: Sequence[tuple[Any, str]], dashed: str = "") -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colour, linewidth=3, label=says) for colour, says in entries]
    if dashed:
        handles.append(Line2D([], [], color="#555555", linewidth=1.6, linestyle=_DASHED, label=dashed))
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(handles)), fontsize=8,
                      frameon=False)  # fmt: skip


def _above(axes: Any, rows: Rows) -> None:
    """One moment: x ahead is up, y to the left is left; the vehicle stands at the origin."""
    from matplotlib.patches import Polygon

    axes.add_patch(Polygon([(-0.9, -1.2), (0.9, -1.2), (0, 3.4)], facecolor="#333333"))
    for row in rows:
        corners = _footprint(row)
        axes.add_patch(
            Polygon(np.c_[-corners[:, 1], corners[:, 0]], facecolor=(*colour_of(row["cls"]), 0.35),
                    edgecolor=colour_of(row["cls"]), linewidth=1.4,
                    linestyle=_DASHED if is_dashed(row) else "-")
        )  # fmt: skip
        axes.scatter(-float(row["y_m"]), float(row["x_m"]), s=_LEAST_PT, color=colour_of(row["cls"]))
        vx, vy = row.get("vx_mps"), row.get("vy_mps")
        if vx is not None and vy is not None and vx * vx + vy * vy > 0.25:
            x, y = float(row["x_m"]), float(row["y_m"])
            axes.plot([-y, -(y + vy)], [x, x + vx], color="#222222", linewidth=0.8, clip_on=True)
    axes.set(xlim=(-_ASIDE_M, _ASIDE_M), ylim=(-_BEHIND_M, _AHEAD_M), aspect="equal")
    axes.grid(color="#dddddd", linewidth=0.5)
    axes.tick_params(labelsize=7)


def _footprint(row: Mapping[str, Any]) -> np.ndarray:
    """(4, 2) corners x, y in the ego frame."""
    length, width, yaw = (float(row[k]) / 2 for k in ("length_m", "width_m", "yaw_rad"))
    cos, sin = np.cos(2 * yaw), np.sin(2 * yaw)
    local = np.array([(length, width), (length, -width), (-length, -width), (-length, width)])
    turned: np.ndarray = local @ np.array([[cos, sin], [-sin, cos]]) + (float(row["x_m"]), float(row["y_m"]))
    return turned


def _lives(axes: Any, tracks: Rows, start_ns: int) -> None:
    longest = sorted(tracks, key=lambda t: (t["first_ns"] - t["last_ns"], t["label_id"]))[:MAX_TRACKS]
    for place, track in enumerate(
        sorted(longest, key=lambda t: (t["first_ns"], t["label_id"]), reverse=True)
    ):
        first, last = ((track[k] - start_ns) / 1e9 for k in ("first_ns", "last_ns"))
        axes.barh(place, max(last - first, 0.05), left=first, height=0.75, color=colour_of(track["cls"]))
        bridged = track.get("bridged") or 0
        if bridged:
            axes.text(last + 0.05, place, f"{bridged} bridged", fontsize=5, va="center", color="#444444")
    axes.set_yticks([])
    more = f", the {MAX_TRACKS} longest" if len(tracks) > MAX_TRACKS else ""
    axes.set_xlabel("seconds of the drive", fontsize=8)
    axes.set_title(f"{len(tracks)} tracks{more}: first to last frame", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right", "left"]].set_visible(False)
