"""Decoding within bounds: a log never decides how much memory its reader takes.

Belongs here: lz4, zstd and bz2 with a limit, whole or as far as a cut allows, of chunks and of single
messages. Does not belong here: what the bytes mean, whole files (`unpacking`).
"""

from __future__ import annotations

import bz2
import io
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from av_assets.domain.errors import LogError
from av_assets.domain.logs.files.blocks import MAX_CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

CODECS = frozenset({"", "none", "lz4", "zstd", "bz2"})
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"
_STEP = 1 << 20
_CHUNK_STEP = 32 << 20  # most chunks in one call
# 1 KiB of zstd blocks decodes to at most 32 MiB, so that feeding by such pieces bounds what comes out.
_PIECE = 1 << 10
_MAX_WINDOW = 1 << 27


def is_zstd(head: bytes) -> bool:
    """Whether bytes start a zstd frame, or a skippable one as parallel compressors write before it."""
    return head.startswith(ZSTD_MAGIC) or (head[1:4] == _SKIPPABLE and 0x50 <= head[0] <= 0x5F)


def decompress(data: bytes, codec: str, size: int) -> bytes:
    """All `size` bytes of a chunk.

    Raises:
        LogError: chunk_too_large, unknown_compression, or bad_chunk when the stream is broken or of another
        size.
    """
    decoded = _one_frame(data, size) if codec == "zstd" and size <= MAX_CHUNK_BYTES else None
    if decoded is None:
        decoded = data if codec in ("", "none") else decompress_prefix(data, codec, size)
    if len(decoded) != size:
        raise LogError(f"chunk decodes to {len(decoded)} of {size} bytes", code="bad_chunk")
    return decoded


def _one_frame(data: bytes, size: int) -> bytes | None:
    """What a single zstd frame that states this size holds, in one call; None for any other stream."""
    import zstandard

    try:
        if not size or zstandard.frame_content_size(data) != size:
            return None
        decoder = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        found: bytes = decoder.decompress(data, allow_extra_data=False)
    except zstandard.ZstdError:
        return None
    return found


def decompress_prefix(data: bytes, codec: str, size: int) -> bytes:
    """As much of a chunk as its bytes give, at most `size`: for chunks that a cut or a flip ended early.

    Raises:
        LogError: chunk_too_large or unknown_compression.
    """
    if size > MAX_CHUNK_BYTES:
        raise LogError(f"chunk claims {size} bytes", code="chunk_too_large")
    check_codec(codec)
    if codec in ("", "none"):
        return data[:size]
    # The bound is one byte over, so that a stream that goes on is told from one that ends.
    return _bounded(data, codec, size + 1)


def check_codec(codec: str) -> str:
    """The codec itself; raises LogError unknown_compression."""
    if codec not in CODECS:
        raise LogError(f"compression {codec[:16]!r} is not known", code="unknown_compression")
    return codec


def zstd_prefix(data: bytes, size: int) -> bytes:
    """The first bytes of what a zstd stream decodes to, at most `size`; nothing when it is broken."""
    return _bounded(data, "zstd", size)


class MessageCodec:
    """Decodes messages that were compressed one by one.

    CDR never starts with the magic of zstd, so that a recording without its metadata.yaml is understood too.
    """

    def __init__(self, codec: str) -> None:
        """Raises: LogError: unknown_compression."""
        self.codec = "" if check_codec(codec) == "none" else codec
        self._zstd: Any = None

    def plain(self, data: bytes, serialization: str) -> bytes:
        """The message, whole.

        Raises:
            LogError: bad_record when its stream is broken or ends early: a part of a message is none.
        """
        codec = self.codec
        if data[:4] == ZSTD_MAGIC and (codec == "zstd" or serialization == "cdr"):
            return self._of_zstd(data)
        if not codec:
            return data
        if codec == "zstd":
            if serialization == "cdr" and data[:1] == b"\0":
                return data  # CDR as it is: a file that was recorded without compression
            raise LogError("a compressed message is no zstd frame", code="bad_record")
        return _whole(_decoder(codec), data)

    def _of_zstd(self, data: bytes) -> bytes:
        import zstandard

        self._zstd = self._zstd or zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        try:
            size = zstandard.frame_content_size(data)
            if size > MAX_CHUNK_BYTES:
                raise LogError(f"a message claims {size} bytes", code="chunk_too_large")
            if size >= 0:
                plain: bytes = self._zstd.decompress(data)
                return plain
            return _whole_zstd(self._zstd.decompressobj(), data)
        except zstandard.ZstdError as error:
            raise LogError("a compressed message is broken", code="bad_record") from error


def _whole_zstd(decoder: Any, data: bytes) -> bytes:
    """A message whose frame does not tell its size."""
    parts, room = [], MAX_CHUNK_BYTES
    for at in range(0, len(data), _PIECE):
        parts.append(decoder.decompress(data[at : at + _PIECE]))
        room -= len(parts[-1])
        if decoder.eof:
            return b"".join(parts)
        if room < 0:
            raise LogError("a message decodes to more than the bound", code="chunk_too_large")
    raise LogError("a compressed message is cut", code="bad_record")


def _whole(decoder: Any, data: bytes) -> bytes:
    try:
        parts, room = [], MAX_CHUNK_BYTES
        for part in _parts(decoder, data):
            parts.append(part)
            room -= len(part)
            if room < 0:
                raise LogError("a message decodes to more than the bound", code="chunk_too_large")
    except (OSError, EOFError, RuntimeError, ValueError) as error:
        raise LogError("a compressed message is broken", code="bad_record") from error
    if not decoder.eof:
        raise LogError("a compressed message is cut", code="bad_record")
    return b"".join(parts)


def _bounded(data: bytes, codec: str, limit: int) -> bytes:
    parts: list[bytes] = []
    room = limit
    # A broken stream ends here: the caller compares sizes, and salvage keeps what came before.
    with suppress(OSError, EOFError, RuntimeError, ValueError, _zstd_error()):
        step = min(limit, _CHUNK_STEP)
        for part in _zstd_parts(data) if codec == "zstd" else _parts(_decoder(codec), data, step):
            parts.append(part[:room])
            room -= len(parts[-1])
            if not room:
                break
    return b"".join(parts)


def _parts(decoder: Any, data: bytes, step: int = _STEP) -> Iterator[bytes]:
    yield decoder.decompress(data, step)
    while not decoder.eof and not decoder.needs_input:
        yield decoder.decompress(b"", step)


def _zstd_parts(data: bytes) -> Iterator[bytes]:
    import zstandard

    decoder = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    stream = decoder.stream_reader(io.BytesIO(data), read_across_frames=True)
    while part := stream.read(_STEP):
        yield part


def _zstd_error() -> type[Exception]:
    import zstandard

    error: type[Exception] = zstandard.ZstdError
    return error


def _decoder(codec: str) -> Any:
    if codec == "bz2":
        return bz2.BZ2Decompressor()
    import lz4.frame

    return lz4.frame.LZ4FrameDecompressor()
