"""Where a video stream can be entered: key frames told from the bytes of one access unit, without a decoder.

Belongs here: scans of H.264, H.265, AV1 and VP9 headers. Does not belong here: decoding (privacy/pictures).
Sources: ITU-T H.264 table 7-1, ITU-T H.265 table 7-1, AV1 specification 5.3 and 5.9.2, VP9 specification 6.2.
"""

from __future__ import annotations

# encoding of a video message -> decoder of FFmpeg; its own AV1 decoder works with hardware only
VIDEO_CODECS = {"h264": "h264", "h265": "hevc", "hevc": "hevc", "av1": "libdav1d", "vp9": "vp9"}
_START = b"\0\0\1"
_HEAD_BYTES = 4096  # the first slice stands after parameter sets and messages, near the start
_H264_SLICES, _H264_IDR, _H264_SPS = frozenset(range(1, 6)), 5, 7
_H265_SLICES, _H265_IRAP = frozenset(range(32)), frozenset(range(16, 22))  # BLA, IDR and CRA
_AV1_SEQUENCE, _AV1_HEADERS = 1, (3, 6)  # sequence header; frame header, frame


def is_keyframe(encoding: str, data: bytes | memoryview) -> bool:
    """Whether decoding can begin at this access unit; False for bytes that are no such unit.

    Args:
        encoding: h264, h265, hevc (both as Annex B), av1 or vp9.
        data: one access unit (AV1: one temporal unit). Only its first slice is looked at.
    """
    if encoding == "h264":
        return _first_slice(data, 0, 0x1F, _H264_SLICES) == _H264_IDR
    if encoding in ("h265", "hevc"):
        return _first_slice(data, 1, 0x3F, _H265_SLICES) in _H265_IRAP
    if encoding == "av1":
        return _av1_key(bytes(data[:_HEAD_BYTES]))
    return encoding == "vp9" and _vp9_key(bytes(data[:1]))


def is_entry(encoding: str, data: bytes | memoryview) -> bool:
    """As `is_keyframe`; in H.264 also a unit that brings parameter sets, as recovery points without IDR do.

    Whether such a unit recovers is for the decoder to say: it gives no picture before.
    """
    if is_keyframe(encoding, data):
        return True
    return encoding == "h264" and _first_slice(data, 0, 0x1F, _H264_SLICES | {_H264_SPS}) == _H264_SPS


def _first_slice(data: bytes | memoryview, shift: int, mask: int, slices: frozenset[int]) -> int:
    """NAL unit type of the first coded slice; -1 without one."""
    size = _HEAD_BYTES
    while True:
        head = bytes(data[:size])
        at = head.find(_START)
        while 0 <= at < len(head) - 3:
            kind = head[at + 3] >> shift & mask
            if kind in slices:
                return kind
            at = head.find(_START, at + 3)
        if size >= len(data):
            return -1
        size *= 16


def _av1_key(data: bytes) -> bool:
    """A sequence header, then a frame header that shows a new key frame."""
    at, has_sequence = 0, False
    while at < len(data):
        kind, extended, sized = data[at] >> 3 & 15, data[at] >> 2 & 1, data[at] >> 1 & 1
        at += 1 + extended
        length = len(data) - at
        if sized:
            length, at = _leb128(data, at)
        if kind in _AV1_HEADERS:
            # show_existing_frame (1 bit), frame_type (2 bits): both zero for a key frame.
            return has_sequence and at < len(data) and not data[at] & 0xE0
        has_sequence = has_sequence or kind == _AV1_SEQUENCE
        at += length
    return False


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """(value, where it ends)."""
    value = 0
    for place, byte in enumerate(data[at : at + 8]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    return 0, len(data)


def _vp9_key(head: bytes) -> bool:
    """frame_marker 2, profile, then show_existing_frame and frame_type both zero."""
    if not head or head[0] >> 6 != 2:
        return False
    shift = 1 if head[0] >> 4 & 3 == 3 else 2  # profile 3 has a reserved bit
    return not head[0] >> shift & 3
