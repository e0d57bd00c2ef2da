"""Interrupted anywhere and started again, a drive becomes the same files, and nothing finished is made twice."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from av_assets.domain.evidence.digests import sha256_file
from av_assets.domain.evidence.segments import FolderSegments
from av_assets.domain.logs.reader import LogReader
from av_assets.domain.sync.synchronize import synchronize_drive
from av_assets.policies.sync import SyncPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.domain.sync.conftest import Drive

POLICY = SyncPolicy.load().model_copy(update={"clip_s": 0.5, "segment_s": 1.0})


class PowerCutError(Exception):
    """The machine is gone."""


class _Counted(FolderSegments):
    """Counts what was finished."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.made = Counter[str]()

    def once(self, name: str, make: Callable[[Path], None]) -> Path:
        def counted(folder: Path) -> None:
            make(folder)
            self.made[name] += 1

        return super().once(name, counted)


class _Failing:
    """A log that stops the process after some messages."""

    def __init__(self, reader: LogReader, messages: int) -> None:
        self._reader, self._left = reader, messages

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def messages(self, *arguments: Any) -> Iterator[Any]:
        for raw in self._reader.messages(*arguments):
            if self._left <= 0:
                raise PowerCutError
            self._left -= 1
            yield raw


def _hashes(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): sha256_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def whole(drive: Drive, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("whole")
    with LogReader(drive.folder) as reader:
        synchronize_drive(reader, drive.spec, drive.redacted, POLICY, out, None, drive.folder)
    hashes = _hashes(out)
    assert len([name for name in hashes if name.startswith("clips/")]) == 6
    assert not any(name.startswith(".") for name in hashes)  # what was kept on the way is gone
    return hashes


@pytest.mark.parametrize("seed", range(3))
def test_the_result_does_not_tell_how_often_it_was_interrupted(
    drive: Drive, whole: dict[str, str], tmp_path: Path, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    segments, cuts = _Counted(tmp_path / "segments"), 0
    for attempt in range(60):
        out = tmp_path / f"out{attempt}"
        with LogReader(drive.folder) as reader:
            # Longer and longer, as attempts go on: the first pass alone reads more than 1000 messages.
            some: Any = _Failing(reader, int(rng.integers(1, 120)) * (attempt + 1))
            try:
                synchronize_drive(some, drive.spec, drive.redacted, POLICY, out, None, drive.folder, segments)
                break
            except PowerCutError:
                cuts += 1
    assert cuts > 3
    assert _hashes(out) == whole
    assert segments.made == dict.fromkeys(("scan", "00000", "00001", "00002"), 1)


def test_a_segment_that_is_there_is_not_read_for_again(
    drive: Drive, whole: dict[str, str], tmp_path: Path
) -> None:
    segments = FolderSegments(tmp_path / "segments")
    for name in ("first", "second"):
        with LogReader(drive.folder) as reader:
            log: Any = _Failing(reader, 10**9 if name == "first" else 60)
            synchronize_drive(
                log, drive.spec, drive.redacted, POLICY, tmp_path / name, None, drive.folder, segments
            )
    assert _hashes(tmp_path / "second") == whole


def test_how_long_segments_are_does_not_show(drive: Drive, whole: dict[str, str], tmp_path: Path) -> None:
    policy = POLICY.model_copy(update={"segment_s": 60.0})
    with LogReader(drive.folder) as reader:
        synchronize_drive(reader, drive.spec, drive.redacted, policy, tmp_path, None, drive.folder)
    found = _hashes(tmp_path)
    for name in ("sync_report.json", "residuals.png"):
        found.pop(name), whole.pop(name, None)
    assert found == whole
