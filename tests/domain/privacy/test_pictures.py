"""Raw encodings against plain arithmetic on known colours; video with beginnings, holes and damage."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.errors import RedactionError
from av_assets.domain.logs.messages.payloads import ImagePayload, image_payload, is_keyframe
from av_assets.domain.logs.messages.video_units import is_entry
from av_assets.domain.logs.reader import LogReader
from av_assets.domain.privacy.pictures import VideoDecoder, decode_raw

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 1 << 20
COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 120, 40), (0, 0, 0), (255, 255, 255)]
BAYER = {"rggb": "RGGB", "bggr": "BGGR", "gbrg": "GBRG", "grbg": "GRBG"}


def _payload(
    encoding: str, rows: np.ndarray, width: int, *, padding: int = 0, height: int = 0, bigendian: bool = False
) -> ImagePayload:
    """`rows` (H, bytes) uint8, each followed by `padding` bytes of rubbish."""
    step = rows.shape[1] + padding
    data = b"".join(row.tobytes() + b"\xa5" * padding for row in rows)
    return ImagePayload(1, "cam", encoding, memoryview(data), height or len(rows), width, step, bigendian)


def _bytes_of(samples: np.ndarray, size: int, bigendian: bool) -> np.ndarray:
    """Samples 0..255 as rows of bytes; 16-bit ones get a low byte that must not matter."""
    rows = samples.reshape(len(samples), -1)
    if size == 1:
        return rows.astype(np.uint8)
    wide = (rows.astype(np.uint16) << 8 | 0x7F).astype(">u2" if bigendian else "<u2")
    return wide.view(np.uint8)


@pytest.mark.parametrize("bigendian", [False, True])
@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize(("encoding", "channels", "size"), [
    ("rgb8", "rgb", 1), ("bgr8", "bgr", 1), ("rgba8", "rgba", 1), ("bgra8", "bgra", 1), ("8UC3", "bgr", 1),
    ("rgb16", "rgb", 2), ("bgr16", "bgr", 2), ("rgba16", "rgba", 2), ("bgra16", "bgra", 2), ("16UC3", "bgr", 2),
    ("mono8", "g", 1), ("8UC1", "g", 1), ("mono16", "g", 2), ("16UC1", "g", 2),
])  # fmt: skip
def test_samples_come_out_as_they_went_in(
    encoding: str, channels: str, size: int, padding: int, bigendian: bool
) -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (3, 5, 3))
    planes = {"r": rgb[..., 0], "g": rgb[..., 1], "b": rgb[..., 2], "a": np.full((3, 5), 9)}
    samples = np.stack([planes[channel] for channel in channels], axis=-1)
    rows = _bytes_of(samples, size, bigendian)
    found = decode_raw(_payload(encoding, rows, 5, padding=padding, bigendian=bigendian), LIMIT)
    assert found.dtype == np.uint8
    expected = np.repeat(rgb[..., 1:2], 3, axis=2) if channels == "g" else rgb
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("pattern", BAYER)
def test_a_flat_colour_survives_its_mosaic(pattern: str, size: int) -> None:
    for colour in COLOURS:
        of = dict(zip("RGB", colour, strict=True))
        cell = np.array(
            [[of[BAYER[pattern][0]], of[BAYER[pattern][1]]], [of[BAYER[pattern][2]], of[BAYER[pattern][3]]]]
        )
        rows = _bytes_of(np.tile(cell, (6, 8)), size, bigendian=True)
        found = decode_raw(_payload(f"bayer_{pattern}{8 * size}", rows, 16, padding=2, bigendian=True), LIMIT)
        assert found.shape == (12, 16, 3)
        np.testing.assert_array_equal(found[2:-2, 2:-2], np.broadcast_to(colour, (8, 12, 3)))


def _yuv(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """ITU-R BT.601, limited range."""
    r, g, b = colour
    y = 16 + 0.25679 * r + 0.50413 * g + 0.09791 * b
    u = 128 - 0.14822 * r - 0.29099 * g + 0.43922 * b
    v = 128 + 0.43922 * r - 0.36779 * g - 0.07143 * b
    return round(y), round(u), round(v)


@pytest.mark.parametrize("encoding", ["yuv422", "UYVY", "yuv422_yuy2", "yuyv", "nv12", "nv21"])
@pytest.mark.parametrize("colour", COLOURS)
def test_video_colours_are_those_of_bt601(encoding: str, colour: tuple[int, int, int]) -> None:
    y, u, v = _yuv(colour)
    if encoding.startswith("nv"):
        chroma = [u, v] if encoding == "nv12" else [v, u]
        rows = np.concatenate([np.full((4, 6), y), np.tile(chroma, (2, 3))]).astype(np.uint8)
    else:
        pair = [y, u, y, v] if "yuy" in encoding else [u, y, v, y]
        rows = np.tile(pair, (4, 3)).astype(np.uint8)
    found = decode_raw(_payload(encoding, rows, 6, padding=4, height=4), LIMIT)
    assert found.shape == (4, 6, 3)
    assert np.abs(found.astype(int) - colour).max() <= 3


@pytest.mark.parametrize(("change", "code"), [
    ({"step": 14}, "corrupt_frame"), ({"height": 4}, "truncated_frame"), ({"width": 0}, "corrupt_frame"),
    ({"width": 1 << 31, "height": 1 << 31, "step": 0}, "frame_too_large"), ({"step": 1 << 32}, "truncated_frame"),
    ({"encoding": "32FC1"}, "unknown_encoding"), ({"encoding": "yuv422", "step": 0}, "corrupt_frame"),
    ({"encoding": "nv12", "width": 4, "step": 0}, "corrupt_frame"), ({"data": memoryview(b"")}, "truncated_frame"),
])  # fmt: skip
def test_sizes_that_do_not_fit_are_typed_errors(change: dict[str, object], code: str) -> None:
    good = _payload("rgb8", np.zeros((3, 15), np.uint8), 5)
    decode_raw(good, LIMIT)
    with pytest.raises(RedactionError) as caught:
        decode_raw(good._replace(**change), LIMIT)
    assert caught.value.code == code


@settings(max_examples=200)
@given(
    st.sampled_from(["rgb8", "mono16", "bayer_rggb8", "yuv422", "nv21", "bgra16"]),
    *(st.integers(0, 9) for _ in range(2)), st.integers(0, 40), st.binary(max_size=400),
)  # fmt: skip
def test_any_size_gives_a_picture_or_a_typed_error(
    encoding: str, height: int, width: int, step: int, data: bytes
) -> None:
    try:
        found = decode_raw(ImagePayload(1, "", encoding, memoryview(data), height, width, step), LIMIT)
    except RedactionError as error:
        assert error.code in ("corrupt_frame", "truncated_frame")  # noqa: PT017
    else:
        assert found.shape == (height, width, 3)


def test_the_last_row_may_go_without_its_padding() -> None:
    payload = _payload("rgb8", np.full((3, 15), 7, np.uint8), 5, padding=4)
    found = decode_raw(payload._replace(data=payload.data[:-4]), LIMIT)
    assert (found == 7).all()


def _units(codec: str, count: int = 24, b_frames: int = 0, **parameters: str) -> list[bytes]:
    """A square that moves over a still ground, a key frame every 8 pictures, in decoding order."""
    encoder = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = 160, 120, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
    encoder.gop_size, encoder.max_b_frames, encoder.options = 8, b_frames, parameters
    ground = np.random.default_rng(0).integers(0, 255, (15, 20, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    units = []
    for index in range(count):
        picture = ground.copy()
        picture[40:80, index * 4 : index * 4 + 30] = 255
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts = index
        units += [bytes(packet) for packet in encoder.encode(frame)]
    return units + [bytes(packet) for packet in encoder.encode(None)]


def _x265(**options: str) -> dict[str, str]:
    text = {
        "keyint": "8",
        "min-keyint": "8",
        "scenecut": "0",
        "log-level": "none",
        "pools": "1",
        "hash": "1",
        **options,
    }
    return {"x265-params": ":".join(f"{name}={value}" for name, value in text.items())}


STREAMS = {
    "h264": ("h264", lambda: _units("libx264")),
    "h264 with B-frames": ("h264", lambda: _units("libx264", b_frames=3)),
    "h265": ("h265", lambda: _units("libx265", **_x265(bframes="0"))),
    "h265 with open GOPs": ("h265", lambda: _units("libx265", **_x265(**{"bframes": "3", "open-gop": "1"}))),
}


@pytest.fixture(scope="module", params=STREAMS)
def stream(request: pytest.FixtureRequest) -> tuple[str, list[bytes]]:
    encoding, make = STREAMS[request.param]
    return encoding, make()


def _decoded(
    encoding: str, units: list[bytes], limit: int = LIMIT
) -> tuple[dict[int, np.ndarray], dict[int, str]]:
    """unit -> picture, and unit -> code of the error at that unit (-1: at the end)."""
    decoder, found, failed = VideoDecoder(encoding, limit), {}, {}
    for index, unit in enumerate([*units, None]):
        try:
            for picture in decoder.flush() if unit is None else decoder.feed(unit):
                found[picture.unit] = picture.rgb
        except RedactionError as error:
            failed[-1 if unit is None else index] = error.code
    return found, failed


def _keys(encoding: str, units: list[bytes]) -> list[int]:
    return [index for index, unit in enumerate(units) if is_keyframe(encoding, unit)]


def test_a_whole_stream_gives_every_picture(stream: tuple[str, list[bytes]]) -> None:
    encoding, units = stream
    found, failed = _decoded(encoding, units)
    assert (sorted(found), failed) == (list(range(24)), {})
    assert _keys(encoding, units)[0] == 0
    assert len(_keys(encoding, units)) == 3


def test_a_stream_that_starts_in_the_middle_gives_nothing_before_its_key_frame(
    stream: tuple[str, list[bytes]],
) -> None:
    encoding, units = stream
    first = _keys(encoding, units)[1]
    whole, _ = _decoded(encoding, units)
    found, failed = _decoded(encoding, units[3:])
    assert failed == dict.fromkeys(range(first - 3), "no_keyframe")
    assert min(found) == first - 3
    assert all(np.array_equal(found[unit], whole[unit + 3]) for unit in found)


@pytest.mark.parametrize("damage", ["overwritten", "empty"])
def test_damage_hides_pictures_up_to_the_next_key_frame_and_no_others(
    stream: tuple[str, list[bytes]], damage: str
) -> None:
    encoding, units = stream
    whole, _ = _decoded(encoding, units)
    key = _keys(encoding, units)[1]
    bad = max(range(1, key), key=lambda index: len(units[index]))  # one that others are predicted from
    middle = len(units[bad]) // 2
    broken = {
        "overwritten": units[bad][: middle - 8] + b"\x55" * 16 + units[bad][middle + 8 :],
        "empty": units[bad][:5] + b"\xff" * 20,
    }[damage]
    found, _ = _decoded(encoding, [*units[:bad], broken, *units[bad + 1 :]])
    assert not set(range(bad, key)) & set(found)
    assert set(range(max(_keys(encoding, units)), 24)) <= set(found)
    assert all(np.array_equal(found[unit], whole[unit]) for unit in found)


def test_a_picture_that_is_too_large_is_refused_by_its_header(stream: tuple[str, list[bytes]]) -> None:
    encoding, units = stream
    found, failed = _decoded(encoding, units, limit=160 * 120 - 1)
    assert found == {}
    assert failed[0] == "frame_too_large"


@pytest.mark.parametrize(("codec", "encoding"), [("libsvtav1", "av1"), ("libvpx-vp9", "vp9")])
def test_key_frames_of_other_codecs_are_those_of_the_encoder(codec: str, encoding: str) -> None:
    parameters = {"preset": "12", "svtav1-params": "lp=1"} if encoding == "av1" else {"cpu-used": "8"}
    units = _units(codec, 18, **parameters)
    assert _keys(encoding, units) == [0, 8, 16]
    found, failed = _decoded(encoding, units)
    assert (sorted(found), failed) == (list(range(18)), {})
    assert _decoded(encoding, units, limit=160 * 120 - 1)[0] == {}


@given(st.sampled_from(["h264", "h265", "hevc", "av1", "vp9", "mjpeg"]), st.binary(max_size=60))
def test_any_bytes_are_a_key_frame_or_not(encoding: str, data: bytes) -> None:
    assert is_keyframe(encoding, memoryview(data)) in (True, False)
    assert is_entry(encoding, data) or not is_keyframe(encoding, data)


def test_a_recovery_point_with_parameter_sets_is_an_entry() -> None:
    parts = [b"\0\0\0\1\x67abc", b"\0\0\1\x06\x06\x01\x80", b"\0\0\1\x41slice"]
    assert is_entry("h264", b"".join(parts))
    assert not is_keyframe("h264", b"".join(parts))
    assert not is_entry("h264", parts[2])
    assert is_keyframe("h264", b"\0\0\1\x06" + b"\x11" * 9000 + b"\0\0\1\x65slice")


def test_a_real_video_stream_decodes(real_data: Path) -> None:
    with LogReader(real_data / "drives/carnd_h264_video") as reader:
        units = [bytes(image_payload(raw).data) for raw in reader.messages()]
    assert _keys("h264", units) == [0, 30]
    found, failed = _decoded("h264", units, 1280 * 720)
    assert (sorted(found), failed) == (list(range(38)), {})
    assert found[0].shape == (720, 1280, 3)
    assert 60 < found[0].mean() < 200
    tail, _ = _decoded("h264", units[20:], 1280 * 720)
    assert sorted(tail) == list(range(10, 18))
    assert np.array_equal(tail[10], found[30])
