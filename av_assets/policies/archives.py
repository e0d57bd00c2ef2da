"""How frozen datasets are packed for archives, and how exports grade what people saw of an object."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from av_assets.policies import Policy

Share = Annotated[float, Field(ge=0, le=1)]


class ArchivesPolicy(Policy):
    name: ClassVar[str] = "archives"
    shard_bytes: Annotated[int, Field(ge=1 << 20, description="of files, per tar file")]
    pulled_back: Annotated[int, Field(ge=1, description="shards that the check pulls back")]
    kitti_partly_occluded: Annotated[Share, Field(description="hidden share from which KITTI's level is 1")]
    kitti_largely_occluded: Annotated[Share, Field(description="hidden share from which KITTI's level is 2")]

    @model_validator(mode="after")
    def _levels_rise(self) -> ArchivesPolicy:
        if self.kitti_partly_occluded > self.kitti_largely_occluded:
            raise ValueError("kitti_partly_occluded lies above kitti_largely_occluded")
        return self
