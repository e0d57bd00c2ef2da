"""How large the cache of shards on a node may grow, how long it waits, and how often it reads all bytes again."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from av_assets.policies import Policy

Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(gt=0)]


class CachePolicy(Policy):
    name: ClassVar[str] = "cache"
    budget_gb: Annotated[
        float, Field(gt=0, description="10^9 bytes, where the installation says nothing else")
    ]
    keep_free_gb: Annotated[float, Field(ge=0, description="of the disk that the cache leaves to others")]
    evict_ahead_share: Annotated[
        Share, Field(description="of the budget that is freed beyond what is needed")
    ]
    verify_share: Annotated[Share, Field(description="of the hits whose bytes are all read and hashed again")]
    wait_for_fetch_s: Annotated[Seconds, Field(description="for a fetch that somebody else is at")]
    wait_for_room_s: Annotated[
        Seconds, Field(description="for files in use to be let go, where all room is taken")
    ]
    preload_threads: Annotated[int, Field(ge=1, le=64, description="fetches at a time")]
    predict_from_s: Annotated[Seconds, Field(description="the rate of so many last seconds predicts the end")]
