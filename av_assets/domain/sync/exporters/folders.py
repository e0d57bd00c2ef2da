"""Output folders that appear whole or not at all.

Belongs here: that. Does not belong here: what is in them.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from av_assets.domain.errors import LogError
from av_assets.domain.logs.files.mcap_writer import os_errors_typed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def folder_written_whole(out: Path, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder beside `out` that takes its name when the body ends well, and goes when it does not.

    Raises:
        LogError: output_exists.
        TransientError: disk_full or cannot_write, for every error of the file system in the body.
    """
    if out.exists() and not overwrite:
        reason = "the output exists already"
        raise LogError(reason, code="output_exists", file=out, remedy="choose another name")
    growing = out.with_name(f".{out.name}.part")
    shutil.rmtree(growing, ignore_errors=True)
    try:
        with os_errors_typed(out):
            growing.mkdir(parents=True)
            yield growing
            if out.is_dir():
                shutil.rmtree(out)
            growing.rename(out)
    finally:
        shutil.rmtree(growing, ignore_errors=True)
