"""How the production model goes over what was recorded."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from av_assets.policies import Policy


class InferencePolicy(Policy):
    """Numbers of batch inference.

    All but `streams`, `workers` and `prefetch` may change what comes out, in the last digits.
    """

    name: ClassVar[str] = "inference"
    camera: str = Field(description="whose pictures are looked at")
    lidars: tuple[str, ...] = Field(description="roles that a network with lidar gets")
    radars: tuple[str, ...] = Field(description="roles that a network with radar gets")
    batch_size: Annotated[int, Field(ge=1, le=1024)] = Field(
        description="frames that the network gets at once"
    )
    num_threads: Annotated[int, Field(ge=1, le=256)] = Field(description="threads of the network")
    streams: Annotated[int, Field(ge=0, le=256)] = Field(
        description="batches that the network works on at once; 0: as many as there are cores for"
    )
    workers: Annotated[int, Field(ge=0, le=256)] = Field(
        description="processes that read and decode; 0: one thread beside the network"
    )
    prefetch: Annotated[int, Field(ge=1, le=64)] = Field(
        description="batches that wait for the network at most"
    )
    uncertain_boxes: Annotated[int, Field(ge=1)] = Field(
        description="a frame is as uncertain as its worst boxes"
    )
    uncertain_score: Annotated[float, Field(ge=0, le=1)] = Field(
        description="boxes below it do not count as doubt"
    )
    drives_per_tick: Annotated[int, Field(ge=1, le=1000)] = Field(
        description="drives that one look of the sensor asks for"
    )
    bottleneck_share: Annotated[float, Field(gt=0, le=1)] = Field(
        description="the network is the bottleneck while it works for at least this share of the time"
    )
