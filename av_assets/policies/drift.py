"""When a change of the incoming data is drift. Bands and corrections are those of Yurdakul (2018) around
the PSI.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from av_assets.policies import Policy


class DriftPolicy(Policy):
    """Numbers of the drift report; an alarm needs all of: large PSI, above the size limit, significant
    after BH.
    """

    name: ClassVar[str] = "drift"
    bins: Annotated[int, Field(ge=2, le=100)] = Field(description="quantile bins, fixed by the reference")
    share_floor: Annotated[float, Field(gt=0, lt=0.01)] = Field(
        description="smallest share inside the logarithm"
    )
    moderate_psi: Annotated[float, Field(gt=0)] = Field(description="PSI from which a change is moderate")
    alarm_psi: Annotated[float, Field(gt=0)] = Field(description="PSI from which a change may be an alarm")
    alpha: Annotated[float, Field(gt=0, lt=1)] = Field(description="false alarm rate over the whole report")
    permutations: Annotated[int, Field(ge=100)] = Field(
        description="drive permutations; fewer when fewer exist"
    )
    min_rows: Annotated[int, Field(ge=1)] = Field(description="rows per side below which nothing is said")
    min_reference_drives: Annotated[int, Field(ge=1)] = Field(description="drives that a baseline needs")
    min_current_drives: Annotated[int, Field(ge=1)] = Field(description="drives that a judgement needs")
    missing_jump: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="rise of the share of missing values that is a schema fault and not a drift"
    )
    every_kth_frame: Annotated[int, Field(ge=1)] = Field(description="frames that are measured")
    principal_axes: Annotated[int, Field(ge=0, le=16)] = Field(
        description="embedding directions that are watched"
    )
