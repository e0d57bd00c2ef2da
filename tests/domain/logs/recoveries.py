"""Recovering a log, and holding the outcome against both readers.

Belongs here: what the tests of recovery share. Does not belong here: tests.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer

from av_assets.domain.errors import LogError
from av_assets.domain.evidence.digests import sha256_file
from av_assets.domain.logs.reader import LogReader
from av_assets.domain.logs.recovery.salvage import salvage_log

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from av_assets.domain.logs.recovery.report import SalvageReport


Message = tuple[str, int, bytes]


def contents(path: Path | Sequence[Path]) -> list[Message]:
    with LogReader(path) as reader:
        return sorted((raw.topic, raw.log_ns, raw.data) for raw in reader.messages())


def by_library(path: Path) -> list[Any]:
    with path.open("rb") as file:
        return list(make_reader(file, validate_crcs=True).iter_messages())


def library_contents(path: Path) -> list[Message]:
    return sorted((channel.topic, message.log_time, message.data) for _, channel, message in by_library(path))


def salvaged(source: Path | Sequence[Path], out: Path, **options: Any) -> SalvageReport:
    """Salvage, and hold the report against the files."""
    report = salvage_log(source, out, **options)
    assert report.output_sha256 == sha256_file(out)
    assert report.output_bytes == out.stat().st_size
    assert report.verified == {"reader": report.messages, "mcap_library": report.messages}
    assert sum(topic.kept for topic in report.topics.values()) == report.messages == len(contents(out))
    assert sum(file.kept for file in report.files) == report.messages
    times = [log_ns for _, log_ns, _ in contents(out)]
    assert (report.start_ns, report.end_ns) == (min(times), max(times))
    assert not list(out.parent.glob(".*"))
    json.dumps(report.to_dict(), allow_nan=False)
    return report


def salvaged_contents(damaged: Path, out: Path) -> list[Message]:
    """What is recovered of a damaged log, which is all that the reader sees; nothing where that is nothing."""
    try:
        seen = contents(damaged)
    except LogError:
        seen = []
    if not seen:
        with pytest.raises(LogError, match="nothing_to_salvage"):
            salvage_log(damaged, out)
        return []
    assert salvaged(damaged, out, overwrite=True).codes
    assert library_contents(out) == seen
    return seen


def file_of(log: Path) -> Path:
    return log if log.is_file() else next(p for p in log.iterdir() if p.suffix in (".db3", ".mcap"))


def rich_mcap(path: Path) -> list[tuple[str, int, int, int, bytes]]:
    """Schemas that are no text, channels with metadata and without schema, sequences, attachments."""
    sent = []
    with path.open("wb") as file:
        writer = Writer(file, chunk_size=300, compression=CompressionType.LZ4)
        writer.start(profile="custom", library="somebody")
        binary = writer.register_schema("pkg.Thing", "protobuf", bytes(range(256)))
        text = writer.register_schema("Thing", "jsonschema", b'{"type":"object"}')
        strange = writer.register_schema("Odd", "own", b"\xff\xfe\x00")
        channels = [
            writer.register_channel("/proto", "protobuf", binary, {"z": "1", "a": "2"}),
            writer.register_channel("/json", "json", text),
            writer.register_channel("/odd", "own", strange),
            writer.register_channel("/bare", "raw", 0),
            writer.register_channel("/proto", "protobuf", binary, {"publisher": "second"}),
            writer.register_channel("/silent", "json", text),
        ]
        for i in range(60):
            number = channels[i % 5]
            one = (str(number), 1000 + 7 * i, (1 << 63) + i, i * i, bytes([i]) * i)
            writer.add_message(number, one[1], one[4], one[2], one[3])
            sent.append(one)
        writer.add_attachment(5, 6, "a.bin", "application/x", bytes(1000))
        writer.add_metadata("about", {"k": "v"})
        writer.finish()
    return sent
