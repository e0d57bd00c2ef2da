"""Accepted mining specs that name an erased drive, as `like: <clip>` does: they go, the other specs of a file stay.

Belongs here: finding and removing them. Does not belong here: what a spec may say (policies/mining), running specs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from av_assets.domain.erasure.naming import names_of
from av_assets.domain.errors import PolicyError
from av_assets.policies.mining import dump_specs, load_specs


def naming(folder: Path, drives: Sequence[str]) -> Iterator[Path]:
    """Files of the folder in whose name or text one of the drives stands, in a comment too."""
    said = names_of(drives)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else ():
        if said.search(path.name) or said.search(_text(path)):
            yield path


def drop(path: Path, drives: Sequence[str]) -> None:
    """Take the specs that name a drive out of a file; one without any other spec goes, and so does one that is no
    list of specs. What stays is written anew, without comments: one of them may be what names the drive.
    """
    said = names_of(drives)
    try:
        specs = [spec for spec in load_specs(path) if not said.search(dump_specs([spec]))]
    except PolicyError:
        specs = []
    if not specs or said.search(path.name):
        path.unlink(missing_ok=True)
        return
    part = path.with_suffix(".part")
    part.write_text(dump_specs(specs), "utf-8")
    part.replace(path)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
