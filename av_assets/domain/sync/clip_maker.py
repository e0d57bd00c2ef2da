"""One segment of a drive: its clips, and an account of them. A pure function of log, redacted clips and policy.

Belongs here: filling the rows of the clips of one segment. Does not belong here: which segments there are
(plan), keeping them (synchronize), formats (shards).
"""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from av_assets.domain.errors import SyncError
from av_assets.domain.sync.deskew import EgoMotion, can_deskew, deskewed, ego_motion
from av_assets.domain.sync.grid import NS_PER_S, period_of
from av_assets.domain.sync.payloads import PayloadStreamer, Wanted
from av_assets.domain.sync.plan import MatchedStream, Plan
from av_assets.domain.sync.pointclouds import CloudReader
from av_assets.domain.sync.shards import (
    clip_path,
    clip_table,
    keyframes,
    points_column,
    signals_column,
    struct_column,
    tracks_column,
    write_clip,
)
from av_assets.domain.sync.streams import PAYLOAD_KINDS, Survey, ego_pose, header_frame, read_messages
from av_assets.domain.sync.tracks import tracks_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from av_assets.domain.evidence.timing import Stopwatch
    from av_assets.domain.geometry.transforms import Array
    from av_assets.domain.logs.reader import LogReader, RawMessage
    from av_assets.domain.sync.frames import CameraFrames
    from av_assets.domain.sync.grid import Ns
    from av_assets.domain.sync.resample import Resampled, Resampler
    from av_assets.domain.sync.signal_log import SignalStore
    from av_assets.policies.sync import SyncPolicy

ACCOUNT_FILE = "segment.json"


class Sources(NamedTuple):
    """What clips are made from."""

    drive: str
    reader: LogReader
    found: Survey
    cameras: Mapping[str, CameraFrames]
    store: SignalStore


class ClipMaker:
    """Makes the segments of one drive, each by itself."""

    def __init__(
        self, sources: Sources, plan: Plan, resampler: Resampler, policy: SyncPolicy, watch: Stopwatch
    ) -> None:
        self._from, self._plan, self._resampler = sources, plan, resampler
        self._policy, self._watch = policy, watch
        self._deskews = policy.deskew != "none" and can_deskew(sources.store.names(), policy.deskew)
        with watch("read"):
            self._decoders = {
                role: self._decoder(role) for role, s in plan.matched.items() if s.kind in PAYLOAD_KINDS
            }
        self._motion = EgoMotion(None, None, None)
        self._moved: dict[str, Counter[str]] = {}

    def make(self, segment: int, folder: Path) -> None:
        """Write the clips of one segment and its account into `folder`.

        Raises:
            SyncError: signal_boundary by policy, clip_too_large.
        """
        clips = {number: self._plan.clips[number] for number in self._plan.segments[segment]}
        ref_ns = self._plan.grid.ref_ns[next(iter(clips.values())).start : list(clips.values())[-1].stop]
        self._moved = {}
        if self._deskews:
            series = self._from.store.reader(int(ref_ns[0]) - NS_PER_S, int(ref_ns[-1]) + NS_PER_S)
            self._motion = ego_motion(self._from.store, series)
        with self._watch("compute"):
            signals = self._resampler.rows(ref_ns)
        streamer = PayloadStreamer(self._from.reader, self._wanted(), clips, self._watch)
        first = next(iter(clips.values())).start
        written, writing = 0, None
        # Copying, encoding and writing hold no lock of the interpreter: the next clip is read meanwhile.
        with ThreadPoolExecutor(1, "clip-writer") as writer:
            for number, clip in clips.items():
                part = signals.part(slice(clip.start - first, clip.stop - first))
                work = partial(self._write, number, clip, streamer.clip(number), part)
                written += writing.result() if writing else 0
                writing = writer.submit(work, clip_path(folder, number))
            written += writing.result() if writing else 0
        account: dict[str, Any] = {
            "rows": len(ref_ns),
            "dropped": len(ref_ns) - written,
            "unreadable": dict(sorted(streamer.unreadable.items())),
            "signals": signals.counts,
            "deskew": {role: dict(sorted(told.items())) for role, told in sorted(self._moved.items())},
        }
        pa.default_memory_pool().release_unused()  # else its reserve grows with the number of clips for a while
        (folder / ACCOUNT_FILE).write_text(json.dumps(account, indent=1, sort_keys=True) + "\n", "utf-8")

    def _write(
        self, number: int, clip: slice, payloads: dict[str, list[Any]], signals: Resampled, path: Path
    ) -> int:
        """Write one clip, unless it has no rows; gives how many it has."""
        with self._watch("write"):
            table = self._table(number, clip, payloads, signals)
            payloads.clear()  # copied into the table: not held while that is written
            if table.num_rows:
                levels = self._policy.structured_zstd_level, self._policy.points_zstd_level
                write_clip(table, path, *levels, self._policy.row_group_bytes)
        return int(table.num_rows)

    def _table(
        self, number: int, clip: slice, payloads: Mapping[str, list[Any]], signals: Resampled
    ) -> pa.Table:
        """The rows of one clip; none where the boundary policy drops all of them."""
        ref_ns = self._plan.grid.ref_ns[clip]
        keep, keyframe = signals.keep, np.zeros(len(ref_ns), np.bool_)
        keyframe[keep] = keyframes(ref_ns[keep], round(self._policy.keyframe_s * NS_PER_S))
        columns = self._columns(clip, self._pictures(clip), payloads, signals.values)
        table = clip_table(self._from.drive, number, clip.start, ref_ns, keyframe, columns)
        return table if keep.all() else table.filter(keep)

    def _pictures(self, clip: slice) -> dict[str, dict[str, Any]]:
        return {
            role: self._from.cameras[role].take(stream.match.sample[clip])
            for role, stream in sorted(self._plan.matched.items())
            if stream.kind == "camera"
        }

    def _columns(
        self, clip: slice, pictures: Mapping[str, Any], payloads: Mapping[str, list[Any]],
        signals: Mapping[str, Array],
    ) -> dict[str, Any]:  # fmt: skip
        """The sensor columns of one clip, in role order, signals last."""
        columns = {}
        for role, stream in sorted(self._plan.matched.items()):
            times = stream.times(clip)
            if stream.kind == "camera":
                columns[role] = struct_column(pictures[role], times)
                continue
            items = payloads[role]
            readable = np.array([item is not None for item in items], np.bool_)
            leading = points_column(items) if stream.kind == "lidar" else tracks_column(items)
            columns[role] = struct_column(leading, times._replace(valid=times.valid & readable))
        if signals:
            columns["signals"] = signals_column(signals)
        return columns

    def _wanted(self) -> dict[str, Wanted]:
        streams = {role: self._plan.matched[role] for role in self._decoders}
        return {
            role: Wanted(s.topic, s.stamps.log_ns, s.match.sample, self._decoders[role])
            for role, s in streams.items()
        }

    def _decoder(self, role: str) -> Callable[[RawMessage, int], Any]:
        stream = self._from.found.streams[role]
        if stream.kind == "lidar":
            clouds = CloudReader(period_of(np.sort(self._plan.matched[role].stamps.used_ns)))
            _settle(clouds, self._from.reader, stream.topic)
            return partial(self._cloud, role, clouds)
        frame = stream.frame or header_frame(self._from.reader, stream.topic)
        mount = ego_pose(self._from.found.tree, frame)
        return lambda raw, _: tracks_of(self._from.reader.deserialize(raw), mount)

    def _cloud(self, role: str, clouds: CloudReader, raw: RawMessage, row: int) -> Any:
        if self._policy.deskew == "none":
            return clouds.read(raw)
        timed = clouds.read_timed(raw)
        points = None
        mount = self._from.found.calibration.lidars.get(role)
        if self._deskews and timed.offset_ns is not None and mount is not None:
            stamp_ns = _stamp(self._plan.matched[role], row)
            ref_ns = int(self._plan.grid.ref_ns[row])
            full = self._policy.deskew == "full"
            points = deskewed(
                timed.points, timed.offset_ns, stamp_ns, ref_ns, self._motion, mount.ego_SE3_lidar, full
            )
        told = "no_motion" if timed.offset_ns is not None else "no_point_times"
        self._moved.setdefault(role, Counter())[told if points is None else "deskewed"] += 1
        return timed.points if points is None else points


def _stamp(stream: MatchedStream, row: int) -> int:
    used_ns: Ns = stream.stamps.used_ns
    return int(used_ns[stream.match.sample[row]])


def _settle(clouds: CloudReader, reader: LogReader, topic: str) -> None:
    """Let the first cloud with points settle what clouds do not say, whichever segment is made first."""
    for raw in read_messages(reader, {topic}):
        try:
            if len(clouds.read_timed(raw).points):
                return
        except SyncError:
            continue
