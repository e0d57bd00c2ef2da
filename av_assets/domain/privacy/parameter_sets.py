"""Which units of a video bring the parameter sets that a decoder needs before its first picture.

Belongs here: NAL unit types of H.264 and H.265 streams (Annex B). Does not belong here: key frames (logs/video_units).
Sources: ITU-T H.264 table 7-1, ITU-T H.265 table 7-1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from av_assets.domain.logs.messages.payloads import ImagePayload

_START_CODE: Final = b"\0\0\1"


class _Codec(NamedTuple):
    shift: int
    mask: int
    sequence: int
    beside_pictures: frozenset[int]


# Sequence parameter set; and with it all that is no picture: other parameter sets, delimiters, messages.
_H264 = _Codec(0, 0x1F, 7, frozenset({6, 7, 8, 9, 13, 15}))
_H265 = _Codec(1, 0x3F, 33, frozenset({32, 33, 34, 35, 39, 40}))
_CODECS: Final = {"h264": _H264, "h265": _H265, "hevc": _H265}


def has_parameters(payload: ImagePayload) -> bool:
    """True where this unit brings parameter sets, or where the codec keeps them in every key frame."""
    codec = _CODECS.get(payload.encoding)
    return codec is None or codec.sequence in _types(codec, bytes(payload.data))


def is_parameters_only(payload: ImagePayload) -> bool:
    """True for a unit without a picture that the units after it need."""
    codec = _CODECS.get(payload.encoding)
    if codec is None:
        return False
    types = _types(codec, bytes(payload.data))
    return codec.sequence in types and types <= codec.beside_pictures


def _types(codec: _Codec, unit: bytes) -> set[int]:
    types, at = set(), unit.find(_START_CODE)
    while 0 <= at < len(unit) - 3:
        types.add(unit[at + 3] >> codec.shift & codec.mask)
        at = unit.find(_START_CODE, at + 3)
    return types
