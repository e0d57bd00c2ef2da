"""Cameras and lidars that freeze, pictures that are cut, blank or of the wrong size.

Only numbers leave this module (sizes, mean and deviation of grey values), never pixels.
Belongs here: looking into payloads of cameras. Does not belong here: clouds (`measurement_rules`).
"""

from __future__ import annotations

import io
from array import array
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.errors import LogError
from av_assets.domain.logs.messages.payloads import IMAGE_TYPES, ImagePayload, image_payload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av_assets.domain.logs.files.blocks import RawMessage
    from av_assets.domain.logs.integrity.findings import Finding
    from av_assets.domain.logs.integrity.probes import StreamJudge
    from av_assets.policies.integrity import IntegrityPolicy

HEAD_BYTES = 40  # stamps differ even where the payload is frozen
QUICK_BYTES = 4096
MAX_PIXELS = 100_000_000
MIN_SIZES = 10
JPEG_END, PNG_END = b"\xff\xd9", b"IEND\xaeB`\x82"
ENDS = {"jpeg": JPEG_END, "png": PNG_END}
PADDING_BYTES = 64  # what some encoders leave behind the end of a picture
CHANNELS = {"mono8": 1, "8uc1": 1, "rgb8": 3, "bgr8": 3, "8uc3": 3, "rgba8": 4, "bgra8": 4, "8uc4": 4}
CHANNELS |= {f"bayer_{order}8": 1 for order in ("rggb", "bggr", "gbrg", "grbg")}
START_CODES = (b"\0\0\1", b"\0\0\0\1")


class FrameProbe:
    """Sizes and equal payloads in a row; for lidars as for cameras."""

    wants_all = True

    def __init__(self, policy: IntegrityPolicy) -> None:
        self.policy = policy
        self.sizes: array[int] = array("I")
        self.longest_freeze, self._run, self._last = 0, 0, b""

    def glance(self, raw: RawMessage) -> None:
        data = raw.data
        self.sizes.append(min(len(data), 0xFFFFFFFF))
        self._run = self._run + 1 if self._run and _same(data, self._last) else 1
        self.longest_freeze = max(self.longest_freeze, self._run)
        self._last = data

    def look(self, raw: RawMessage, message: Any) -> None:
        pass

    def findings(self, judge: StreamJudge) -> Iterator[Finding]:
        freeze, limit = self.longest_freeze, self.policy.max_equal_frames
        reason = "the payload does not change: the sensor is frozen"
        yield judge.judge("frames_are_live", "error", freeze <= limit, freeze, limit, reason)
        sizes = np.frombuffer(self.sizes, dtype=np.uint32)
        if len(sizes) < MIN_SIZES or self._sizes_vary:
            reason = f"only {len(sizes)} messages" if len(sizes) < MIN_SIZES else "sizes of video units vary"
            yield judge.skip("size_is_usual", "warn", reason)
            return
        share = sizes / max(1.0, float(np.median(sizes)))
        small, large = self.policy.small_message_share, self.policy.large_message_share
        odd = int(((share < small) | (share > large)).sum())
        reason = f"sizes from {sizes.min()} to {sizes.max()} bytes, half of them below {np.median(sizes):.0f}"
        yield judge.judge("size_is_usual", "warn", not odd, odd, 0, reason)

    @property
    def _sizes_vary(self) -> bool:
        return False


def _same(data: bytes, before: bytes) -> bool:
    """Equal payloads, told early where they differ early."""
    if len(data) != len(before):
        return False
    quick = slice(HEAD_BYTES, HEAD_BYTES + QUICK_BYTES)
    return data[quick] == before[quick] and data[HEAD_BYTES:] == before[HEAD_BYTES:]


class PictureProbe(FrameProbe):
    """Ends of all compressed pictures; content and size of the chosen ones.

    Attributes:
        shapes: (width, height) of the pictures looked into.
    """

    def __init__(self, policy: IntegrityPolicy) -> None:
        super().__init__(policy)
        self.cut, self.undecodable, self.looked, self.blank = 0, 0, 0, 0
        self.shapes: set[tuple[int, int]] = set()
        self.video = False
        self.reasons: list[str] = []

    @property
    def _sizes_vary(self) -> bool:
        return self.video

    def glance(self, raw: RawMessage) -> None:
        super().glance(raw)
        if raw.msgtype.endswith("/CompressedImage") and not raw.data.endswith((JPEG_END, PNG_END)):
            self._check_end(raw)

    def _check_end(self, raw: RawMessage) -> None:
        try:
            picture = image_payload(raw)
        except LogError as error:
            self._note_cut(error.reason)
            return
        if not _is_complete(picture):
            self._note_cut(f"a {picture.encoding} of {len(picture.data)} bytes without its end")

    def _note_cut(self, reason: str) -> None:
        self.cut += 1
        if len(self.reasons) < 3:
            self.reasons.append(reason)

    def look(self, raw: RawMessage, message: Any) -> None:
        if raw.msgtype not in IMAGE_TYPES:
            return
        try:
            picture = image_payload(raw)
        except LogError:
            self.undecodable += 1
            return
        if raw.msgtype.endswith("/CompressedVideo"):
            self.video = True
            self.undecodable += not bytes(picture.data[:4]).startswith(START_CODES)
        elif picture.step:
            self._look_at_raw(picture)
        elif picture.encoding in ENDS and _is_complete(picture):
            self._look_at_file(picture)

    def _look_at_file(self, picture: ImagePayload) -> None:
        import cv2
        from PIL import Image

        try:
            with Image.open(io.BytesIO(picture.data)) as opened:
                width, height = opened.size
            if width * height > MAX_PIXELS:
                raise ValueError(f"{width} x {height} pixels")
            grey = cv2.imdecode(np.frombuffer(picture.data, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8)
        except (OSError, ValueError, Image.DecompressionBombError, cv2.error):
            grey = None
        if grey is None:
            self.undecodable += 1
            return
        self.shapes.add((width, height))
        self._note_grey(grey)

    def _look_at_raw(self, picture: ImagePayload) -> None:
        if picture.height * picture.step != len(picture.data):
            size = f"{picture.height} rows of {picture.step} bytes"
            self._note_cut(f"{len(picture.data)} bytes for {size}")
            return
        self.shapes.add((picture.width, picture.height))
        channels = CHANNELS.get(picture.encoding.lower())
        if channels and picture.width * channels <= picture.step:
            rows = np.frombuffer(picture.data, np.uint8).reshape(picture.height, picture.step)
            self._note_grey(rows[::8, : picture.width * channels : 8])

    def _note_grey(self, grey: np.ndarray[Any, Any]) -> None:
        self.looked += 1
        self.blank += bool(grey.size and float(grey.std()) < self.policy.blank_deviation)

    def findings(self, judge: StreamJudge) -> Iterator[Finding]:
        yield from super().findings(judge)
        reason = f"{self.cut} pictures are cut: " + "; ".join(self.reasons)
        yield judge.judge("pictures_are_complete", "error", not self.cut, self.cut, 0, reason)
        bad = self.undecodable
        yield judge.judge(
            "pictures_decode", "error", not bad, bad, 0, f"{bad} sampled pictures do not decode"
        )
        if self.looked:
            share, limit = self.blank / self.looked, self.policy.max_blank_share
            reason = f"{self.blank} of {self.looked} sampled pictures have one colour"
            yield judge.judge("pictures_show_something", "error", share <= limit, share, limit, reason)
        else:
            yield judge.skip("pictures_show_something", "error", "no picture was decoded")
        if self.shapes:
            sizes = ", ".join(f"{width} x {height}" for width, height in sorted(self.shapes))
            one = len(self.shapes) == 1
            yield judge.judge(
                "picture_size_is_constant", "error", one, len(self.shapes), 1, f"sizes: {sizes}"
            )


def _is_complete(picture: ImagePayload) -> bool:
    """Whether a picture file ends as its format demands, padding aside; True for other formats."""
    end = ENDS.get(picture.encoding)
    if end is None:
        return True
    tail = bytes(picture.data[-PADDING_BYTES - len(end) :])
    if not tail.strip(b"\0"):  # USB cameras fill up to a fixed size
        tail = bytes(picture.data).rstrip(b"\0")[-len(end) :]
    return end in tail
