"""Which split a drive belongs to: a salted hash of its id, place or week against fixed thresholds.

The place of a drive depends on its own key and the policy alone, so adding or removing drives never moves
another one. The price is that shares hold only on average, the more coarsely the fewer keys there are.
Belongs here: those functions. Does not belong here: counting, slicing, leakage.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av_assets.domain.datasets.members import MemberInfo, Split
    from av_assets.policies.golden import GoldenPolicy


def hash_place(key: str, salt: str) -> float:
    """A number in [0, 1) that looks uniform over keys: the first 53 bits of sha256(salt, key)."""
    digest = hashlib.sha256(f"{salt}\x00{key}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / float(1 << 53)


def split_key(member: MemberInfo, policy: GoldenPolicy) -> str | None:
    """What is never divided among splits: drives with one key share a split; None where the key is not known."""
    parts = {
        "geo_cell": [member.geo_cell],
        "week": [member.week],
        "geo_cell_week": [member.geo_cell, member.week],
    }
    asked = parts.get(policy.split_by, [member.drive])
    return None if None in asked else "/".join(str(part) for part in asked)


def split_of(key: str, policy: GoldenPolicy) -> Split:
    """The split of a key (a drive, by default): train, val and test take consecutive shares of [0, 1)."""
    place = hash_place(key, policy.salt)
    if place < policy.train_share:
        return "train"
    return "val" if place < policy.train_share + policy.val_share else "test"
