"""One camera image of the world, far things first, with the truth of what can be seen in it.

Belongs here: order of painting. Does not belong here: how single things look, weather, what stays visible.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.simulation import figures, ground, textures, weather
from av_assets.domain.simulation.camera import Camera, Canvas, Image
from av_assets.domain.simulation.shapes import Mesh, vehicle_mesh
from av_assets.domain.simulation.visibility import (
    Box,
    Feature,
    Painted,
    PrivateBox,
    private_boxes,
    remember,
    visible_boxes,
)
from av_assets.domain.simulation.world import Actor, Fixture, World

if TYPE_CHECKING:
    from av_assets.domain.simulation.road import Array

ACTOR_REACH_M, FIXTURE_REACH_M = 90.0, 95.0
MAX_ITEMS = 250


@dataclass(frozen=True)
class Frame:
    """RGB image (height, width, 3), drivable mask 0/255 (height, width) and what is to be seen."""

    rgb: Image
    drivable: Image
    boxes: tuple[Box, ...]
    private: tuple[PrivateBox, ...]


class Renderer:
    """Paints a world for its cameras; holds the meshes so that they are built once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.meshes: dict[int, Mesh] = {
            actor.object_id: vehicle_mesh(actor) for actor in world.actors if actor.cls == "vehicle"
        }
        self.fixtures_xy = np.array([[f.x_m, f.y_m] for f in world.fixtures]).reshape(-1, 2)

    def frame(self, camera: Camera, t_s: float, rng: np.random.Generator) -> Frame:
        """The image that `camera` takes at `t_s` seconds after the start; `rng` gives rain and noise only."""
        return _Shot(self, camera, t_s).take(rng)


class _Shot:
    def __init__(self, renderer: Renderer, camera: Camera, t_s: float) -> None:
        self.renderer, self.camera, self.t_s = renderer, camera, t_s
        self.world, self.script = renderer.world, renderer.world.script
        self.pose = self.world.ego.pose(t_s)
        self.view = camera.camera_SE3_world(*self.pose)
        self.eye = np.linalg.inv(self.view)[:3, 3]
        back = weather.background(camera, self.script.weather, self.script.light, ground.GRASS)
        self.canvas = Canvas(camera, back)
        self.up = self.view[:3, 2]
        self.painted: list[Painted] = []
        self.features: list[Feature] = []
        self.lamps: list[weather.Lamp] = []
        self.distance = np.full(256, 400.0)
        self.glows = np.zeros(256)

    def take(self, rng: np.random.Generator) -> Frame:
        s_m = float(self.world.ego.at("s_m", self.t_s))
        strip = ground.paint_ground(self.canvas, self.world, self.view, s_m)
        ground.add_grain(self.canvas, 0, self.pose)
        for ident, (distance, thing, index) in enumerate(self._by_distance(), start=1):
            self.distance[ident] = distance
            if isinstance(thing, Actor):
                self._paint_actor(thing, index, ident, distance)
            else:
                self._paint_fixture(thing, ident)
        drivable = ground.drivable_mask(self.canvas, strip)
        boxes, private = visible_boxes(self.canvas, self.painted), private_boxes(self.canvas, self.features)
        weather.expose(self.canvas, self.distance, self.glows, self.script.weather, self.script.light)
        weather.glow(self.canvas, self.lamps, self.script.light, self.script.weather)
        weather.finish(self.canvas, self.script.weather, self.script.light, rng)
        return Frame(self.canvas.rgb, drivable, boxes, private)

    def _by_distance(self) -> list[tuple[float, Actor | Fixture, int]]:
        self.states = states = self.world.states(self.t_s)
        actors = np.stack([states.x_m, states.y_m], 1)
        things: list[tuple[float, Actor | Fixture, int]] = []
        for points, items, reach in (
            (actors, self.world.actors, ACTOR_REACH_M),
            (self.renderer.fixtures_xy, self.world.fixtures, FIXTURE_REACH_M),
        ):
            away = np.hypot(points[:, 0] - self.eye[0], points[:, 1] - self.eye[1])
            depth = (points - self.eye[:2]) @ self.view[2, :2]
            side = np.abs((points - self.eye[:2]) @ self.view[0, :2])
            slope = self.camera.width / 2 / self.camera.focal_px
            for i in np.flatnonzero(
                (away < reach) & (depth > -11.0) & (side < np.maximum(depth, 0) * slope + 13.0)
            ):
                things.append((float(away[i]), items[i], int(i)))
        return sorted(things, key=lambda item: (-item[0], item[2]))[-MAX_ITEMS:]

    def _paint_actor(self, actor: Actor, index: int, ident: int, distance: float) -> None:
        x, y, yaw = (float(v[index]) for v in (self.states.x_m, self.states.y_m, self.states.yaw_rad))
        if actor.cls == "vehicle":
            outline = self._paint_vehicle(actor, ident, x, y, yaw)
        else:
            outline = self._paint_upright(actor, ident, x, y, yaw)
        painted = None if outline is None else remember(self.canvas, actor, ident, distance, outline)
        if painted is not None:
            self.painted.append(painted)

    def _paint_vehicle(self, actor: Actor, ident: int, x: float, y: float, yaw: float) -> Array | None:
        mesh = self.renderer.meshes[actor.object_id]
        c, s = np.cos(yaw), np.sin(yaw)
        local_world = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        turn = self.view[:3, :3] @ local_world
        shift = self.view[:3, :3] @ np.array([x, y, 0.0]) + self.view[:3, 3]
        points = mesh.points @ turn.T + shift
        if (points[:, 2] < 0.3).all():
            return None
        eye = local_world.T @ (self.eye - np.array([x, y, 0.0]))
        facing = mesh.normals @ eye > mesh.offsets
        for (index, colour), seen in zip(mesh.faces, facing, strict=True):
            if seen:
                self.canvas.polygon(points[list(index)], colour, ident)
        for corner, across, down in mesh.plates:
            normal_x = float(np.sign(corner[0]))
            if (eye[0] - corner[0]) * normal_x > 0.3:
                self._paint_plate(actor, ident, turn @ corner + shift, turn @ across, turn @ down)
        self._collect_lamps(mesh, eye, turn, shift, ident)
        ahead = points[points[:, 2] >= 0.3]
        return self.canvas.project(ahead)

    def _paint_plate(self, actor: Actor, ident: int, corner: Array, across: Array, down: Array) -> None:
        if corner[2] < 0.5 or self.camera.focal_px * float(np.linalg.norm(across)) / corner[2] < 5.0:
            return
        pixels = self.canvas.texture(corner, across, down, textures.plate(actor.plate), None)
        if pixels is not None:
            self.features.append(Feature("plate", pixels, ident, actor.object_id))

    def _collect_lamps(self, mesh: Mesh, eye: Array, turn: Array, shift: Array, ident: int) -> None:
        for centre, kind in mesh.lamps:
            if (eye[0] - centre[0]) * np.sign(centre[0]) <= 0:
                continue
            point = turn @ centre + shift
            if point[2] > 0.6:
                u, v = self.canvas.project(point[None])[0]
                size = 0.13 if kind == "head" else 0.10
                radius = float(min(self.camera.focal_px * size / point[2], 9.0))
                self.lamps.append(weather.Lamp(float(u), float(v), radius, kind, ident))

    def _paint_upright(self, actor: Actor, ident: int, x: float, y: float, yaw: float) -> Array | None:
        foot = self.view[:3, :3] @ np.array([x, y, 0.0]) + self.view[:3, 3]
        if foot[2] < 0.6:
            return None
        plane = figures.Upright(self.canvas, foot, self.up, ident)
        height = actor.size_m[2]
        if actor.cls == "cone":
            figures.paint_cone(plane, height)
            half = 0.24
        else:
            half = 0.36
            away = self.eye[:2] - np.array([x, y])
            facing = float((np.array([np.cos(yaw), np.sin(yaw)]) @ away) / max(np.hypot(*away), 1e-6))
            face = figures.paint_pedestrian(plane, actor, facing, 5.5 * self.t_s + actor.look)
            if face is not None:
                self.features.append(Feature("face", face, ident, actor.object_id))
        corners = np.array([[-half, 0.0], [half, 0.0], [half, height], [-half, height]])
        return self.canvas.project(foot + corners[:, :1] * plane.right + corners[:, 1:] * plane.up)

    def _paint_fixture(self, thing: Fixture, ident: int) -> None:
        foot = self.view[:3, :3] @ np.array([thing.x_m, thing.y_m, 0.0]) + self.view[:3, 3]
        if thing.kind == "building":
            self.glows[ident] = 0.55
            self._paint_building(thing, foot, ident)
        elif foot[2] > 0.8:
            plane = figures.Upright(self.canvas, foot, self.up, ident)
            if thing.kind == "tree":
                figures.paint_tree(plane, thing)
                return
            u, v = figures.paint_lamp(plane, thing)[0]
            radius = float(min(self.camera.focal_px * 0.22 / foot[2], 12.0))
            self.lamps.append(weather.Lamp(float(u), float(v) - 0.5, radius, "lamp", ident))

    def _paint_building(self, thing: Fixture, foot: Array, ident: int) -> None:
        c, s = np.cos(thing.yaw_rad), np.sin(thing.yaw_rad)
        along, left = self.view[:3, :2] @ np.array([c, s]), self.view[:3, :2] @ np.array([-s, c])
        length, depth, height = thing.size_m
        up = self.up * height
        night = self.script.light != "day"
        rows = max(round(height / 3.0), 2)
        # A wall is seen from outside when the camera lies beyond its plane.
        for direction, half, span, spread in (
            (along, length / 2, left, depth), (-along, length / 2, -left, depth),
            (left, depth / 2, -along, length), (-left, depth / 2, along, length),
        ):  # fmt: skip
            centre = foot + direction * half
            if float(-centre @ direction) <= 0.05:
                continue
            corner = centre - span * (spread / 2) + up
            columns = max(round(spread / 2.6), 2)
            wall = textures.facade(thing.colour, columns, rows, thing.look, night)
            self.canvas.texture(corner, span * spread, -up, wall, ident)
