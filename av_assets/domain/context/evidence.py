"""What the vehicle itself shows of the weather: wipers, rain sensor, pictures.

It stands beside the weather of stations, and never in its place. Wipers at rest say nothing, so that the only weather
that is concluded here is rain.
Belongs here: figures of signals and redacted pictures per clip. Does not belong here: stations and grids (weather).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from av_assets.domain.errors import RedactionError
from av_assets.domain.privacy.frames import frames_from_shard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from av_assets.domain.context.clips import ContextClip
    from av_assets.domain.context.weather import Ints
    from av_assets.domain.geometry.transforms import Array
    from av_assets.domain.privacy.frames import RedactedFrame
    from av_assets.policies.context import EvidencePolicy

COLUMNS: Final = (
    "wiper_level", "rain_sensor", "evidence_weather", "image_luma", "image_contrast", "evidence_reason",
)  # fmt: skip
LUMA: Final = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
MAX_SIDE_PX: Final = 480  # more pixels do not move a mean


class _Signal(NamedTuple):
    """A signal over the drive: largest value per clip, and whether each clip lies in a hold of its level."""

    level: list[float | None]
    held: list[bool]


def evidence(clips: Sequence[ContextClip], policy: EvidencePolicy) -> list[dict[str, Any]]:
    """COLUMNS for each clip; `evidence_reason` gives a reason for every null; null where all is known.

    A hold of wipers or rain sensor may begin in one clip and end in the next: it is evidence in both.
    """
    wiper = _signal(clips, policy.wiper_signals, policy.wiper_min_level, policy.wiper_hold_s, policy)
    sensor = _signal(
        clips, policy.rain_sensor_signals, policy.rain_sensor_min_level, policy.rain_sensor_hold_s, policy
    )
    return [
        _row(wiper.level[n], sensor.level[n], wiper.held[n] or sensor.held[n], clip, policy)
        for n, clip in enumerate(clips)
    ]


def _row(
    wiper: float | None, sensor: float | None, rains: bool, clip: ContextClip, policy: EvidencePolicy
) -> dict[str, Any]:
    figures, no_picture = _picture(clip, policy.pictures_per_clip)
    reasons = ["no wiper signal"] if wiper is None else []
    reasons += ["no rain sensor signal"] if sensor is None else []
    if not rains and len(reasons) < 2:
        reasons.append("what the vehicle shows is no sign of rain, nor of any other weather")
    reasons += [no_picture] if no_picture else []
    luma, contrast = figures or (None, None)
    cells = (wiper, sensor, "rain" if rains else None, luma, contrast, "; ".join(reasons) or None)
    return dict(zip(COLUMNS, cells, strict=True))


def conflict(weather: str | None, shown: str | None, policy: EvidencePolicy) -> bool | None:
    """Whether the vehicle shows rain where the weather has none; None where one of them is not known."""
    return None if weather is None or shown is None else weather not in policy.agrees_with_rain


def _signal(
    clips: Sequence[ContextClip], names: Sequence[str], least: float, hold_s: float, policy: EvidencePolicy
) -> _Signal:
    parts = [_strongest(clip, names) for clip in clips]
    times = np.concatenate([np.empty(0, np.int64), *(clip.ref_ns for clip in clips)])
    in_hold = holds(times, np.concatenate([np.empty(0), *parts]), least, hold_s, policy.max_gap_s)
    edges = np.cumsum([0, *(len(part) for part in parts)])
    level = [float(np.nanmax(part)) if np.isfinite(part).any() else None for part in parts]
    return _Signal(level, [bool(in_hold[a:b].any()) for a, b in pairwise(edges.tolist())])


def _strongest(clip: ContextClip, names: Sequence[str]) -> Array:
    """(N,) the largest of the named signals, NaN where none is known."""
    found = [
        values
        for name, values in clip.signals.items()
        if any(name == wanted or name.endswith(f"_{wanted}") for wanted in names)
    ]
    if not found:
        return np.full(len(clip.ref_ns), np.nan)
    return np.asarray(np.fmax.reduce(found), dtype=np.float64)


def holds(ref_ns: Ints, values: Array, least: float, hold_s: float, max_gap_s: float) -> NDArray[np.bool_]:
    """(N,) whether each sample lies in a stretch of at least `hold_s` in which the value never was below `least`.

    A stretch ends at a sample that is unknown, and where two samples are more than `max_gap_s` apart.

    Args:
        ref_ns: (N,) ascending.
    """
    high = values >= least  # NaN is not
    if not high.any():
        return np.zeros(len(values), np.bool_)
    apart = np.diff(ref_ns, prepend=ref_ns[:1]) > max_gap_s * 1e9
    starts = high & (~np.concatenate([[False], high[:-1]]) | apart)
    number = np.cumsum(starts) - 1
    first_ns = ref_ns[starts]
    last_ns = np.zeros_like(first_ns)
    np.maximum.at(last_ns, number[high], ref_ns[high])
    long_enough = last_ns - first_ns >= hold_s * 1e9
    return np.asarray(high & long_enough[np.maximum(number, 0)])


def _picture(clip: ContextClip, count: int) -> tuple[tuple[float, float] | None, str]:
    """Mean luma and RMS contrast over the clip's pictures, or why there are none."""
    if not clip.camera:
        return None, "no camera"
    frames = _keyframes(clip, count)
    if not frames:
        return None, "no picture in this clip"
    pictures = [figures for frame in frames if (figures := _figures(frame)) is not None]
    if not pictures:
        return None, "no picture of this clip can be decoded"
    luma, contrast = np.mean(pictures, axis=0)
    return (float(luma), float(contrast)), ""


def _figures(frame: RedactedFrame) -> tuple[float, float] | None:
    try:
        return luma_and_contrast(frame.pixels())
    except RedactionError:
        return None  # a damaged picture; that frames went through redaction was asked before


def luma_and_contrast(pixels: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean luma and RMS contrast (Peli 1990: standard deviation of the luma) of RGB (H, W, 3), both on 0..1."""
    step = max(1, max(pixels.shape[:2]) // MAX_SIDE_PX)
    luma = (pixels[::step, ::step].astype(np.float64) / 255.0) @ LUMA
    return float(luma.mean()), float(luma.std())


def _keyframes(clip: ContextClip, count: int) -> list[RedactedFrame]:
    """At most `count` frames of the first camera, spread over the clip's keyframes that have one."""
    with pq.ParquetFile(clip.path) as file:
        wanted = [name for name in ("keyframe", clip.camera) if name in file.schema_arrow.names]
        table = file.read(columns=wanted)
    if "keyframe" in wanted:
        table = table.filter(table["keyframe"])
    frames = [frame for frame in frames_from_shard(table, clip.camera) if frame is not None]
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int))
    return [frames[number] for number in chosen.tolist()]
