"""Named faults: each gives a good drive again with one thing wrong, and says what must notice.

Users run their own pipelines against them. `expects` is the reason code of the refusal, or the rule of the
integrity report that must fail. Checksums are made to agree again, so that the fault itself is found, except
where the checksum is what should find it.
Belongs here: the catalogue of faults. Does not belong here: finding them.
"""

from __future__ import annotations

import re
import shutil
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.errors import PoisonError
from av_assets.domain.logs.drive_spec import MARKER_FILE, SPEC_FILE
from av_assets.domain.simulation.recorder import SUMS_FILE, write_sums
from av_assets.domain.simulation.rewrite import Message, log_file_of, rewrite, topic_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CLOCK_JUMP_NS = 2_500_000_000
GPS_JUMP_DEG = 0.05


@dataclass(frozen=True)
class Fault:
    """A fault by name; `expects` is the reason code or integrity rule that must answer."""

    name: str
    description: str
    expects: str


def _truncate(folder: Path, rng: np.random.Generator) -> None:
    log = log_file_of(folder)
    data = log.read_bytes()
    log.write_bytes(data[: int(len(data) * rng.uniform(0.55, 0.85))])


def _empty_file(folder: Path, rng: np.random.Generator) -> None:
    log_file_of(folder).write_bytes(b"")


def _not_a_bag(folder: Path, rng: np.random.Generator) -> None:
    log_file_of(folder).write_text("<html><body>502 Bad Gateway</body></html>\n" * 40, "utf-8")


def _zero_messages(folder: Path, rng: np.random.Generator) -> None:
    rewrite(folder, lambda message: None)


def _bit_flip(folder: Path, rng: np.random.Generator) -> None:
    if not (folder / SUMS_FILE).exists():
        write_sums(folder)
    log = log_file_of(folder)
    data = bytearray(log.read_bytes())
    data[int(rng.integers(len(data) // 8, len(data) * 7 // 8))] ^= 1 << int(rng.integers(8))
    log.write_bytes(bytes(data))


def _drop_marker(folder: Path, rng: np.random.Generator) -> None:
    (folder / MARKER_FILE).unlink(missing_ok=True)


def _missing_calibration(folder: Path, rng: np.random.Generator) -> None:
    from rosbags.rosbag2 import Reader

    from av_assets.domain.simulation.rewrite import recording_of

    with Reader(recording_of(folder)) as reader:
        kinds = ("sensor_msgs/msg/CameraInfo", "tf2_msgs/msg/TFMessage")
        gone = frozenset(c.topic for c in reader.connections if c.msgtype in kinds)
    rewrite(folder, lambda message: message, without=gone)


def _rename_topic(folder: Path, rng: np.random.Generator) -> None:
    topic = topic_of(folder, "camera")
    rewrite(folder, lambda message: message, rename={topic: topic + "_v2"})


def _bad_id(folder: Path, rng: np.random.Generator) -> None:
    path = folder / SPEC_FILE
    path.write_text(re.sub(r"(?m)^drive:.*$", "drive: 'Veh 042, Monday'", path.read_text("utf-8")), "utf-8")


def _frozen_camera(folder: Path, rng: np.random.Generator) -> None:
    topic, since = topic_of(folder, "camera"), float(rng.uniform(0.2, 0.45))
    held: list[bytes] = []

    def edit(message: Message) -> Message:
        if message.topic != topic or message.index < since * message.count:
            return message
        held.append(message.raw)
        frozen = Message(topic, message.log_ns, held[0], message.index, message.count)
        return frozen.stamped(message.sensor_ns)  # the clock goes on, the picture does not

    rewrite(folder, edit)


def _duplicate_stamps(folder: Path, rng: np.random.Generator) -> None:
    topic, every = topic_of(folder, "lidar"), int(rng.integers(3, 6))
    last: list[int] = []

    def edit(message: Message) -> Message:
        if message.topic != topic:
            return message
        last.append(message.sensor_ns)
        return message.stamped(last[-2]) if message.index % every == every - 1 else message

    rewrite(folder, edit)


def _clock_jump(folder: Path, rng: np.random.Generator) -> None:
    topic, since = topic_of(folder, "camera"), float(rng.uniform(0.3, 0.7))

    def edit(message: Message) -> Message:
        if message.topic != topic or message.index < since * message.count:
            return message
        return message.stamped(message.sensor_ns + CLOCK_JUMP_NS)

    rewrite(folder, edit)


def _message_gap(folder: Path, rng: np.random.Generator) -> None:
    topic, since = topic_of(folder, "lidar"), float(rng.uniform(0.2, 0.5))

    def edit(message: Message) -> Message | None:
        gone = since * message.count <= message.index < (since + 0.3) * message.count
        return None if message.topic == topic and gone else message

    rewrite(folder, edit)


def _backward_stamps(folder: Path, rng: np.random.Generator) -> None:
    topic, at = topic_of(folder, "imu"), float(rng.uniform(0.2, 0.8))

    def edit(message: Message) -> Message:
        hit = message.topic == topic and message.index == int(at * message.count)
        return message.stamped(message.sensor_ns - 50_000_000) if hit else message

    rewrite(folder, edit)


def _gps_jump(folder: Path, rng: np.random.Generator) -> None:
    topic, since = topic_of(folder, "gnss"), float(rng.uniform(0.3, 0.7))

    def edit(message: Message) -> Message:
        if message.topic != topic or message.index < since * message.count:
            return message
        return Message(topic, message.log_ns, _moved_north(message.raw), message.index, message.count)

    rewrite(folder, edit)


def _moved_north(raw: bytes) -> bytes:
    """The latitude follows header (stamp, frame id) and status (int8, uint16), aligned to 8 bytes."""
    length = struct.unpack_from("<I", raw, 12)[0]
    end = 16 + length - 4  # offsets of CDR count from behind the encapsulation header
    status = end + 1
    service = status + status % 2 + 2
    latitude = (service + 7) // 8 * 8 + 4
    value = struct.unpack_from("<d", raw, latitude)[0]
    return raw[:latitude] + struct.pack("<d", value + GPS_JUMP_DEG) + raw[latitude + 8 :]


_CATALOGUE: tuple[tuple[Fault, Callable[[Path, np.random.Generator], None]], ...] = (
    (Fault("truncate", "the log file ends in the middle", "file_is_whole"), _truncate),
    (Fault("empty_file", "the log file has no bytes", "empty_log"), _empty_file),
    (Fault("not_a_bag", "the log file is a web page", "not_a_log"), _not_a_bag),
    (Fault("zero_messages", "the log opens and holds no message", "no_messages"), _zero_messages),
    (Fault("bit_flip", "a bit of the log is not what its checksum says", "checksum_mismatch"), _bit_flip),
    (Fault("drop_marker", "the upload never said that it is complete", "missing_marker"), _drop_marker),
    (
        Fault("missing_calibration", "no camera_info and no static transforms", "camera_has_intrinsics"),
        _missing_calibration,
    ),
    (Fault("rename_topic", "a camera topic has another name", "stream_is_present"), _rename_topic),
    (Fault("bad_id", "the drive id breaks the grammar", "invalid_drive_id"), _bad_id),
    (Fault("frozen_camera", "a camera repeats one picture", "frames_are_live"), _frozen_camera),
    (Fault("duplicate_stamps", "turns of the lidar carry the stamp of the turn before", "stamps_are_unique"),
     _duplicate_stamps),
    (Fault("clock_jump", "the clock of a camera jumps 2.5 s ahead", "clock_does_not_jump"), _clock_jump),
    (Fault("message_gap", "three tenths of the lidar turns are missing", "has_no_gap"), _message_gap),
    (Fault("backward_stamps", "an IMU stamp lies 50 ms back", "sensor_time_moves_forward"), _backward_stamps),
    (Fault("gps_jump", "the position jumps five kilometres", "speed_is_possible"), _gps_jump),
)  # fmt: skip
FAULTS: dict[str, Fault] = {fault.name: fault for fault, _ in _CATALOGUE}
_KEEP_SUMS = {"bit_flip"}


def inject(name: str, drive_dir: Path, out_dir: Path, seed: int) -> Path:
    """Copy a drive folder to `out_dir/<its name>` and damage the copy; the same seed gives the same bytes.

    Raises:
        PoisonError: unknown fault, or the drive lacks what the fault needs.
    """
    if name not in FAULTS:
        known = ", ".join(FAULTS)
        raise PoisonError(f"no fault {name!r}; there are {known}", code="unknown_fault")
    damage = next(act for fault, act in _CATALOGUE if fault.name == name)
    folder = out_dir / drive_dir.name
    out_dir.mkdir(parents=True, exist_ok=True)
    shutil.copytree(drive_dir, folder)
    marked = (folder / MARKER_FILE).exists()
    (folder / MARKER_FILE).unlink(missing_ok=True)
    damage(folder, np.random.default_rng([seed, list(FAULTS).index(name)]))
    if name not in _KEEP_SUMS and (folder / SUMS_FILE).exists():
        write_sums(folder)
    if marked and name != "drop_marker":
        (folder / MARKER_FILE).touch()
    return folder
