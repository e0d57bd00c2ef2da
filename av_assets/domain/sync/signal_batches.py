"""Many small messages of one topic at once: numbers by array views where the layout is known and equal.

Messages whose bytes up to the numbers are equal (same frame ids) have their numbers at the same offsets.
Everything else goes through SignalReader message by message and gives the same numbers, slower.
Belongs here: batches of one topic. Does not belong here: single messages (signals), files (signal_log).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from av_assets.domain.errors import SyncError
from av_assets.domain.sync.alike import Alike, NotAlikeError
from av_assets.domain.sync.can_batches import BatchCanDecoder, CanFrames
from av_assets.domain.sync.canbus import EXTENDED_FLAG
from av_assets.domain.sync.signals import FRD_TO_FLU, POSE_FIELDS, SignalReader, topic_slug
from av_assets.domain.sync.wire import (
    CAN_ERROR_FLAG,
    CAN_EXTENDED_FLAG,
    CAN_ID_MASK,
    CAN_REMOTE_FLAG,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from av_assets.domain.geometry.transforms import Array
    from av_assets.domain.logs.files.blocks import RawMessage
    from av_assets.domain.sync.grid import Ns

IMU_NAMES = ("imu_ax_mps2", "imu_ay_mps2", "imu_az_mps2", "yaw_rate_radps")
GNSS_NAMES = ("latitude_deg", "longitude_deg", "altitude_m")


class Numbers(NamedTuple):
    """Signals `names` (K,) of the messages `rows` (M,) of a batch: values (M, K)."""

    names: tuple[str, ...]
    rows: Ns
    values: Array


class SignalBatches:
    """Decodes batches of messages of small streams.

    Args:
        single: what reads a message whose layout is not known here.
        rotation: frame -> ego_R_frame (3, 3), None where unknown.
        can: topic -> decoder of its CAN frames.
    """

    def __init__(
        self,
        single: SignalReader,
        rotation: Callable[[str], Array | None],
        can: Mapping[str, BatchCanDecoder],
    ) -> None:
        self._single, self._rotation, self._can = single, rotation, can
        self._known: dict[str, Callable[[Alike], Iterable[Numbers]]] = {
            "sensor_msgs/msg/Imu": self._imu,
            "sensor_msgs/msg/NavSatFix": _gnss,
            "can_msgs/msg/Frame": self._can_frames,
            "nav_msgs/msg/Odometry": _odometry,
            "geometry_msgs/msg/PoseStamped": _pose,
            "geometry_msgs/msg/PoseWithCovarianceStamped": _pose,
        }

    @property
    def failed(self) -> dict[str, int]:
        """topic -> messages that could not be read."""
        return self._single.failed

    def read(
        self, batch: Sequence[RawMessage], groups: Sequence[Alike], others: Sequence[int]
    ) -> Iterator[Numbers]:
        """The numbers of messages of one topic, grouped; rows of a group are in the order of the batch.

        Args:
            groups, others: the batch as `alike` sorts it.
        """
        slow = list(others)
        for group in groups:
            read = self._known.get(group.first.msgtype)
            try:
                if read is None:
                    raise NotAlikeError
                yield from read(group)
            except (SyncError, NotAlikeError):
                slow += group.rows.tolist()
        yield from self._singly(batch, sorted(slow))

    def _singly(self, batch: Sequence[RawMessage], rows: Sequence[int]) -> Iterator[Numbers]:
        found: dict[tuple[str, ...], tuple[list[int], list[list[float]]]] = defaultdict(lambda: ([], []))
        for row in rows:
            pairs = list(self._single.read(batch[row]))
            if pairs:
                places, values = found[tuple(name for name, _ in pairs)]
                places.append(row)
                values.append([value for _, value in pairs])
        for names, (places, values) in found.items():
            yield Numbers(names, np.array(places, np.int64), np.array(values, np.float64))

    def _imu(self, alike: Alike) -> Iterator[Numbers]:
        cursor, frame = alike.cursor()
        cursor.align(8)
        rates = alike.numbers(cursor.at + 13 * 8, 3)
        accelerations = alike.numbers(cursor.at + 25 * 8, 3)
        rotation = self._ego_rotation(frame)
        # Sums by hand: a matrix product may round differently with the size of the batch.
        turned = [sum(row[k] * accelerations[:, k] for k in range(3)) for row in rotation]
        yaw_rate = sum(rotation[2][k] * rates[:, k] for k in range(3))
        yield Numbers(IMU_NAMES, alike.rows, np.stack([*turned, yaw_rate], axis=1))

    def _ego_rotation(self, frame: str) -> Array:
        known = self._rotation(frame)
        if known is not None:
            return known
        return FRD_TO_FLU if frame.lower().endswith("_frd") else np.eye(3)

    def _can_frames(self, alike: Alike) -> Iterator[Numbers]:
        decoder = self._can.get(alike.first.topic)
        if decoder is None:
            return
        cursor, _ = alike.cursor()
        cursor.align(4)
        at = cursor.at
        flags = alike.bytes_at(at + 4, 4)
        data = alike.data[:, at + 8 : at + 16]
        there = data.shape[1]
        sizes = np.minimum(flags[:, 3], min(there, 8)).astype(np.int64)
        padded = np.zeros((len(data), 8), np.uint8)
        padded[:, :there] = data
        padded[np.arange(8) >= sizes[:, None]] = 0
        ids = alike.view(at, "u4", 1)[:, 0].astype(np.int64)
        extended = (flags[:, 1] > 0) | (ids & CAN_EXTENDED_FLAG > 0)
        is_data = (flags[:, 0] == 0) & (flags[:, 2] == 0) & (ids & (CAN_REMOTE_FLAG | CAN_ERROR_FLAG) == 0)
        keys = ids & CAN_ID_MASK | np.where(extended, EXTENDED_FLAG, 0)
        for names, rows, values in decoder.decode_many(CanFrames(keys, is_data, sizes, padded)):
            yield Numbers(names, alike.rows[rows], values)


def _gnss(alike: Alike) -> Iterator[Numbers]:
    cursor, _ = alike.cursor()
    status = alike.view(cursor.at, "i1", 1)[:, 0]
    cursor.skip("b", 1)
    cursor.skip("H", 1)
    cursor.align(8)
    fixed = status >= 0
    yield Numbers(GNSS_NAMES, alike.rows[fixed], alike.numbers(cursor.at, 3)[fixed])


def _pose(alike: Alike) -> Iterator[Numbers]:
    cursor, _ = alike.cursor()
    cursor.align(8)
    names = tuple(f"{topic_slug(alike.first.topic)}_{field}" for field in POSE_FIELDS)
    yield Numbers(names, alike.rows, alike.numbers(cursor.at, 7))


def _odometry(alike: Alike) -> Iterator[Numbers]:
    cursor, _ = alike.cursor(texts=1)
    cursor.align(8)
    pose7, twist = alike.numbers(cursor.at, 7), alike.numbers(cursor.at + (7 + 36) * 8, 6)
    names = tuple(f"{topic_slug(alike.first.topic)}_{field}" for field in POSE_FIELDS)
    values = np.concatenate([pose7, twist[:, [0, 5]]], axis=1)
    yield Numbers((*names, "speed_mps", "yaw_rate_radps"), alike.rows, values)
