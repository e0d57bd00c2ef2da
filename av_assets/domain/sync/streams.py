"""The first pass over a log: stamps of every stream, all signals, the calibration. No payload is kept.

Belongs here: sorting streams by what becomes of them, and collecting. Does not belong here: matching,
writing.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from av_assets.domain.errors import LogError, SyncError
from av_assets.domain.geometry.calibration import (
    EGO_FRAME,
    Calibration,
    FrameTree,
    Mount,
    calibration_from_log,
    frame_tree,
)
from av_assets.domain.logs.contract import infer_streams
from av_assets.domain.logs.payloads import IMAGE_TYPES
from av_assets.domain.logs.reader import LogReader, RawMessage, header_stamp_ns
from av_assets.domain.sync.canbus import CanDecoder
from av_assets.domain.sync.signals import SignalLog, SignalReader
from av_assets.domain.sync.wire import Cursor

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from av_assets.domain.geometry.transforms import Array
    from av_assets.domain.logs.drive_spec import DriveSpec, StreamSpec
    from av_assets.domain.sync.grid import Ns
    from av_assets.policies.sync import SyncPolicy

PAYLOAD_KINDS = ("lidar", "radar")
SIGNAL_KINDS = ("imu", "gnss", "pose", "can", "signal", "other")
TimeSource = Literal["sensor", "log"]


@dataclass(frozen=True)
class Stamps:
    """All stamps of one stream in recorded order. `used_ns` is what matching uses, `source` says which
    that is."""

    sensor_ns: Ns
    log_ns: Ns
    used_ns: Ns
    source: TimeSource


@dataclass(frozen=True)
class Survey:
    """What the first pass found. `signals` stay raw: their messages are named by position, see SignalLog."""

    streams: dict[str, StreamSpec]
    stamps: dict[str, Stamps]
    signals: SignalLog
    tree: FrameTree
    calibration: Calibration
    unreadable: dict[str, int]
    notes: tuple[str, ...]


def judge_clock(sensor_ns: Ns, log_ns: Ns, max_offset_ns: int) -> Stamps:
    """Sensor time, unless it is of another epoch (uptime, zero) or stands still: then log time, and it
    is said so."""
    source: TimeSource = "sensor"
    if len(sensor_ns):
        foreign = abs(float(np.median(log_ns - sensor_ns))) > max_offset_ns
        frozen = len(sensor_ns) >= 4 and 2 * len(np.unique(sensor_ns)) <= len(sensor_ns)
        source = "log" if foreign or frozen else "sensor"
    return Stamps(sensor_ns, log_ns, sensor_ns if source == "sensor" else log_ns, source)


def read_messages(reader: LogReader, topics: Collection[str]) -> Iterator[RawMessage]:
    """Messages of the named topics; the one door through which synchronization reads a raw log.

    Raises:
        SyncError: raw_image_topic, when one of them carries pictures: those come from redaction only.
    """
    for topic in sorted(topics):
        if topic in reader.topics and reader.topics[topic].msgtype in IMAGE_TYPES:
            raise SyncError(
                f"{topic} carries pictures that were not redacted",
                code="raw_image_topic",
                remedy="take camera frames from redacted_clips",
            )
    return iter(reader.messages(topics)) if topics else iter(())


def drive_streams(reader: LogReader, spec: DriveSpec) -> dict[str, StreamSpec]:
    """Declared and inferred streams that the log holds."""
    topics = {name: info.msgtype for name, info in reader.topics.items()}
    streams = infer_streams(topics, spec.streams)
    return {role: stream for role, stream in sorted(streams.items()) if stream.topic in topics}


def survey(reader: LogReader, spec: DriveSpec, policy: SyncPolicy, drive_dir: Path | None) -> Survey:
    """The first pass. Streams of pictures are known by role but not read.

    Raises:
        SyncError: bad_dbc, when the declared DBC cannot be read.
    """
    streams = drive_streams(reader, spec)
    infos = _camera_infos(reader, streams)
    tree = frame_tree(_decoded(reader, [t for t, i in reader.topics.items() if _is_static_tf(t, i.msgtype)]))
    calibration = _calibration(reader, streams, infos, tree)
    can, notes = _can_decoders(reader, streams, drive_dir)
    signals, signal_reader = SignalLog(), _signal_reader(reader, tree, can, policy)
    sensor: dict[str, array[int]] = defaultdict(lambda: array("q"))
    log: dict[str, array[int]] = defaultdict(lambda: array("q"))
    kinds = {stream.topic: stream.kind for stream in streams.values() if stream.kind != "camera"}
    kinds = {t: k for t, k in kinds.items() if reader.topics[t].msgtype not in IMAGE_TYPES}
    for raw in read_messages(reader, kinds):
        stamp_ns = header_stamp_ns(raw)
        if kinds[raw.topic] in SIGNAL_KINDS:
            signals.add(raw.topic, len(log[raw.topic]), signal_reader.read(raw))
        sensor[raw.topic].append(raw.log_ns if stamp_ns is None else stamp_ns)
        log[raw.topic].append(raw.log_ns)
    offset_ns = round(policy.max_clock_offset_s * 1e9)
    stamps = {topic: judge_clock(_ns(sensor[topic]), _ns(log[topic]), offset_ns) for topic in kinds}
    unreadable = dict(sorted(signal_reader.failed.items()))
    return Survey(streams, stamps, signals, tree, calibration, unreadable, notes)


def _ns(values: array[int]) -> Ns:
    return np.array(values, np.int64)


def _is_static_tf(topic: str, msgtype: str) -> bool:
    return msgtype == "tf2_msgs/msg/TFMessage" and topic.rsplit("/", 1)[-1] == "tf_static"


def _decoded(reader: LogReader, topics: Collection[str]) -> Iterator[object]:
    """Decoded messages; those that cannot be decoded are left out (calibration then lists what is
    missing)."""
    for raw in read_messages(reader, topics):
        try:
            yield reader.deserialize(raw)
        except LogError:
            continue


def _camera_infos(reader: LogReader, streams: Mapping[str, StreamSpec]) -> dict[str, object]:
    """role -> first CameraInfo of each camera: of the topic beside the pictures (`.../camera_info`)."""
    infos = [t for t, i in reader.topics.items() if i.msgtype == "sensor_msgs/msg/CameraInfo" and i.count]
    topic_of = {}
    for role, stream in streams.items():
        if stream.kind == "camera":
            beside = [
                t
                for t in infos
                if f"{stream.topic}/".startswith(t.rsplit("/", 1)[0] + "/") and t.count("/") > 1
            ]
            if beside:
                topic_of[role] = max(beside, key=lambda t: (len(t.rsplit("/", 1)[0]), t))
    wanted, first = set(topic_of.values()), {}
    for raw in read_messages(reader, wanted):
        if raw.topic not in first:
            try:
                first[raw.topic] = reader.deserialize(raw)
            except LogError:
                continue
        if len(first) == len(wanted):
            break
    return {role: first[topic] for role, topic in topic_of.items() if topic in first}


def _calibration(
    reader: LogReader, streams: Mapping[str, StreamSpec], infos: Mapping[str, object], tree: FrameTree
) -> Calibration:
    mounts = []
    for role, stream in streams.items():
        if stream.kind == "camera":
            mounts.append(Mount(role, "camera", stream.frame))
        elif stream.kind == "lidar":
            mounts.append(Mount(role, "lidar", stream.frame or header_frame(reader, stream.topic)))
    return calibration_from_log(mounts, tree, infos)


def header_frame(reader: LogReader, topic: str) -> str | None:
    """frame_id of the first message of a topic that starts with a header."""
    for raw in read_messages(reader, {topic}):
        try:
            return Cursor(raw).header() or None
        except SyncError:
            return None
    return None


def ego_pose(tree: FrameTree, frame: str | None) -> Array | None:
    """ego_SE3_frame, None where the log does not say."""
    return tree.lookup(EGO_FRAME, frame.lstrip("/")) if frame else None


def _signal_reader(
    reader: LogReader, tree: FrameTree, can: dict[str, CanDecoder], policy: SyncPolicy
) -> SignalReader:
    def rotation(frame: str) -> Array | None:
        pose = ego_pose(tree, frame)
        return None if pose is None else pose[:3, :3]

    return SignalReader(reader.deserialize, rotation, can, policy.aliases, policy.max_signal_fields)


def _can_decoders(
    reader: LogReader, streams: Mapping[str, StreamSpec], drive_dir: Path | None
) -> tuple[dict[str, CanDecoder], tuple[str, ...]]:
    decoders, notes = {}, []
    for role, stream in streams.items():
        if stream.kind == "can" and stream.dbc is not None:
            decoders[stream.topic] = CanDecoder(_find_dbc(reader, stream.dbc, drive_dir))
        elif stream.kind == "can":
            notes.append(f"{role}: frames are not decoded, drive.yaml names no DBC")
    return decoders, tuple(notes)


def _find_dbc(reader: LogReader, name: str, drive_dir: Path | None) -> Path:
    """In the drive folder; where that is not given, in the folder of the log or the one above (a rosbag2
    folder)."""
    folders = [drive_dir] if drive_dir else [f for s in reader.sources for f in s.path.absolute().parents[:2]]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise SyncError("the DBC that drive.yaml names is not there", code="bad_dbc", file=name)
