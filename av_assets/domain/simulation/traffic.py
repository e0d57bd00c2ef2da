"""Who is put into a world: traffic, scripted vehicles, pedestrians, cones, and the furniture beside the road.

Belongs here: seeded choice of actors and their paths. Does not belong here: the ego motion, looks, sensors.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.simulation.ego import FRONT_BUMPER_X_M, STEP_S, Ego, crossing_times
from av_assets.domain.simulation.road import LANE_WIDTH_M, LANES_D_M, Array, Road
from av_assets.domain.simulation.world import RGB, SIZES_M, Actor, Fixture

if TYPE_CHECKING:
    from av_assets.domain.simulation.script import DriveScript

PAINTS: tuple[RGB, ...] = (
    (190, 30, 35), (28, 70, 160), (235, 235, 238), (30, 32, 36), (150, 154, 160), (225, 190, 40),
    (24, 110, 70), (215, 105, 25), (120, 40, 110), (70, 160, 190),
)  # fmt: skip
CLOTHES: tuple[RGB, ...] = (
    (200, 40, 50), (40, 60, 140), (230, 200, 60), (60, 130, 80), (235, 235, 235), (40, 40, 44),
    (150, 70, 150),
)  # fmt: skip
VEST: RGB = (225, 240, 40)
FACADES: tuple[RGB, ...] = (
    (176, 140, 112), (200, 188, 160), (150, 92, 78), (128, 138, 150), (210, 200, 190), (165, 160, 120),
)  # fmt: skip
LANE_CHANGE_S = 2.6
CUT_IN_GAP_S, CUT_IN_GAP_M = 0.7, 9.0
HAZARD_MARGIN_M = 1.5
HAZARD_STANDS_S = 5.5
WALK_MPS = 1.55


class _Crew:
    """Collects actors and hands out ids, plates and colours."""

    def __init__(self, script: DriveScript, ego: Ego) -> None:
        self.rng = np.random.default_rng([script.seed, 2])
        self.ego = ego
        self.actors: list[Actor] = []

    def add(self, cls: str, kind: str, s_m: Array | float, d_m: Array | float, **looks: object) -> Actor:
        shape = self.ego.t_s.shape
        actor = Actor(
            len(self.actors) + 1, cls, kind,
            np.broadcast_to(np.asarray(s_m, float), shape), np.broadcast_to(np.asarray(d_m, float), shape),
        )  # fmt: skip
        self.actors.append(replace(actor, **looks))  # type: ignore[arg-type]
        return self.actors[-1]

    def vehicle(self, s_m: Array, d_m: Array | float, kind: str | None = None, **looks: object) -> Actor:
        rng = self.rng
        kind = kind or str(rng.choice(["car", "car", "car", "van", "truck"]))
        plate = "".join(rng.choice(list("ABCDEFHKLMNPRSTUVX"), 3)) + " " + str(rng.integers(100, 999))
        colour = PAINTS[int(rng.integers(len(PAINTS)))]
        scale = float(rng.uniform(0.93, 1.08))
        return self.add(
            "vehicle", kind, s_m, d_m, **({"colour": colour, "plate": plate, "scale": scale} | looks)
        )

    def person(self, s_m: Array, d_m: Array | float, yaw_rad: float, vest: bool = False) -> Actor:
        rng = self.rng
        colour = VEST if vest else CLOTHES[int(rng.integers(len(CLOTHES)))]
        return self.add(
            "pedestrian", "pedestrian", s_m, d_m, yaw_offset_rad=yaw_rad, colour=colour,
            second_colour=CLOTHES[int(rng.integers(len(CLOTHES)))], look=int(rng.integers(64)),
            scale=float(rng.uniform(0.92, 1.06)),
        )  # fmt: skip

    def shifted(self, lead_s: float, gap_m: float) -> Array:
        """The ego path as driven `lead_s` ahead (negative: behind) and `gap_m` further on."""
        t, s = self.ego.t_s, self.ego.s_m
        wanted = t + lead_s
        beyond = (wanted - np.clip(wanted, t[0], t[-1])) * self.ego.speed_mps[-1]
        return np.asarray(np.interp(wanted, t, s) + beyond + gap_m)


def _ego_lane(crew: _Crew, script: DriveScript) -> None:
    lane = LANES_D_M["left" if script.zone == "construction" else "right"]
    beside = lane + LANE_WIDTH_M if script.zone == "urban" else lane
    t = crew.ego.t_s
    for at in script.times("cut_in"):
        part = np.clip((t - at) / LANE_CHANGE_S, 0.0, 1.0)
        smooth = part**3 * (10 - 15 * part + 6 * part**2)
        crew.vehicle(
            crew.shifted(CUT_IN_GAP_S, CUT_IN_GAP_M), beside + (lane - beside) * smooth, "car", scripted=True
        )
    for at in script.times("stationary_hazard"):
        stop = float(np.interp(at + 6.0, t, crew.ego.s_m)) + FRONT_BUMPER_X_M + HAZARD_MARGIN_M
        since = np.maximum(t - at - HAZARD_STANDS_S, 0.0)
        top = script.speed_mps + 1.5
        ramp_s = top / 2.2
        away = np.where(since < ramp_s, 1.1 * since**2, 1.1 * ramp_s**2 + top * (since - ramp_s))
        crew.vehicle(stop + SIZES_M["van"][0] / 2 + away, lane, "van", scripted=True, scale=1.0)
    if not script.times("stationary_hazard") and script.traffic > 0:
        gap = 23.0 if script.times("cut_in") else float(crew.rng.uniform(7.0, 14.0))
        crew.vehicle(crew.shifted(1.4, gap), lane)
    if script.traffic > 0:
        crew.vehicle(crew.shifted(-0.7, -9.5), lane, "car")
        crew.vehicle(crew.shifted(-2.2, -21.0), lane)


def _platoon(crew: _Crew, d_m: float, speed_mps: float, sign: int, spacing_m: float, reach: float) -> None:
    """Vehicles of one lane at one speed, so that they keep their distance."""
    span = speed_mps * crew.ego.t_s
    far = float(crew.ego.s_m[-1]) + reach
    at = -reach + float(crew.rng.uniform(0, spacing_m))
    while at < far + (0 if sign > 0 else reach):
        s = at + sign * span
        gap = np.abs(s - crew.ego.s_m)
        if gap.min() < 90.0:
            crew.vehicle(s, d_m, yaw_offset_rad=0.0 if sign > 0 else np.pi)
        at += spacing_m * float(crew.rng.uniform(0.7, 1.5))


def _clear(a: Actor, b: Actor) -> bool:
    along = (a.size_m[0] + b.size_m[0]) / 2 + 2.5
    return not bool(np.any((np.abs(a.s_m - b.s_m) < along) & (np.abs(a.d_m - b.d_m) < 2.4)))


def _people(crew: _Crew, script: DriveScript) -> tuple[float, ...]:
    rng, t, s = crew.rng, crew.ego.t_s, crew.ego.s_m
    step = 1.0 / max(script.pedestrians, 1e-6)
    vest = script.zone == "construction"
    when = 0.4
    while when < script.seconds and script.pedestrians > 0:
        towards = rng.uniform() < 0.68
        speed = float(rng.uniform(0.8, 1.5)) * (-1 if towards else 1)
        meet = float(np.interp(when, t, s)) + rng.uniform(6.0, 11.0)
        right = rng.uniform() < 0.75
        near = -5.6 if vest else -8.3
        d = near + rng.uniform(-0.6, 0.6) if right else 8.4 + rng.uniform(-0.8, 0.8)
        crew.person(meet + speed * (t - when), d, np.pi if towards else 0.0, vest and right)
        when += step * float(rng.uniform(0.6, 1.4))
    crossings = []
    # Where the ego lane lies further from the kerb, people set out earlier, so that they are past it in time.
    lane = LANES_D_M["left" if script.zone == "construction" else "right"]
    head_start_s = (lane - LANES_D_M["right"]) / WALK_MPS
    for at in crossing_times(script):
        line = float(np.interp(at + 5.4, t, s)) + FRONT_BUMPER_X_M + 4.5
        crossings.append(line)
        for k in range(int(rng.integers(2, 4))):
            path = -8.2 + WALK_MPS * (t - (at + 0.2 + 0.45 * k - head_start_s))
            # They look at the traffic while they cross, so the ego camera sees their faces.
            crew.person(np.full_like(t, line + rng.uniform(-0.9, 0.9)), np.clip(path, -8.2, 8.6), np.pi)
    return tuple(crossings)


def _works(crew: _Crew, script: DriveScript) -> tuple[float, float] | None:
    """Cones that close the right lane: a taper, then a long row beside the ego lane."""
    if script.zone != "construction":
        return None
    first = float(np.interp(2.0, crew.ego.t_s, crew.ego.s_m)) + 8.0
    last = float(np.interp(script.seconds, crew.ego.t_s, crew.ego.s_m)) + 40.0
    for k in range(6):
        crew.add("cone", "cone", first - 20.0 + 3.5 * k, -6.8 + 0.5 * k, look=k)
    spot = first
    while spot < last:
        crew.add("cone", "cone", spot, -3.75 + crew.rng.uniform(-0.15, 0.15), look=int(crew.rng.integers(8)))
        spot += float(crew.rng.uniform(4.0, 7.0))
    parked = first + 45.0
    while parked < last:
        crew.vehicle(np.full_like(crew.ego.t_s, parked), -5.8, "truck", colour=(235, 150, 30))
        parked += float(crew.rng.uniform(60.0, 90.0))
    return first - 20.0, last


def populate(
    script: DriveScript, road: Road, ego: Ego
) -> tuple[tuple[Actor, ...], tuple[float, ...], tuple[float, float] | None]:
    """All actors, the places of crossings (s, metres) and the closed stretch of the right lane."""
    crew = _Crew(script, ego)
    _ego_lane(crew, script)
    closed = _works(crew, script)
    fixed = len(crew.actors)
    density = script.traffic
    if density > 0:
        speed = script.speed_mps
        if script.zone == "urban":
            _platoon(crew, LANES_D_M["left"], speed + crew.rng.uniform(-2.0, 1.5), 1, 38.0 / density, 70.0)
        for lane in ("oncoming", "far"):
            _platoon(crew, LANES_D_M[lane], speed * crew.rng.uniform(0.7, 1.0), -1, 46.0 / density, 80.0)
    kept = crew.actors[:fixed]
    for actor in crew.actors[fixed:]:
        if all(_clear(actor, other) for other in kept if other.cls == "vehicle"):
            kept.append(actor)
    crew.actors = kept
    crossings = _people(crew, script)
    crew.actors = [replace(a, object_id=i + 1) for i, a in enumerate(crew.actors)]
    assert ego.t_s[1] - ego.t_s[0] < 2 * STEP_S
    return tuple(crew.actors), crossings, closed


def scenery(script: DriveScript, road: Road, ego: Ego) -> tuple[Fixture, ...]:
    """Buildings, trees and lamps on both sides, along the part of the road that the drive can see."""
    rng = np.random.default_rng([script.seed, 3])
    inside = (ego.t_s >= -1) & (ego.t_s <= script.seconds + 1)
    first, last = float(ego.s_m[inside][0]) - 70.0, float(ego.s_m[inside][-1]) + 130.0
    fixtures: list[Fixture] = []

    def put(kind: str, s: float, d: float, size: tuple[float, float, float], colour: RGB) -> None:
        x, y, heading = road.pose(s, d)
        fixtures.append(
            Fixture(kind, float(x), float(y), float(heading), size, colour, int(rng.integers(64)))
        )

    for side in (-1, 1):
        s = first
        while s < last:
            length, depth, height = rng.uniform(9, 20), 10.0, rng.uniform(6, 17)
            colour = FACADES[int(rng.integers(len(FACADES)))]
            if rng.uniform() < 0.8:
                put("building", s + length / 2, side * (13.0 + depth / 2 + rng.uniform(0, 1.5)),
                    (float(length), depth, float(height)), colour)  # fmt: skip
            else:
                put("tree", s + length / 2, side * 14.0, (3.6, 3.6, float(rng.uniform(5, 7))), (52, 104, 48))
            s += length + (rng.uniform(3, 7) if rng.uniform() < 0.3 else 0.4)
        for s in np.arange(first + rng.uniform(0, 9), last, 17.0):
            put("tree", float(s), side * 11.3, (2.8, 2.8, float(rng.uniform(4, 6))),
                (int(rng.integers(40, 80)), int(rng.integers(95, 130)), 45))  # fmt: skip
        for s in np.arange(first + rng.uniform(0, 9), last, 31.0):
            put("lamp", float(s), side * 7.7, (0.16, 0.16, 6.5), (88, 90, 94))
    return tuple(fixtures)
