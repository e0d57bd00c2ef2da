"""Synchronized shards as one Zarr v3 group: flat sharded arrays, and offsets that cut them into rows.

    ref_ns, frame_index, keyframe, clip (F,)   one row per reference frame
    <role>/sensor_ns, log_ns, delta_ns, valid (F,)
    <camera>/data (bytes,) uint8, offsets (F + 1,), encoding (F,) uint8 into attribute `encodings`
    <lidar>/points (N, 4) float32, offsets (F + 1,)
    <radar>/track_id (T,) int32, tracks (T, 4) float32, offsets (F + 1,)
    signals/<name> (F,) float64, NaN where there is no value

Pictures stay encoded: decoding them would make the store tens of times larger and their bytes unprovable.
Belongs here: that layout. Does not belong here: reading shards (`clips`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.sync.exporters.clips import Clip, Kind, Shards
from av_assets.domain.sync.exporters.folders import folder_written_whole

if TYPE_CHECKING:
    from pathlib import Path

LAYOUT_VERSION = 1
TRACK_COLUMNS = ("x_m", "y_m", "vx_mps", "vy_mps")
# A shard is one object in a store, a chunk what a reader fetches of it. Bytes of one chunk, and chunks per shard.
_CHUNK_BYTES = {"data": 1 << 20, "points": 1 << 20}
_SMALL_CHUNK_BYTES = 64 << 10
_CHUNKS_PER_SHARD = 32
_STORED = ("data",)  # pictures do not compress again


def export_zarr(shards: Path, out: Path, *, overwrite: bool = False) -> dict[str, tuple[int, ...]]:
    """Write the shards in folder `shards` into the Zarr v3 group `out`; gives the shape of every array.

    Attributes of the group carry drive, versions, the digest of the policy and the calibration. Memory: one clip and
    one unfinished shard per array.

    Raises:
        SyncError: no_shards or bad_shard.
        LogError: output_exists.
        TransientError: disk_full or cannot_write.
    """
    import zarr

    source = Shards.open(shards)
    with folder_written_whole(out, overwrite) as growing:
        root = zarr.open_group(growing, mode="w", zarr_format=3, attributes=_attributes(source))
        store = _Store(root)
        for clip in source.clips():
            _leading(store, clip)
            for role, kind in source.roles.items():
                _sensor(store, clip, role, kind)
            for name, values in clip.signals().items():
                store.append(f"signals/{name}", values)
        return store.finish()


def _attributes(source: Shards) -> dict[str, Any]:
    calibration = source.calibration.model_dump(mode="json") if source.calibration else None
    return {
        "layout_version": LAYOUT_VERSION,
        "drive": source.drive,
        "schema_version": source.schema_version,
        "policy": source.policy,
        "redacted": True,
        "roles": dict(source.roles),
        "calibration": calibration,
        "track_columns": list(TRACK_COLUMNS),
    }


def _leading(store: _Store, clip: Clip) -> None:
    store.append("ref_ns", clip.numbers("ref_ns"))
    store.append("frame_index", clip.numbers("frame_index", np.int32))
    store.append("keyframe", clip.keyframes())
    store.append("clip", np.full(len(clip), clip.number, np.int32))


def _sensor(store: _Store, clip: Clip, role: str, kind: Kind) -> None:
    for name, values in clip.times(role)._asdict().items():
        store.append(f"{role}/{name}", values)
    {"camera": _camera, "lidar": _lidar, "radar": _radar}[kind](store, clip, role)


def _camera(store: _Store, clip: Clip, role: str) -> None:
    frames = list(clip.frames(role))
    encodings = store.names(role, "encodings", [frame.encoding if frame else "" for frame in frames])
    store.append(f"{role}/encoding", encodings)
    rows = [np.frombuffer(frame.data, np.uint8) if frame else np.empty(0, np.uint8) for frame in frames]
    store.append_rows(f"{role}/data", f"{role}/offsets", rows)


def _lidar(store: _Store, clip: Clip, role: str) -> None:
    nothing = np.empty((0, 4), np.float32)
    rows = [nothing if cloud is None else cloud for cloud in clip.clouds(role)]
    store.append_rows(f"{role}/points", f"{role}/offsets", rows)


def _radar(store: _Store, clip: Clip, role: str) -> None:
    rows = [tracks or [] for tracks in clip.tracks(role)]
    tables = [
        np.array([[t[c] for c in TRACK_COLUMNS] for t in row], np.float32).reshape(-1, 4) for row in rows
    ]
    store.append_rows(f"{role}/tracks", f"{role}/offsets", tables)
    store.append(f"{role}/track_id", np.array([t["track_id"] for row in rows for t in row], np.int32))


class _Store:
    """Arrays that grow along their first axis, written in whole shards so that none is written twice."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._arrays: dict[str, _Growing] = {}
        self._totals: dict[str, int] = {}
        self._names: dict[tuple[str, str], list[str]] = {}

    def append(self, path: str, values: np.ndarray) -> None:
        if path not in self._arrays:
            self._arrays[path] = _Growing(self._root, path, values.dtype, values.shape[1:])
        self._arrays[path].append(values)

    def append_rows(self, path: str, offsets: str, rows: list[np.ndarray]) -> None:
        """Rows of any length end to end, and where each ends; offsets start with a zero."""
        total = self._totals.get(path, 0)
        ends = total + np.cumsum([len(row) for row in rows], dtype=np.int64)
        if path not in self._totals:
            ends = np.concatenate([np.zeros(1, np.int64), ends])
        self._totals[path] = int(ends[-1]) if len(ends) else total
        self.append(path, np.concatenate(rows))
        self.append(offsets, ends)

    def names(self, group: str, attribute: str, values: list[str]) -> np.ndarray:
        """Each name as its number in a list that becomes an attribute of the group."""
        known = self._names.setdefault((group, attribute), [])
        known += [name for name in dict.fromkeys(values) if name not in known]
        return np.array([known.index(name) for name in values], np.uint8)

    def finish(self) -> dict[str, tuple[int, ...]]:
        for (group, attribute), known in sorted(self._names.items()):
            self._root[group].attrs[attribute] = known
        return {path: array.finish() for path, array in sorted(self._arrays.items())}


class _Growing:
    """One array; what does not fill a shard waits in memory."""

    def __init__(self, root: Any, path: str, dtype: np.dtype, inner: tuple[int, ...]) -> None:
        from zarr.codecs import ZstdCodec

        name = path.rsplit("/", 1)[-1]
        row_bytes = dtype.itemsize * int(np.prod(inner, dtype=np.int64))
        rows = max(1, _CHUNK_BYTES.get(name, _SMALL_CHUNK_BYTES) // row_bytes)
        self._shard_rows = rows * _CHUNKS_PER_SHARD
        self._waiting: list[np.ndarray] = []
        self._waiting_rows = 0
        self._array = root.create_array(
            path, shape=(0, *inner), dtype=dtype, chunks=(rows, *inner), shards=(self._shard_rows, *inner),
            compressors=None if name in _STORED else [ZstdCodec(level=3)],
        )  # fmt: skip

    def append(self, values: np.ndarray) -> None:
        self._waiting.append(values)
        self._waiting_rows += len(values)
        if self._waiting_rows >= self._shard_rows:
            self._write(self._waiting_rows // self._shard_rows * self._shard_rows)

    def _write(self, rows: int) -> None:
        values = np.concatenate(self._waiting)
        start = self._array.shape[0]
        self._array.resize((start + rows, *self._array.shape[1:]))
        self._array[start:] = values[:rows]
        self._waiting, self._waiting_rows = [values[rows:]], len(values) - rows

    def finish(self) -> tuple[int, ...]:
        if self._waiting_rows:
            self._write(self._waiting_rows)
        return tuple(self._array.shape)
