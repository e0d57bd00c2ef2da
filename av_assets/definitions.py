"""The whole graph in one code location, as a laptop runs it."""

from __future__ import annotations

import warnings

import dagster as dg

warnings.filterwarnings("ignore", category=dg.BetaWarning)  # backfill_policy=, said once per asset otherwise

from av_assets.locations import lake, learning  # noqa: E402  after the filter

defs = dg.Definitions.merge(lake.definitions, learning.definitions)
