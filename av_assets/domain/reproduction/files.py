"""Two bundles of files side by side: identical, or which file differs and where in it.

Belongs here: comparing. Does not belong here: why they differ (`ingredients`), making them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from av_assets.domain.evidence.manifest import FileEntry

SHOWN: Final = 5
MAX_JSON_BYTES: Final = 8 << 20


@dataclass(frozen=True)
class FileState:
    """One path: "identical", "differs", "missing" (not made again) or "extra" (made, but not recorded)."""

    path: str
    state: str
    where: tuple[str, ...] = ()


def compare_files(recorded: Sequence[FileEntry], made: Sequence[FileEntry]) -> list[FileState]:
    """Every path of either side, sorted."""
    a, b = ({f.path: f.sha256 for f in files} for files in (recorded, made))
    found = []
    for path in sorted({*a, *b}):
        state = "extra" if path not in a else "missing" if path not in b else None
        found.append(FileState(path, state or ("identical" if a[path] == b[path] else "differs")))
    return found


def where_json_differs(before: bytes, after: bytes) -> tuple[str, ...]:
    """The first paths whose values differ, with both values; empty where one of them is no JSON."""
    if max(len(before), len(after)) > MAX_JSON_BYTES:
        return ()
    try:
        pair = json.loads(before), json.loads(after)
    except ValueError:
        return ()
    found: list[str] = []
    for line in _differing(*pair, ""):
        found.append(line)
        if len(found) == SHOWN:
            break
    return tuple(found)


def _differing(a: Any, b: Any, path: str) -> Iterator[str]:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for name in sorted({*a, *b}):
            yield from _differing(a.get(name), b.get(name), _below(path, name))
    elif isinstance(a, list) and isinstance(b, list):
        for index, (one, other) in enumerate(zip(a, b, strict=False)):
            yield from _differing(one, other, _below(path, index))
        if len(a) != len(b):
            yield f"{path or 'all'}: {len(a)} -> {len(b)} entries"
    elif a != b:
        yield f"{path}: {_short(a)} -> {_short(b)}"


def _below(path: str, name: object) -> str:
    return f"{path}/{name}" if path else str(name)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
