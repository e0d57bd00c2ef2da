"""Run one stage of one drive and die in the middle: started by test_kill.py as a process of its own.

killed.py DRIVE STAGE MOMENT    MOMENT: compute | store | manifest
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from av_assets.cli import main
from av_assets.domain.evidence.timing import Stopwatch
from resources.objects import FolderStore


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(moment: str) -> None:
    if moment == "compute":
        Stopwatch.__call__ = die  # type: ignore[method-assign, assignment]
        FolderStore.put_file = die  # type: ignore[method-assign]
    elif moment == "store":
        FolderStore.put_file = die  # type: ignore[method-assign]
    put = FolderStore.put

    def put_or_die(self: FolderStore, key: str, data: bytes, *, create: bool = False) -> bool:
        if key.endswith("current.json"):
            die()
        return put(self, key, data, create=create)

    FolderStore.put = put_or_die  # type: ignore[method-assign]


if __name__ == "__main__":
    drive, stage, moment = sys.argv[1:]
    arm(moment)
    sys.argv = ["av", "backfill", drive, "--assets", stage, "--here"]
    main()
