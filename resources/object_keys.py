"""Under which key of a lake an object lies.

Belongs here: that one rule, for readers who need no whole lake. Does not belong here: stores, manifests.
"""

from __future__ import annotations


def object_key(sha256: str) -> str:
    return f"objects/{sha256[:2]}/{sha256}"
