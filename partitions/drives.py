"""One recording of one vehicle: the partition key of everything up to labels."""

from __future__ import annotations

import dagster as dg

drives = dg.DynamicPartitionsDefinition(name="drive")
