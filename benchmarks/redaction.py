"""Redacting faces, against the command line of `deface` 1.5.0 on the same pictures.

Both take encoded pictures in and write encoded pictures out; ours also keeps boxes, digests and a report. Ours reads
the pictures as JPEG in a log, the peer as H.264 in a video, which is what it takes. What is compared is the cost of a
further frame, the difference between a long and a short stretch, so that starting and loading count for neither.
`redaction.faces` asks for four times the peer's throughput, `redaction.all` (faces, plates, vehicles and people, in
the strict mode) for its throughput. `redaction.recall` divides the faces that ours misses by those that the peer
misses; both paint what they find black for that, so that lossy encoding does not count as hiding, and the peer then
covers whole boxes instead of ellipses.
Belongs here: those measurements. Does not belong here: the pictures (street_frames).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import venv
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.figures import Figure, Say, Settings, paired_ratio, take_turns
from benchmarks.street_frames import ROLE, TOPIC, Street, read_video, render, street

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av_assets.domain.privacy.detectors import Detector

PEER = "deface==1.5.0"
SIZES = ((640, 384), (1280, 720))
SHORT, LONG = 30, 90
REPEATS = 3
SEED = 5
BLACK, BRIGHT, COVER = 40, 60, 0.75
"""Of 255: a pixel that was brighter than BRIGHT is hidden if it is darker than BLACK; a face, if COVER of it is."""


def run(settings: Settings, say: Say) -> list[Figure]:
    """`redaction.faces`, `redaction.all` and `redaction.recall` for every size; one line where there is no peer."""
    peer = _peer(settings.work / "peer", say)
    if peer is None:
        note = f"skipped: pip could not install {PEER} into an environment of its own"
        return [Figure("redaction", "ours / deface", float("nan"), "x", None, note=note)]
    say("fetching the weights")
    weights = _weights()
    return [figure for size in SIZES for figure in _of_size(size, peer, weights, settings, say)]


def _peer(folder: Path, say: Say) -> Path | None:
    """The peer's command, in an environment of its own."""
    say(f"installing {PEER}")
    venv.create(folder, with_pip=True)
    lock = Path(__file__).parent.parent / "constraints.txt"
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "-c", str(lock)]
    done = subprocess.run([*pip, PEER, "onnxruntime"], capture_output=True)
    return folder / "bin" / "deface" if done.returncode == 0 else None


def _weights() -> Path:
    from resources.environment import environment
    from resources.pretrained import fetch_pretrained

    cache = environment().cache
    fetch_pretrained(cache / "models", cache / "wheels")
    return cache / "models"


@dataclass
class _Contest:
    """A short and a long stretch of the same street, and seconds of either on both."""

    short: Street
    long: Street
    samples: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)


def _of_size(size: tuple[int, int], peer: Path, weights: Path, settings: Settings, say: Say) -> list[Figure]:
    name = f"{size[0]}x{size[1]}"
    say(f"rendering {LONG} pictures of {name}")
    jpegs, faces = render(*size, LONG, SEED)
    folder = settings.work / name
    short, long = (street(folder / str(n), jpegs[:n], faces[:n]) for n in (SHORT, LONG))
    by_peer = partial(_by_peer, peer, folder / "peer.mp4")
    figures, shares = [], {}
    for kind, target in (("faces", 1 / 4), ("all", 1.0)):
        ours = partial(_by_us, _detector(weights, kind), "strict" if kind == "all" else "standard", "findings",
                       folder / f"ours-{kind}")  # fmt: skip
        further = _further(ours, by_peer, short, long, settings.times(REPEATS), say)
        black = folder / f"black-{kind}"
        _by_us(ours.args[0], "solid", "bands" if kind == "all" else "findings", black, long)
        shares[kind] = _hidden(long, _our_pictures(black), long.pictures)
        ratio = paired_ratio(further.seconds)
        measured = f"{name}, {kind}: seconds of a further frame, redact_drive / deface"
        speeds = _fps(further.seconds)
        work = paired_ratio(further.cpu)
        note = (
            f"{1 / ratio:.2f}x the throughput, {1 / work:.2f}x by processor time; {LONG - SHORT} frames; {speeds}; "
            "start and loading left out"
        )
        figures.append(Figure(f"redaction.{kind}.{name}", measured, ratio, "x", target, further.seconds,
                              {}, further.cpu, note))  # fmt: skip
    _by_peer(peer, folder / "black.mp4", long, "--replacewith", "solid")
    shares["deface"] = _hidden(long, read_video(folder / "black.mp4"), read_video(long.video))
    return [*figures, _recall(name, shares)]


def _further(ours: Any, peer: Any, short: Street, long: Street, repeats: int, say: Say) -> Any:
    """Turns with the seconds of the short stretch taken off those of the long one, for each frame."""
    ours(short)  # the first run builds what later ones keep
    few = take_turns(
        ("redact", partial(ours, short)), ("deface", partial(peer, short)), repeats, say, os.sync
    )
    many = take_turns(("redact", partial(ours, long)), ("deface", partial(peer, long)), repeats, say, os.sync)
    return type(many)(*(
        {who: [(b - a) / (LONG - SHORT) for a, b in zip(less[who], more[who], strict=True)] for who in more}
        for less, more in zip(few, many, strict=True)
    ))  # fmt: skip


def _fps(seconds: dict[str, list[float]]) -> str:
    return ", ".join(f"{who} {1 / float(np.median(s)):.1f} frames/s" for who, s in seconds.items())


def _by_peer(command: Path, out: Path, what: Street, *options: str) -> None:
    subprocess.run([str(command), str(what.video), "-o", str(out), *options], check=True, capture_output=True)


def _by_us(detector: Detector, mode: str, cover: str, out: Path, what: Street) -> None:
    from av_assets.domain.evidence.segments import FolderSegments
    from av_assets.domain.logs.drive_spec import StreamSpec
    from av_assets.domain.logs.reader import LogReader
    from av_assets.domain.privacy.redact import redact_drive
    from av_assets.policies.redaction import RedactionPolicy

    policy = RedactionPolicy.load().model_copy(update={"mode": mode, "cover": cover, "solid_rgb": (0, 0, 0)})
    shutil.rmtree(out, ignore_errors=True)
    (out / "clips").mkdir(parents=True)
    cameras = {ROLE: StreamSpec(topic=TOPIC, kind="camera", rate_hz=10)}
    with LogReader(what.log) as reader:
        redact_drive(reader, cameras, detector, policy, out / "clips", FolderSegments(out / "kept"))


class _FacesOnly:
    """Redaction asks for plates too: this one looks for none."""

    kinds = ("face", "plate")

    def __init__(self, detector: Detector) -> None:
        self._detector, self.models = detector, detector.models

    def detect(self, frames: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        nothing = np.zeros((0, 5), np.float32)
        return [{**found, "plate": nothing} for found in self._detector.detect(frames)]


def _detector(weights: Path, kind: str) -> Any:
    from av_assets.domain.privacy.detectors import load_detector
    from av_assets.policies.detection import DetectionPolicy

    kinds = ("face",) if kind == "faces" else ("face", "plate", "vehicle", "person")
    detector = load_detector(weights, DetectionPolicy.load(), kinds)
    return _FacesOnly(detector) if kind == "faces" else detector


def _our_pictures(out: Path) -> list[np.ndarray]:
    from av_assets.domain.privacy.frames import read_redacted_clips, redacted_parts

    parts = redacted_parts(out / "clips", ROLE)
    return [frame.pixels() for part in parts for frame in read_redacted_clips(part, ROLE)]


def _hidden(what: Street, after: Sequence[np.ndarray], before: Sequence[np.ndarray]) -> list[bool]:
    """For every face whether it was painted over; the same question to both, put to their own input."""
    if len(after) != len(before):
        raise RuntimeError(f"{len(before)} pictures went in and {len(after)} came out")
    answers = []
    for old, new, boxes in zip(before, after, what.faces, strict=True):
        for x1, y1, x2, y2 in boxes.round().astype(int):
            bright = old[y1:y2, x1:x2].max(-1) > BRIGHT
            black = new[y1:y2, x1:x2].max(-1) < BLACK
            answers.append(bool((black & bright).sum() >= COVER * max(1, bright.sum())))
    return answers


def _recall(name: str, shares: dict[str, list[bool]]) -> Figure:
    recall = {who: [float(np.mean(answers))] for who, answers in shares.items()}
    miss = {who: 1 - values[0] for who, values in recall.items()}
    ratio = miss["faces"] / max(miss["deface"], 1e-9)
    count = len(shares["faces"])
    said = ", ".join(f"{who} {values[0]:.3f}" for who, values in recall.items())
    note = f"recall of {count} faces of 8 px and more: {said}; hidden where {COVER:.0%} of its box is"
    return Figure(f"redaction.recall.{name}", f"{name}: missed faces, ours / deface", ratio, "x", 1.0, recall,
                  note=note)  # fmt: skip
