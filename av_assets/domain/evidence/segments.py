"""Finished pieces of one bundle, kept while the rest is still being made: what resume is made of.

A segment is a pure function of the bundle's inputs and of its name, so one that is there is never made again and the
bundle does not depend on how often its making was interrupted.
Belongs here: the contract, and segments in a folder. Does not belong here: where a lake keeps them (`production`).
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Segments(Protocol):
    """Asks for segments by name; names are relative paths such as `camera_front/00003`."""

    def once(self, name: str, make: Callable[[Path], None]) -> Path:
        """The folder of the segment: as an earlier attempt left it, or filled by `make` now.

        The folder is read-only to the caller and stays until the bundle is finished.
        """


class FolderSegments:
    """Segments below a folder of this machine: each appears at once, whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def once(self, name: str, make: Callable[[Path], None]) -> Path:
        done = self._folder / name
        if not done.is_dir():
            growing = done.with_name(f".{done.name}.part")
            shutil.rmtree(growing, ignore_errors=True)
            growing.mkdir(parents=True)
            make(growing)
            growing.rename(done)
        return done
