"""A model over one drive, shard by shard: each finished shard is kept, and a bad one keeps nobody up.

Belongs here: the order of things. Does not belong here: reading (feeding), the columns (rows), publishing.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from av_assets.domain.errors import AvError, TransientError
from av_assets.domain.evidence.digests import canonical_json, sha256_file
from av_assets.domain.evidence.timing import Stopwatch
from av_assets.domain.inference.feeding import Chunk, Feed, Pace
from av_assets.domain.inference.ledger import LEDGER_FILE, Entry, Ledger, Origin
from av_assets.domain.inference.rows import (
    NO_PICTURE,
    OUTPUTS,
    OUTPUTS_3D,
    Row,
    prediction_row,
    span_s,
    write_rows,
)
from av_assets.domain.inference.seeing import OWN, SEEN, UNREADABLE, SeeRow, reason_of

if TYPE_CHECKING:
    from av_assets.domain.evidence.segments import Segments
    from av_assets.domain.loading.sources import ShardRef, ShardSource
    from av_assets.domain.models.runtime import OnnxPerception
    from av_assets.policies.inference import InferencePolicy

_ROWS, _FACTS = "predictions.parquet", "facts.json"


class ShardFacts(BaseModel):
    """What stays of a shard beside its rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    frames: int
    predicted: int
    unreadable: int
    boxes: int
    span_s: float
    reason: str


@dataclass(frozen=True)
class Predictor:
    """A loaded model and how it looks: the same one for any number of drives.

    Attributes:
        see: makes its inputs.
        streams: batches that it works on at once. A batch's answers do not depend on the others.
    """

    model: OnnxPerception
    policy: InferencePolicy
    see: SeeRow
    streams: int = 1

    @property
    def outputs(self) -> tuple[str, ...]:
        three = all(name in self.model.config["outputs"] for name in OUTPUTS_3D)
        return OUTPUTS + OUTPUTS_3D if three else OUTPUTS

    def rows(self, chunk: Chunk) -> tuple[list[Row], Stopwatch]:
        """Rows of rows.SCHEMA, in the order of the chunk, and where their time went."""
        states, watch = chunk.arrays["state"], Stopwatch()
        out: Mapping[str, Any] = {}
        if (states == SEEN).any():
            with watch("compute"):
                inputs = {name: value for name, value in chunk.arrays.items() if name not in OWN}
                out = self.model.run(inputs, self.outputs)
        watch.seconds["compute"] /= self.streams
        watch.seconds["decode"] = float(chunk.arrays["seconds"].sum())
        return [self._row(chunk, out, index) for index in range(len(chunk.keys))], watch

    def _row(self, chunk: Chunk, out: Mapping[str, Any], index: int) -> Row:
        key, state = chunk.keys[index], int(chunk.arrays["state"][index])
        named: Row = {"clip_id": key.clip_id, "ref_ns": key.ref_ns, "camera": self.see.camera}
        if state != SEEN:
            reason = reason_of(chunk.arrays["reason"][index]) if state == UNREADABLE else NO_PICTURE
            return {**named, "reason": reason}
        model, policy = self.model, self.policy
        width, height = (int(v) for v in chunk.arrays["size"][index])
        found = prediction_row(
            out, index, (width, height), (model.width, model.height), float(model.config["score_floor"]),
            (policy.uncertain_boxes, policy.uncertain_score),
        )  # fmt: skip
        return named | found


class Answer(NamedTuple):
    """Of one batch: its shard, and its rows when they are there."""

    shard: int
    work: Future[tuple[list[Row], Stopwatch]]


@dataclass
class _Drive:
    """One way through a drive; shards are asked for in rising order."""

    feed: Feed
    predictor: Predictor
    watch: Stopwatch
    _answers: Generator[Answer, None, None] | None = None
    _next: Answer | None = None
    _failed: set[int] = field(default_factory=set)

    def write(self, number: int, folder: Path) -> None:
        """Rows and facts of one shard.

        Raises:
            AvError: it cannot be read.
        """
        rows = self._rows(number)
        with self.watch("write"):
            write_rows(rows, folder / _ROWS)
            (folder / _FACTS).write_bytes(canonical_json(_facts(rows).model_dump(mode="json")))

    def _rows(self, number: int) -> list[Row]:
        while True:
            if number in self.feed.failed:
                raise self.feed.failed[number]
            try:
                return self._attempt(number)
            except AvError:
                self.close()
                if isinstance(_cause := self.feed.failed.get(number), AvError):
                    raise _cause from None
                if set(self.feed.failed) <= self._failed:
                    raise
                # Another shard went bad while it was read ahead: this one is read again without it.
                self._failed = set(self.feed.failed)

    def close(self) -> None:
        if self._answers is not None:
            self._answers.close()
        self._answers = self._next = None

    def _attempt(self, number: int) -> list[Row]:
        rows: list[Row] = []
        if self._answers is None:
            self._answers, self._failed = self._answered(number), set(self.feed.failed)
            self._next = next(self._answers, None)
        if number in self.feed.failed:
            raise self.feed.failed[number]
        while self._next is not None and self._next.shard <= number:
            if self._next.shard == number:
                found, watch = self._next.work.result()
                rows += found
                for part, seconds in watch.seconds.items():
                    self.watch.seconds[part] += seconds
            self._next = next(self._answers, None)
        return rows

    def _answered(self, start: int) -> Generator[Answer, None, None]:
        """What the network says of the shards from number `start` on, in order; it works on a few batches at once."""
        streams = self.predictor.streams
        flying: deque[Answer] = deque()
        with ThreadPoolExecutor(streams) as pool, closing(self.feed.chunks(start)) as chunks:
            for chunk in chunks:
                flying.append(Answer(chunk.shard, pool.submit(self.predictor.rows, chunk)))
                del chunk  # its memory is used again once the network is done with it
                if len(flying) > streams:  # one more waits, so that no stream has to
                    yield flying.popleft()
            yield from flying


def output_of(shard: str) -> str:
    """The file of predictions of a shard: clips/00003.parquet -> predictions/00003.parquet."""
    return f"predictions/{Path(shard).name}"


def predict_drive(
    shards: Sequence[ShardRef],
    source: ShardSource,
    calibration: Mapping[str, Any],
    predictor: Predictor,
    origin: Origin,
    out: Path,
    segments: Segments,
    known: Mapping[str, Entry],
    watch: Stopwatch,
) -> Ledger:
    """Write the predictions of every shard that can be read, and ledger.json, into `out`.

    Args:
        shards: of one drive, in order.
        known: key -> entries whose output is there already; the caller adds those files, as `output_of` names them.
        segments: what an attempt that died has finished is not done again.

    Raises:
        TransientError: the world was busy. ModelError: the network does not take what it is given.
    """
    (out / "predictions").mkdir(parents=True, exist_ok=True)
    keys = {number: origin.key(ref.sha256) for number, ref in enumerate(shards)}
    todo = {number: ref for number, ref in enumerate(shards) if keys[number] not in known}
    policy = predictor.policy
    pace = Pace(policy.batch_size, policy.workers, policy.prefetch)
    feed = Feed(todo, source, predictor.see, predictor.see.make.columns, calibration, pace, watch)
    drive = _Drive(feed, predictor, watch)
    entries = []
    try:
        for number, ref in enumerate(shards):
            named = {"shard": ref.path, "sha256": ref.sha256, "key": keys[number]}
            if number not in todo:
                entries.append(
                    known[keys[number]].model_copy(update={**named, "output": output_of(ref.path)})
                )
            else:
                entries.append(_entry(drive, number, named, out, segments))
    finally:
        drive.close()
    config = predictor.model.config
    ledger = Ledger(
        release=origin.release, model=origin.model, model_sha256=str(config["model_sha256"]),
        camera=predictor.see.camera, classes=tuple(config["classes"]), entries=tuple(entries),
    )  # fmt: skip
    (out / LEDGER_FILE).write_bytes(ledger.to_json())
    return ledger


def _entry(drive: _Drive, number: int, named: dict[str, Any], out: Path, segments: Segments) -> Entry:
    try:
        folder = segments.once(named["key"], lambda growing: drive.write(number, growing))
    except TransientError:
        raise
    except AvError as error:
        if number not in drive.feed.failed:
            raise
        return Entry(**named, status="failed", code=error.code, reason=error.reason)
    path = output_of(named["shard"])
    shutil.copyfile(folder / _ROWS, out / path)
    facts = ShardFacts.model_validate_json((folder / _FACTS).read_bytes())
    bad: dict[str, Any] = (
        {"status": "damaged", "code": "unreadable_frames"} if facts.unreadable else {"status": "done"}
    )
    return Entry(**named, **bad, output=path, output_sha256=sha256_file(out / path), **facts.model_dump())


def _facts(rows: Sequence[Row]) -> ShardFacts:
    bad = [row for row in rows if row.get("reason") not in (None, NO_PICTURE)]
    reason = f"{len(bad)} of {len(rows)} frames cannot be read, the first: {bad[0]['reason']}" if bad else ""
    return ShardFacts(
        frames=len(rows),
        predicted=sum(row.get("reason") is None for row in rows),
        unreadable=len(bad),
        boxes=sum(len(row["scores"]) for row in rows if row.get("scores") is not None),
        span_s=round(span_s([row["ref_ns"] for row in rows]), 6),
        reason=reason,
    )
