"""Makes the samples of a batch: opens shards, runs the transform, writes into the rows of the batch.

The same object does it in this process and in workers. It holds what it read of shards within a byte budget.
Belongs here: one process's side of loading. Does not belong here: processes, order, shared memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from av_assets.domain.errors import AvError, DatasetError, EvidenceError, PoisonError
from av_assets.domain.loading.open_shards import OpenShards
from av_assets.domain.loading.order import substitute
from av_assets.domain.loading.sample_index import SampleIndex
from av_assets.domain.loading.samples import Arrays, RawSample, Transform
from av_assets.domain.loading.shard_file import GroupCache
from av_assets.domain.loading.sources import ShardRef, ShardSource

OnBad = Literal["raise", "skip"]
SAMPLE: Final = "sample"
REAL: Final = "real"
MAX_ATTEMPTS: Final = 64
_REMEDY: Final = 'repair the shard, or choose on_bad="skip" and look at .skipped'


class Field(NamedTuple):
    """What a transform gives under one name."""

    shape: tuple[int, ...]
    dtype: str


class Made(NamedTuple):
    """What stands in one row of a batch: a position in the index, and reasons by name of those that were bad."""

    position: int
    skipped: dict[str, str]


@dataclass
class SampleMaker:
    """Samples of `index`; see `Loader` for the attributes.

    Attributes:
        open_shards: files that are kept open, and in place, at a time.
        max_held_bytes: of what was read of shards beside their payloads.
        max_group_bytes: of decoded row groups, for shards whose payloads are compressed.
    """

    index: SampleIndex
    source: ShardSource
    transform: Transform
    columns: Sequence[str]
    calibrations: Mapping[str, Mapping[str, Any]]
    seed: int
    on_bad: OnBad
    open_shards: int = 16
    max_held_bytes: int = 64 << 20
    max_group_bytes: int = 256 << 20
    _groups: GroupCache = field(init=False, repr=False)
    _shards: OpenShards = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._groups = GroupCache(self.max_group_bytes)
        self._shards = OpenShards(
            self.source, self.columns, self.open_shards, self.max_held_bytes, self._groups
        )

    def fields(self, position: int, epoch: int) -> dict[str, Field]:
        """What the transform gives, seen on one sample."""
        arrays, _ = self._good(position, epoch, {})
        if taken := {SAMPLE, REAL} & arrays.keys():
            raise self._uneven(position, f"may not call an array {min(taken)}: the loader does")
        return {name: Field(np.shape(array), np.asarray(array).dtype.str) for name, array in arrays.items()}

    def fill(self, batch: Arrays, rows: Iterable[int], epoch: int) -> dict[str, str]:
        """Make these rows of a batch, whose array SAMPLE says which samples they are; reasons by name of bad ones.

        A bad one raises. With on_bad="skip" another sample takes its row, the same one in every run; SAMPLE then says
        which, and REAL is False there.

        Raises:
            AvError: naming shard, row and reason.
        """
        skipped: dict[str, str] = {}
        names = [name for name in batch if name not in (SAMPLE, REAL)]
        for row in rows:
            rooms = {name: batch[name][row, ...] for name in names}
            arrays, made = self._good(int(batch[SAMPLE][row]), epoch, rooms)
            self._write(arrays, rooms, made.position)
            if made.skipped:
                skipped |= made.skipped
                batch[SAMPLE][row], batch[REAL][row] = made.position, False
        return skipped

    def _write(self, arrays: Arrays, rooms: Arrays, position: int) -> None:
        if arrays.keys() != rooms.keys():
            raise self._uneven(position, f"gives {sorted(arrays)} instead of {sorted(rooms)}")
        for name, room in rooms.items():
            array = np.asarray(arrays[name])
            if array is room:
                continue
            if array.shape != room.shape or array.dtype != room.dtype:
                found = f"{array.dtype} {array.shape} instead of {room.dtype} {room.shape}"
                raise self._uneven(position, f"gives {name} as {found}")
            room[...] = array

    def close(self) -> None:
        """Close all files."""
        self._shards.close()

    def _uneven(self, position: int, what: str) -> DatasetError:
        return DatasetError(
            f"{self.index.name(position)}: the transform {what}",
            code="uneven_samples",
            remedy="give the same names, shapes and dtypes for every sample",
        )

    def _good(self, position: int, epoch: int, rooms: Arrays) -> tuple[Arrays, Made]:
        chosen, skipped = position, dict[str, str]()
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                return self._make(chosen, epoch, rooms), Made(chosen, skipped)
            except (PoisonError, EvidenceError) as error:
                if self.on_bad == "raise":
                    raise
                skipped[self.index.name(chosen)] = error.code
            chosen = substitute(self.seed, epoch, position, attempt, len(self.index))
        raise DatasetError(
            f"{MAX_ATTEMPTS} samples in a row were bad, the last being {self.index.name(chosen)}",
            code="too_many_bad_samples",
            remedy="repair the dataset; `av datasets verify` names its damaged files",
        )

    def _make(self, position: int, epoch: int, rooms: Arrays) -> Arrays:
        ref, row = self.index.place(position)
        try:
            shard = self._shards.get(int(self.index.shard[position]), ref)
            if not 0 <= row < shard.rows:
                raise DatasetError(f"the shard has {shard.rows} rows", code="no_such_row")
            key = self.index.key(position)
            sample = RawSample(
                key, position, self.calibrations.get(key.drive, {}),
                shard, row, self._groups, frozenset(self.columns), rooms, (self.seed, epoch),
            )  # fmt: skip
            return self.transform(sample)
        except Exception as error:
            raise self._named(error, position, ref, row) from error

    def _named(self, error: Exception, position: int, ref: ShardRef, row: int) -> AvError:
        """The same failure, saying which sample it is about."""
        drive = self.index.key(position).drive
        if isinstance(error, AvError):
            kind = DatasetError if isinstance(error, PoisonError) else type(error)
            remedy = (
                error.remedy
                if type(error) is kind and error.remedy != PoisonError.default_remedy
                else _REMEDY
            )
            return kind(
                f"row {row}: {error.reason}", code=error.code, file=ref.path, drive=drive, remedy=remedy
            )
        reason = f"row {row}: the transform failed with {type(error).__name__}: {error}"
        return AvError(reason, code="transform_failed", file=ref.path, drive=drive)
