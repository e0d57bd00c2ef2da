"""A pinhole camera and a canvas that polygons and textures are painted onto.

Belongs here: projection, near-plane clipping, painting with an id per pixel. Does not belong here: what is
painted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av_assets.domain.simulation.road import Array
    from av_assets.domain.simulation.world import RGB

NEAR_M = 0.25
SKY_ID, GROUND_ID = 255, 0
SUBPIXEL_BITS = 4
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Camera:
    """Where a camera is and how it sees; images have no distortion.

    Attributes:
        x_m, z_m: mounting point in the ego frame (y is 0).
        yaw_rad: 0 looks forward, pi looks backward.
        pitch_rad: positive looks down.
    """

    role: str
    width: int
    height: int
    hfov_rad: float
    x_m: float
    z_m: float
    yaw_rad: float
    pitch_rad: float
    rate_hz: float

    @property
    def focal_px(self) -> float:
        return self.width / 2 / float(np.tan(self.hfov_rad / 2))

    @cached_property
    def matrix(self) -> Array:
        """K, 3x3."""
        f = self.focal_px
        return np.array([[f, 0, (self.width - 1) / 2], [0, f, (self.height - 1) / 2], [0, 0, 1.0]])

    @cached_property
    def ego_SE3_camera(self) -> Array:  # noqa: N802
        """4x4; camera axes x right, y down, z forward."""
        cy, sy = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        cp, sp = np.cos(self.pitch_rad), np.sin(self.pitch_rad)
        forward = np.array([cy * cp, sy * cp, -sp])
        right = np.array([sy, -cy, 0.0])
        pose = np.eye(4)
        pose[:3, 0], pose[:3, 1], pose[:3, 2] = right, np.cross(forward, right), forward
        pose[:3, 3] = self.x_m, 0.0, self.z_m
        return pose

    @cached_property
    def horizon_row(self) -> float:
        return float(self.matrix[1, 2] - self.focal_px * np.tan(self.pitch_rad))

    def camera_SE3_world(self, x_m: float, y_m: float, yaw_rad: float) -> Array:  # noqa: N802
        """4x4, for the ego pose given."""
        c, s = np.cos(yaw_rad), np.sin(yaw_rad)
        world_ego = np.array([[c, -s, 0, x_m], [s, c, 0, y_m], [0, 0, 1, 0], [0, 0, 0, 1.0]])
        return np.asarray(np.linalg.inv(world_ego @ self.ego_SE3_camera))


FRONT = Camera("camera_front", 640, 384, np.deg2rad(70.0), 1.9, 1.45, 0.0, np.deg2rad(3.0), 10.0)
REAR = Camera("camera_rear", 640, 384, np.deg2rad(70.0), -0.9, 1.15, np.pi, np.deg2rad(3.0), 5.0)
CAMERAS = (FRONT, REAR)


def clip_near(points: Array) -> Array:
    """The polygon (n, 3) in camera axes cut at the near plane; may have no points left."""
    inside = points[:, 2] >= NEAR_M
    if inside.all():
        return points
    if not inside.any():
        return points[:0]
    after = np.roll(points, -1, axis=0)
    cut: list[Array] = []
    for here, there, here_in, there_in in zip(points, after, inside, np.roll(inside, -1), strict=True):
        if here_in:
            cut.append(here)
        if here_in != there_in:
            cut.append(here + (there - here) * (NEAR_M - here[2]) / (there[2] - here[2]))
    return np.array(cut)


class Canvas:
    """An RGB image with the id of what every pixel shows (0 ground, 255 sky)."""

    def __init__(self, camera: Camera, background: Image) -> None:
        self.camera = camera
        self.rgb = background.copy()
        self.ids: Image = np.zeros((camera.height, camera.width), np.uint8)
        self.ids[: max(int(np.ceil(camera.horizon_row)), 0)] = SKY_ID

    def project(self, points: Array) -> Array:
        """Pixels (n, 2) of camera points (n, 3) in front of the camera."""
        k = self.camera.matrix
        return np.asarray(points[:, :2] * (k[0, 0] / points[:, 2:3]) + k[:2, 2])

    def polygon(self, points: Array, colour: RGB, ident: int | None) -> Array | None:
        """Fill a convex polygon (n, 3) in camera axes; gives its pixels (m, 2), or None."""
        points = clip_near(points)
        if len(points) < 3:
            return None
        pixels = self.project(points)
        self.fill(pixels, colour, ident)
        return pixels

    def fill(self, pixels: Array, colour: RGB, ident: int | None) -> None:
        """Fill a convex polygon of pixels (n, 2)."""
        import cv2

        fixed = np.rint(np.clip(pixels, -30_000, 30_000) * (1 << SUBPIXEL_BITS)).astype(np.int32)
        cv2.fillConvexPoly(self.rgb, fixed, colour, cv2.LINE_8, SUBPIXEL_BITS)
        if ident is not None:
            cv2.fillConvexPoly(self.ids, fixed, (ident,), cv2.LINE_8, SUBPIXEL_BITS)

    def texture(
        self,
        corner: Array,
        across: Array,
        down: Array,
        image: Image,
        ident: int | None,
        alpha: Image | None = None,
    ) -> Array | None:
        """Map a texture (h, w, 3) onto the parallelogram at `corner` spanned by `across` and `down`.

        Gives the pixels of the part in front of the camera, or None.
        """
        import cv2

        pixels = clip_near(np.array([corner, corner + across, corner + across + down, corner + down]))
        if len(pixels) < 3:
            return None
        pixels = self.project(pixels)
        left, top = np.maximum(np.floor(pixels.min(0)), 0).astype(int)
        right = min(int(np.ceil(pixels[:, 0].max())) + 1, self.camera.width)
        bottom = min(int(np.ceil(pixels[:, 1].max())) + 1, self.camera.height)
        if right - left < 1 or bottom - top < 1:
            return pixels
        h, w = image.shape[:2]
        shift = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1.0]])
        warp = shift @ self.camera.matrix @ np.column_stack([across / w, down / h, corner])
        size = (right - left, bottom - top)
        # Small copies are averaged over pixels, or letters and eyes would flicker.
        shrink = w / max(float(np.ptp(pixels[:, 0])), 1.0)
        if shrink > 1.6:
            factor = min(shrink, 8.0)
            small = (max(round(w / factor), 2), max(round(h / factor), 2))
            image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
            alpha = None if alpha is None else cv2.resize(alpha, small, interpolation=cv2.INTER_AREA)
            warp = warp @ np.diag([w / small[0], h / small[1], 1.0])
        patch = cv2.warpPerspective(
            image, warp, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        mask = np.zeros((size[1], size[0]), np.uint8)
        fixed = np.rint(np.clip(pixels - (left, top), -30_000, 30_000) * (1 << SUBPIXEL_BITS)).astype(
            np.int32
        )
        cv2.fillConvexPoly(mask, fixed, (255,), cv2.LINE_8, SUBPIXEL_BITS)
        if alpha is not None:
            mask = cv2.min(mask, cv2.warpPerspective(alpha, warp, size, flags=cv2.INTER_LINEAR))
        view = self.rgb[top:bottom, left:right]
        cv2.copyTo(patch, cv2.compare(mask, 127, cv2.CMP_GT), view)
        if ident is not None:
            self.ids[top:bottom, left:right][mask > 127] = ident
        return pixels
