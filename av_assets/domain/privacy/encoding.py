"""Pictures that were changed, encoded once more and as their source was: same tables, same kind, no metadata.

Belongs here: JPEG, PNG, and which of them a raw picture becomes. Does not belong here: video (video_out), hiding.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

import numpy as np

from av_assets.domain.errors import RedactionError

if TYPE_CHECKING:
    from av_assets.policies.redaction import RedactionPolicy

_FULL_CHROMA: Final = 0


def encode_like(encoding: str, source: bytes, rgb: np.ndarray) -> bytes:
    """(H, W, 3) uint8 RGB as the JPEG or PNG `source` is encoded; grey sources stay grey.

    A JPEG gets the quantisation tables and the chroma subsampling of its source, so what was not changed decodes to
    nearly the same samples. Subsampling that the encoder does not offer becomes none.
    """
    return _jpeg_like(source, rgb) if encoding == "jpeg" else encode_png(_grey_png(source, rgb))


def encode_raw(rgb: np.ndarray, policy: RedactionPolicy) -> tuple[str, bytes]:
    """(encoding, data) of a picture that came in without one."""
    if policy.raw_encoding == "png":
        return "png", encode_png(rgb)
    return "jpeg", encode_jpeg(rgb, policy.raw_jpeg_quality)


def encode_jpeg(rgb: np.ndarray, quality: int) -> bytes:
    """JPEG of (H, W, 3) uint8 RGB."""
    import cv2

    return bytes(cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


def encode_png(pixels: np.ndarray) -> bytes:
    """PNG of (H, W, 3) uint8 RGB or (H, W) uint8 grey."""
    import cv2

    bgr = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    return bytes(cv2.imencode(".png", bgr)[1])


def _jpeg_like(source: bytes, rgb: np.ndarray) -> bytes:
    from PIL import Image, JpegImagePlugin, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(source), formats=["JPEG"]) as picture:
            is_grey, tables = picture.mode == "L", picture.quantization  # type: ignore[attr-defined]
            sampling = JpegImagePlugin.get_sampling(picture)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise RedactionError("JPEG header cannot be read again", code="corrupt_frame") from error
    out = io.BytesIO()
    if is_grey:
        Image.fromarray(np.ascontiguousarray(rgb[..., 0])).save(out, "JPEG", qtables={0: tables[0]})
    else:
        subsampling = sampling if sampling >= 0 else _FULL_CHROMA
        Image.fromarray(rgb).save(out, "JPEG", qtables=tables, subsampling=subsampling)
    return out.getvalue()


def _grey_png(source: bytes, rgb: np.ndarray) -> np.ndarray:
    # Colour type 0 is grey, 4 grey with alpha (PNG specification, table 11.1).
    return np.ascontiguousarray(rgb[..., 0]) if source[25:26] in (b"\0", b"\4") else rgb
