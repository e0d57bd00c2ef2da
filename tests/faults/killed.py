"""Run stages of one drive, each in a process of its own that may die in the middle: started by test_kill.py.

killed.py DRIVE PLAN KEPT

PLAN: JSON list of [stages, moment]; moment: compute | store | manifest | piece:N | never. piece:N dies in the middle
of the N-th piece that the process makes: a segment, or a file that is copied. KEPT: a file that gets a line for every
piece that was finished and kept. Prints for each process how it ended, which of its stages are finished then, and how
many files of segments wait in the lake. Short segments, so that a short drive has several.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import av_assets.definitions  # noqa: F401 - imported once, before the processes part
from av_assets.cli.main import main
from av_assets.domain.evidence.timing import Stopwatch
from av_assets.domain.logs import ingest
from av_assets.policies import Policy
from av_assets.policies.redaction import RedactionPolicy
from av_assets.policies.sync import SyncPolicy
from resources.environment import environment
from resources.lake import Lake
from resources.objects import FolderStore
from resources.segments import LakeSegments

SHORT = {"segment_s": 1.0}
MIDDLE = 5  # parts of a segment's work that are begun before it is interrupted


def die(*_: Any, **__: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def shorten(policy: type[Policy], **fields: float) -> None:
    made = policy.load().model_copy(update=fields)
    policy.load = classmethod(lambda cls, path=None: made)  # type: ignore[method-assign, assignment]


def note_what_is_kept(kept: Path) -> None:
    done = LakeSegments._done

    def done_and_noted(self: LakeSegments, name: str, entries: list[Any]) -> Any:
        made = done(self, name, entries)
        with kept.open("a") as lines:
            lines.write(f"{self.asset} {name}\n")
        return made

    LakeSegments._done = done_and_noted  # type: ignore[method-assign]


def arm(moment: str) -> None:
    kind, _, number = moment.partition(":")
    if kind == "compute":
        Stopwatch.__call__ = die  # type: ignore[method-assign]
    if kind in ("compute", "store"):
        FolderStore.put_file = die  # type: ignore[method-assign]
    if kind in ("compute", "store", "manifest"):
        put = FolderStore.put

        def put_or_die(self: FolderStore, key: str, data: bytes, *, create: bool = False) -> bool:
            return die() if key.endswith("current.json") else put(self, key, data, create=create)

        FolderStore.put = put_or_die  # type: ignore[method-assign]
    if kind == "piece":
        arm_piece(int(number))


def arm_piece(number: int) -> None:
    """Die within the piece of this number: with half of its work begun, or a part of its bytes written."""
    pieces, once, pump = count(1), LakeSegments.once, ingest._pump

    def once_or_die(self: LakeSegments, name: str, make: Callable[[Path], None]) -> Path:
        def interrupted(folder: Path) -> None:
            if next(pieces) == number:
                parts, measure = count(1), Stopwatch.__call__
                Stopwatch.__call__ = lambda watch, part: (  # type: ignore[method-assign, assignment]
                    die() if next(parts) > MIDDLE else measure(watch, part)
                )
            make(folder)

        return once(self, name, interrupted)

    def pump_or_die(reading: int, writing: int, update: Callable[[memoryview], None]) -> int:
        if next(pieces) < number:
            return pump(reading, writing, update)
        os.write(writing, os.read(reading, 1 << 20))
        return int(die() or 0)

    LakeSegments.once = once_or_die  # type: ignore[method-assign]
    ingest._pump = pump_or_die  # type: ignore[assignment]


def step(drive: str, stages: str, moment: str) -> dict[str, Any]:
    here, ended = environment(), run(drive, stages, moment)
    lake = Lake(uri=here.lake, scratch=str(here.scratch))
    finished = [stage for stage in stages.split(",") if lake.manifest(stage, drive)]
    return {"ended": ended, "finished": finished, "waiting": len(list(lake.store.keys("segments/")))}


def run(drive: str, stages: str, moment: str) -> int:
    """The exit code of a process that makes `stages`; negative is the signal that ended it."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    arm(moment)
    try:
        main(["backfill", drive, "--assets", stages, "--here"], standalone_mode=False)
    except SystemExit as error:
        os._exit(int(error.code or 0))
    except BaseException as error:  # noqa: BLE001 - a fork must never go on as its parent
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(3)
    os._exit(0)


if __name__ == "__main__":
    shorten(RedactionPolicy, **SHORT)
    shorten(SyncPolicy, **SHORT, clip_s=1.0)
    note_what_is_kept(Path(sys.argv[3]))
    print(json.dumps([step(sys.argv[1], *planned) for planned in json.loads(sys.argv[2])]))
