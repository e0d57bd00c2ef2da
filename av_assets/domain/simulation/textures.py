"""Pictures that are mapped onto things: faces, plates, facades, asphalt, noise and rain.

The face is the public-domain portrait of Eileen Collins (NASA) that scikit-image ships as test data.
Belongs here: making them, seeded and cached. Does not belong here: where they go.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from av_assets.domain.simulation.camera import Image

# Rows and columns of the portrait: the whole head, and the face within that crop as shares (x1, y1, x2, y2).
HEAD_CROP = (slice(22, 186), slice(158, 292))
FACE_IN_HEAD = (0.16, 0.20, 0.84, 0.92)
HEAD_ASPECT = 134 / 164
TONES = ((1.0, 1.0, 1.0), (0.80, 0.72, 0.66), (1.08, 1.02, 0.95), (0.62, 0.52, 0.46), (0.95, 0.86, 0.78))
HAIR = ((38, 28, 22), (92, 60, 32), (150, 120, 70), (24, 24, 26), (120, 116, 112))


@lru_cache(maxsize=64)
def head(look: int) -> tuple[Image, Image]:
    """A head (164, 134, 3) seen from the front and its oval alpha; 10 looks by mirroring and skin tone."""
    import cv2
    from skimage.data import astronaut

    crop = astronaut()[HEAD_CROP].astype(np.float32)
    crop *= np.array(TONES[look % len(TONES)], np.float32)
    if look // len(TONES) % 2:
        crop = crop[:, ::-1]
    picture: Image = np.clip(crop, 0, 255).astype(np.uint8)
    alpha = np.zeros(picture.shape[:2], np.uint8)
    h, w = 164, 134
    cv2.ellipse(alpha, (w // 2, h // 2), (w // 2 - 2, h // 2 - 1), 0, 0, 360, (255,), -1)
    return np.ascontiguousarray(picture), alpha


@lru_cache(maxsize=256)
def plate(text: str) -> Image:
    """A licence plate (56, 224, 3): dark letters on white within a dark border, a blue band at its left."""
    import cv2

    picture = np.full((56, 224, 3), 242, np.uint8)
    picture[:, :22] = (20, 60, 160)
    cv2.putText(picture, text, (30, 44), cv2.FONT_HERSHEY_DUPLEX, 1.35, (18, 18, 24), 4, cv2.LINE_AA)
    cv2.rectangle(picture, (0, 0), (223, 55), (16, 16, 18), 5)
    return picture


@lru_cache(maxsize=256)
def facade(colour: tuple[int, int, int], columns: int, rows: int, look: int, night: bool) -> Image:
    """A wall of `rows` x `columns` windows, 16 px a cell; at night about a third of them are lit."""
    import cv2

    rng = np.random.default_rng([look, columns, rows])
    wall = np.array(colour, np.float32) * (0.55 if night else 1.0)
    picture = np.full((rows * 16, columns * 16, 3), wall.astype(np.uint8), np.uint8)
    picture[-4:] = (wall * 0.6).astype(np.uint8)
    for row in range(rows):
        for column in range(columns):
            lit = night and rng.uniform() < 0.35
            shade = rng.uniform(0.7, 1.1)
            glass = (255, 214, 130) if lit else tuple(float(v * shade) for v in (92, 112, 132))
            if row == rows - 1:
                glass = (255, 190, 110) if lit else tuple(float(v * shade) for v in (70, 62, 58))
            x, y = column * 16, row * 16
            cv2.rectangle(picture, (x + 4, y + 3), (x + 11, y + 12), glass, -1)
    return picture


@lru_cache(maxsize=4)
def grain(seed: int) -> Image:
    """A tile (512, 512) of ground texture around 128, wrapping at its borders."""
    import cv2

    rng = np.random.default_rng([seed, 11])
    fine = rng.normal(0, 10, (512, 512)).astype(np.float32)
    coarse = cv2.resize(
        rng.normal(0, 9, (32, 32)).astype(np.float32), (512, 512), interpolation=cv2.INTER_CUBIC
    )
    tile: Image = np.clip(128 + fine + coarse, 60, 200).astype(np.uint8)
    return tile


@lru_cache(maxsize=8)
def sensor_noise(seed: int, sigma: float, height: int, width: int) -> tuple[Image, Image]:
    """Positive and negative parts of grey noise, larger than the image to take windows from."""
    rng = np.random.default_rng([seed, 12])
    noise = np.rint(rng.normal(0, sigma, (height + 64, width + 64)))
    noise = np.repeat(noise[:, :, None], 3, axis=2) + rng.normal(0, sigma * 0.5, (height + 64, width + 64, 3))
    return np.clip(noise, 0, 255).astype(np.uint8), np.clip(-noise, 0, 255).astype(np.uint8)


@lru_cache(maxsize=4)
def rain(seed: int, height: int, width: int) -> tuple[Image, ...]:
    """Six pictures of bright streaks on black."""
    import cv2

    rng = np.random.default_rng([seed, 13])
    pictures = []
    for _ in range(6):
        picture = np.zeros((height, width, 3), np.uint8)
        for _ in range(240):
            x, y, length = rng.uniform(0, width), rng.uniform(-20, height), rng.uniform(8, 26)
            level = int(rng.uniform(25, 75))
            end = (int(x + 0.18 * length), int(y + length))
            cv2.line(picture, (int(x), int(y)), end, (level, level, level), 1, cv2.LINE_AA)
        pictures.append(picture)
    return tuple(pictures)
