"""Small MP4 files beside CSVs of frame times, encoded from pictures that tell their number."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

START_NS = 1_750_000_000_000_000_001
PERIOD_NS = 40_000_000
SIZE = 128


def picture(number: int) -> np.ndarray:
    """(SIZE, SIZE, 3) uint8, one grey value: bright enough apart for lossy coding."""
    return np.full((SIZE, SIZE, 3), 16 + number * 7 % 220, np.uint8)


def write_video(path: Path, frames: int = 30, codec: str = "libx264", **options: str) -> Path:
    import av

    pixels = {"mjpeg": "yuvj420p"}.get(codec, "yuv420p")
    with av.open(str(path), "w", format="mp4", options=_moved(options)) as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width = stream.height = SIZE
        stream.pix_fmt, stream.time_base = pixels, Fraction(1, 25)
        stream.options = options
        for number in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        container.mux(stream.encode(None))
    return path


def _moved(options: dict[str, str]) -> dict[str, str]:
    """The muxer's share of the options."""
    return {"movflags": options.pop("movflags")} if "movflags" in options else {}


def write_times(path: Path, frames: int = 30, header: str = "timestamp_ns") -> Path:
    path.write_text("\n".join([header, *(str(START_NS + i * PERIOD_NS) for i in range(frames))]) + "\n")
    return path
