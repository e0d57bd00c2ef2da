"""What a drive holds: its streams by role, its calibration, and the one door to its raw messages.

Belongs here: sorting streams by what becomes of them, mounts, decoders. Does not belong here: samples (scan),
matching, writing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from av_assets.domain.errors import LogError, SyncError
from av_assets.domain.geometry.calibration import (
    EGO_FRAME,
    Calibration,
    FrameTree,
    Mount,
    calibration_from_log,
    frame_tree,
)
from av_assets.domain.geometry.ledger import CalibrationLedger
from av_assets.domain.geometry.resolution import ResolvedCalibration, resolve_calibration
from av_assets.domain.logs.contract import infer_streams
from av_assets.domain.logs.files.blocks import MAX_TIME_NS
from av_assets.domain.logs.messages.foxglove import CAMERA_INFO_TYPES, TRANSFORM_TYPES, ros_equivalent
from av_assets.domain.logs.messages.payloads import IMAGE_TYPES
from av_assets.domain.logs.reader import LogReader, RawMessage
from av_assets.domain.sync.can_batches import BatchCanDecoder
from av_assets.domain.sync.wire import Cursor
from av_assets.policies.calibration import CalibrationPolicy

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from av_assets.domain.geometry.transforms import Array
    from av_assets.domain.logs.drive_spec import DriveSpec, StreamSpec

PAYLOAD_KINDS = ("lidar", "radar")
SIGNAL_KINDS = ("imu", "gnss", "pose", "can", "signal", "other")


@dataclass(frozen=True)
class Survey:
    """What is known of a drive before its samples are read: roles, mounts, calibration.

    in_log: what the log itself says of its sensors; resolved: what is used, and why.
    """

    streams: dict[str, StreamSpec]
    tree: FrameTree
    in_log: Calibration
    resolved: ResolvedCalibration

    @property
    def calibration(self) -> Calibration:
        return self.resolved.calibration

    def topic_kinds(self) -> dict[str, str]:
        """topic -> kind of every stream but cameras, whose pictures come from redaction only."""
        return {s.topic: s.kind for s in self.streams.values() if s.kind != "camera"}


def read_messages(
    reader: LogReader, topics: Collection[str], start_ns: int = 0, end_ns: int = MAX_TIME_NS + 1
) -> Iterator[RawMessage]:
    """Messages of the named topics in the half-open log time; the one door to a raw log.

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
    return iter(reader.messages(topics, start_ns, end_ns)) if topics else iter(())


def drive_streams(reader: LogReader, spec: DriveSpec) -> dict[str, StreamSpec]:
    """Declared and inferred streams that the log holds."""
    topics = {name: info.msgtype for name, info in reader.topics.items()}
    streams = infer_streams(topics, spec.streams)
    return {role: stream for role, stream in sorted(streams.items()) if stream.topic in topics}


def survey(
    reader: LogReader,
    spec: DriveSpec,
    ledger: CalibrationLedger | None = None,
    policy: CalibrationPolicy | None = None,
) -> Survey:
    """Streams, mounts and lenses of a drive: what is known before its samples are read.

    Args:
        ledger: knows what the log does not say; None: nothing.
        policy: when a calibration is believed; None: the shipped one.

    Raises:
        SyncError: raw_image_topic, where a topic of transforms or lenses carries pictures.
    """
    streams = drive_streams(reader, spec)
    infos = _camera_infos(reader, streams)
    tree = frame_tree(_decoded(reader, [t for t, i in reader.topics.items() if _is_static_tf(t, i.msgtype)]))
    in_log = _calibration(reader, streams, infos, tree)
    known, policy = ledger or CalibrationLedger.of([]), policy or CalibrationPolicy.load()
    resolved = resolve_calibration(in_log, known, spec.vehicle, reader.start_ns, policy)
    return Survey(streams, tree, in_log, resolved)


def _is_static_tf(topic: str, msgtype: str) -> bool:
    return msgtype in TRANSFORM_TYPES and topic.rsplit("/", 1)[-1] == "tf_static"


def _decoded(reader: LogReader, topics: Collection[str]) -> Iterator[object]:
    """Decoded messages; those that cannot be decoded are left out (calibration then lists what is
    missing)."""
    for raw in read_messages(reader, topics):
        try:
            yield ros_equivalent(raw.msgtype, reader.deserialize(raw))
        except LogError:
            continue


def _camera_infos(reader: LogReader, streams: Mapping[str, StreamSpec]) -> dict[str, object]:
    """role -> first CameraInfo of each camera: of the topic beside the pictures (`.../camera_info`)."""
    infos = [t for t, i in reader.topics.items() if i.msgtype in CAMERA_INFO_TYPES and i.count]
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
                first[raw.topic] = ros_equivalent(raw.msgtype, reader.deserialize(raw))
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


def can_decoders(
    reader: LogReader, streams: Mapping[str, StreamSpec], drive_dir: Path | None
) -> tuple[dict[str, BatchCanDecoder], list[str]]:
    """topic -> decoder of its CAN frames, and notes on those that have none.

    Raises:
        SyncError: bad_dbc, when a declared DBC cannot be read.
    """
    decoders, notes = {}, []
    for role, stream in streams.items():
        if stream.kind == "can" and stream.dbc is not None:
            decoders[stream.topic] = BatchCanDecoder(_find_dbc(reader, stream.dbc, drive_dir))
        elif stream.kind == "can":
            notes.append(f"{role}: frames are not decoded, drive.yaml names no DBC")
    return decoders, notes


def _find_dbc(reader: LogReader, name: str, drive_dir: Path | None) -> Path:
    """In the drive folder; where that is not given, in the folder of the log or the one above (a rosbag2
    folder)."""
    folders = [drive_dir] if drive_dir else [f for s in reader.sources for f in s.path.absolute().parents[:2]]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise SyncError("the DBC that drive.yaml names is not there", code="bad_dbc", file=name)
