"""Every random number of a sweep comes from its one seed.

Belongs here: deriving seeds. Does not belong here: drawing anything.
"""

from __future__ import annotations

import hashlib
from typing import Final

LARGEST: Final = 2**31 - 1
"""What numpy, torch and Optuna all take as a seed."""


def seed_of(sweep_seed: int, *names: str | int) -> int:
    """0 .. 2^31 - 1, a function of the sweep's seed and of what it is for."""
    text = "/".join(str(part) for part in (sweep_seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) % (LARGEST + 1)
