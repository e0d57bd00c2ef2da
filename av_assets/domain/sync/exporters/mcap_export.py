"""Synchronized shards as one MCAP of ROS 2 messages, for players and viewers.

Pictures are those that redaction released. Each sample appears once, at the time it was recorded, with its sensor
time in the header; rows appear as `/signals` messages at reference times.
Belongs here: that mapping. Does not belong here: message layouts (`ros2_messages`), the file (`McapWriter`).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from av_assets.domain.logs.files.mcap_writer import McapChannel, McapWriter, written_whole
from av_assets.domain.sync.exporters.clips import Clip, Shards
from av_assets.domain.sync.exporters.ros2_messages import Ros2Messages, field_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

LIBRARY = "av-assets shards"


class Sample(NamedTuple):
    """One message that is due; `order` keeps what belongs together in place where times are equal."""

    log_ns: int
    order: int
    topic: str
    sensor_ns: int
    message: Any


Note = tuple[int, int, McapChannel, bytes]
"""log_ns, sensor_ns, channel and serialised message of something that is added to what shards hold."""


def export_mcap(
    shards: Path, out: Path, *, overwrite: bool = False, only: int | None = None, notes: Sequence[Note] = ()
) -> dict[str, int]:
    """Write the shards in folder `shards` into the MCAP file `out`; gives messages per topic.

    Topics: `/<role>/image/compressed` (sensor_msgs/CompressedImage) or `/<role>/video` (foxglove_msgs/
    CompressedVideo) with `/<role>/camera_info`, `/<role>/points` (sensor_msgs/PointCloud2 in the frame of the
    sensor), `/<role>/tracks` (ego frame), `/signals` and `/tf_static`. One clip is in memory at a time.

    Args:
        only: number of the one clip to write; all of them if None.
        notes: further messages, in a few topics of their own.

    Raises:
        SyncError: no_shards or bad_shard.
        LogError: output_exists.
        TransientError: disk_full or cannot_write.
    """
    source = Shards.open(shards)
    with written_whole(out, overwrite) as growing, McapWriter(growing, "ros2", LIBRARY) as writer:
        exporter = _Exporter(source, writer)
        for clip in source.clips():
            if only is not None and clip.number != only:
                continue
            for sample in sorted(exporter.samples(clip), key=lambda one: one[:2]):
                exporter.write(sample)
        for note in sorted(notes, key=lambda one: one[:1]):
            exporter.add(note)
        writer.metadata("av_shards", exporter.provenance())
        writer.finish()
    return dict(sorted(exporter.counts.items()))


class _Exporter:
    def __init__(self, source: Shards, writer: McapWriter) -> None:
        self.source, self.writer = source, writer
        self.counts: Counter[str] = Counter()
        self._last_ns: dict[str, int] = {}
        self._fields: dict[str, str] = {}
        self._messages: Ros2Messages | None = None
        self._channels: dict[str, tuple[int, str]] = {}

    def samples(self, clip: Clip) -> Iterator[Sample]:
        """All messages of one clip, in no order."""
        if self._messages is None:
            self._fields = field_names(clip.signals())
            self._messages = Ros2Messages(list(self._fields.values()))
            yield from self._static(int(clip.numbers("ref_ns")[0]))
        for role, kind in self.source.roles.items():
            times = clip.times(role)
            rows = {"camera": self._pictures, "lidar": self._clouds, "radar": self._tracks}[kind](clip, role)
            for row, messages in enumerate(rows):
                sensor_ns, log_ns = int(times.sensor_ns[row]), int(times.log_ns[row])
                # A sample that stands in two rows is one message.
                if not messages or not times.valid[row] or self._last_ns.get(role) == sensor_ns:
                    continue
                self._last_ns[role] = sensor_ns
                for order, (topic, message) in enumerate(messages):
                    yield Sample(log_ns, order, topic, sensor_ns, message)
        yield from self._signals(clip)

    def _pictures(self, clip: Clip, role: str) -> Iterator[list[tuple[str, Any]]]:
        assert self._messages is not None
        calibration = self.source.calibration
        camera = calibration.cameras.get(role) if calibration else None
        for frame in clip.frames(role):
            found: list[tuple[str, Any]] = []
            if frame is not None:
                if camera is not None:
                    info = self._messages.camera_info(frame.sensor_ns, role, camera)
                    found.append((f"/{role}/camera_info", info))
                video = frame.encoding in ("h264", "h265")
                topic = f"/{role}/video" if video else f"/{role}/image/compressed"
                found.append((topic, self._messages.picture(frame)))
            yield found

    def _clouds(self, clip: Clip, role: str) -> Iterator[list[tuple[str, Any]]]:
        assert self._messages is not None
        for sensor_ns, cloud in zip(clip.times(role).sensor_ns, clip.clouds(role), strict=True):
            made = None if cloud is None else self._messages.cloud(int(sensor_ns), role, cloud)
            yield [] if made is None else [(f"/{role}/points", made)]

    def _tracks(self, clip: Clip, role: str) -> Iterator[list[tuple[str, Any]]]:
        assert self._messages is not None
        for sensor_ns, tracks in zip(clip.times(role).sensor_ns, clip.tracks(role), strict=True):
            made = None if tracks is None else self._messages.tracks(int(sensor_ns), tracks)
            yield [] if made is None else [(f"/{role}/tracks", made)]

    def _signals(self, clip: Clip) -> Iterator[Sample]:
        assert self._messages is not None
        signals, keyframes = clip.signals(), clip.keyframes()
        for row, (ref_ns, index) in enumerate(
            zip(clip.numbers("ref_ns"), clip.numbers("frame_index"), strict=True)
        ):
            values = {self._fields[name]: float(column[row]) for name, column in signals.items()}
            message = self._messages.signals(int(ref_ns), int(index), bool(keyframes[row]), values)
            yield Sample(int(ref_ns), 0, "/signals", int(ref_ns), message)

    def _static(self, ref_ns: int) -> Iterator[Sample]:
        assert self._messages is not None
        if self.source.calibration is not None:
            message = self._messages.transforms(ref_ns, self.source.calibration)
            yield Sample(ref_ns, -1, "/tf_static", ref_ns, message)

    def write(self, sample: Sample) -> None:
        assert self._messages is not None
        if sample.topic not in self._channels:
            msgtype = sample.message.__msgtype__
            text = self._messages.definition(msgtype).encode()
            channel = McapChannel(sample.topic, "cdr", msgtype, "ros2msg", text)
            self._channels[sample.topic] = self.writer.channel(channel), msgtype
        number, msgtype = self._channels[sample.topic]
        data = self._messages.serialized(sample.message, msgtype)
        count = self.counts[sample.topic]
        self.writer.message(number, sample.log_ns, data, max(0, sample.sensor_ns), count)
        self.counts[sample.topic] += 1

    def add(self, note: Note) -> None:
        log_ns, sensor_ns, channel, data = note
        number = self.writer.channel(channel)
        self.writer.message(number, log_ns, data, max(0, sensor_ns), self.counts[channel.topic])
        self.counts[channel.topic] += 1

    def provenance(self) -> dict[str, str]:
        """Where the file comes from, and which signal stands in which field."""
        renamed = {f"signal.{field}": name for name, field in self._fields.items() if field != name}
        return {
            "drive": self.source.drive,
            "schema_version": self.source.schema_version,
            "policy": self.source.policy,
            "redacted": "true",
            **renamed,
        }
