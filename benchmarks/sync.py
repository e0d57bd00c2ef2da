"""Synchronizing drives, against the floor: read every raw message once, write the same number of bytes once.

`sync` holds the promise, compressed pictures only at a realistic length; `sync.short_full` shows what a short
drive with all sensors costs, fixed costs included. The pictures come from pass-through redaction files, made
beforehand by the writer of redaction without detectors, so that nothing is decoded. Neither side syncs to
disk (the lake does when it publishes), which favours the floor.
"""

from __future__ import annotations

import os
import shutil
import struct
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
COPIES = 15  # of the short drive's pictures, one after the other: 150 s
PICTURES = "sensor_msgs/msg/CompressedImage"


def run(settings: Settings, say: Say) -> list[Figure]:
    """`sync` and `sync.short_full`: seconds of synchronize_drive over those of rosbags reading and a write."""
    from av_assets.domain.simulation.recorder import record_drive
    from av_assets.domain.simulation.samples import short_drive

    say(f"recording a drive of {SECONDS:.0f} s")
    short = record_drive(short_drive(seconds=SECONDS), settings.work / "short", settings.work / "truth")
    say("repeating its pictures")
    long = repeat_pictures(short, settings.work / "long" / short.name)
    return [
        _figure("sync", "compressed pictures only", long, SECONDS * COPIES, TARGET, settings, say),
        _figure("sync.short_full", "short drive, all sensors", short, SECONDS, None, settings, say),
    ]


def _figure(
    name: str, what: str, drive: Path, seconds: float, target: float | None, settings: Settings, say: Say
) -> Figure:
    folder, parts = settings.work / name, dict[str, float]()
    folder.mkdir()
    redacted, out = folder / "redacted", folder / "synced"
    frames = pass_through(drive, redacted)
    ours = partial(synchronize, drive, redacted, out, parts)
    say("warming up")
    ours()
    written = _size(out)
    floor = partial(read_and_write, drive / "recording", written, folder / "floor.bin")
    floor()
    turns = take_turns(("synchronize", ours), ("floor", floor), settings.times(REPEATS), say, os.sync)
    note = (
        f"{seconds:.0f} s of drive, {_size(drive) / 1e6:.0f} MB in, {written / 1e6:.0f} MB out, "
        f"{frames} pictures; the floor is rosbags' Reader over all messages and one write of as many bytes"
    )
    measured = f"{what}: synchronize_drive without decoding / read all messages + write once"
    ratio = paired_ratio(turns.seconds)
    return Figure(name, measured, ratio, "x", target, turns.seconds, parts, turns.cpu, note)


def repeat_pictures(drive: Path, target: Path) -> Path:
    """A drive of `COPIES` times the pictures of `drive`, with later stamps, and of nothing else.

    The bytes of a picture are those of the recording; what counts here is how many there are.
    """
    import yaml
    from rosbags.rosbag2 import Reader, StoragePlugin, Writer

    from av_assets.domain.logs.drive_spec import SPEC_FILE

    target.mkdir(parents=True)
    spec = yaml.safe_load((drive / SPEC_FILE).read_text("utf-8"))
    spec["streams"] = {role: s for role, s in spec["streams"].items() if s["kind"] == "camera"}
    (target / SPEC_FILE).write_text(yaml.safe_dump(spec), "utf-8")
    with Reader(drive / "recording") as reader:
        pictures = [c for c in reader.connections if c.msgtype == PICTURES]
        messages = [(c, log_ns, bytes(data)) for c, log_ns, data in reader.messages(pictures)]
    with Writer(target / "recording", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {
            c.id: writer.add_connection(c.topic, c.msgtype, msgdef=c.msgdef.data, rihs01=c.digest)
            for c in pictures
        }
        for later_s in (copy * round(SECONDS) for copy in range(COPIES)):
            for connection, log_ns, data in messages:
                later_ns = log_ns + later_s * 1_000_000_000
                writer.write(connections[connection.id], later_ns, _stamped_later(data, later_s))
    return target


def _stamped_later(data: bytes, later_s: int) -> bytes:
    """A CDR message (little-endian) that starts with a header: its seconds follow the encapsulation."""
    (stamp_s,) = struct.unpack_from("<i", data, 4)
    return data[:4] + struct.pack("<i", stamp_s + later_s) + data[8:]


def pass_through(drive: Path, target: Path) -> int:
    """Write the part `<role>/00000.parquet` of every camera as redaction does where nobody is seen.

    Returns the number of frames.
    """
    from av_assets.domain.evidence.digests import sha256_bytes
    from av_assets.domain.logs.drive_spec import SPEC_FILE, read_drive_spec
    from av_assets.domain.logs.reader import LogReader, image_payload
    from av_assets.domain.privacy.frames import ClipRow, ClipWriter

    streams = read_drive_spec(drive / SPEC_FILE).streams
    roles = {stream.topic: role for role, stream in streams.items() if stream.kind == "camera"}
    for role in roles.values():
        (target / role).mkdir(parents=True)
    with ExitStack() as stack:
        reader = stack.enter_context(LogReader(drive))
        parts = {topic: target / role / "00000.parquet" for topic, role in roles.items()}
        writers = {topic: stack.enter_context(ClipWriter(path)) for topic, path in parts.items()}
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
