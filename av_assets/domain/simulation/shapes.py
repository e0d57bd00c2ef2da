"""Meshes of vehicles in their own frame: x forward, y left, z up, origin on the ground below the middle.

Belongs here: shape and colour. Does not belong here: projection, placement, weather.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from av_assets.domain.simulation.road import Array
    from av_assets.domain.simulation.world import RGB, Actor

GLASS: RGB = (38, 48, 58)
TYRE: RGB = (20, 20, 22)
TAIL: RGB = (200, 20, 25)
HEAD: RGB = (250, 245, 215)
PLATE_M = (0.72, 0.18)


@dataclass(frozen=True)
class Mesh:
    """Flat faces, painted in order where they look at the camera.

    Attributes:
        points: (n, 3) metres.
        faces: indices into points, and a colour.
        normals: (faces, 3); offsets: (faces,) distances of the planes from the origin along them.
        plates: corner, across, down of the plates (rear, front), metres.
        lamps: centre and kind (tail | head) of the lamps.
    """

    points: Array
    faces: tuple[tuple[tuple[int, ...], RGB], ...]
    normals: Array
    offsets: Array
    plates: tuple[tuple[Array, Array, Array], ...] = ()
    lamps: tuple[tuple[Array, str], ...] = ()


def _shade(colour: RGB, factor: float) -> RGB:
    r, g, b = (min(int(v * factor), 255) for v in colour)
    return r, g, b


class _Builder:
    def __init__(self) -> None:
        self.points: list[tuple[float, float, float]] = []
        self.faces: list[tuple[tuple[int, ...], RGB]] = []

    def face(self, corners: list[tuple[float, float, float]], colour: RGB) -> None:
        start = len(self.points)
        self.points += corners
        self.faces.append((tuple(range(start, start + len(corners))), colour))

    def prism(self, low: tuple[float, float, float, float], high: tuple[float, float, float, float],
              z: tuple[float, float], colours: dict[str, RGB]) -> None:  # fmt: skip
        """Sides and top of a frustum; `low` and `high` are x1, x2, y1, y2 at the two heights."""
        a = [(low[0], low[2]), (low[1], low[2]), (low[1], low[3]), (low[0], low[3])]
        b = [(high[0], high[2]), (high[1], high[2]), (high[1], high[3]), (high[0], high[3])]
        for i, name in enumerate(("right", "front", "left", "rear")):
            j = (i + 1) % 4
            self.face([(*a[i], z[0]), (*a[j], z[0]), (*b[j], z[1]), (*b[i], z[1])], colours[name])
        self.face([(*p, z[1]) for p in b], colours["top"])

    def rear_front(self, x: float, y: tuple[float, float], z: tuple[float, float], colour: RGB) -> None:
        """A rectangle on the plane x, looking along the sign of x."""
        corners = [(x, y[0], z[0]), (x, y[1], z[0]), (x, y[1], z[1]), (x, y[0], z[1])]
        self.face(corners if x > 0 else corners[::-1], colour)

    def side(self, y: float, x: tuple[float, float], z: tuple[float, float], colour: RGB) -> None:
        corners = [(x[0], y, z[0]), (x[1], y, z[0]), (x[1], y, z[1]), (x[0], y, z[1])]
        self.face(corners if y < 0 else corners[::-1], colour)

    def wheel(self, x: float, y: float, radius: float) -> None:
        angles = np.linspace(0, 2 * np.pi, 9)[:-1]
        corners = [(x + radius * np.cos(a), y, radius + radius * np.sin(a)) for a in angles]
        self.face(corners if y < 0 else corners[::-1], TYRE)

    def mesh(self, plates: list[tuple[Array, Array, Array]], lamps: list[tuple[Array, str]]) -> Mesh:
        points = np.array(self.points)
        corners = np.array([points[list(index[:3])] for index, _ in self.faces])
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        offsets = (normals * corners[:, 0]).sum(1)
        return Mesh(points, tuple(self.faces), normals, offsets, tuple(plates), tuple(lamps))


def _painted(colour: RGB) -> dict[str, RGB]:
    side, end = _shade(colour, 0.88), _shade(colour, 0.76)
    return {
        "right": side,
        "left": _shade(colour, 0.98),
        "front": end,
        "rear": end,
        "top": _shade(colour, 1.08),
    }


def _plates(half: float, height: float) -> list[tuple[Array, Array, Array]]:
    w, h = PLATE_M
    down = np.array([0.0, 0.0, -h])
    rear = (np.array([-half - 0.02, w / 2, height + h / 2]), np.array([0.0, -w, 0.0]), down)
    front = (np.array([half + 0.02, -w / 2, height + h / 2]), np.array([0.0, w, 0.0]), down)
    return [rear, front]


def _lights(build: _Builder, half: float, w: float, z: tuple[float, float]) -> list[tuple[Array, str]]:
    lamps: list[tuple[Array, str]] = []
    for side in (-1, 1):
        y = sorted((side * (w - 0.34), side * (w - 0.04)))
        build.rear_front(-half - 0.01, (y[0], y[1]), z, TAIL)
        build.rear_front(half + 0.01, (y[0], y[1]), z, HEAD)
        centre = side * (w - 0.19)
        lamps.append((np.array([-half - 0.05, centre, sum(z) / 2]), "tail"))
        lamps.append((np.array([half + 0.05, centre, sum(z) / 2]), "head"))
    return lamps


def _wheels(build: _Builder, half: float, w: float, radius: float) -> None:
    for x in (-half * 0.62, half * 0.64):
        build.wheel(x, -w - 0.01, radius)
        build.wheel(x, w + 0.01, radius)


def _car(build: _Builder, size: tuple[float, float, float], colour: RGB) -> list[tuple[Array, str]]:
    half, w, h = size[0] / 2, size[1] / 2, size[2]
    paint = _painted(colour)
    waist = h * 0.62
    build.prism((-half, half, -w, w), (-half, half, -w, w), (0.22, waist), paint)
    build.rear_front(-half - 0.005, (-w, w), (0.22, 0.36), (46, 46, 50))
    build.rear_front(half + 0.005, (-w, w), (0.22, 0.40), (46, 46, 50))
    _wheels(build, half, w, 0.33)
    lamps = _lights(build, half, w, (waist - 0.26, waist - 0.08))
    glass = dict.fromkeys(("right", "left", "front", "rear"), GLASS) | {"top": paint["top"]}
    low, high = (
        (-half * 0.86, half * 0.42, -w * 0.95, w * 0.95),
        (-half * 0.60, half * 0.12, -w * 0.76, w * 0.76),
    )
    build.prism(low, high, (waist, h), glass)
    return lamps


def _box_vehicle(
    build: _Builder, size: tuple[float, float, float], colour: RGB, truck: bool
) -> list[tuple[Array, str]]:
    half, w, h = size[0] / 2, size[1] / 2, size[2]
    paint = _painted(colour)
    build.prism((-half, half, -w, w), (-half, half, -w, w), (0.34, h), paint)
    build.rear_front(-half - 0.005, (-w, w), (0.34, 0.52), (40, 40, 44))
    build.rear_front(half + 0.005, (-w, w), (0.34, 0.56), (40, 40, 44))
    build.rear_front(half + 0.006, (-w * 0.9, w * 0.9), (h * 0.52, h * 0.84), GLASS)
    if truck:
        build.rear_front(-half - 0.006, (-0.03, 0.03), (0.55, h - 0.1), (50, 50, 54))
    else:
        build.rear_front(-half - 0.006, (-w * 0.8, w * 0.8), (h * 0.55, h * 0.86), GLASS)
    cab = (half - 1.25, half - 0.2)
    for y in (-w - 0.005, w + 0.005):
        build.side(y, cab, (h * 0.54, h * 0.82), GLASS)
    _wheels(build, half, w, 0.46 if truck else 0.36)
    return _lights(build, half, w, (0.78, 0.98))


def vehicle_mesh(actor: Actor) -> Mesh:
    """The mesh of a car, van or truck in the colour of `actor`."""
    build = _Builder()
    if actor.kind == "car":
        lamps = _car(build, actor.size_m, actor.colour)
        height = 0.50
    else:
        lamps = _box_vehicle(build, actor.size_m, actor.colour, actor.kind == "truck")
        height = 0.68
    return build.mesh(_plates(actor.size_m[0] / 2, height), lamps)
