"""The chain where no folder is shared: landing area and lake in a bucket, from `av land` to labels."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from av_assets.drives import STAGES
from resources.lake import Lake
from tests.faults.conftest import Installation
from tests.resources.conftest import BUCKET

DRIVE = "veh003-20250601t080000z"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_drive_completes_with_landing_area_and_lake_in_a_bucket(
    installation: Installation, s3_endpoint: str, short_drive_folder: Path
) -> None:
    lake_uri = f"s3://{BUCKET}/chain/lake"
    place = dataclasses.replace(
        installation,
        settings={
            "AWS_ENDPOINT_URL": s3_endpoint,
            "AV_LAKE": lake_uri,
            "AV_LANDING": f"s3://{BUCKET}/chain/landing",
        },
    )
    lake = Lake(uri=lake_uri, scratch=str(place.home / "scratch"), endpoint=s3_endpoint)
    _bring_models(installation.lake, lake)
    landed = json.loads(place.av("land", str(short_drive_folder), "--as", DRIVE, "--here", "--json").stdout)
    assert landed["state"] == "complete", landed
    assert lake.partitions("synced_shards") == [DRIVE]
    assert all(lake.manifest(stage, DRIVE) for stage in STAGES)
    assert list(lake.store.keys("segments/")) == []
    assert list(installation.lake.partitions("raw_logs")) == [], "nothing went to the folder"
    assert not any((place.home / "landing").glob("*"))
    assert place.av("verify", DRIVE).returncode == 0
    assert not any((place.home / "scratch").iterdir()), "work in progress is gone"


def _bring_models(source: Lake, target: Lake) -> None:
    """The installation has them in its folder, and its catalog says that they are made."""
    models = source.require("pretrained_models", "all")
    with source.workdir() as folder:
        source.checkout(models, folder)
        target.publish("pretrained_models", "all", folder, made_from=models.made_from)
