"""The whole front, raw_logs to synced_shards with redaction off, against the floor, and its memory by length.

`front` copies and hashes a landed log, checks it and synchronizes it, in one process and one thread but for the
copy and for the writing of clips. The floor is sha256 of the log once, and rosbags' Reader over all raw
messages once with one write of their bytes; both sync their copy of the log to disk. Redaction off means that
the pictures come from pass-through redaction files made beforehand. `front.memory` compares the peak of
synchronizing a drive of ten minutes with that of one minute, each in a process of its own.
Belongs here: those measurements. Does not belong here: targets of single stages.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.busy_drive import CAN_HZ, SIGNALS, busy_drive
from benchmarks.figures import Figure, Say, Settings, paired_ratio, take_turns

if TYPE_CHECKING:
    from pathlib import Path

TARGET, MEMORY_TARGET = 2.0, 1.2
REPEATS = 3
SECONDS = 10.0
COPIES = 15  # of the short drive, one after the other: 150 s
MINUTES = (1, 10)
WRITTEN = ("lake", "shards", "floor")  # by the two contenders, below the folder of work


def run(settings: Settings, say: Say) -> list[Figure]:
    """`front`: seconds from the landed log to shards over those of the floor, in one run."""
    from av_assets.domain.simulation.recorder import record_drive
    from av_assets.domain.simulation.samples import short_drive
    from benchmarks.sync import pass_through

    say(f"recording a drive of {SECONDS:.0f} s")
    short = record_drive(short_drive(seconds=SECONDS), settings.work / "short", settings.work / "truth")
    say("repeating it")
    landed = repeat_drive(short, settings.work / "landed" / short.name)
    pass_through(landed, settings.work / "redacted")
    lake, shards = (settings.work / name for name in WRITTEN[:2])
    parts: dict[str, float] = {}
    ours = partial(front, landed, settings.work / "redacted", lake, shards, parts)
    below = partial(floor, landed / "recording", settings.work / WRITTEN[2])
    say("warming up")
    clear(settings.work)
    ours()
    written = _size(shards)
    below()
    reset = partial(clear, settings.work)
    turns = take_turns(("front", ours), ("floor", below), settings.times(REPEATS), say, reset)
    note = (
        f"{SECONDS * COPIES:.0f} s of drive, all sensors, {_size(landed) / 1e6:.0f} MB in, "
        f"{written / 1e6:.0f} MB out; the floor is sha256, rosbags' Reader over all messages, and one "
        "synced write of their bytes"
    )
    measured = "copy and hash + check + synchronize / sha256 + read all messages + write them"
    ratio = paired_ratio(turns.seconds)
    return [Figure("front", measured, ratio, "x", TARGET, turns.seconds, parts, turns.cpu, note)]


def memory(settings: Settings, say: Say) -> list[Figure]:
    """`front.memory`: peak of synchronizing ten minutes over that of one minute."""
    peaks: dict[str, list[float]] = {}
    for minutes in MINUTES:
        say(f"writing a drive of {minutes} min")
        folder = busy_drive(settings.work / f"{minutes}min", 60.0 * minutes)
        say(f"synchronizing {minutes} min")
        peaks[f"{minutes} min"] = [_peak_mb(folder) for _ in range(settings.times(1))]
    short, long = peaks.values()
    note = f"peak resident MB; CAN {CAN_HZ} Hz with {SIGNALS} signals, IMU 100 Hz, lidar 10 Hz, two cameras"
    measured = "peak memory of synchronize_drive, 10 min / 1 min of drive"
    return [Figure("front.memory", measured, max(long) / max(short), "x", MEMORY_TARGET, peaks, {}, {}, note)]


def repeat_drive(drive: Path, target: Path) -> Path:
    """A drive of COPIES times the messages of `drive`, with later stamps; transforms are written once."""
    from rosbags.rosbag2 import Reader, StoragePlugin, Writer

    from av_assets.domain.logs.drive_spec import SPEC_FILE

    target.mkdir(parents=True)
    for name in (SPEC_FILE, "vehicle.dbc"):
        shutil.copyfile(drive / name, target / name)
    with Reader(drive / "recording") as reader:
        messages = [(c, log_ns, bytes(data)) for c, log_ns, data in reader.messages()]
        used = {c.id: c for c, _, _ in messages}
    with Writer(target / "recording", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        to = {
            c.id: writer.add_connection(c.topic, c.msgtype, msgdef=c.msgdef.data, rihs01=c.digest)
            for c in used.values()
        }
        for later_s in (copy * round(SECONDS) for copy in range(COPIES)):
            for connection, log_ns, data in messages:
                if connection.topic != "/tf_static":
                    later_ns = log_ns + later_s * 1_000_000_000
                    writer.write(to[connection.id], later_ns, _stamped_later(data, later_s))
                elif not later_s:
                    writer.write(to[connection.id], log_ns, data)
    return target


def _stamped_later(data: bytes, later_s: int) -> bytes:
    """A CDR message (little-endian) that starts with a header: its seconds follow the encapsulation."""
    (stamp_s,) = struct.unpack_from("<i", data, 4)
    return data[:4] + struct.pack("<i", stamp_s + later_s) + data[8:]


def clear(work: Path) -> None:
    """Remove what the contender before wrote, and wait for the disk: neither is anybody's work."""
    for name in WRITTEN[:2]:
        shutil.rmtree(work / name, ignore_errors=True)
    (work / WRITTEN[2]).unlink(missing_ok=True)
    os.sync()


def front(landed: Path, redacted: Path, lake: Path, shards: Path, parts: dict[str, float]) -> None:
    """The work of raw_logs, log_reports and synced_shards; `parts` gets the seconds of each part of each."""
    from av_assets.domain.evidence.timing import Stopwatch
    from av_assets.domain.logs.drive_spec import SPEC_FILE, read_drive_spec
    from av_assets.domain.logs.ingest import copy_hashed
    from av_assets.domain.logs.integrity.check import check_log
    from av_assets.domain.logs.reader import LogReader
    from av_assets.domain.sync.synchronize import synchronize_drive
    from av_assets.policies.integrity import IntegrityPolicy
    from av_assets.policies.sync import SyncPolicy

    ingest, check, sync = Stopwatch(), Stopwatch(), Stopwatch()
    with ingest("copy"):
        for path in sorted(p for p in landed.rglob("*") if p.is_file()):
            copy_hashed(path, lake / path.relative_to(landed))
    spec = read_drive_spec(lake / SPEC_FILE)
    with LogReader(lake) as reader, check("all"):
        check_log(reader, spec, IntegrityPolicy.load())
    with LogReader(lake) as reader:
        synchronize_drive(reader, spec, redacted, SyncPolicy.load(), shards, sync, lake)
    for name, watch in (("ingest", ingest), ("check", check), ("sync", sync)):
        parts.update({f"{name} {part}": round(seconds, 3) for part, seconds in watch.seconds.items()})


def floor(recording: Path, target: Path) -> None:
    """What cannot be left out: hash the log, read its messages, write their bytes and sync them."""
    from rosbags.rosbag2 import Reader

    for path in sorted(recording.iterdir()):
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256")
    with Reader(recording) as reader, target.open("wb") as writing:
        for _, _, data in reader.messages():
            writing.write(data)
        writing.flush()
        os.fsync(writing.fileno())


def _peak_mb(folder: Path) -> float:
    """Peak resident megabytes of a process that synchronizes the drive, imports included."""
    command = [sys.executable, "-m", "benchmarks.busy_drive", str(folder)]
    told = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(told.stdout) / 1e6


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
