"""Radar tracks, IMU and GNSS as measured: truth, seen from where the sensor sits, with noise.

Belongs here: small sensors. Does not belong here: camera, lidar, CAN, messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.simulation.ego import FRONT_BUMPER_X_M

if TYPE_CHECKING:
    from av_assets.domain.simulation.road import Array
    from av_assets.domain.simulation.world import World

RADAR_MOUNT_M = (FRONT_BUMPER_X_M, 0.0, 0.5)
IMU_MOUNT_M = (0.0, 0.0, 0.4)
GNSS_MOUNT_M = (0.4, 0.0, 1.6)
RADAR_REACH_M, RADAR_HALF_ANGLE_RAD = 90.0, np.deg2rad(45.0)
RADAR_NOISE = (0.10, 0.10, 0.08, 0.08)  # m, m, m/s, m/s
GRAVITY_MPS2 = 9.80665
REGIONS_DEG = {"harbour": (53.5413, 9.9841), "old_town": (48.1371, 11.5754), "airport": (50.0379, 8.5622)}
EARTH_RADIUS_M = 6_378_137.0

Track = tuple[int, float, float, float, float]


def radar(world: World, t_s: float, rng: np.random.Generator) -> list[Track]:
    """Vehicles and people ahead: id, x, y of the nearest side (m), relative velocity (m/s), radar axes."""
    x, y, yaw = world.ego.pose(t_s)
    speed = float(world.ego.at("speed_mps", t_s))
    states = world.states(t_s)
    c, s = np.cos(yaw), np.sin(yaw)
    dx, dy = states.x_m - x, states.y_m - y
    ahead, left = dx * c + dy * s - RADAR_MOUNT_M[0], -dx * s + dy * c
    vx, vy = states.vx_mps * c + states.vy_mps * s - speed, -states.vx_mps * s + states.vy_mps * c
    tracks: list[Track] = []
    for i, actor in enumerate(world.actors):
        near = float(ahead[i]) - actor.size_m[0] / 2
        noise = rng.normal(0, 1, 4) * RADAR_NOISE
        seen = 0.3 < near < RADAR_REACH_M and abs(np.arctan2(left[i], near)) < RADAR_HALF_ANGLE_RAD
        if actor.cls != "cone" and seen:
            values = np.array([near, left[i], vx[i], vy[i]]) + noise
            tracks.append((actor.object_id, *(float(v) for v in values)))  # type: ignore[arg-type]
    return tracks


def imu(world: World, t_s: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Specific force (3,) in m/s2 and turn rate (3,) in rad/s, ego axes."""
    ego = world.ego
    forward, rate = float(ego.at("accel_mps2", t_s)), float(ego.at("yaw_rate_radps", t_s))
    side = float(ego.at("speed_mps", t_s)) * rate
    accel = np.array([forward, side, GRAVITY_MPS2]) + rng.normal(0, 0.05, 3)
    return accel, np.array([0.0, 0.0, rate]) + rng.normal(0, 0.001, 3)


def gnss(world: World, t_s: float, rng: np.random.Generator) -> tuple[float, float, float]:
    """Latitude, longitude (degrees), altitude (m); the world frame is east, north at the region's origin."""
    x, y, _ = world.ego.pose(t_s)
    x, y, up = np.array([x, y, 34.0]) + rng.normal(0, (0.3, 0.3, 0.6))
    return (*geodetic(world.script.region, float(x), float(y)), float(up))


def geodetic(region: str, x_m: float, y_m: float) -> tuple[float, float]:
    """Latitude and longitude in degrees of a world point, on a local tangent plane."""
    latitude, longitude = REGIONS_DEG.get(region, REGIONS_DEG["harbour"])
    degrees = 180.0 / np.pi / EARTH_RADIUS_M
    return latitude + y_m * degrees, longitude + x_m * degrees / float(np.cos(np.deg2rad(latitude)))
