"""The location that runs on `av-preproc` and `av-batch-infer-cu12`: from landed drives to datasets."""

from __future__ import annotations

from av_assets.foundations import cataloging, detectors, enrichment, ingestion, redaction, synchronization
from av_assets.locations.assembly import code_location
from av_assets.mining import (
    archives,
    autolabels,
    described_scenes,
    embeddings,
    golden,
    hard_cases,
    labeller_reports,
    labels,
    pool,
    scenarios,
    scenes,
)
from av_assets.reliability import map_tiles, trigger_policies
from sensors.archive import old_drives
from sensors.automation import lake_automation
from sensors.landing import landed_drives
from sensors.outdated import activated_label_fusion, activated_policies, changed_sources, changed_surroundings
from sensors.pool import unpredicted_drives
from sensors.returned_labels import returned_labels

definitions = code_location(
    [
        ingestion,
        detectors,
        redaction,
        synchronization,
        cataloging,
        map_tiles,
        enrichment,
        trigger_policies,
        scenes,
        embeddings,
        autolabels,
        described_scenes,
        scenarios,
        labels,
        labeller_reports,
        golden,
        archives,
        pool,
        hard_cases,
    ],
    [
        landed_drives,
        returned_labels,
        changed_sources,
        changed_surroundings,
        activated_policies,
        activated_label_fusion,
        unpredicted_drives,
        old_drives,
        *lake_automation,
    ],
)
