from __future__ import annotations

import io
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from PIL import Image, JpegImagePlugin
from scripted_camera import Scripted, decoded, encoded, image_message, picture, redacted

from av_assets.domain.errors import RedactionError
from av_assets.domain.privacy.encoding import encode_like, encode_raw

if TYPE_CHECKING:
    from av_assets.policies.redaction import RedactionPolicy

SIZE = (240, 320)


def jpeg(rgb: np.ndarray, **how: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(rgb).save(out, "JPEG", **how)
    return out.getvalue()


def header(data: bytes) -> tuple[dict[int, list[int]], int, str]:
    with Image.open(io.BytesIO(data)) as image:
        return image.quantization, JpegImagePlugin.get_sampling(image), image.mode


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(((a.astype(float) - b) ** 2).mean(), 1e-9)))


@pytest.mark.parametrize("quality", [50, 75, 90, 98])
@pytest.mark.parametrize("sampling", [0, 1, 2])
def test_jpeg_keeps_tables_sampling_and_size(quality: int, sampling: int):
    source = jpeg(picture(3, SIZE), quality=quality, subsampling=sampling)
    again = encode_like("jpeg", source, decoded(source))
    assert header(again) == header(source)
    assert psnr(decoded(again), decoded(source)) > 45
    assert abs(len(again) - len(source)) < 0.05 * len(source)


def test_tables_of_any_encoder_are_kept():
    flat = [[17] * 64, [34] * 64]
    source = jpeg(picture(3, SIZE), qtables=flat, subsampling=2)
    assert header(encode_like("jpeg", source, decoded(source)))[0] == {0: flat[0], 1: flat[1]}


def test_grey_stays_grey():
    source = encoded(picture(3, SIZE)[..., 0])
    again = encode_like("jpeg", source, decoded(source))
    assert header(again) == header(source)
    png = bytes(cv2.imencode(".png", picture(3, SIZE)[..., 0])[1])
    assert encode_like("png", png, decoded(png))[25] == 0


def test_png_stays_png_without_loss():
    source = encoded(picture(3, SIZE), ".png")
    assert np.array_equal(decoded(encode_like("png", source, decoded(source))), picture(3, SIZE))


def test_metadata_of_the_source_does_not_come_along():
    exif = Image.Exif()
    exif[0x010E] = "a description"
    source = jpeg(picture(3, SIZE), exif=exif, comment=b"a comment")
    again = encode_like("jpeg", source, decoded(source))
    assert b"a description" in source
    assert b"a description" not in again
    assert b"a comment" not in again


def test_a_source_without_a_readable_header_is_refused():
    with pytest.raises(RedactionError):
        encode_like("jpeg", b"\xff\xd8nothing", picture(3, SIZE))


def test_raw_pictures_become_what_the_policy_says(policy: RedactionPolicy):
    lossless = policy.model_copy(update={"raw_encoding": "png"})
    encoding, data = encode_raw(picture(3, SIZE), lossless)
    assert encoding == "png"
    assert np.array_equal(decoded(data), picture(3, SIZE))
    encoding, data = encode_raw(picture(3, SIZE), policy)
    assert encoding == "jpeg"
    assert psnr(decoded(data), picture(3, SIZE)) > 35


def test_released_picture_differs_where_the_face_was_and_only_there(policy: RedactionPolicy):
    """Outside of the blocks that the region touches, nothing but rounding of the second encoding is left."""
    source = jpeg(picture(4, SIZE), quality=80)
    finding = Scripted(face=lambda _: [(100.0, 60.0, 180.0, 140.0, 0.9)])
    [released], _ = redacted([image_message(source, 0)], finding, policy)
    before, after = decoded(source), decoded(released.row.data)
    assert released.hidden[0].box.tolist() == [92, 52, 188, 148]
    assert psnr(before[52:148, 92:188], after[52:148, 92:188]) < 25
    outside = np.ones(SIZE, bool)
    outside[32:168, 72:208] = False
    assert psnr(before[outside], after[outside]) > 45
