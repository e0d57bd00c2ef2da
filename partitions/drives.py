"""One recording of one vehicle: the partition key of everything up to labels."""

from __future__ import annotations

import dagster as dg

drives = dg.DynamicPartitionsDefinition(name="drive")

BATCH = dg.BackfillPolicy.multi_run(max_partitions_per_run=10)
"""Drives are small beside the start of a run: a backfill takes several at once, each recorded on its own."""
