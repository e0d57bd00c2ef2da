"""The condition sensors: one per hardware class, so that each ticks alone and tags its runs."""

from __future__ import annotations

import dagster as dg

from resources.environment import environment

PER_DRIVE = (
    "log_reports",
    "redacted_clips",
    "synced_shards",
    "drive_catalog",
    "enriched_clips",
    "event_windows",
    "clip_embeddings",
    "auto_labels",
    "scenes",
    "label_tasks",
    "label_submissions",
    "verified_labels",
    "pretrained_models",
    "redaction_proofs",
    "map_tiles",
    "weather_observations",
)
FLEET = (
    "similarity_index",
    "index_maintenance",
    "scenario_candidates",
    "coverage_ledgers",
    "trigger_policies",
    "policy_backtests",
    "labeller_reports",
    "failure_buckets",
)
LEARNING = (
    "golden_slices",
    "dataset_archives",
    "checkpoints",
    "model_bundles",
    "eval_reports",
    "drift_baselines",
    "drift_reports",
    "retraining_requests",
)


def _sensor(name: str, assets: tuple[str, ...], hardware: str) -> dg.AutomationConditionSensorDefinition:
    return dg.AutomationConditionSensorDefinition(
        name,
        target=dg.AssetSelection.assets(*assets),
        minimum_interval_seconds=environment().tick_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        run_tags={"hardware": hardware},
        emit_backfills=False,  # one drive is one run, and at once; a backfill waits for the daemon's 30 s loop
    )


lake_automation = (
    _sensor("drive_automation", PER_DRIVE, "decode"),
    _sensor("fleet_automation", FLEET, "cpu"),
)
learning_automation = _sensor("learning_automation", LEARNING, "train_multisensor")
