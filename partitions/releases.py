"""Candidate models, each named after the week and the digest of the golden dataset that it learns from."""

from __future__ import annotations

import dagster as dg

releases = dg.DynamicPartitionsDefinition(name="release")


def release_id(week: str, dataset_content: str) -> str:
    """`2025-06-02` and a content digest -> `w20250602-1a2b3c4d`."""
    return f"w{week.replace('-', '')}-{dataset_content[:8]}"


def release_week(release: str) -> str:
    """The golden week in a release id, as its partition key: `w20250602-1a2b3c4d` -> `2025-06-02`."""
    digits = release[1:9]
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:]}"
