"""Files that are there whole or not at all.

Belongs here: replacing a file at the end of its writing. Does not belong here: formats.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def written(path: Path) -> Iterator[IO[str]]:
    """A UTF-8 text file beside `path` that takes its name when the block ends well, and is gone when it does not."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as out:
            yield out
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
