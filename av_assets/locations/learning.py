"""The location that runs on the training and evaluation images: from golden data to evaluated bundles, and drift."""

from __future__ import annotations

from av_assets.locations.assembly import code_location
from av_assets.monitoring import baselines, continual, drift
from av_assets.promotion import bundles, evaluation
from av_assets.training import checkpoints, sweeps
from sensors.automation import learning_automation
from sensors.releases import frozen_datasets
from sensors.sweeps import sweeps_in_progress

definitions = code_location(
    [checkpoints, sweeps, bundles, evaluation, baselines, drift, continual],
    [frozen_datasets, sweeps_in_progress, learning_automation],
)
