"""Samples per second of the loader, beside WebDataset, LitData and bare libjpeg-turbo, on the same pictures.

Every loader runs in a process of its own with as many workers as there are cores; they take turns epoch by epoch, and
the first epoch of each, in which files are opened and processes started, is not counted. Peers run with the decoder
that is usual with them (Pillow) and with ours. MosaicML Streaming is not among
them: it imports torchvision, of which there is no build for a torch without CUDA.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa

from benchmarks.figures import Figure, Say, Settings, paired_ratio
from benchmarks.loader_contenders import CAMERA
from benchmarks.street_frames import render

SCRIPT = Path(__file__).with_name("loader_contenders.py")
SHARD_ROWS, PICTURES = 50, 50
FASTEST_PEER, BARE = 1 / 1.2, 1 / 0.85
REPEATS = 4
PEERS = ("webdataset", "webdataset.turbo", "litdata", "litdata.turbo")


@dataclass(frozen=True)
class Pictures:
    """One kind of pictures; `copies` times PICTURES of them are an epoch."""

    name: str
    width: int
    height: int
    copies: int

    @property
    def samples(self) -> int:
        return PICTURES * self.copies


SMALL = Pictures("loader", 640, 384, 40)
LARGE = Pictures("loader.1080p", 1920, 1080, 5)


@dataclass
class Contender:
    """A process, or several that share the work, and what each turn of it took."""

    commands: list[list[str]]
    seconds: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    _processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._processes = [
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            for command in self.commands
        ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.communicate()  # the end of its input ends it

    def turn(self, samples: int, counted: bool) -> None:
        started, cpu_s = time.perf_counter(), self._processor_s()
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write("epoch\n")
            process.stdin.flush()
        given = sum(int(p.stdout.readline() or 0) for p in self._processes if p.stdout is not None)
        took = time.perf_counter() - started
        assert given == samples, f"{self.commands[0][-3:]} gave {given} of {samples} samples"
        if counted:
            self.seconds.append(took)
            self.cpu_s.append(self._processor_s() - cpu_s)

    def _processor_s(self) -> float:
        """Of the processes and of their workers."""
        import psutil

        tree = [psutil.Process(process.pid) for process in self._processes]
        tree += [child for process in tree for child in process.children(recursive=True)]
        return float(sum(sum(process.cpu_times()[:2]) for process in tree))


def run(settings: Settings, say: Say) -> list[Figure]:
    """`loader`: ours over the fastest peer and over bare decoding, for two sizes of pictures."""
    return [figure for kind in (SMALL, LARGE) for figure in _measured(kind, settings, say)]


def _measured(kind: Pictures, settings: Settings, say: Say) -> list[Figure]:
    folder = settings.work / kind.name
    say(f"rendering {PICTURES} pictures of {kind.width} x {kind.height}")
    lay_out(folder, kind)
    peers = _peers_python(say)
    say("writing the chunks of LitData")
    chunks = [peers, str(SCRIPT), "chunks", str(folder), str(kind.copies)]
    subprocess.run(chunks, check=True, capture_output=True, env=os.environ | {"HOME": str(settings.work)})
    contenders = _turns(folder, kind, peers, settings.times(REPEATS), say)
    return _figures(kind, contenders)


def _turns(folder: Path, kind: Pictures, peers: str, repeats: int, say: Say) -> dict[str, Contender]:
    cores = os.cpu_count() or 1

    def one(name: str, number: int, python: str = sys.executable) -> list[str]:
        return [python, "-W", "ignore", str(SCRIPT), name, str(folder), str(number)]

    names = ("ours", "ours.half", *PEERS)
    contenders = {
        name: Contender([one(name, cores, peers if name.startswith("litdata") else sys.executable)])
        for name in names
    }
    shares = [len(range(core, kind.samples, cores)) for core in range(cores)]
    for decoder in ("turbo", "cv2"):
        contenders[f"bare.{decoder}"] = Contender([one(f"bare.{decoder}", share) for share in shares])
    for number in range(repeats + 1):
        for name, contender in contenders.items():
            say(f"{kind.name}: {name}, {number} of {repeats}")
            if number == 0:
                contender.__enter__()
            contender.turn(kind.samples, counted=number > 0)
    for contender in contenders.values():
        contender.__exit__(None, None, None)
    return contenders


def _figures(kind: Pictures, contenders: dict[str, Contender]) -> list[Figure]:
    seconds = {name: contender.seconds for name, contender in contenders.items()}
    cpu = {name: contender.cpu_s for name, contender in contenders.items()}

    def over(name: str, first: str = "ours", samples: dict[str, list[float]] = seconds) -> float:
        return paired_ratio({first: samples[first], name: samples[name]})

    best = max(PEERS, key=over)
    rates = {name: kind.samples / median(taken) for name, taken in seconds.items()}
    about = f"{kind.width} x {kind.height}"
    said = ", ".join(f"{name} {rate:,.0f}/s" for name, rate in rates.items())
    bare = f"{1 / over('bare.turbo'):.0%} of bare; processor time {over('bare.turbo', samples=cpu):.2f}x"
    return [
        Figure(kind.name, f"{about}: seconds of an epoch, ours / {best}, the fastest peer", over(best), "x",
               FASTEST_PEER, seconds, cpu=cpu, note=f"{said}; processor time {over(best, samples=cpu):.2f}x"),
        Figure(f"{kind.name}.bare", "the same / decoding alone in as many processes as cores", over("bare.turbo"), "x",
               BARE, note=bare),
        Figure(f"{kind.name}.half", "decoded at half size / at full size", over("ours", "ours.half"), "x", None),
        Figure(f"{kind.name}.cv2", "libjpeg-turbo by simplejpeg / cv2.imdecode, alone", over("bare.cv2", "bare.turbo"),
               "x", None),
    ]  # fmt: skip


def lay_out(folder: Path, kind: Pictures) -> None:
    """`pictures/`, and what ours and WebDataset read: the same samples, SHARD_ROWS to a file."""
    jpegs, _ = render(kind.width, kind.height, PICTURES, seed=6)
    for name in ("pictures", "ours", "webdataset"):
        (folder / name).mkdir(parents=True)
    for number, data in enumerate(jpegs):
        (folder / "pictures" / f"{number:05d}.jpg").write_bytes(data)
    for copy in range(kind.copies):
        _write_shard(folder / "ours", copy, jpegs)
        _write_tar(folder / "webdataset" / f"{copy:05d}.tar", copy, jpegs)


def _write_shard(folder: Path, number: int, jpegs: list[bytes]) -> None:
    from av_assets.domain.sync.shards import Times, clip_table, struct_column, write_clip

    ref_ns = np.arange(len(jpegs), dtype=np.int64) * 100_000_000
    there = np.ones(len(jpegs), np.bool_)
    leading = {"data": pa.array(jpegs, pa.binary()), "encoding": pa.array(["jpeg"] * len(jpegs))}
    camera = struct_column(leading, Times(ref_ns, ref_ns, ref_ns * 0, there))
    table = clip_table("veh001-bench", number, number * len(jpegs), ref_ns, there, {CAMERA: camera})
    write_clip(table, folder / f"{number:05d}.parquet", 3, 0, 256 << 20)


def _write_tar(path: Path, shard: int, jpegs: list[bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for row, data in enumerate(jpegs):
            about = tarfile.TarInfo(f"{shard:05d}_{row:05d}.jpg")
            about.size = len(data)
            tar.addfile(about, BytesIO(data))


def _peers_python(say: Say) -> str:
    from resources.tool_environments import tool

    say("making the environment of LitData, once")
    return str(tool("loader-peers", "python"))
