"""One recording of one vehicle: the partition key of everything up to labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import dagster as dg
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)

drives = dg.DynamicPartitionsDefinition(name="drive")

BATCH = dg.BackfillPolicy.multi_run(max_partitions_per_run=10)
"""Drives are small beside the start of a run: a backfill takes several at once, each recorded on its own."""


def keys_of_run(tags: Mapping[str, str], keys: Sequence[str]) -> Sequence[str]:
    """The partitions that a run with these tags has; ranges follow the order in which keys were registered."""
    first, last = tags.get(ASSET_PARTITION_RANGE_START_TAG), tags.get(ASSET_PARTITION_RANGE_END_TAG)
    if first in keys and last in keys:
        return keys[keys.index(first) : keys.index(last) + 1]
    single = tags.get(PARTITION_NAME_TAG)
    return [] if single is None else [single]
