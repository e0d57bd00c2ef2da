"""Recovery of damaged logs into one valid, indexed MCAP, with an account of what was lost.

The output gets its name only after it was read back, by our reader and by the mcap library, and gave exactly what
was kept.
Belongs here: the order of work and that proof. Does not belong here: reading damaged files (`opening`),
the figures of the report (`report`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from av_assets.domain.errors import LogError
from av_assets.domain.evidence.digests import sha256_file
from av_assets.domain.logs.files.blocks import merge_by_time
from av_assets.domain.logs.files.mcap_writer import McapChannel, McapWriter, written_whole
from av_assets.domain.logs.messages.definitions import ros2_name
from av_assets.domain.logs.reader import LogReader
from av_assets.domain.logs.recovery.opening import Origin, Rejected, find_for_recovery, open_origin
from av_assets.domain.logs.recovery.report import Digest, FileLoss, SalvageReport, Stamps, TopicLoss
from av_assets.policies.salvage import SalvagePolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from av_assets.domain.logs.files.blocks import Block
    from av_assets.domain.logs.recovery.recovered import KeptMessage

    Progress = Callable[[int, int], None]

LIBRARY = "av-assets salvage"
PROGRESS_EVERY = 1024


def salvage_log(
    source: Path | Sequence[Path],
    out: Path,
    *,
    progress: Progress | None = None,
    overwrite: bool = False,
    policy: SalvagePolicy | None = None,
) -> SalvageReport:
    """Recover whatever the logs at `source` still hold into one MCAP at `out`.

    Message bytes, log and publish times, sequence numbers, schemas, channel metadata, attachments and the profile
    are kept as they are; messages come in log time order. Memory is bounded as that of the reader.

    Args:
        source: files or folders of one drive; told by content, or by name where the first bytes are lost.
        progress: called with messages written and messages expected.
        overwrite: replace an output that exists.
        policy: what counts as a hole; the shipped one by default.

    Raises:
        LogError: nothing_to_salvage, output_exists, output_is_source, salvage_failed (the output does not
            give what was kept), too_many_channels, or the file system refused a source. No output then.
        TransientError: disk_full or cannot_write. No output then.
    """
    paths = [source] if isinstance(source, Path) else list(source)
    with ExitStack() as stack:
        growing = stack.enter_context(written_whole(out, overwrite))
        logs, rejected = find_for_recovery(paths)
        if any(out.exists() and out.samefile(log.path) for log in logs):
            raise LogError("the output is one of the logs", code="output_is_source", file=out)
        origins: list[Origin] = []
        for log in logs:
            try:
                origins.append(open_origin(log))
                stack.callback(origins[-1].source.close)
            except LogError as error:
                rejected.append((log.path, error.code, error.reason))
        salvage = _Salvage(origins, growing, policy or SalvagePolicy.load())
        salvage.write(progress)
        if not salvage.messages:
            raise _nothing(paths, origins, rejected)
        verified = salvage.verify()
        return salvage.report(out, rejected, verified)


def _nothing(paths: Sequence[Path], origins: Sequence[Origin], rejected: Sequence[Rejected]) -> LogError:
    reasons = [f"{path.name}: {code}: {reason}" for path, code, reason in rejected]
    reasons += [f"{o.path.name}: {o.source.damage.first or 'it holds no message'}" for o in origins]
    file = paths[0] if len(paths) == 1 else None
    told = "; ".join(reasons[:3]) or "no log was given"
    return LogError(f"no message can be recovered ({told})", code="nothing_to_salvage", file=file)


class _Salvage:
    """One recovery in progress."""

    def __init__(self, origins: Sequence[Origin], path: Path, policy: SalvagePolicy) -> None:
        self.origins = origins
        self.policy = policy
        self.path = path
        self.topics: dict[str, TopicLoss] = {}
        self.channels: dict[McapChannel, int] = {}
        self.by_channel: defaultdict[int, Digest] = defaultdict(Digest)
        self.by_origin: list[Counter[int]] = [Counter() for _ in origins]
        self.attachments = self.metadata = self.messages = 0

    def write(self, progress: Progress | None) -> None:
        """All messages into the output, which stays unfinished when there is none."""
        expected = sum(sum(origin.source.counts.values()) for origin in self.origins)
        with McapWriter(self.path, _profile(self.origins), LIBRARY) as writer:
            numbers = [self._register(writer, origin) for origin in self.origins]
            self.channels = writer.channels
            topics = {number: self.topics[channel.topic] for channel, number in self.channels.items()}
            for kept in self._merged(numbers):
                self._keep(writer, topics[kept.channel], kept)
                if progress and not self.messages % PROGRESS_EVERY:
                    progress(self.messages, expected)
            if self.messages:
                self._extras(writer)
                writer.finish()
        if progress:
            progress(self.messages, max(expected, self.messages))

    def _register(self, writer: McapWriter, origin: Origin) -> dict[int, int]:
        """The number in the output of each channel of one file."""
        numbers = {}
        for number, channel in sorted(origin.source.kept.items()):
            if number in origin.source.channels:
                numbers[number] = writer.channel(channel)
                topic = TopicLoss(ros2_name(channel.schema_name), channel.serialization, Stamps(self.policy))
                self.topics.setdefault(channel.topic, topic)
        return numbers

    def _merged(self, numbers: Sequence[dict[int, int]]) -> Iterator[KeptMessage]:
        """All that survives in log time order, under the channel numbers of the output."""
        places = {id(origin.source): place for place, origin in enumerate(self.origins)}
        work: list[Any] = [
            (origin.source, block) for origin in self.origins for block in origin.source.blocks
        ]

        def read(source: Any, block: Block) -> Iterator[Any]:
            place = places[id(source)]
            renamed, counts = numbers[place], self.by_origin[place]
            for kept in source.survivors(block):
                number = renamed[kept.channel]
                counts[number] += 1
                yield kept._replace(channel=number)

        merged: Iterator[Any] = merge_by_time(work, read)  # which needs `log_ns` alone
        return merged

    def _keep(self, writer: McapWriter, topic: TopicLoss, kept: KeptMessage) -> None:
        published = kept.log_ns if kept.publish_ns is None else kept.publish_ns
        writer.message(kept.channel, kept.log_ns, kept.data, published, kept.sequence)
        topic.stamps.add(kept.log_ns)
        topic.digest.add(kept.log_ns, kept.data)
        self.by_channel[kept.channel].add(kept.log_ns, kept.data, published, kept.sequence)
        self.messages += 1

    def _extras(self, writer: McapWriter) -> None:
        for extra in (extra for origin in self.origins for extra in origin.source.extras()):
            if extra.entries is not None:
                writer.metadata(extra.name, extra.entries)
                self.metadata += 1
            else:
                writer.attachment(extra.name, extra.media_type, extra.log_ns, extra.created_ns, extra.data)
                self.attachments += 1

    def verify(self) -> dict[str, int]:
        """Read the output back by both readers; the messages that each counted.

        Raises:
            LogError: salvage_failed.
        """
        try:
            return {"reader": self._read_back(), "mcap_library": self._read_back_by_library()}
        except LogError:
            raise
        except Exception as error:  # whatever a reader raises, the output is not what it should be
            raise _failed(f"{type(error).__name__} while reading it back", self.path) from error

    def _read_back(self) -> int:
        digests: defaultdict[str, Digest] = defaultdict(Digest)
        with LogReader(self.path) as reader:
            for raw in reader.messages():
                digests[raw.topic].add(raw.log_ns, raw.data)
            if not reader.sources[0].indexed or reader.damage:
                raise _failed("its index or a checksum is wrong", self.path)
        kept = {name: topic.digest.content for name, topic in self.topics.items() if topic.kept}
        if kept != {name: digest.content for name, digest in digests.items()}:
            raise _failed("it gives other messages than were kept", self.path)
        return sum(digest.count for digest in digests.values())

    def _read_back_by_library(self) -> int:
        from mcap.reader import make_reader

        digests: defaultdict[int, Digest] = defaultdict(Digest)
        with self.path.open("rb") as file:
            reader = make_reader(file, validate_crcs=True)
            for _, channel, message in reader.iter_messages(log_time_order=False):
                digests[channel.id].add(
                    message.log_time, message.data, message.publish_time, message.sequence
                )
            summary = reader.get_summary()
        if {n: d.whole for n, d in self.by_channel.items()} != {n: d.whole for n, d in digests.items()}:
            raise _failed("the mcap library reads other messages than were kept", self.path)
        if _channels_of(summary) != self.channels:
            raise _failed("its channels or schemas are not those that were kept", self.path)
        return int(summary.statistics.message_count)

    def report(self, out: Path, rejected: Sequence[Rejected], verified: dict[str, int]) -> SalvageReport:
        if set(verified.values()) != {self.messages}:
            raise _failed(f"{self.messages} messages were kept, read back: {verified}", self.path)
        files = tuple(self._file(origin, place) for place, origin in enumerate(self.origins))
        spans = [topic.stamps for topic in self.topics.values() if topic.kept]
        reasons = {code for origin in self.origins for code in origin.source.damage.reasons}
        return SalvageReport(
            files=files,
            rejected=tuple((path.name, code, reason) for path, code, reason in rejected),
            topics=self.topics,
            messages=self.messages,
            start_ns=min(stamps.first_ns for stamps in spans),
            end_ns=max(stamps.last_ns for stamps in spans),
            attachments=self.attachments,
            metadata=self.metadata,
            verified=verified,
            output=out.name,
            output_bytes=self.path.stat().st_size,
            output_sha256=sha256_file(self.path),
            codes=tuple(sorted(reasons | {code for _, code, _ in rejected})),
            policy=self.policy.digest,
        )

    def _file(self, origin: Origin, place: int) -> FileLoss:
        """The account of one file; what its index promised goes to the topics as well."""
        counts = self.by_origin[place]
        kept: Counter[str] = Counter()
        for channel, number in self.channels.items():
            kept[channel.topic] += counts[number]
        for name, promised in (origin.promised or {}).items():
            if name in self.topics:
                self.topics[name].promise(promised, kept[name])
        promised_all = None if origin.promised is None else sum(origin.promised.values())
        if promised_all is not None and promised_all != sum(counts.values()):
            told = f"the index says {promised_all} messages, {sum(counts.values())} were found"
            origin.source.damage.note("count_mismatch", told)
        return FileLoss(
            file=origin.path.name,
            format=origin.source.format,
            indexed=origin.promised is not None,
            kept=sum(counts.values()),
            promised=promised_all,
            definitions_added=origin.source.definitions_added,
            damage=origin.source.damage.to_dict(),
        )


def _profile(origins: Sequence[Origin]) -> str:
    """That of the files; nothing where they differ."""
    profiles = {origin.source.profile for origin in origins}
    return profiles.pop() if len(profiles) == 1 else ""


def _channels_of(summary: Any) -> dict[McapChannel, int]:
    found = {}
    for number, channel in summary.channels.items():
        schema = summary.schemas.get(channel.schema_id)
        name, encoding, data = (schema.name, schema.encoding, schema.data) if schema else ("", "", b"")
        metadata = tuple(sorted(channel.metadata.items()))
        kept = McapChannel(channel.topic, channel.message_encoding, name, encoding, data, metadata)
        found[kept] = number
    return found


def _failed(reason: str, path: Path) -> LogError:
    return LogError(
        f"the recovered log is not good: {reason}",
        code="salvage_failed",
        file=path,
        remedy="keep the damaged log and report this",
    )
