"""MCAP files for recovery: sequence numbers, times of publication, schemas as bytes, attachments and metadata.

Belongs here: what the reader of the platform leaves aside. Does not belong here: index and scan (`mcap_log`,
`mcap_scan`), other formats.
"""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from av_assets.domain.errors import LogError
from av_assets.domain.logs.files.blocks import MAX_TIME_NS
from av_assets.domain.logs.files.compression import MessageCodec
from av_assets.domain.logs.files.magic import MCAP_MAGIC
from av_assets.domain.logs.files.mcap_log import MESSAGE, MESSAGE_HEAD_BYTES, STATISTICS, McapLog
from av_assets.domain.logs.files.mcap_records import RECORD, blob_at, text_at
from av_assets.domain.logs.files.mcap_resync import FIRST_PRIVATE, header_at, is_exact, next_record
from av_assets.domain.logs.files.mcap_writer import McapChannel
from av_assets.domain.logs.recovery.recovered import Extra, KeptMessage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from av_assets.domain.logs.files.blocks import Block

MAX_EXTRA_BYTES = 256 << 20  # one attachment or metadata record
_ATTACHMENT, _METADATA = 0x09, 0x0C
_COUNTS = struct.Struct("<II")  # of attachments and of metadata, in the statistics
_MESSAGE = struct.Struct("<BQHIQQ")


class RecoveredMcap(McapLog):
    """An MCAP file by its index, or by a scan."""

    definitions_added: tuple[str, ...] = ()

    def __init__(self, path: Path, salvage: bool = False, message_codec: str = "") -> None:
        self._message_codec = MessageCodec(message_codec)
        super().__init__(path, salvage, message_codec)

    def forget(self) -> None:
        super().forget()
        self.kept: dict[int, McapChannel] = {}
        self._raw_schemas: dict[int, tuple[str, str, bytes]] = {}

    @property
    def profile(self) -> str:
        with suppress(LogError, struct.error):
            head = self.bytes_at(8, 4096)
            if head[:1] == b"\x01":
                return text_at(head, 9)[0]
        return ""

    def add_schema(self, body: bytes) -> None:
        super().add_schema(body)
        (number,) = struct.unpack_from("<H", body)
        name, at = text_at(body, 2)
        encoding, at = text_at(body, at)
        self._raw_schemas[number] = (name, encoding, blob_at(body, at)[0])

    def add_channel(self, body: bytes) -> None:
        super().add_channel(body)
        number, schema = struct.unpack_from("<HH", body)
        topic, at = text_at(body, 4)
        encoding, at = text_at(body, at)
        name, kind, data = self._raw_schemas.get(schema, ("", "", b""))
        metadata: dict[str, str] = {}
        try:
            metadata = _pairs(body, at)
        except (LogError, struct.error):  # which costs no message
            self.damage.note("bad_record", f"{topic}: the metadata of the channel is damaged")
        self.kept[number] = McapChannel(topic, encoding, name, kind, data, tuple(sorted(metadata.items())))

    def survivors(self, block: Block) -> Iterable[KeptMessage]:
        return self.read(block, frozenset(self.channels))  # type: ignore[return-value]  # see `messages`

    def messages(  # type: ignore[override]  # the block reader of the base class takes either kind
        self, data: bytes, wanted: frozenset[int], tolerant: bool = False
    ) -> Iterator[KeptMessage]:
        """As in the base class, with sequence and time of publication.

        Raises:
            LogError: bad_chunk when a record does not fit.
        """
        at, end = 0, len(data)
        while at + 9 <= end:
            opcode, length = RECORD.unpack_from(data, at)
            following = at + 9 + length
            if following > end or (opcode == MESSAGE and length < MESSAGE_HEAD_BYTES):
                break
            if opcode == MESSAGE:
                _, _, number, sequence, log_ns, publish_ns = _MESSAGE.unpack_from(data, at)
                if log_ns > MAX_TIME_NS:
                    self.damage.note("bad_stamp", "a message has an impossible log time", 9 + length)
                elif number in wanted:
                    payload = self._whole(number, data[at + _MESSAGE.size : following])
                    if payload is not None:
                        yield KeptMessage(log_ns, number, payload, publish_ns, sequence)
            at = following
        if at != end and not tolerant:
            raise LogError("a record reaches over the end of its chunk", code="bad_chunk")

    def _whole(self, number: int, data: bytes) -> bytes | None:
        topic, _, serialization, *_ = self.channels[number]
        try:
            return self._message_codec.plain(data, serialization)
        except LogError as error:
            self.damage.note(error.code, f"{topic}: {error.reason}", len(data))
            return None

    def extras(self) -> Iterator[Extra]:
        """Attachments and metadata, behind damage too; broken and missing ones are noted and left out."""
        passed: Counter[int] = Counter()
        stated: dict[int, int] = {}
        for opcode, at, length in self._records():
            if opcode in (_ATTACHMENT, _METADATA):
                passed[opcode] += 1
                extra = self._extra(opcode, at, length)
                if extra is not None:
                    yield extra
            elif opcode == STATISTICS:
                counts = _COUNTS.unpack(self.bytes_at(at + 14, _COUNTS.size))
                stated = dict(zip((_ATTACHMENT, _METADATA), counts, strict=True))
        for opcode, kind in ((_ATTACHMENT, "attachments"), (_METADATA, "metadata")):
            if passed[opcode] < stated.get(opcode, 0):
                told = f"the statistics say {stated[opcode]} {kind}, {passed[opcode]} are there"
                self.damage.note(f"lost_{kind}", told)

    def _records(self) -> Iterator[tuple[int, int, int]]:
        """Opcode, start of the body and its length of all records but messages.

        After bytes that are none it goes on at the next one, behind the start of the last message: that one may have
        claimed a length that is not its own.
        """
        at, back = len(MCAP_MAGIC), 0
        while at + RECORD.size <= self.size:
            found = header_at(self, at, self.size)
            if found is not None and (found[0] == MESSAGE or found[0] >= FIRST_PRIVATE):
                back, at = at, found[1]
            elif found is not None and is_exact(self, at, *found):
                yield found[0], at + RECORD.size, found[1] - at - RECORD.size
                back, at = 0, found[1]
            else:
                following = next_record(self, (back or at) + 1, self.size, None, alone=False)
                if following is None:
                    return
                back, at = 0, following

    def _extra(self, opcode: int, at: int, length: int) -> Extra | None:
        kind = "attachment" if opcode == _ATTACHMENT else "metadata"
        try:
            if length > MAX_EXTRA_BYTES:
                raise LogError(f"the {kind} has {length} bytes", code=f"bad_{kind}")
            body = self.bytes_at(at, length)
            return _attachment(body) if opcode == _ATTACHMENT else _metadata(body)
        except (LogError, struct.error) as error:
            reason = error.reason if isinstance(error, LogError) else "it is cut"
            self.damage.note(f"bad_{kind}", f"{kind} at byte {at}: {reason}", length)
            return None


def _pairs(body: bytes, at: int) -> dict[str, str]:
    found, at = {}, at + 4
    end = at + struct.unpack_from("<I", body, at - 4)[0]
    while at < end:
        name, at = text_at(body, at)
        found[name], at = text_at(body, at)
    return found


def _metadata(body: bytes) -> Extra:
    name, at = text_at(body, 0)
    return Extra(name, _pairs(body, at))


def _attachment(body: bytes) -> Extra:
    log_ns, created_ns = struct.unpack_from("<QQ", body)
    name, at = text_at(body, 16)
    media_type, at = text_at(body, at)
    (length,) = struct.unpack_from("<Q", body, at)
    data = body[at + 8 : at + 8 + length]
    (crc,) = struct.unpack_from("<I", body, at + 8 + length)
    if crc and zlib.crc32(body[:-4]) != crc:
        raise LogError("its checksum is wrong", code="bad_crc")
    return Extra(name, None, media_type, log_ns, created_ns, data)
