"""What light and weather do to a painted image: haze with distance, headlights, rain, noise, lamps that glow.

All is done in 8 bits with one table per id and one map per ground pixel, because it runs on every frame.
Belongs here: sky, transmission, illumination, noise. Does not belong here: geometry.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.simulation import textures
from av_assets.domain.simulation.camera import SKY_ID, Camera, Canvas, Image
from av_assets.domain.simulation.ground import ground_distance

if TYPE_CHECKING:
    from av_assets.domain.simulation.road import Array
    from av_assets.domain.simulation.script import Light, Weather
    from av_assets.domain.simulation.world import RGB

EXTINCTION_PER_M = {"clear": 0.0012, "rain": 0.009, "fog": 0.038}
AMBIENT = {"day": 1.0, "twilight": 0.50, "night": 0.17}
SKIES: dict[tuple[str, str], tuple[RGB, RGB]] = {
    ("clear", "day"): ((92, 146, 214), (206, 222, 236)),
    ("rain", "day"): ((120, 126, 134), (160, 164, 168)),
    ("fog", "day"): ((186, 190, 194), (196, 199, 202)),
    ("clear", "twilight"): ((44, 50, 96), (236, 150, 96)),
    ("rain", "twilight"): ((48, 52, 66), (110, 104, 104)),
    ("fog", "twilight"): ((96, 98, 110), (128, 122, 122)),
    ("clear", "night"): ((6, 8, 20), (26, 28, 44)),
    ("rain", "night"): ((10, 11, 16), (34, 34, 40)),
    ("fog", "night"): ((38, 40, 46), (52, 53, 58)),
}
NOISE_SIGMA = {"day": 2.0, "twilight": 3.5, "night": 5.5}
GLOW: dict[str, RGB] = {"tail": (255, 40, 30), "head": (255, 246, 214), "lamp": (255, 214, 150)}


@dataclass(frozen=True)
class Lamp:
    """A light source in the image: pixel, radius of its core, kind, and the id that must be visible there."""

    u: float
    v: float
    radius_px: float
    kind: str
    ident: int


@lru_cache(maxsize=32)
def background(camera: Camera, weather: Weather, light: Light, ground: RGB) -> Image:
    """Sky above the horizon, plain ground below; (height, width, 3)."""
    top, bottom = (np.array(c, float) for c in SKIES[(weather, light)])
    row = max(int(np.ceil(camera.horizon_row)), 1)
    part = np.linspace(0, 1, row)[:, None, None] ** 1.5
    image = np.empty((camera.height, camera.width, 3), np.uint8)
    image[:row] = np.broadcast_to(top * (1 - part) + bottom * part, (row, camera.width, 3)).astype(np.uint8)
    image[row:] = ground
    return image


def _transmission(distance_m: Array, weather: Weather) -> Array:
    return np.asarray(np.exp(-EXTINCTION_PER_M[weather] * distance_m))


def _headlight_fall(distance_m: Array) -> Array:
    return np.asarray(np.clip(1.5 / (1.0 + (distance_m / 22.0) ** 2), 0, 1))


@lru_cache(maxsize=8)
def _headlight(camera: Camera) -> Image:
    """How much of the headlight goes through each pixel, 0..255: a wide cone, dim above the horizon."""
    v, u = np.mgrid[0 : camera.height, 0 : camera.width].astype(float)
    across = np.exp(-(((u - camera.width / 2) / (camera.width * 0.44)) ** 2))
    above = np.clip((camera.horizon_row - 14 - v) / 60.0, 0, 1)
    strength = 0.95 if camera.role == "camera_front" else 0.38
    beam: Image = (255 * strength * across * (1 - 0.75 * above)).astype(np.uint8)
    return beam


@lru_cache(maxsize=8)
def _ground_tables(camera: Camera, weather: Weather, light: Light) -> tuple[Image, Image]:
    distance = ground_distance(camera)
    through = _transmission(distance, weather)
    beam = _headlight(camera) / 255.0 * _headlight_fall(distance) if light != "day" else 0.0
    lit = np.clip(AMBIENT[light] + beam * (1 - AMBIENT[light]), 0, 1)
    return (255 * through).astype(np.uint8), (255 * lit).astype(np.uint8)


def expose(canvas: Canvas, distance_m: Array, glows: Array, weather: Weather, light: Light) -> None:
    """Haze and light; `distance_m` (256,) and `glows` (256,) least brightness 0..1 are tables by id."""
    import cv2

    camera, ids = canvas.camera, canvas.ids
    ground_through, ground_lit = _ground_tables(camera, weather, light)
    on_ground = cv2.compare(ids, 0, cv2.CMP_EQ)
    sky = cv2.compare(ids, SKY_ID, cv2.CMP_EQ)
    through = cv2.LUT(ids, (255 * _transmission(distance_m, weather)).astype(np.uint8))
    cv2.copyTo(ground_through, on_ground, through)
    if light != "day":
        fall = cv2.LUT(ids, (255 * _headlight_fall(distance_m)).astype(np.uint8))
        lit = cv2.multiply(fall, _headlight(camera), scale=(1 - AMBIENT[light]) / 255)
        least = cv2.LUT(ids, (255 * np.maximum(glows, AMBIENT[light])).astype(np.uint8))
        lit = cv2.add(lit, least)
        cv2.copyTo(ground_lit, on_ground, lit)
        lit[sky > 0] = 255
        canvas.rgb = cv2.multiply(canvas.rgb, cv2.merge([lit, lit, lit]), scale=1 / 255)
    through[sky > 0] = 255
    haze = np.array(SKIES[(weather, light)][1], np.uint8)
    veil = cv2.subtract(255, through)
    fog = cv2.merge([cv2.multiply(veil, float(c), scale=1 / 255) for c in haze])
    clear = cv2.multiply(canvas.rgb, cv2.merge([through, through, through]), scale=1 / 255)
    canvas.rgb = cv2.add(clear, fog)


def glow(canvas: Canvas, lamps: list[Lamp], light: Light, weather: Weather) -> None:
    """Lamps that are not hidden: a bright core and a halo that grows at night and in fog."""
    import cv2

    if light == "day" and weather == "clear":
        return
    halo = np.zeros_like(canvas.rgb)
    for lamp in lamps:
        u, v = round(lamp.u), round(lamp.v)
        if (
            not (0 <= u < canvas.camera.width and 0 <= v < canvas.camera.height)
            or canvas.ids[v, u] != lamp.ident
        ):
            continue
        colour = GLOW[lamp.kind]
        dim = tuple(int(c * 0.28) for c in colour)
        cv2.circle(halo, (u, v), max(round(lamp.radius_px * 2.6), 2), dim, -1, cv2.LINE_AA)
        cv2.circle(canvas.rgb, (u, v), max(round(lamp.radius_px), 1), colour, -1, cv2.LINE_AA)
    small = cv2.resize(halo, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    blurred = cv2.resize(cv2.blur(small, (5, 5)), (canvas.camera.width, canvas.camera.height))
    canvas.rgb = cv2.add(canvas.rgb, blurred)


def finish(canvas: Canvas, weather: Weather, light: Light, rng: np.random.Generator) -> None:
    """Streaks of rain, lens softness and sensor noise."""
    import cv2

    height, width = canvas.ids.shape
    if weather == "rain":
        streaks = textures.rain(0, height, width)[int(rng.integers(6))]
        streaks = np.roll(streaks, int(rng.integers(width)), axis=1)
        level = 1.0 if light == "day" else 0.6
        canvas.rgb = cv2.addWeighted(canvas.rgb, 0.84, streaks, level, 0.0)
        canvas.rgb = cv2.GaussianBlur(canvas.rgb, (3, 3), 0.7)
    else:
        canvas.rgb = cv2.GaussianBlur(canvas.rgb, (3, 3), 0.45)
    sigma = NOISE_SIGMA[light] * (1.5 if weather == "rain" else 1.0)
    up, down = textures.sensor_noise(0, sigma, height, width)
    y, x = int(rng.integers(64)), int(rng.integers(64))
    window = (slice(y, y + height), slice(x, x + width))
    canvas.rgb = cv2.subtract(cv2.add(canvas.rgb, up[window]), down[window])
