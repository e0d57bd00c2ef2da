"""Candidate models, each named after the week and the digest of the golden dataset that it learns from."""

from __future__ import annotations

import re

import dagster as dg

releases = dg.DynamicPartitionsDefinition(name="release")

_ID = re.compile(r"w(\d{4})(\d{2})(\d{2})-([0-9a-f]{8})")


def release_id(week: str, dataset_content: str) -> str:
    """`2025-06-02` and a content digest -> `w20250602-1a2b3c4d`."""
    return f"w{week.replace('-', '')}-{dataset_content[:8]}"


def release_dataset(release: str) -> tuple[str, str]:
    """The week and the first characters of the content digest: `w20250602-1a2b3c4d` -> (`2025-06-02`, `1a2b3c4d`).

    Raises:
        ValueError: no release is called that.
    """
    found = _ID.fullmatch(release)
    if found is None:
        raise ValueError(f"{release[:64]!r} is no release, e.g. w20250602-1a2b3c4d")
    year, month, day, content = found.groups()
    return f"{year}-{month}-{day}", content
