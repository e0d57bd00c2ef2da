"""Versions of trigger policies that were proposed, one partition each: `events-1.1.0`."""

from __future__ import annotations

import dagster as dg

policies = dg.DynamicPartitionsDefinition(name="policy")
