"""How a clip becomes one vector: which frames are looked at, and how they are prepared."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from av_assets.policies import Policy


class EmbeddingsPolicy(Policy):
    """Numbers of clip embeddings. `mean` and `scale` belong to the network: input = (RGB - mean) / scale."""

    name: ClassVar[str] = "embeddings"
    keyframes: Annotated[int, Field(ge=1, le=32)] = Field(description="frames a clip, evenly spread over it")
    mean: float
    scale: Annotated[float, Field(gt=0)]
    threads: Annotated[int, Field(ge=1, le=64)] = Field(description="threads of the runtime")
