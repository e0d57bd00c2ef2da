"""Weeks partition datasets, days partition monitoring."""

from __future__ import annotations

import dagster as dg

weeks = dg.WeeklyPartitionsDefinition(start_date="2025-06-02", day_offset=1)  # ISO weeks: Monday to Monday
days = dg.DailyPartitionsDefinition(
    start_date="2026-01-01", end_offset=1
)  # today counts, it is being monitored
