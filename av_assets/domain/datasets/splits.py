"""Which split a drive belongs to: a salted hash of its id against fixed thresholds.

The place of a drive depends on its id and the policy alone, so adding or removing drives never moves
another one. The price is that shares hold only on average.
Belongs here: that function. Does not belong here: counting, slicing, leakage.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av_assets.domain.datasets.members import Split
    from av_assets.policies.golden import GoldenPolicy


def hash_place(drive: str, salt: str) -> float:
    """A number in [0, 1) that looks uniform over drives: the first 53 bits of sha256(salt, drive)."""
    digest = hashlib.sha256(f"{salt}\x00{drive}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / float(1 << 53)


def split_of(drive: str, policy: GoldenPolicy) -> Split:
    """The split of a drive: train, val and test take consecutive shares of [0, 1)."""
    place = hash_place(drive, policy.salt)
    if place < policy.train_share:
        return "train"
    return "val" if place < policy.train_share + policy.val_share else "test"
