"""Decoding chunks within bounds: a log never decides how much memory its reader takes.

Belongs here: lz4, zstd and bz2 with a limit, whole or as far as a cut allows. Does not belong here: what the
bytes mean.
"""

from __future__ import annotations

import bz2
import io
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from av_assets.domain.errors import LogError
from av_assets.domain.logs.blocks import MAX_CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

CODECS = frozenset({"", "none", "lz4", "zstd", "bz2"})
_STEP = 1 << 20


def decompress(data: bytes, codec: str, size: int) -> bytes:
    """All `size` bytes of a chunk.

    Raises:
        LogError: chunk_too_large, unknown_compression, or bad_chunk when the stream is broken or of another
        size.
    """
    decoded = decompress_prefix(data, codec, size)
    if len(decoded) != size:
        raise LogError(f"chunk decodes to {len(decoded)} of {size} bytes", code="bad_chunk")
    return decoded


def decompress_prefix(data: bytes, codec: str, size: int) -> bytes:
    """As much of a chunk as its bytes give, at most `size`: for chunks that a cut or a flip ended early.

    Raises:
        LogError: chunk_too_large or unknown_compression.
    """
    if size > MAX_CHUNK_BYTES:
        raise LogError(f"chunk claims {size} bytes", code="chunk_too_large")
    if codec not in CODECS:
        raise LogError(f"compression {codec[:16]!r} is not known", code="unknown_compression")
    if codec in ("", "none"):
        return data[:size]
    # The bound is one byte over, so that a stream that goes on is told from one that ends.
    return _bounded(data, codec, size + 1)


def _bounded(data: bytes, codec: str, limit: int) -> bytes:
    parts: list[bytes] = []
    room = limit
    # A broken stream ends here: the caller compares sizes, and salvage keeps what came before.
    with suppress(OSError, EOFError, RuntimeError, ValueError, _zstd_error()):
        for part in _zstd_parts(data) if codec == "zstd" else _parts(_decoder(codec), data):
            parts.append(part[:room])
            room -= len(parts[-1])
            if not room:
                break
    return b"".join(parts)


def _parts(decoder: Any, data: bytes) -> Iterator[bytes]:
    yield decoder.decompress(data, _STEP)
    while not decoder.eof and not decoder.needs_input:
        yield decoder.decompress(b"", _STEP)


def _zstd_parts(data: bytes) -> Iterator[bytes]:
    import zstandard

    decoder = zstandard.ZstdDecompressor(max_window_size=1 << 27)
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
