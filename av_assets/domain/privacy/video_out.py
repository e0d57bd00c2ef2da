"""Redacted video: every access unit is an intra picture that decodes by itself.

Rows of a clip are read at random, so no unit may need another one (docs/decisions/0008). Belongs here: the encoder and
the decoding of one such unit. Does not belong here: decoding of recorded streams (pictures), hiding.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from av_assets.domain.errors import RedactionError

if TYPE_CHECKING:
    import numpy as np

    from av_assets.policies.redaction import RedactionPolicy

ENCODING: Final = "h264"
# Without qcomp and ipratio the quality of a picture would depend on those before it; one thread, the same bytes.
_PARAMETERS: Final = "keyint=1:scenecut=0:bframes=0:repeat-headers=1:annexb=1:threads=1:qcomp=1:ipratio=1"
_TICKS: Final = Fraction(1, 1000)
_BT601, _LIMITED = 6, 1


class IntraEncoder:
    """H.264 with parameter sets and an instantaneous refresh in every unit; a new stream where the size changes."""

    def __init__(self, policy: RedactionPolicy) -> None:
        self._policy = policy
        self._size = (0, 0)
        self._codec: Any = None
        self._count = 0

    def fits(self, rgb: np.ndarray) -> bool:
        """4:2:0 needs even sides."""
        return not (rgb.shape[0] % 2 or rgb.shape[1] % 2)

    def encode(self, rgb: np.ndarray) -> bytes:
        """One access unit (Annex B) of (H, W, 3) uint8 RGB.

        Raises:
            RedactionError: code `not_encoded`, the encoder gave no unit, or more than one.
        """
        import av

        if rgb.shape[:2] != self._size:
            self._codec, self._size = self._opened(rgb.shape[1], rgb.shape[0]), rgb.shape[:2]
        try:
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=_BT601
            )
            frame.pts, self._count = self._count, self._count + 1
            units = [bytes(packet) for packet in self._codec.encode(frame)]
        except av.FFmpegError as error:
            raise RedactionError(f"video: {type(error).__name__}", code="not_encoded") from error
        if len(units) != 1:
            raise RedactionError(f"encoder gave {len(units)} units for a picture", code="not_encoded")
        return units[0]

    def _opened(self, width: int, height: int) -> Any:
        import av

        codec: Any = av.CodecContext.create("libx264", "w")
        codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
        codec.time_base, codec.thread_count = _TICKS, 1
        codec.colorspace, codec.color_range = _BT601, _LIMITED
        policy = self._policy
        codec.options = {
            "crf": str(policy.video_crf), "preset": policy.video_preset,
            "tune": "zerolatency", "x264-params": _PARAMETERS,
        }  # fmt: skip
        return codec


def decode_unit(data: bytes, max_pixels: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB of one access unit that decodes by itself.

    Raises:
        RedactionError: code `undecodable_frame`, no picture, or more than one.
    """
    from av_assets.domain.privacy.pictures import VideoDecoder

    decoder = VideoDecoder(ENCODING, max_pixels)
    pictures = [*decoder.feed(data), *decoder.flush()]
    if len(pictures) != 1:
        raise RedactionError(f"a unit gave {len(pictures)} pictures", code="undecodable_frame")
    return pictures[0].rgb
