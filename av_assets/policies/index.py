"""How the index of clips is built, kept, judged and asked. What a vector is, is the embeddings policy's business."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from av_assets.policies import Policy

Count = Annotated[int, Field(ge=1)]


class IndexPolicy(Policy):
    """Numbers of the vector and text index."""

    name: ClassVar[str] = "index"
    min_rows_for_index: Count = Field(description="with fewer rows the search is exact: it is quick enough")
    partition_rows: Count = Field(description="rows of one graph; all graphs are asked")
    edges: Annotated[int, Field(ge=4, le=128)] = Field(description="M of HNSW")
    ef_construction: Annotated[int, Field(ge=16, le=2000)]
    ef_search: Annotated[int, Field(ge=10, le=2000)]
    refine_factor: Annotated[int, Field(ge=1, le=50)] = Field(
        description="candidates compared by full vectors, x k"
    )
    recall_at: Annotated[int, Field(ge=1, le=100)]
    min_recall: Annotated[float, Field(gt=0, le=1)] = Field(
        description="below it readers are given exact search"
    )
    sampled_queries: Annotated[int, Field(ge=1, le=10_000)]
    seed: int
    max_unindexed_rows: Count = Field(description="rows beside the index that every search reads one by one")
    max_fragments: Count = Field(description="files of rows above which they are put together")
    keep_versions_hours: Annotated[float, Field(ge=1)] = Field(
        description="how long a reader may hold a version"
    )
    rrf_k: Annotated[int, Field(ge=0)] = Field(description="k of reciprocal rank fusion")
    candidates: Annotated[int, Field(ge=10, le=10_000)] = Field(
        description="length of each list that is fused"
    )
    sheet_queries: Annotated[int, Field(ge=0, le=50)]
    sheet_neighbours: Annotated[int, Field(ge=1, le=20)]
    projected_clips: Annotated[int, Field(ge=2, le=100_000)]
