"""Content digests: sha256 over bytes, files and canonical JSON (RFC 8785 for the subset of JSON we use)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path


def canonical_json(value: object) -> bytes:
    """Sorted keys, no spaces, UTF-8: the same value gives the same bytes on every machine."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def sha256_bytes(data: bytes | bytearray | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_json(value: Mapping[str, object] | Sequence[object]) -> str:
    return sha256_bytes(canonical_json(value))


def sha256_file(path: Path) -> str:
    """sha256 of a file in bounded memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
