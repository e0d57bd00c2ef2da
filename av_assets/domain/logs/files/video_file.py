"""An MP4 file beside a CSV of its frame times, read as one camera topic.

H.264 and H.265 come out as foxglove_msgs/msg/CompressedVideo (Annex B, one access unit a message, in decode
order), motion JPEG as sensor_msgs/msg/CompressedImage. Nothing is decoded or encoded anew.
Belongs here: demuxing and wrapping frames into messages. Does not belong here: the CSV (`video_times`).
"""

from __future__ import annotations

import re
from array import array
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from av_assets.domain.errors import LogError
from av_assets.domain.logs.files.blocks import Block, Channel, Damage, RawMessage
from av_assets.domain.logs.files.magic import os_error
from av_assets.domain.logs.files.video_messages import CHANNELS, wrap
from av_assets.domain.logs.files.video_times import bad_timestamps, read_frame_times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BLOCK_BYTES = 4 << 20
BLOCK_NS = 2_000_000_000
MAX_FRAMES = 20_000_000
_FILTERS = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb", "mjpeg": ""}
_ENCODINGS = {"h264": "h264", "hevc": "h265", "mjpeg": "jpeg"}
_STREAM_BYTES = 1 << 20  # frames are streamed: a block holds one packet at a time


class _Packets(NamedTuple):
    """Of all frames in decode order: presentation and decode times in ticks, bytes, keyframe or not."""

    pts: np.ndarray
    dts: np.ndarray
    sizes: np.ndarray
    keys: np.ndarray


class VideoFile:
    """One video. Fields as in `LogSource`; a block is a run of frames that starts at a keyframe.

    The stamp of a message is the CSV's time of its frame. Its log time is the same, except where frames are
    stored before others that are shown earlier: log time then never goes back, as when they had arrived one
    by one, so that messages in log order are in decode order.
    """

    format = "mp4"

    def __init__(self, path: Path) -> None:
        """Index the frames, which reads the file once and keeps a few numbers a frame.

        Raises:
            LogError: missing_timestamps, bad_timestamps, bad_video, unsupported_codec, or the file system
            refused.
        """
        self.path = path
        self.indexed = True
        try:
            self.damage = Damage(path.stat().st_size)
        except OSError as error:
            raise os_error(error, path) from error
        times = read_frame_times(path)
        packets, stated = self._packets()
        self.name = re.sub(r"[^A-Za-z0-9_]+", "_", path.stem).strip("_") or "camera"
        msgtype, definition = CHANNELS[_ENCODINGS[self._codec]]
        self.channels = {0: Channel(f"/{self.name}", msgtype, "cdr", definition, "ros2msg", 4)}
        self._sensor_ns = self._assigned(packets, stated, times.times_ns, times.path)
        self._log_ns = np.maximum.accumulate(self._sensor_ns)
        if times.guessed_unit:
            self.damage.remarks.append(f"{times.path.name}: timestamp is taken as {times.guessed_unit}")
        if moved := int((self._log_ns != self._sensor_ns).sum()):
            self.damage.remarks.append(
                f"{moved} frames are stored later than others that are shown after them"
            )
        self.counts = {0: len(self._sensor_ns)}
        self.blocks = self._cut_at_keyframes(packets)
        self._start_dts = {block.offset: int(packets.dts[block.offset]) for block in self.blocks}

    def close(self) -> None:
        """Nothing stays open between blocks."""

    def _open(self) -> tuple[Any, Any]:
        """Container and video stream.

        Raises:
            LogError: bad_video or unsupported_codec.
        """
        import av

        try:
            container = av.open(str(self.path.absolute()), format="mp4")
        except (av.error.FFmpegError, ValueError) as error:
            raise LogError(f"no readable MP4: {_reason(error)}", code="bad_video", file=self.path) from error
        try:
            if not container.streams.video:
                raise LogError("the file holds no video", code="bad_video", file=self.path)
            stream = container.streams.video[0]
            name = stream.codec_context.name if stream.codec_context else "unknown"
            if name not in _FILTERS:
                reason = f"video codec {name} would have to be encoded anew"
                remedy = "record H.264, H.265 or motion JPEG"
                raise LogError(reason, code="unsupported_codec", file=self.path, remedy=remedy)
        except BaseException:
            container.close()
            raise
        self._codec = name
        return container, stream

    def _packets(self) -> tuple[_Packets, int]:
        """All frames, and how many the header says there are (0: it does not say)."""
        columns = array("q"), array("q"), array("q"), array("b")
        container, stream = self._open()
        with container:
            stated = int(stream.frames)
            for packet in self._demuxed(container, stream):
                pts = packet.dts if packet.pts is None else packet.pts
                for column, value in zip(
                    columns, (pts, packet.dts, packet.size, packet.is_keyframe), strict=True
                ):
                    column.append(value)
                if len(columns[0]) > MAX_FRAMES:
                    raise LogError(f"more than {MAX_FRAMES} frames", code="bad_video", file=self.path)
        if not columns[0]:
            raise LogError("the video has no frames", code="bad_video", file=self.path)
        pts, dts, sizes = (np.frombuffer(column, np.int64) for column in columns[:3])
        return _Packets(pts, dts, sizes, np.frombuffer(columns[3], np.int8).astype(bool)), stated

    def _demuxed(self, container: Any, stream: Any) -> Iterator[Any]:
        import av

        try:
            for packet in container.demux(stream):
                if packet.is_corrupt:  # the file ends inside of this frame
                    return
                if packet.dts is not None and packet.size:
                    yield packet
        except (av.error.FFmpegError, ValueError) as error:
            self.damage.note("bad_video", f"the video breaks off: {_reason(error)}")

    def _assigned(self, packets: _Packets, stated: int, times_ns: np.ndarray, csv: Path) -> np.ndarray:
        """The CSV's time of each frame in decode order, int64; shorter where the video is cut.

        Raises:
            LogError: bad_timestamps when the counts differ.
        """
        frames, rows = len(packets.pts), len(times_ns)
        if rows != frames and not frames < rows == stated:
            reason = f"{csv.name} has {rows} rows, the video has {frames} frames"
            raise bad_timestamps(reason, csv)
        rank = np.empty(frames, np.int64)
        rank[np.argsort(packets.pts, kind="stable")] = np.arange(frames)
        if frames < rows:
            # A lost frame may be shown before one that is left; none is shown before it is decoded.
            certain = packets.pts <= packets.dts[-1]
            kept = frames if certain.all() else int(np.argmin(certain))
            lost = self.damage.bytes_total - int(packets.sizes[:kept].sum())
            self.damage.note("cut_video", f"{kept} of {rows} frames can be read", lost)
            rank = rank[:kept]
        return np.asarray(times_ns[rank], np.int64)

    def _cut_at_keyframes(self, packets: _Packets) -> list[Block]:
        blocks: list[Block] = []
        count, start = len(self._sensor_ns), 0
        placed = np.concatenate([[0], np.cumsum(packets.sizes)])
        for frame in [*np.flatnonzero(packets.keys[:count]).tolist(), count]:
            size, span = (
                placed[frame] - placed[start],
                self._log_ns[min(frame, count - 1)] - self._log_ns[start],
            )
            if frame > start and (frame == count or size >= BLOCK_BYTES or span >= BLOCK_NS):
                first_ns, last_ns = int(self._log_ns[start]), int(self._log_ns[frame - 1])
                blocks.append(Block(first_ns, last_ns, start, frame - start, _STREAM_BYTES, None, "frames"))
                start = frame
        return blocks

    def read(self, block: Block, wanted: frozenset[int]) -> Iterator[RawMessage]:
        """Frames of one block, demuxed as they are taken; a block that does not come out is noted as lost."""
        if 0 not in wanted:
            return
        topic, msgtype, serialization, _, _, stamp = self.channels[0]
        frame, end = block.offset, block.offset + block.length
        try:
            for data in self._frames(block):
                sensor_ns, log_ns = int(self._sensor_ns[frame]), int(self._log_ns[frame])
                frame += 1
                if data:
                    payload = wrap(_ENCODINGS[self._codec], sensor_ns, self.name, data)
                    yield RawMessage(topic, msgtype, log_ns, payload, serialization, stamp)
                else:
                    self.damage.note("bad_video", f"frame {frame - 1} is broken")
        except LogError as error:
            self.damage.note(error.code, error.reason)
        if frame != end:
            self.damage.note("bad_video", f"{end - frame} frames do not come out again")

    def _frames(self, block: Block) -> Iterator[bytes]:
        """The payload of each frame of a block; empty where it does not convert."""
        container, stream = self._open()
        with container:
            convert = _converter(_FILTERS[self._codec], stream, self.path)
            packets = self._from(container, stream, self._start_dts[block.offset])
            yield from map(convert, islice(packets, block.length))

    def _from(self, container: Any, stream: Any, start_dts: int) -> Iterator[Any]:
        """Packets from the one with that decode time on."""
        import av

        try:
            container.seek(start_dts, stream=stream, backward=True, any_frame=False)
        except av.error.FFmpegError:
            return
        started = False
        for packet in self._demuxed(container, stream):
            started = started or packet.dts == start_dts
            if started:
                yield packet
            elif packet.dts > start_dts:
                return


def _converter(name: str, stream: Any, path: Path) -> Callable[[Any], bytes]:
    """A function from a packet to the payload of its message.

    Raises:
        LogError: bad_video when the header of the stream is broken.
    """
    if not name:
        return bytes
    import av
    from av.bitstream import BitStreamFilterContext

    try:
        context = BitStreamFilterContext(name, stream)
    except (av.error.FFmpegError, ValueError) as error:
        raise LogError(f"bad stream header: {_reason(error)}", code="bad_video", file=path) from error

    def convert(packet: Any) -> bytes:
        try:
            return b"".join(bytes(found) for found in context.filter(packet))
        except av.error.FFmpegError:
            return b""

    return convert


def _reason(error: Exception) -> str:
    """FFmpeg's words without the path that it repeats."""
    return str(getattr(error, "strerror", "") or type(error).__name__)
