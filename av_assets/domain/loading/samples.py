"""What a transform is given: one row of one shard, read and decoded only as far as somebody asks.

Belongs here: the view of one sample, decoding pictures. Does not belong here: what is made of them (`models`), batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from av_assets.domain.errors import DatasetError
from av_assets.domain.loading.order import sample_rng
from av_assets.domain.loading.sample_index import SampleKey
from av_assets.domain.loading.shard_file import GroupCache, ShardFile
from av_assets.domain.privacy.frames import RedactedFrame

MAX_PIXELS: Final = 1 << 27

T = TypeVar("T")
Pixels = NDArray[np.uint8]
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class RawSample:
    """One sample.

    Attributes:
        key: drive, clip and time.
        position: its place in the index.
        calibration: calibration.json of its drive; empty where the loader was given none.
    """

    key: SampleKey
    position: int
    calibration: Mapping[str, Any]
    _shard: ShardFile
    _row: int
    _groups: GroupCache
    _roles: frozenset[str]
    _rooms: Arrays
    _drawn: tuple[int, int]
    _frames: dict[str, RedactedFrame | None] = field(default_factory=dict, repr=False)

    @cached_property
    def rng(self) -> np.random.Generator:
        """What a transform draws from, the same whoever makes the sample.

        Made when it is asked for: it takes as long as reading a picture.
        """
        return sample_rng(*self._drawn, self.position)

    def frame(self, role: str) -> RedactedFrame | None:
        """The picture of a camera, encoded, read once; None where this row has none, or this drive no such camera.

        Raises:
            DatasetError: bad_cell, also below.
            KeyError: the loader was not told that this column is read; also below.
        """
        if role not in self._frames:
            self._frames[role] = self._read(role, lambda: self._shard.frame(self._row, role, self._groups))
        return self._frames[role]

    def jpeg_pixels(
        self, role: str, min_width: int = 0, min_height: int = 0, out: Pixels | None = None
    ) -> Pixels:
        """(H, W, 3) uint8 RGB at the smallest scale of libjpeg-turbo that is at least this size; 0 asks nothing.

        Without a size, and where it is no JPEG, it comes at full size. A JPEG of the size of `out` is decoded into it.

        Raises:
            DatasetError: no_frame, undecodable_frame.
        """
        frame = self.frame(role)
        if frame is None:
            raise DatasetError(f"the row has no picture of {role}", code="no_frame", drive=self.key.drive)
        if frame.encoding != "jpeg":
            return frame.pixels()
        return jpeg_pixels(frame.data, min_width, min_height, out)

    def points(self, role: str) -> NDArray[np.float32] | None:
        """(N, 4) float32 x, y, z (m, sensor frame) and intensity, read-only; None where the row has none."""
        return self._read(role, lambda: self._shard.points(self._row, role, self._groups))

    def tracks(self, role: str) -> NDArray[Any] | None:
        """(n,) of `shard_file.TRACK`, ego frame, relative to the vehicle; None where the row has none."""
        return self._read(role, lambda: self._shard.tracks(self._row, role))

    @property
    def ego_speed_mps(self) -> float:
        """Speed of the vehicle over ground; NaN where nobody measured it, and where the loader reads no radar."""
        return self._shard.speed_mps(self._row)

    def room(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array to fill and to return under `name`: the sample's place in the batch, which saves a copy.

        What is in it is not defined. It is any array where the batch has no such place.
        """
        place = self._rooms.get(name)
        if place is not None and place.shape == shape and place.dtype == np.dtype(dtype):
            return place
        return np.empty(shape, dtype)

    def _read(self, role: str, cell: Callable[[], T]) -> T:
        if role not in self._roles:
            raise KeyError(f"{role} is not among the loader's columns: {', '.join(sorted(self._roles))}")
        try:
            return cell()
        except (OSError, ValueError, pa.ArrowException) as error:
            raise DatasetError(f"{role} cannot be read: {error}"[:500], code="bad_cell") from error


Transform = Callable[[RawSample], Arrays]
"""Makes arrays of fixed shape and dtype per name; pickled into workers."""


def jpeg_pixels(data: bytes, min_width: int = 0, min_height: int = 0, out: Pixels | None = None) -> Pixels:
    """As `RawSample.jpeg_pixels`.

    Raises:
        DatasetError: undecodable_frame, damaged, cut off, or larger than MAX_PIXELS.
    """
    import simplejpeg

    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        if height * width > MAX_PIXELS:
            raise ValueError(f"{width} x {height} px is too large")
        least = {"min_height": min_height, "min_width": min_width} if min_height or min_width else {}
        if least:
            height, width, *_ = simplejpeg.decode_jpeg_header(data, **least)
        if out is None or out.shape != (height, width, 3) or not out.flags.c_contiguous:
            out = np.empty((height, width, 3), np.uint8)
        simplejpeg.decode_jpeg(data, "RGB", buffer=out, **least)
    except ValueError as error:
        raise DatasetError(f"the picture does not decode: {error}", code="undecodable_frame") from error
    return out
