"""Messages of one camera into pictures that redaction can look at, or into a count of why not.

Belongs here: decoding in stream order, video units and the pictures that they give. Does not belong here: pixels of
one picture (pictures), what is found in them (stream).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from av_assets.domain.errors import AvError, RedactionError
from av_assets.domain.evidence.digests import sha256_bytes
from av_assets.domain.logs.messages.payloads import ImagePayload, image_payload
from av_assets.domain.logs.messages.video_units import VIDEO_CODECS
from av_assets.domain.privacy.parameter_sets import is_parameters_only
from av_assets.domain.privacy.pictures import (
    STILL_ENCODINGS,
    VideoDecoder,
    decode_raw,
    decode_still,
)
from av_assets.domain.privacy.places import in_private_place
from av_assets.domain.privacy.report import StreamCounts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from av_assets.domain.evidence.timing import Stopwatch
    from av_assets.domain.logs.files.blocks import RawMessage
    from av_assets.domain.privacy.places import Interval
    from av_assets.domain.privacy.windows import Window
    from av_assets.policies.redaction import RedactionPolicy

# Units that a video decoder may hold before it gives a picture; H.264 allows 16 pictures of delay.
MAX_VIDEO_DELAY: Final = 64
UNEXPECTED: Final = "undecodable_frame"


@dataclass(frozen=True)
class Source:
    """Where a picture came from: `still` is its encoded form where that may be passed on; `released` in part."""

    sensor_ns: int
    log_ns: int
    sha256: str
    released: bool
    encoding: str
    still: bytes = b""


@dataclass(frozen=True)
class Picture:
    """`at_ns`: log time that never goes back, as pictures of video may come in another order than units."""

    source: Source
    at_ns: int
    rgb: np.ndarray


class Decoding:
    """One window of one camera: `pictures` gives those near the window; counts are of those inside."""

    def __init__(
        self, window: Window, policy: RedactionPolicy, private: Sequence[Interval], watch: Stopwatch
    ) -> None:
        self.counts = StreamCounts()
        self._window, self._policy, self._private, self._watch = window, policy, private, watch
        self._video: VideoDecoder | None = None
        self._units: dict[int, Source] = {}
        self._parameters = b""
        self._at_ns = -(1 << 63)

    def pictures(self, messages: Iterable[RawMessage]) -> Iterator[Picture]:
        """Frames that cannot be decoded are counted under their reason, never raised."""
        for raw in messages:
            released = self._window.holds(raw.log_ns)
            self.counts.frames_in += released
            try:
                for source, rgb in self._decoded(raw, released):
                    yield from self._near(source, rgb)
            except Exception as error:  # noqa: BLE001
                # What decoders raise is not closed: whatever it is, this frame does not go out.
                self._drop(error.code if isinstance(error, AvError) else UNEXPECTED, released)
        yield from self._rest()

    def _rest(self) -> Iterator[Picture]:
        if self._video is not None:
            try:
                for picture in self._video.flush():
                    if picture.unit in self._units:
                        yield from self._near(self._units.pop(picture.unit), picture.rgb)
            except RedactionError as error:
                if self._units:
                    self._drop(error.code, self._units.pop(next(iter(self._units))).released)
        self._forget_units(0)

    def _near(self, source: Source, rgb: np.ndarray) -> Iterator[Picture]:
        self._at_ns = max(self._at_ns, source.log_ns)
        if self._is_private(source.log_ns):
            self._drop("private_place", source.released)
        elif self._window.near(source.log_ns):
            yield Picture(source, self._at_ns, rgb)

    def _decoded(self, raw: RawMessage, released: bool) -> Iterator[tuple[Source, np.ndarray]]:
        payload = image_payload(raw)
        is_video, is_still = payload.encoding in VIDEO_CODECS, payload.encoding in STILL_ENCODINGS
        if self._is_private(raw.log_ns) and not is_video:
            raise RedactionError("recorded in a private place", code="private_place")
        self.counts.unstamped += released and payload.sensor_ns <= 0
        source = Source(
            payload.sensor_ns if payload.sensor_ns > 0 else raw.log_ns,
            raw.log_ns,
            sha256_bytes(payload.data),
            released,
            payload.encoding,
            bytes(payload.data) if is_still else b"",
        )
        if is_video:
            yield from self._video_pictures(payload, source)
            self._forget_units(MAX_VIDEO_DELAY)
            return
        with self._watch("decode"):
            if is_still:
                rgb = decode_still(payload.encoding, source.still, self._policy.max_pixels)
            else:
                rgb = decode_raw(payload, self._policy.max_pixels)
        yield source, rgb

    def _video_pictures(self, payload: ImagePayload, source: Source) -> Iterator[tuple[Source, np.ndarray]]:
        if is_parameters_only(payload):
            self._parameters = bytes(payload.data)
            raise RedactionError("video: parameter sets without a picture", code="no_picture")
        if self._video is None:
            self._video = VideoDecoder(payload.encoding, self._policy.max_pixels)
        unit, data = self._video.units, self._parameters + bytes(payload.data)
        self._units[unit], self._parameters = source, b""
        pictures, failure = [], None
        try:
            with self._watch("decode"):
                for picture in self._video.feed(data):
                    pictures.append(picture)
        except Exception as error:  # noqa: BLE001
            failure = error
        for picture in pictures:
            if picture.unit in self._units:
                yield self._units.pop(picture.unit), picture.rgb
        if failure is not None and self._units.pop(unit, None) is not None:
            raise failure

    def _forget_units(self, keep: int) -> None:
        while len(self._units) > keep:
            self._drop("no_picture", self._units.pop(next(iter(self._units))).released)

    def _drop(self, code: str, released: bool) -> None:
        if released:
            self.counts.dropped[code] += 1

    def _is_private(self, log_ns: int) -> bool:
        return bool(self._private) and bool(in_private_place(np.array([log_ns]), self._private)[0])
