"""Which failed claims do not stop a drive. Belongs here: rules and reasons. Does not belong here: judging them."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from av_assets.policies import Policy

Reason = Annotated[str, Field(min_length=10)]


class GatePolicy(Policy):
    """Every claim of severity error stops a drive, except those that are named here with the reason."""

    name: ClassVar[str] = "gates"
    tolerated: dict[str, Reason] = Field(description="rule -> why its failure need not stop a drive")
