"""Synchronized shards as WebDataset tar files: one sample per reference frame.

Belongs here: members, keys and bounds of the tar files, and their index. Does not belong here: reading shards
(`clips`).
"""

from __future__ import annotations

import io
import json
import math
import tarfile
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np

from av_assets.domain.errors import SyncError
from av_assets.domain.evidence.digests import sha256_file
from av_assets.domain.sync.exporters.clips import Clip, Shards
from av_assets.domain.sync.exporters.folders import folder_written_whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

MAX_TAR_BYTES = 1 << 30
INDEX_SCHEMA = 1
_ENDINGS = {"jpeg": "jpg"}
_BLOCK = 512
_RECORD = 10240  # tar files are padded to whole records

Member = tuple[str, bytes]


def export_webdataset(
    shards: Path, out_dir: Path, *, max_tar_bytes: int = MAX_TAR_BYTES, overwrite: bool = False
) -> dict[str, Any]:
    """Write the shards in folder `shards` as `<drive>-<NNNNNN>.tar` files into `out_dir`; gives their index.

    A sample has the key `<drive>-<frame_index>` and the members `<role>.jpg|png|h264`, `<role>.points.npy`
    ((N, 4) float32) and `json`: reference time, keyframe or not, times and validity of every sensor, tracks and
    signals. The same shards give the same bytes. `index.json` lists the tar files with sizes and digests;
    calibration.json is copied.
    One clip is in memory at a time.

    Args:
        max_tar_bytes: no tar file is larger, and no sample is split.

    Raises:
        SyncError: no_shards, bad_shard or sample_too_large.
        LogError: output_exists.
        TransientError: disk_full or cannot_write.
    """
    source = Shards.open(shards)
    with folder_written_whole(out_dir, overwrite) as growing:
        with _Tars(growing, source.drive, max_tar_bytes) as tars:
            for clip in source.clips():
                for key, members in _samples(source, clip):
                    tars.add(key, members)
            tars.close()
        index = {
            "schema": INDEX_SCHEMA,
            "drive": source.drive,
            "shards_schema": source.schema_version,
            "policy": source.policy,
            "redacted": True,
            "roles": dict(source.roles),
            "samples": sum(entry["samples"] for entry in tars.entries),
            "tars": tars.entries,
        }
        if source.calibration is not None:
            source.calibration.save(growing / "calibration.json")
        text = json.dumps(index, indent=1, sort_keys=True, allow_nan=False)
        (growing / "index.json").write_text(text + "\n", "utf-8")
    return index


def _samples(source: Shards, clip: Clip) -> Iterator[tuple[str, list[Member]]]:
    """Key and members of every row of a clip."""
    frames = {role: clip.frames(role) for role in source.of("camera")}
    clouds = {role: clip.clouds(role) for role in source.of("lidar")}
    about = _descriptions(source, clip)
    for row, index in enumerate(clip.numbers("frame_index")):
        members: list[Member] = []
        for role, rows in frames.items():
            frame = next(rows)
            if frame is not None:
                members.append((f"{role}.{_ENDINGS.get(frame.encoding, frame.encoding)}", frame.data))
        for role, found in clouds.items():
            cloud = found[row]
            if cloud is not None:
                members.append((f"{role}.points.npy", _npy(cloud)))
        text = json.dumps(about[row], sort_keys=True, allow_nan=False)
        yield f"{source.drive}-{int(index):06d}", [*members, ("json", text.encode())]


def _descriptions(source: Shards, clip: Clip) -> list[dict[str, Any]]:
    """What the json member of each row says; absent times, tracks and signals are null."""
    times = {role: clip.times(role) for role in source.roles}
    tracks = {role: clip.tracks(role) for role in source.of("radar")}
    signals = clip.signals()
    names = ("clip_id", "frame_index", "ref_ns")
    leading = clip.table.select(names).to_pylist()
    keyframes = clip.keyframes()
    return [
        {
            **leading[row],
            "keyframe": bool(keyframes[row]),
            "sensors": {role: _moment(one, row) for role, one in times.items()},
            "tracks": {role: found[row] for role, found in tracks.items()},
            "signals": {name: _number(values[row]) for name, values in signals.items()},
        }
        for row in range(len(clip))
    ]


def _moment(times: Any, row: int) -> dict[str, Any]:
    valid = bool(times.valid[row])
    named = {name: int(getattr(times, name)[row]) for name in ("sensor_ns", "log_ns", "delta_ns")}
    return {**(named if valid else dict.fromkeys(named)), "valid": valid}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


class _Tars:
    """A sequence of bounded tar files whose headers hold nothing but names and sizes."""

    def __init__(self, folder: Path, drive: str, max_bytes: int) -> None:
        self.entries: list[dict[str, Any]] = []
        self._folder, self._drive, self._max_bytes = folder, drive, max_bytes
        self._tar: tarfile.TarFile | None = None
        self._file: BinaryIO | None = None
        self._used = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What a full disk refused once it refuses again; the first error is the one to tell.
        with suppress(OSError):
            if self._file is not None:
                self._file.close()

    def add(self, key: str, members: list[Member]) -> None:
        """All members of one sample, in one file."""
        size = sum(_BLOCK + -(-len(data) // _BLOCK) * _BLOCK for _, data in members)
        if size + _RECORD > self._max_bytes:
            raise SyncError(f"sample {key} takes {size} bytes of a tar file", code="sample_too_large")
        if self._tar is None or self._used + size + _RECORD > self._max_bytes:
            self.close()
            self._open(key)
        for name, data in members:
            self._write(f"{key}.{name}", data)
        self._used += size
        self.entries[-1]["samples"] += 1
        self.entries[-1]["last_key"] = key

    def _write(self, name: str, data: bytes) -> None:
        assert self._tar is not None
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(data), 0o644
        self._tar.addfile(member, io.BytesIO(data))

    def _open(self, key: str) -> None:
        name = f"{self._drive}-{len(self.entries):06d}.tar"
        self._file = (self._folder / name).open("wb")
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        self._used = 0
        self.entries.append({"file": name, "samples": 0, "first_key": key, "last_key": key})

    def close(self) -> None:
        """Finish the file that is open, if one is."""
        if self._tar is not None and self._file is not None:
            self._tar.close()
            self._file.close()
            self._tar = None
            path = self._folder / self.entries[-1]["file"]
            self.entries[-1] |= {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
