"""Pedestrians, cones, trees and lamps: upright figures that turn towards the camera.

Belongs here: how they are painted. Does not belong here: meshes (shapes), where they are (world).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.simulation import textures

if TYPE_CHECKING:
    from av_assets.domain.simulation.camera import Canvas
    from av_assets.domain.simulation.road import Array
    from av_assets.domain.simulation.world import RGB, Actor, Fixture

HEAD_M = 0.46  # larger than life, so that faces stay legible in a small image
FACING_COSINE = 0.25
CONE_ORANGE: RGB = (255, 96, 16)
CONE_WHITE: RGB = (240, 240, 236)


class Upright:
    """A vertical plane through `foot` (camera axes): `right` in the image, `up` in the world."""

    def __init__(self, canvas: Canvas, foot: Array, up: Array, ident: int) -> None:
        self.canvas, self.foot, self.up, self.ident = canvas, foot, up, ident
        self.right = np.array([1.0, 0.0, 0.0])

    def quad(self, x1: float, x2: float, z1: float, z2: float, colour: RGB, lean: float = 0.0) -> None:
        """A rectangle, sheared by `lean` metres at its lower edge."""
        corners = np.array([[x1 + lean, z1], [x2 + lean, z1], [x2, z2], [x1, z2]])
        self.polygon(corners, colour)

    def polygon(self, corners: Array, colour: RGB) -> None:
        """A convex polygon given as (n, 2): metres to the right and up."""
        points = self.foot + corners[:, :1] * self.right + corners[:, 1:] * self.up
        self.canvas.polygon(points, colour, self.ident)

    def ellipse(self, x: float, z: float, rx: float, rz: float, colour: RGB, sides: int = 14) -> None:
        angles = np.linspace(0, 2 * np.pi, sides, endpoint=False)
        self.polygon(np.stack([x + rx * np.cos(angles), z + rz * np.sin(angles)], 1), colour)


def paint_pedestrian(plane: Upright, actor: Actor, facing: float, stride: float) -> Array | None:
    """Legs, arms, coat and head; gives the pixels (n, 2) of the face box where it looks at the camera.

    Args:
        facing: cosine between where the person looks and the way to the camera.
        stride: phase of the steps in radians.
    """
    height = actor.size_m[2]
    neck = height - HEAD_M * 0.92
    hip = height * 0.46
    swing = 0.14 * float(np.sin(stride))
    trousers, coat = actor.second_colour, actor.colour
    dark: RGB = (int(trousers[0] * 0.7), int(trousers[1] * 0.7), int(trousers[2] * 0.7))
    plane.quad(-0.17, -0.01, 0.0, hip, dark, swing)
    plane.quad(0.01, 0.17, 0.0, hip, trousers, -swing)
    sleeve: RGB = (int(coat[0] * 0.8), int(coat[1] * 0.8), int(coat[2] * 0.8))
    plane.quad(-0.34, -0.22, hip, neck, sleeve, -swing * 0.6)
    plane.quad(0.22, 0.34, hip, neck, sleeve, swing * 0.6)
    plane.quad(-0.24, 0.24, hip - 0.06, neck + 0.02, coat)
    if coat == (225, 240, 40):
        plane.quad(-0.24, 0.24, hip + 0.22, hip + 0.32, (230, 232, 236))
    return _paint_head(plane, actor.look, facing, height)


def _paint_head(plane: Upright, look: int, facing: float, height: float) -> Array | None:
    half = HEAD_M * textures.HEAD_ASPECT / 2
    if facing < FACING_COSINE:
        plane.ellipse(0.0, height - HEAD_M / 2, half, HEAD_M / 2, textures.HAIR[look % len(textures.HAIR)])
        return None
    picture, alpha = textures.head(look % 10)
    corner = plane.foot - half * plane.right + height * plane.up
    across, down = 2 * half * plane.right, -HEAD_M * plane.up
    if plane.canvas.texture(corner, across, down, picture, plane.ident, alpha) is None:
        return None
    x1, y1, x2, y2 = textures.FACE_IN_HEAD
    shares = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
    face = corner + shares[:, :1] * across + shares[:, 1:] * down
    return plane.canvas.project(face) if (face[:, 2] > 0.3).all() else None


def paint_cone(plane: Upright, height: float) -> None:
    """An orange cone with a white band on a dark foot."""
    plane.quad(-0.24, 0.24, 0.0, 0.06, (48, 44, 42))

    def half(z: float) -> float:
        return 0.18 * (1 - z / height) + 0.03

    levels = (0.06, 0.32 * height, 0.56 * height, 0.72 * height, 0.84 * height, height)
    colours = (CONE_ORANGE, CONE_WHITE, CONE_ORANGE, CONE_WHITE, CONE_ORANGE)
    for low, high, colour in zip(levels, levels[1:], colours, strict=False):
        corners = np.array([[-half(low), low], [half(low), low], [half(high), high], [-half(high), high]])
        plane.polygon(corners, colour)


def paint_tree(plane: Upright, tree: Fixture) -> None:
    width, _, height = tree.size_m
    r, g, b = tree.colour
    plane.quad(-0.13, 0.13, 0.0, height * 0.5, (84, 66, 48))
    for k, (x, z, size) in enumerate(((-0.2, 0.60, 0.40), (0.22, 0.58, 0.38), (0.0, 0.80, 0.42))):
        tone = 0.85 + 0.12 * ((tree.look + k) % 4)
        colour = (min(int(r * tone), 255), min(int(g * tone), 255), min(int(b * tone), 255))
        plane.ellipse(x * width, z * height, size * width, 0.22 * height, colour)


def paint_lamp(plane: Upright, lamp: Fixture) -> Array:
    """A street lamp; gives the pixels (1, 2) of its light."""
    height = lamp.size_m[2]
    plane.quad(-0.07, 0.07, 0.0, height, lamp.colour)
    plane.quad(-0.35, 0.35, height, height + 0.14, lamp.colour)
    light = (plane.foot + height * plane.up)[None]
    return plane.canvas.project(np.maximum(light, [[-np.inf, -np.inf, 0.3]]))
