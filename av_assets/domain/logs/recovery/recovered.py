"""What recovery asks of a log file, whatever its format: messages with all that the file says about them.

Belongs here: those types. Does not belong here: formats (`sources`, `mcap`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from av_assets.domain.logs.files.blocks import LogSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from av_assets.domain.logs.files.blocks import Block
    from av_assets.domain.logs.files.mcap_writer import McapChannel


class KeptMessage(NamedTuple):
    """One message that survived; `channel` is its number in its own file."""

    log_ns: int
    channel: int
    data: bytes
    publish_ns: int | None = None
    sequence: int = 0


class Extra(NamedTuple):
    """An attachment (`media_type`, times, `data`) or a metadata record (`entries`)."""

    name: str
    entries: dict[str, str] | None = None
    media_type: str = ""
    log_ns: int = 0
    created_ns: int = 0
    data: bytes = b""


class Recovered(LogSource, Protocol):
    """A `LogSource` whose blocks give `KeptMessage`s; `kept` has the channels as the file spells them.

    `definitions_added` names the types whose definition the file lacks and the bundled ones gave.
    """

    kept: dict[int, McapChannel]
    definitions_added: tuple[str, ...]

    @property
    def profile(self) -> str:
        """Of the file, as MCAP names profiles: ros1, ros2 or nothing."""

    def survivors(self, block: Block) -> Iterable[KeptMessage]:
        """Messages of one block in log time order. Damage is noted, never raised."""

    def extras(self) -> Iterator[Extra]: ...
