"""Where a text names a drive: as a whole word, since one id may be the beginning of another.

Belongs here: that pattern. Does not belong here: what is searched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_BEFORE = r"(?:(?<![a-z0-9-])|(?<=\\[nrt]))"  # the text may be JSON, where a line break is a letter
_AFTER = r"(?![a-z0-9-])"


def names_of(drives: Iterable[str]) -> re.Pattern[str]:
    """Finds any of the drives; without drives it finds nothing."""
    said = "|".join(re.escape(drive) for drive in sorted(drives))
    return re.compile(f"{_BEFORE}(?:{said}){_AFTER}" if said else r"(?!)")


def names_in_bytes(drives: Iterable[str]) -> re.Pattern[bytes]:
    """As `names_of`, in bytes of ASCII or UTF-8."""
    return re.compile(names_of(drives).pattern.encode())
