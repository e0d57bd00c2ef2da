"""The difference hash: 64 bits that stay alike while a picture looks alike.

Belongs here: hashing pictures and counting bits. Does not belong here: what counts as a duplicate (duplicates).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.errors import RedactionError
from av_assets.domain.privacy.frames import RedactedFrame

if TYPE_CHECKING:
    from numpy.typing import NDArray

BITS = 64
_COLUMNS, _ROWS = 9, 8


def dhash(rgb: NDArray[np.uint8]) -> int:
    """64-bit dHash of (H, W, 3) RGB: grey, averaged down to 9 x 8, one bit where a cell is brighter than its left
    neighbour; rows from the top, the first bit is the highest (Krawetz 2013, "Kind of Like That").
    """
    import cv2

    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (_COLUMNS, _ROWS), interpolation=cv2.INTER_AREA).astype(np.int16)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


def frame_hash(frame: RedactedFrame) -> int:
    """The hash of one redacted frame.

    Raises:
        RedactionError: a picture that did not come out of redaction.
    """
    if not isinstance(frame, RedactedFrame):
        raise RedactionError("only redacted frames are hashed", code="unredacted_frame")
    return dhash(frame.pixels())


def hamming(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Bits in which hashes differ; shapes broadcast."""
    return np.asarray(np.bitwise_count(np.bitwise_xor(a, b)), np.uint8)
