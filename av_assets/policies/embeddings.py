"""How a clip becomes one vector: which frames are looked at, and how they are prepared."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from av_assets.policies import Policy


class EmbeddingsPolicy(Policy):
    """Numbers of clip embeddings. `input_size`, `mean` and `scale` belong to the network, input = (RGB - mean) / scale,
    and are for models that do not bring their own; see `av_assets.domain.search.encoders`.
    """

    name: ClassVar[str] = "embeddings"
    keyframes: Annotated[int, Field(ge=1, le=32)] = Field(description="frames a clip, evenly spread over it")
    input_size: Annotated[int, Field(ge=8, le=2048)] = Field(
        description="px of a side, where the graph is open"
    )
    mean: float
    scale: Annotated[float, Field(gt=0)]
    threads: Annotated[int, Field(ge=1, le=64)] = Field(description="threads of the runtime")
