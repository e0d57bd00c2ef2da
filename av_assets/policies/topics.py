"""Topics that got another name, as people have confirmed. Belongs here: names. Does not belong here: proposing them."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from av_assets.policies import Policy


class TopicPolicy(Policy):
    """A log report proposes an alias for a declared topic that is absent; a person who agrees writes it down here."""

    name: ClassVar[str] = "topics"
    aliases: dict[str, tuple[str, ...]] = Field(
        description="declared topic -> topics that take its place where it is absent, in order of preference"
    )
