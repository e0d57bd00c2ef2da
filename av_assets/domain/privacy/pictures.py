"""Pixels out of image payloads: JPEG, PNG, raw ROS encodings, and access units of a video stream.

Belongs here: decoding with limits, and saying why it fails. Does not belong here: looking at pixels.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from av_assets.domain.errors import RedactionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av_assets.domain.logs.payloads import ImagePayload

STILL_ENCODINGS = frozenset({"jpeg", "png"})
VIDEO_CODECS = {"h264": "h264", "h265": "hevc", "hevc": "hevc", "av1": "av1"}
# encoding -> channels, bytes a sample, OpenCV conversion to RGB (None: as it is)
_RAW: dict[str, tuple[int, int, str | None]] = {
    "rgb8": (3, 1, None),
    "8uc3": (3, 1, "COLOR_BGR2RGB"),
    "bgr8": (3, 1, "COLOR_BGR2RGB"),
    "rgba8": (4, 1, "COLOR_RGBA2RGB"),
    "bgra8": (4, 1, "COLOR_BGRA2RGB"),
    "mono8": (1, 1, "COLOR_GRAY2RGB"),
    "8uc1": (1, 1, "COLOR_GRAY2RGB"),
    "mono16": (1, 2, "COLOR_GRAY2RGB"),
    "16uc1": (1, 2, "COLOR_GRAY2RGB"),
    "bayer_rggb8": (1, 1, "COLOR_BayerRGGB2RGB"),
    "bayer_bggr8": (1, 1, "COLOR_BayerBGGR2RGB"),
    "bayer_gbrg8": (1, 1, "COLOR_BayerGBRG2RGB"),
    "bayer_grbg8": (1, 1, "COLOR_BayerGRBG2RGB"),
    "yuv422": (2, 1, "COLOR_YUV2RGB_UYVY"),
    "uyvy": (2, 1, "COLOR_YUV2RGB_UYVY"),
    "yuv422_yuy2": (2, 1, "COLOR_YUV2RGB_YUY2"),
    "yuyv": (2, 1, "COLOR_YUV2RGB_YUY2"),
}
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def decode_still(encoding: str, data: bytes | memoryview, max_pixels: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a whole JPEG or PNG; orientation tags are ignored: boxes are in stored pixels.

    Raises:
        RedactionError: codes `corrupt_frame`, `truncated_frame`, `frame_too_large`.
    """
    import cv2

    data = bytes(data)
    width, height = _jpeg_size(data) if encoding == "jpeg" else _png_size(data)
    _check_size(width, height, max_pixels)
    end = b"\xff\xd9" if encoding == "jpeg" else b"IEND"
    if end not in data.rstrip(b"\0")[-64:]:
        raise RedactionError(f"{encoding} ends too early", code="truncated_frame")
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        bgr = None
    if bgr is None:
        raise RedactionError(f"{encoding} does not decode", code="corrupt_frame")
    return np.ascontiguousarray(bgr[..., ::-1])


def decode_raw(payload: ImagePayload, max_pixels: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a raw image; 16-bit samples keep their upper byte.

    Raises:
        RedactionError: codes `unknown_encoding`, `truncated_frame`, `frame_too_large`.
    """
    import cv2

    if payload.encoding.lower() not in _RAW:
        raise RedactionError(f"no decoder for {payload.encoding[:40]!r}", code="unknown_encoding")
    channels, width_bytes, conversion = _RAW[payload.encoding.lower()]
    _check_size(payload.width, payload.height, max_pixels)
    row = payload.width * channels * width_bytes
    step = payload.step or row
    if step < row or len(payload.data) < step * payload.height:
        raise RedactionError("raw image is shorter than its size", code="truncated_frame")
    rows = np.frombuffer(payload.data, np.uint8, step * payload.height).reshape(payload.height, step)[:, :row]
    if width_bytes == 2:
        rows = rows[:, 0 if payload.bigendian else 1 :: 2]
    shape = (payload.height, payload.width) + ((channels,) if channels > 1 else ())
    pixels = np.ascontiguousarray(rows).reshape(shape)
    if conversion is None:
        return pixels
    try:
        return np.asarray(cv2.cvtColor(pixels, getattr(cv2, conversion)))
    except cv2.error as error:
        raise RedactionError(f"{payload.encoding} of an odd size", code="corrupt_frame") from error


class VideoPicture(NamedTuple):
    """One decoded picture and the index of the access unit that it came from."""

    unit: int
    rgb: np.ndarray


class VideoDecoder:
    """Feeds access units to one decoder; pictures come out late and, with B-frames, in display order."""

    def __init__(self, encoding: str, max_pixels: int) -> None:
        import av

        self._codec: Any = av.CodecContext.create(VIDEO_CODECS[encoding], "r")
        self._codec.thread_count = 1
        self._max_pixels = max_pixels
        self.units = 0

    def feed(self, data: bytes | memoryview) -> Iterator[VideoPicture]:
        """The pictures that this access unit completes.

        Raises:
            RedactionError: code `corrupt_frame`; later units can still be fed.
        """
        import av

        packet = av.Packet(bytes(data))
        packet.pts = packet.dts = self.units
        self.units += 1
        yield from self._pictures(packet)

    def flush(self) -> Iterator[VideoPicture]:
        """What the decoder still holds at the end of the stream."""
        yield from self._pictures(None)

    def _pictures(self, packet: Any) -> Iterator[VideoPicture]:
        import av

        try:
            frames = self._codec.decode(packet)
        except av.FFmpegError as error:
            raise RedactionError(f"video: {type(error).__name__}", code="corrupt_frame") from error
        for frame in frames:
            if frame.pts is not None and not frame.is_corrupt:
                _check_size(frame.width, frame.height, self._max_pixels)
                yield VideoPicture(int(frame.pts), frame.to_ndarray(format="rgb24"))


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width <= 0 or height <= 0:
        raise RedactionError("picture has no size", code="corrupt_frame")
    if width * height > max_pixels:
        raise RedactionError(f"picture of {width}x{height} is over the limit", code="frame_too_large")


def _png_size(data: bytes) -> tuple[int, int]:
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 24:
        raise RedactionError("no PNG", code="corrupt_frame")
    width, height = struct.unpack_from(">II", data, 16)
    return int(width), int(height)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """(width, height) from the first frame header, so that a huge picture is refused before it is decoded."""
    at = 2
    while data[:2] == b"\xff\xd8" and at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _JPEG_SIZES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return int(width), int(height)
        # Fill bytes and markers without a length stand alone.
        alone = marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD8
        at += (1 if marker == 0xFF else 2) if alone else 2 + int(struct.unpack_from(">H", data, at + 2)[0])
    raise RedactionError("no JPEG frame header", code="corrupt_frame")
