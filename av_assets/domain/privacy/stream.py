"""Redaction of one window of one camera: look, wait until the fill in time is known, hide, encode.

Three stages run side by side: decoding, detection with tracking, and hiding with encoding. Each hands its frames on in
order, so the result does not depend on their pace. Fails closed: a frame that does not decode, on which a detector
fails, or that cannot be encoded, is not released but counted. Frames in memory are bounded by the fill and by what
stages run ahead, so they do not grow with the drive.
Belongs here: the flow of one window. Does not belong here: files, several cameras, networks, pixels.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from av_assets.domain.errors import RedactionError
from av_assets.domain.logs.messages.video_units import VIDEO_CODECS
from av_assets.domain.privacy.encoding import encode_like, encode_raw
from av_assets.domain.privacy.frames import ClipRow
from av_assets.domain.privacy.hiding import dilated, hide
from av_assets.domain.privacy.modes import required_kinds, to_cover
from av_assets.domain.privacy.pipeline import ahead
from av_assets.domain.privacy.report import StreamCounts
from av_assets.domain.privacy.sources import Decoding, Picture
from av_assets.domain.privacy.tracks import Region, TemporalFill
from av_assets.domain.privacy.video_out import ENCODING, IntraEncoder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from av_assets.domain.evidence.timing import Stopwatch
    from av_assets.domain.logs.files.blocks import RawMessage
    from av_assets.domain.privacy.detectors import Detector
    from av_assets.domain.privacy.places import Interval
    from av_assets.domain.privacy.windows import Window
    from av_assets.policies.redaction import RedactionPolicy

_NO_PIXELS = np.zeros((0, 0, 3), np.uint8)


class Released(NamedTuple):
    """A frame that may go out, with the areas hidden in it (px, after dilation, inside the picture)."""

    row: ClipRow
    hidden: list[Region]


@dataclass(frozen=True)
class _Looked:
    """`found` is None where the detector failed: the frame must not go out. Pixels are kept if it is to."""

    picture: Picture
    found: Mapping[str, np.ndarray] | None


class WindowRedactor:
    """`run` once; `counts` is complete when its iterator ended."""

    def __init__(
        self,
        detector: Detector,
        policy: RedactionPolicy,
        window: Window,
        private: Sequence[Interval],
        watch: Stopwatch,
    ) -> None:
        self.counts = StreamCounts()
        self._detector, self._policy, self._window, self._watch = detector, policy, window, watch
        self._decoding = Decoding(window, policy, private, watch)
        self._video = IntraEncoder(policy)

    def run(self, messages: Iterable[RawMessage]) -> Iterator[Released]:
        """Released frames of the window, in the order of pictures."""
        depth = self._policy.batch_frames
        pictures = ahead(self._decoding.pictures(messages), depth)
        followed = ahead(self._followed(self._looked(pictures)), depth)
        try:
            for looked, regions in followed:
                if released := self._released(looked, regions):
                    yield released
        finally:
            followed.close()
        self.counts += self._decoding.counts

    def _looked(self, pictures: Iterator[Picture]) -> Iterator[_Looked]:
        while batch := list(islice(pictures, self._policy.batch_frames)):
            with self._watch("compute"):
                findings = self._detect(batch)
            for picture, found in zip(batch, findings, strict=True):
                keeps = picture.source.released and found is not None
                yield _Looked(picture if keeps else replace(picture, rgb=_NO_PIXELS), found)

    def _detect(self, batch: Sequence[Picture]) -> list[dict[str, np.ndarray] | None]:
        """Whatever a detector raises: a batch is tried again frame by frame, so that only the bad frame is lost."""
        try:
            return list(self._checked(batch))
        except Exception:  # noqa: BLE001
            return [None] if len(batch) == 1 else [self._detect([picture])[0] for picture in batch]

    def _checked(self, batch: Sequence[Picture]) -> list[dict[str, np.ndarray]]:
        answer = self._detector.detect([picture.rgb for picture in batch])
        kinds = required_kinds(self._policy)
        findings = [{kind: np.asarray(found[kind], np.float32) for kind in kinds} for found in answer]
        shaped = all(
            boxes.ndim == 2 and boxes.shape[1] == 5 and np.isfinite(boxes).all()
            for found in findings
            for boxes in found.values()
        )
        if len(findings) != len(batch) or not shaped:
            raise RedactionError("the detector did not answer for every frame", code="detector_failed")
        return findings

    def _followed(self, looked: Iterator[_Looked]) -> Iterator[tuple[_Looked, list[Region]]]:
        """Frames of the window with what to cover in them, once all frames within the fill have been looked at."""
        fill = TemporalFill(self._policy, self._window.fill_ns)
        waiting: deque[tuple[int, _Looked]] = deque()
        for index, frame in enumerate(looked):
            at_ns = frame.picture.at_ns
            while waiting and (
                waiting[0][1].picture.at_ns + fill.reach_ns < at_ns
                or index - waiting[0][0] > self._policy.max_fill_frames
            ):
                yield from self._due(fill, *waiting.popleft())
            for kind, boxes in (frame.found or {}).items():
                fill.add(index, at_ns, kind, boxes)
            waiting.append((index, frame))
        while waiting:
            yield from self._due(fill, *waiting.popleft())

    def _due(self, fill: TemporalFill, index: int, frame: _Looked) -> Iterator[tuple[_Looked, list[Region]]]:
        regions = fill.regions(index, frame.picture.at_ns)
        if frame.picture.source.released:
            yield frame, regions

    def _released(self, looked: _Looked, regions: list[Region]) -> Released | None:
        picture, source = looked.picture, looked.picture.source
        if looked.found is None:
            self.counts.dropped["detector_failed"] += 1
            return None
        hidden = to_cover(regions, picture.rgb.shape, self._policy)
        areas = [a for region in hidden if (a := _area(region, picture.rgb.shape, self._policy.dilate))]
        try:
            with self._watch("encode"):
                encoding, data = self._encoded(picture, hidden if areas else [])
        except Exception:  # noqa: BLE001
            self.counts.dropped["not_encoded"] += 1
            return None
        self.counts.release(areas)
        row = ClipRow(source.sensor_ns, source.log_ns, encoding, data, len(areas), source.sha256)
        return Released(row, areas)

    def _encoded(self, picture: Picture, hidden: Sequence[Region]) -> tuple[str, bytes]:
        source = picture.source
        if source.still and not hidden:
            return source.encoding, source.still
        rgb = picture.rgb.copy() if hidden else picture.rgb
        for region in hidden:
            hide(rgb, region.box, region.kind, self._policy)
        if source.still:
            return source.encoding, encode_like(source.encoding, source.still, rgb)
        if source.encoding in VIDEO_CODECS and self._video.fits(rgb):
            return ENCODING, self._video.encode(rgb)
        return encode_raw(rgb, self._policy)


def _area(region: Region, shape: tuple[int, ...], dilate: float) -> Region | None:
    """What is hidden of a region inside the picture; None where it lies outside."""
    limits = [shape[1], shape[0], shape[1], shape[0]]
    box = np.clip(dilated(region.box, dilate), 0, limits).astype(np.float32)
    return replace(region, box=box) if box[2] > box[0] and box[3] > box[1] else None
