"""Redaction of one camera: decode, look, wait until the fill in time is known, hide, encode.

Fails closed: a frame that does not decode, or on which a detector fails, is not released but counted. The
window is as long as the fill in time reaches, so memory does not grow with the drive.
Belongs here: the flow of one stream. Does not belong here: files, several cameras, detectors, pixels.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from av_assets.domain.errors import LogError, RedactionError
from av_assets.domain.evidence.digests import sha256_bytes
from av_assets.domain.evidence.timing import Stopwatch
from av_assets.domain.logs.payloads import ImagePayload, image_payload
from av_assets.domain.privacy.frames import ClipRow
from av_assets.domain.privacy.hiding import dilated, encode_jpeg, hide
from av_assets.domain.privacy.pictures import (
    STILL_ENCODINGS,
    VIDEO_CODECS,
    VideoDecoder,
    VideoPicture,
    decode_raw,
    decode_still,
)
from av_assets.domain.privacy.report import StreamCounts
from av_assets.domain.privacy.tracks import Region, TemporalFill

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from av_assets.domain.logs.blocks import RawMessage
    from av_assets.domain.privacy.detectors import Detector
    from av_assets.policies.redaction import RedactionPolicy

# Units that a video decoder may hold before it gives a picture; H.264 allows 16 pictures of delay.
MAX_VIDEO_DELAY: Final = 64


@dataclass
class _Source:
    """Where a picture came from. `still` is its encoded form, where that may be passed on as it is."""

    sensor_ns: int
    log_ns: int
    sha256: str
    encoding: str = ""
    still: bytes = b""


@dataclass
class _Picture:
    index: int
    source: _Source
    rgb: np.ndarray
    checked: bool


class StreamRedactor:
    """One camera: push messages in, released frames with their regions come out `reach` frames later."""

    def __init__(
        self, detectors: Sequence[Detector], policy: RedactionPolicy, rate_hz: float | None, watch: Stopwatch
    ) -> None:
        self.counts = StreamCounts()
        self._detectors, self._policy, self._watch = detectors, policy, watch
        self._fill = TemporalFill(policy, policy.fill_frames(rate_hz))
        self._window: deque[_Picture] = deque()
        self._next = 0
        self._video: VideoDecoder | None = None
        self._units: dict[int, _Source] = {}

    def push(self, raw: RawMessage) -> Iterator[tuple[ClipRow, list[Region]]]:
        self.counts.frames_in += 1
        try:
            for source, rgb in self._decoded(raw):
                yield from self._looked_at(source, rgb)
        except (RedactionError, LogError) as error:
            self.counts.dropped[error.code] += 1

    def finish(self) -> Iterator[tuple[ClipRow, list[Region]]]:
        """The rest of the window; call once."""
        if self._video is not None:
            try:
                for picture in self._video.flush():
                    yield from self._looked_at(self._units.pop(picture.unit), picture.rgb)
            except RedactionError as error:
                self.counts.dropped[error.code] += 1
                self._units.pop(next(iter(self._units), -1), None)
        self._forget_units(0)
        while self._window:
            yield from self._released()

    def _decoded(self, raw: RawMessage) -> Iterator[tuple[_Source, np.ndarray]]:
        payload = image_payload(raw)
        source = _Source(payload.sensor_ns, raw.log_ns, sha256_bytes(payload.data))
        if source.sensor_ns <= 0:
            source.sensor_ns, self.counts.unstamped = raw.log_ns, self.counts.unstamped + 1
        if payload.encoding in VIDEO_CODECS:
            for picture in self._video_pictures(payload, source):
                yield self._units.pop(picture.unit), picture.rgb
            self._forget_units(MAX_VIDEO_DELAY)
            return
        with self._watch("decode"):
            if payload.encoding in STILL_ENCODINGS:
                source.encoding, source.still = payload.encoding, bytes(payload.data)
                rgb = decode_still(payload.encoding, source.still, self._policy.max_pixels)
            else:
                rgb = decode_raw(payload, self._policy.max_pixels)
        yield source, rgb

    def _video_pictures(self, payload: ImagePayload, source: _Source) -> list[VideoPicture]:
        if self._video is None:
            self._video = VideoDecoder(payload.encoding, self._policy.max_pixels)
        unit = self._video.units
        self._units[unit] = source
        try:
            with self._watch("decode"):
                return [p for p in self._video.feed(payload.data) if p.unit in self._units]
        except RedactionError:
            self._units.pop(unit)
            raise

    def _forget_units(self, keep: int) -> None:
        while len(self._units) > keep:
            self._units.pop(next(iter(self._units)))
            self.counts.dropped["no_picture"] += 1

    def _looked_at(self, source: _Source, rgb: np.ndarray) -> Iterator[tuple[ClipRow, list[Region]]]:
        index, self._next = self._next, self._next + 1
        with self._watch("compute"):
            checked = self._detect(index, rgb)
        self._window.append(_Picture(index, source, rgb, checked))
        if len(self._window) > self._fill.reach:
            yield from self._released()

    def _detect(self, index: int, rgb: np.ndarray) -> bool:
        """False where a detector failed: whatever it raised, the frame must not go out."""
        try:
            for detector in self._detectors:
                if index % self._policy.kind(detector.kind).stride == 0:
                    self._fill.add(index, detector.kind, detector.detect(rgb))
        except Exception:  # noqa: BLE001
            return False
        return True

    def _released(self) -> Iterator[tuple[ClipRow, list[Region]]]:
        picture = self._window.popleft()
        regions = self._fill.regions(picture.index)
        if not picture.checked:
            self.counts.dropped["detector_failed"] += 1
            return
        self.counts.release(regions)
        with self._watch("compute"):
            encoding, data = self._hidden(picture, regions)
        source = picture.source
        row = ClipRow(source.sensor_ns, source.log_ns, encoding, data, len(regions), source.sha256)
        yield row, [_clipped(r, picture.rgb.shape, self._policy.dilate) for r in regions]

    def _hidden(self, picture: _Picture, regions: list[Region]) -> tuple[str, bytes]:
        if not regions and picture.source.still:
            return picture.source.encoding, picture.source.still
        rgb = picture.rgb.copy()
        for region in regions:
            hide(rgb, region.box, region.kind, self._policy)
        return "jpeg", encode_jpeg(rgb, self._policy.jpeg_quality)


def _clipped(region: Region, shape: tuple[int, ...], dilate: float) -> Region:
    """The area that was hidden, inside the picture."""
    limits = [shape[1], shape[0], shape[1], shape[0]]
    box = np.clip(dilated(region.box, dilate), 0, limits).astype(np.float32)
    return Region(region.kind, region.score, box, region.found)


def redact_stream(
    messages: Iterable[RawMessage],
    detectors: Sequence[Detector],
    policy: RedactionPolicy,
    rate_hz: float | None = None,
    counts: StreamCounts | None = None,
    watch: Stopwatch | None = None,
) -> Iterator[tuple[ClipRow, list[Region]]]:
    """Released frames of one camera with the regions hidden in them (px, after dilation), in arrival order.

    `counts`, where given, is filled along the way. Frames that cannot be redacted are counted, never raised.
    """
    redactor = StreamRedactor(detectors, policy, rate_hz, watch or Stopwatch())
    redactor.counts = counts if counts is not None else redactor.counts
    for raw in messages:
        yield from redactor.push(raw)
    yield from redactor.finish()
