"""The ground: grass, sidewalks, asphalt, lane markings and crossings, painted before all else.

Belongs here: flat things at z = 0, the mask of where one may drive. Does not belong here: objects, weather.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.simulation import textures
from av_assets.domain.simulation.camera import NEAR_M, SUBPIXEL_BITS, Camera, Canvas, Image
from av_assets.domain.simulation.road import (
    DASH_M,
    DASH_PERIOD_M,
    KERB_D_M,
    LANE_WIDTH_M,
    SIDEWALK_END_D_M,
    Array,
)

if TYPE_CHECKING:
    from av_assets.domain.simulation.world import RGB, World

REACH_M = 130.0
GRASS: RGB = (96, 112, 74)
SIDEWALK: RGB = (158, 154, 146)
KERB: RGB = (196, 194, 188)
ASPHALT: RGB = (84, 85, 88)
PAINT: RGB = (226, 226, 220)
YELLOW: RGB = (228, 180, 40)


@lru_cache(maxsize=4)
def ground_points(camera: Camera) -> tuple[int, Array, Array]:
    """First row below the horizon, and ego x, y (rows, width) of the ground that each pixel sees, metres."""
    first = int(np.ceil(camera.horizon_row)) + 1
    v, u = np.mgrid[first : camera.height, 0 : camera.width].astype(float)
    k, pose = camera.matrix, camera.ego_SE3_camera
    rays = np.stack([(u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1], np.ones_like(u)], -1) @ pose[:3, :3].T
    reach = np.minimum(-camera.z_m / np.minimum(rays[..., 2], -1e-4), 400.0)
    return first, rays[..., 0] * reach + camera.x_m, rays[..., 1] * reach


def ground_distance(camera: Camera) -> Array:
    """Distance in metres (height, width) of the ground from the camera; the sky is far."""
    first, x, y = ground_points(camera)
    out = np.full((camera.height, camera.width), 400.0)
    out[first:] = np.hypot(np.hypot(x - camera.x_m, y), camera.z_m)
    return out


class Strip:
    """Stretches of the road seen by one camera at one time."""

    def __init__(self, canvas: Canvas, world: World, camera_se3_world: Array, s_m: float) -> None:
        self.canvas, self.world, self.pose = canvas, world, camera_se3_world
        sign = 1.0 if abs(canvas.camera.yaw_rad) < 1.0 else -1.0
        near = s_m + canvas.camera.x_m + sign * 1.0
        self.low, self.high = sorted((near, near + sign * REACH_M))
        steps = np.concatenate([np.arange(0, 20, 2.0), np.arange(20, REACH_M + 1, 6.0)])
        self.stations = near + sign * steps

    def camera_points(self, s_m: Array, d_m: Array | float) -> Array:
        x, y, _ = self.world.road.pose(s_m, d_m)
        points = np.stack([x, y, np.zeros_like(x)], -1)
        return points @ self.pose[:3, :3].T + self.pose[:3, 3]

    def outline(
        self, d1_m: float, d2_m: float, low: float | None = None, high: float | None = None
    ) -> Array | None:
        """Pixels of the strip between two offsets as a closed polygon, or None behind the camera."""
        s = self.stations if low is None else np.linspace(low, high or low, 2)
        points = np.concatenate([self.camera_points(s, d1_m), self.camera_points(s[::-1], d2_m)])
        if low is None:
            points[:, 2] = np.maximum(points[:, 2], NEAR_M)
        elif (points[:, 2] < NEAR_M).any():
            return None
        return self.canvas.project(points)

    def band(self, d1_m: float, d2_m: float, colour: RGB) -> None:
        outline = self.outline(d1_m, d2_m)
        if outline is not None:
            _fill(self.canvas.rgb, [outline], colour)

    def blocks(self, spans: list[tuple[float, float, float, float]], colour: RGB) -> None:
        """Many rectangles (s1, s2, d1, d2) at once."""
        spans = [span for span in spans if span[1] > self.low and span[0] < self.high]
        if not spans:
            return
        values = np.array(spans)
        s = values[:, [0, 1, 1, 0]].ravel()
        d = values[:, [2, 2, 3, 3]].ravel()
        points = self.camera_points(s, d).reshape(-1, 4, 3)
        points = points[(points[:, :, 2] >= NEAR_M).all(1)]
        if len(points):
            _fill(self.canvas.rgb, list(self.canvas.project(points.reshape(-1, 3)).reshape(-1, 4, 2)), colour)


def _fill(image: Image, outlines: list[Array], colour: tuple[int, ...]) -> None:
    import cv2

    fixed = [np.rint(np.clip(o, -30_000, 30_000) * (1 << SUBPIXEL_BITS)).astype(np.int32) for o in outlines]
    cv2.fillPoly(image, fixed, colour, cv2.LINE_8, SUBPIXEL_BITS)


def _dashes(strip: Strip, d_m: float) -> list[tuple[float, float, float, float]]:
    first = np.floor(strip.low / DASH_PERIOD_M) * DASH_PERIOD_M
    starts = np.arange(
        first, min(strip.high, strip.low + 75.0 if strip.high > strip.low else 0), DASH_PERIOD_M
    )
    if strip.stations[0] > strip.stations[-1]:
        starts = np.arange(
            np.floor((strip.high - 75.0) / DASH_PERIOD_M) * DASH_PERIOD_M, strip.high, DASH_PERIOD_M
        )
    return [(float(s), float(s) + DASH_M, d_m - 0.07, d_m + 0.07) for s in starts]


def paint_ground(canvas: Canvas, world: World, camera_se3_world: Array, s_m: float) -> Strip:
    """Paint everything flat; gives the strip for the drivable mask."""
    strip = Strip(canvas, world, camera_se3_world, s_m)
    for side in (-1, 1):
        strip.band(side * (KERB_D_M + 0.2), side * SIDEWALK_END_D_M, SIDEWALK)
        strip.band(side * KERB_D_M, side * (KERB_D_M + 0.2), KERB)
    strip.band(-KERB_D_M, KERB_D_M, ASPHALT)
    for d in (-KERB_D_M + 0.18, -0.12, 0.12, KERB_D_M - 0.18):
        strip.band(d - 0.06, d + 0.06, PAINT)
    strip.blocks(_dashes(strip, -LANE_WIDTH_M) + _dashes(strip, LANE_WIDTH_M), PAINT)
    for line in world.crossings_s_m:
        bars = np.arange(-KERB_D_M + 0.5, KERB_D_M - 0.4, 1.0)
        strip.blocks([(line - 1.5, line + 1.5, float(d), float(d) + 0.5) for d in bars], PAINT)
    if world.closed_s_m is not None:
        low, high = world.closed_s_m
        spans = [(s, s + 6.0, -3.56, -3.42) for s in np.arange(low, high, 6.0)]
        strip.blocks(spans, YELLOW)
    return strip


def add_grain(canvas: Canvas, seed: int, pose: tuple[float, float, float]) -> None:
    """Texture that stays where it is in the world, so that the ground visibly moves."""
    import cv2

    first, gx, gy = _ground_points32(canvas.camera)
    x, y, yaw = pose
    scale = 512 / 24.0
    c, s = np.float32(np.cos(yaw) * scale), np.float32(np.sin(yaw) * scale)
    map_x = gx * c - gy * s + np.float32(x * scale % 512)
    map_y = gx * s + gy * c + np.float32(y * scale % 512)
    tile = cv2.remap(textures.grain(seed), map_x, map_y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_WRAP)
    view = canvas.rgb[first:]
    cv2.multiply(view, cv2.merge([tile, tile, tile]), view, 1 / 128.0)


@lru_cache(maxsize=4)
def _ground_points32(camera: Camera) -> tuple[int, Array, Array]:
    first, x, y = ground_points(camera)
    return first, x.astype(np.float32), y.astype(np.float32)


def drivable_mask(canvas: Canvas, strip: Strip) -> Image:
    """0/255 (height, width): asphalt that is visible, less the stretch of the closed lane."""
    mask = np.zeros(canvas.ids.shape, np.uint8)
    road = strip.outline(-KERB_D_M, KERB_D_M)
    if road is not None:
        _fill(mask, [road], (255,))
    if strip.world.closed_s_m is not None:
        low, high = (float(v) for v in strip.world.closed_s_m)
        inside = strip.stations[(strip.stations > low) & (strip.stations < high)]
        if len(inside) > 1:
            points = np.concatenate(
                [strip.camera_points(inside, -KERB_D_M), strip.camera_points(inside[::-1], -LANE_WIDTH_M)]
            )
            points[:, 2] = np.maximum(points[:, 2], NEAR_M)
            _fill(mask, [canvas.project(points)], (0,))
    mask[canvas.ids != 0] = 0
    return mask
