"""The location that runs on `av-preproc` and `av-batch-infer-cu12`: from landed drives to datasets."""

from __future__ import annotations

from av_assets.foundations import cataloging, detectors, ingestion, redaction, synchronization
from av_assets.locations.assembly import code_location
from av_assets.mining import autolabels, embeddings, golden, labels, scenes
from sensors.archive import old_drives
from sensors.automation import drive_automation
from sensors.landing import landed_drives

definitions = code_location(
    [
        ingestion,
        detectors,
        redaction,
        synchronization,
        cataloging,
        scenes,
        embeddings,
        autolabels,
        labels,
        golden,
    ],
    [landed_drives, drive_automation, old_drives],
)
