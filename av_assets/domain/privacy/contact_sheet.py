"""One picture that shows a person what a redacted drive looks like.

Belongs here: laying out redacted frames. Does not belong here: any other picture: it takes `RedactedFrame`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow.parquet as pq

from av_assets.domain.errors import RedactionError
from av_assets.domain.privacy.frames import RedactedFrame, read_redacted_clips

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TILE_WIDTH_PX: Final = 320
CAPTION_PX: Final = 18
COLUMNS: Final = 3
_GAP_PX: Final = 4
_BACKGROUND, _INK = 24, 220


def contact_sheet(frames: Sequence[RedactedFrame]) -> bytes:
    """PNG with one captioned tile (role, UTC time) a frame, in the given order.

    Raises:
        RedactionError: no frames, or something that is no RedactedFrame.
    """
    if not frames:
        raise RedactionError("a contact sheet needs frames", code="no_frames")
    tiles = [_tile(frame) for frame in frames]
    height = max(t.shape[0] for t in tiles) + _GAP_PX
    width = TILE_WIDTH_PX + _GAP_PX
    columns = min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * height + _GAP_PX, columns * width + _GAP_PX, 3), _BACKGROUND, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // columns * height + _GAP_PX, index % columns * width + _GAP_PX
        sheet[top : top + tile.shape[0], left : left + TILE_WIDTH_PX] = tile
    return _png(sheet)


def spread(parts: Mapping[str, Sequence[Path]], count: int) -> list[RedactedFrame]:
    """At most `count` frames, evenly over role -> parts of its clip, evenly over the frames of each."""
    sizes = {role: [pq.read_metadata(path).num_rows for path in paths] for role, paths in parts.items()}
    roles = [role for role in parts if sum(sizes[role])]
    frames: list[RedactedFrame] = []
    for role in roles[:count]:
        step = max(1, -(-sum(sizes[role]) // (count // len(roles) or 1)))
        first = 0
        for path, size in zip(parts[role], sizes[role], strict=True):
            picked = {row - first for row in range(step // 2, sum(sizes[role]), step)} & set(range(size))
            frames += read_redacted_clips(path, role, picked) if picked else ()
            first += size
    return frames[:count]


def _tile(frame: RedactedFrame) -> np.ndarray:
    import cv2

    if not isinstance(frame, RedactedFrame):
        raise RedactionError("only redacted frames are shown", code="unredacted_frame")
    rgb = frame.pixels()
    height = max(1, round(rgb.shape[0] * TILE_WIDTH_PX / rgb.shape[1]))
    tile = np.full((height + CAPTION_PX, TILE_WIDTH_PX, 3), _BACKGROUND, np.uint8)
    tile[:height] = cv2.resize(rgb, (TILE_WIDTH_PX, height), interpolation=cv2.INTER_AREA)
    when = datetime.fromtimestamp(frame.sensor_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S")
    text = f"{frame.role}  {when}.{frame.sensor_ns % 10**9 // 10**6:03d} UTC"
    ink = (_INK, _INK, _INK)
    cv2.putText(tile, text, (4, height + 13), cv2.FONT_HERSHEY_SIMPLEX, 0.38, ink, 1, cv2.LINE_AA)
    return tile


def _png(rgb: np.ndarray) -> bytes:
    import cv2

    return bytes(cv2.imencode(".png", rgb[..., ::-1])[1])
