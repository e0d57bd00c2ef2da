"""Synchronizing a drive, against the floor: read every raw message once, write the same number of bytes once.

The pictures come from pass-through redaction files, made beforehand by the writer of redaction without
detectors, so that nothing is decoded. Neither side syncs to disk (the lake does when it publishes), which
favours the floor.
"""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from functools import partial
from itertools import chain, repeat
from typing import TYPE_CHECKING

from benchmarks.figures import Figure, Say, Settings, paired_ratio, take_turns

if TYPE_CHECKING:
    from pathlib import Path

TARGET = 2.0
REPEATS = 5
SECONDS = 10.0


def run(settings: Settings, say: Say) -> list[Figure]:
    """`sync`: seconds of synchronize_drive over seconds of rosbags reading and a plain write."""
    from av_assets.domain.simulation.recorder import record_drive
    from av_assets.domain.simulation.samples import short_drive

    say(f"recording a drive of {SECONDS:.0f} s")
    drive = record_drive(short_drive(seconds=SECONDS), settings.work / "drives", settings.work / "truth")
    redacted, out, parts = settings.work / "redacted", settings.work / "synced", dict[str, float]()
    frames = pass_through(drive, redacted)
    ours = partial(synchronize, drive, redacted, out, parts)
    say("warming up")
    ours()
    written = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    floor = partial(read_and_write, drive / "recording", written, settings.work / "floor.bin")
    turns = take_turns(("synchronize", ours), ("floor", floor), settings.times(REPEATS), say, os.sync)
    note = (
        f"{SECONDS:.0f} s of drive, {_size(drive) / 1e6:.0f} MB in, {written / 1e6:.0f} MB out, "
        f"{frames} pictures; the floor is rosbags' Reader over all messages and one write of as many bytes"
    )
    measured = "synchronize_drive without decoding / read all messages + write once"
    ratio = paired_ratio(turns.seconds)
    return [Figure("sync", measured, ratio, "x", TARGET, turns.seconds, parts, turns.cpu, note)]


def pass_through(drive: Path, target: Path) -> int:
    """Write `<role>.parquet` of every camera as redaction does where nobody is seen; returns the frames."""
    from av_assets.domain.evidence.digests import sha256_bytes
    from av_assets.domain.logs.drive_spec import SPEC_FILE, read_drive_spec
    from av_assets.domain.logs.reader import LogReader, image_payload
    from av_assets.domain.privacy.frames import ClipRow, ClipWriter

    target.mkdir()
    streams = read_drive_spec(drive / SPEC_FILE).streams
    roles = {stream.topic: role for role, stream in streams.items() if stream.kind == "camera"}
    with ExitStack() as stack:
        reader = stack.enter_context(LogReader(drive))
        writers = {t: stack.enter_context(ClipWriter(target / f"{r}.parquet")) for t, r in roles.items()}
        for raw in reader.messages(roles):
            picture = image_payload(raw)
            data = bytes(picture.data)
            writers[raw.topic].write(
                ClipRow(picture.sensor_ns, raw.log_ns, picture.encoding, data, 0, sha256_bytes(data))
            )
        return sum(writer.rows for writer in writers.values())


def synchronize(drive: Path, redacted: Path, out: Path, parts: dict[str, float]) -> None:
    from av_assets.domain.evidence.timing import Stopwatch
    from av_assets.domain.logs.drive_spec import SPEC_FILE, read_drive_spec
    from av_assets.domain.logs.reader import LogReader
    from av_assets.domain.sync.synchronize import synchronize_drive
    from av_assets.policies.sync import SyncPolicy

    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    watch = Stopwatch()
    with LogReader(drive) as reader:
        spec = read_drive_spec(drive / SPEC_FILE)
        synchronize_drive(reader, spec, redacted, SyncPolicy.load(), out, watch, drive)
    parts.update({part: round(seconds, 3) for part, seconds in watch.seconds.items()})


def read_and_write(recording: Path, size: int, target: Path) -> None:
    """The floor. What is written is what was read, over again if need be: real bytes, no holes."""
    from rosbags.rosbag2 import Reader

    target.unlink(missing_ok=True)
    with Reader(recording) as reader, target.open("wb") as file:
        messages = [data for _, _, data in reader.messages()]
        left = size
        for data in chain.from_iterable(repeat(messages)):
            if left <= 0:
                break
            left -= file.write(data[:left])


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
