"""Pixels out of image payloads: JPEG, PNG, raw ROS encodings, and access units of a video stream.

Belongs here: decoding with limits, and saying why it fails. Does not belong here: looking at pixels.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from av_assets.domain.errors import RedactionError
from av_assets.domain.logs.messages.video_units import VIDEO_CODECS, is_entry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av_assets.domain.logs.messages.payloads import ImagePayload

STILL_ENCODINGS = frozenset({"jpeg", "png"})


class _Raw(NamedTuple):
    """A raw encoding: samples a pixel (0: planes of 4:2:0), bytes a sample, OpenCV conversion to RGB (empty: none)."""

    channels: int
    width_bytes: int
    conversion: str


def _with_depths(names: tuple[str, ...], channels: int, conversion: str) -> dict[str, _Raw]:
    """`rgb` -> rgb8 and rgb16."""
    return {f"{name}{8 * size}": _Raw(channels, size, conversion) for name in names for size in (1, 2)}


_GRAY, _BGR = "COLOR_GRAY2RGB", "COLOR_BGR2RGB"
_UYVY, _YUY2 = _Raw(2, 1, "COLOR_YUV2RGB_UYVY"), _Raw(2, 1, "COLOR_YUV2RGB_YUY2")
# As in sensor_msgs/image_encodings.hpp and the Foxglove RawImage schema; *UC3 is BGR, as OpenCV writes it.
_RAW: dict[str, _Raw] = {
    **_with_depths(("rgb",), 3, ""),
    **_with_depths(("bgr",), 3, _BGR),
    **_with_depths(("rgba",), 4, "COLOR_RGBA2RGB"),
    **_with_depths(("bgra",), 4, "COLOR_BGRA2RGB"),
    **_with_depths(("mono",), 1, _GRAY),
    **{f"{8 * size}uc1": _Raw(1, size, _GRAY) for size in (1, 2)},
    **{f"{8 * size}uc3": _Raw(3, size, _BGR) for size in (1, 2)},
    **{
        name: raw
        for pattern in ("rggb", "bggr", "gbrg", "grbg")
        for name, raw in _with_depths((f"bayer_{pattern}",), 1, f"COLOR_Bayer{pattern.upper()}2RGB").items()
    },
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUY2,
    "yuyv": _YUY2,
    "nv12": _Raw(0, 1, "COLOR_YUV2RGB_NV12"),
    "nv21": _Raw(0, 1, "COLOR_YUV2RGB_NV21"),
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
        RedactionError: codes `unknown_encoding`, `truncated_frame`, `corrupt_frame` (a step shorter than a row, or a
            size that the encoding cannot have), `frame_too_large`.
    """
    import cv2

    raw = _RAW.get(payload.encoding.strip().lower())
    if raw is None:
        raise RedactionError(f"no decoder for {payload.encoding[:40]!r}", code="unknown_encoding")
    _check_size(payload.width, payload.height, max_pixels)
    pixels = _samples(payload, raw)
    if not raw.conversion:
        return pixels
    try:
        rgb = np.asarray(cv2.cvtColor(pixels, getattr(cv2, raw.conversion)))
    except cv2.error as error:
        raise RedactionError(f"{payload.encoding} of an odd size", code="corrupt_frame") from error
    return rgb


def _samples(payload: ImagePayload, raw: _Raw) -> np.ndarray:
    """(H, W) or (H, W, channels) uint8 without row padding; 4:2:0 has its colours as H / 2 more rows."""
    height, row = payload.height, payload.width * max(1, raw.channels) * raw.width_bytes
    is_planar = raw.channels == 0
    if (raw.channels in (0, 2) and payload.width % 2) or (is_planar and height % 2):
        raise RedactionError(f"{payload.encoding} of an odd size", code="corrupt_frame")
    height += height // 2 if is_planar else 0
    step = payload.step or row
    if step < row:
        raise RedactionError(f"rows of {row} bytes in steps of {step}", code="corrupt_frame")
    if len(payload.data) < step * (height - 1) + row:  # the last row may go without its padding
        raise RedactionError("raw image is shorter than its size", code="truncated_frame")
    rows = np.ndarray((height, row), np.uint8, payload.data, strides=(step, 1))
    if raw.width_bytes == 2:
        rows = rows[:, 0 if payload.bigendian else 1 :: 2]
    shape = (height, payload.width, raw.channels) if raw.channels > 1 else (height, payload.width)
    return np.ascontiguousarray(rows).reshape(shape)


class VideoPicture(NamedTuple):
    """One decoded picture and the index of the access unit that it came from."""

    unit: int
    rgb: np.ndarray


class VideoDecoder:
    """Feeds access units to one decoder; pictures come out late and, with B-frames, in display order.

    Nothing is shown that is not what the camera saw: before the first key frame, and from a damaged unit to the
    next key frame, units give an error instead of a picture predicted from something else.
    """

    def __init__(self, encoding: str, max_pixels: int) -> None:
        self._encoding, self._max_pixels = encoding, max_pixels
        self._codec: Any = None
        self._lost_from: int | None = None  # the first unit that cannot be believed, until a key frame
        self.units = 0

    def feed(self, data: bytes | memoryview) -> Iterator[VideoPicture]:
        """The pictures that this access unit completes.

        Raises:
            RedactionError: `no_keyframe`, `corrupt_frame` or `frame_too_large`; later units can still be fed.
        """
        import av

        unit, self.units = self.units, self.units + 1
        if self._codec is None or self._lost_from is not None:
            if not is_entry(self._encoding, data):
                raise RedactionError("video: no key frame to start from", code="no_keyframe")
            yield from self._restarted()
        packet = av.Packet(bytes(data))
        packet.pts = packet.dts = unit
        yield from self._pictures(packet, unit)

    def flush(self) -> Iterator[VideoPicture]:
        """What the decoder still holds at the end of the stream.

        Raises:
            RedactionError: as `feed`.
        """
        if self._codec is not None:
            yield from self._pictures(None, self.units)

    def _restarted(self) -> Iterator[VideoPicture]:
        """A new decoder, after the good pictures of the old one: leading pictures must not reach back over it."""
        import av

        held = list(self._held_back())
        self._codec = av.CodecContext.create(VIDEO_CODECS[self._encoding], "r")
        self._codec.thread_count = 1
        # Refused before memory is taken; damage is an error, not something to paint over. H.265 is checked against
        # the picture hashes of the stream where it carries them; without them FFmpeg misses some damage.
        self._codec.options = {"max_pixels": str(self._max_pixels), "err_detect": "crccheck+explode"}
        self._lost_from = None
        yield from held

    def _held_back(self) -> Iterator[VideoPicture]:
        try:
            yield from self.flush()
        except RedactionError:
            return

    def _pictures(self, packet: Any, unit: int) -> Iterator[VideoPicture]:
        import av

        try:
            frames = self._codec.decode(packet)
        except av.FFmpegError as error:
            self._lost_from = unit if self._lost_from is None else self._lost_from
            _check_size(self._codec.width or 1, self._codec.height or 1, self._max_pixels)
            raise RedactionError(f"video: {type(error).__name__}", code="corrupt_frame") from error
        for frame in frames:
            if frame.is_corrupt and frame.pts is not None:
                self._lost_from = frame.pts if self._lost_from is None else min(frame.pts, self._lost_from)
            if frame.pts is None or (self._lost_from is not None and frame.pts >= self._lost_from):
                continue
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
