"""The shards that one process has open, within a number of files and a budget of bytes.

Belongs here: when a shard is opened, closed and forgotten. Does not belong here: what is in one (`shard_file`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from av_assets.domain.errors import AvError, EvidenceError, PoisonError, RedactionError
from av_assets.domain.loading.shard_file import GroupCache, ShardFile
from av_assets.domain.loading.sources import ShardRef, ShardSource


@dataclass
class _Held:
    """A shard; `context` keeps its file in place, and is None while it is closed."""

    shard: ShardFile
    context: AbstractContextManager[Path] | None


class OpenShards:
    """Shards by their number, the longest unused given up first.

    A closed shard keeps what was read of it, so that opening it again costs two system calls.

    Attributes:
        max_open: files that are open, and that the source must keep, at a time.
        max_held_bytes: of what is kept of all shards.
    """

    def __init__(
        self,
        source: ShardSource,
        roles: Sequence[str],
        max_open: int,
        max_held_bytes: int,
        groups: GroupCache,
    ) -> None:
        self._source, self._roles, self._groups = source, tuple(roles), groups
        self.max_open, self.max_held_bytes = max_open, max_held_bytes
        self._held = OrderedDict[int, _Held]()
        self._open = OrderedDict[int, None]()
        self._broken: dict[int, AvError] = {}
        self._bytes = 0

    def get(self, number: int, ref: ShardRef) -> ShardFile:
        """The shard, open. One that is broken is not tried again.

        Raises:
            DatasetError: bad_shard, or what the source raises.
        """
        if number in self._broken:
            raise self._broken[number]
        held = self._held.get(number)
        if held is None or held.context is None:
            try:
                held = self._opened(number, ref)
            except (PoisonError, EvidenceError) as error:
                self._forget(number)
                self._broken[number] = error
                raise
        self._held.move_to_end(number)
        self._open[number] = None
        self._open.move_to_end(number)
        self._give_up(number)
        return held.shard

    def close(self) -> None:
        while self._held:
            self._forget(next(iter(self._held)))

    def _opened(self, number: int, ref: ShardRef) -> _Held:
        context = self._source.local(ref)
        path = context.__enter__()
        try:
            held = self._held.get(number)
            if held is not None:
                try:
                    held.shard.open(path)
                except (
                    RedactionError
                ):  # the file was fetched again meanwhile: nothing known of the old one counts
                    self._forget(number)
                    held = None
            if held is None:
                held = self._held[number] = _Held(ShardFile(path, self._roles), None)
                self._bytes += held.shard.nbytes
        except BaseException:
            context.__exit__(None, None, None)
            raise
        held.context = context
        return held

    def _give_up(self, but: int) -> None:
        while len(self._open) > self.max_open:
            self._close(next(iter(self._open)))
        while self._bytes > self.max_held_bytes and (oldest := next(iter(self._held))) != but:
            self._forget(oldest)

    def _close(self, number: int) -> None:
        self._open.pop(number, None)
        held = self._held[number]
        context, held.context = held.context, None
        held.shard.close()
        if context is not None:
            context.__exit__(None, None, None)

    def _forget(self, number: int) -> None:
        if number in self._held:
            self._close(number)
            shard = self._held.pop(number).shard
            self._bytes -= shard.nbytes
            self._groups.forget(shard)
