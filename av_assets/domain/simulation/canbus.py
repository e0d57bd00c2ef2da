"""The CAN bus of the vehicle: the DBC text, and frames packed by it.

Belongs here: layout and packing of CAN signals. Does not belong here: decoding real drives (logs).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from av_assets.domain.simulation.world import World

RATE_HZ = 50.0
COUNTER_MODULUS = 16
MOTION, STEERING, BRAKE, AUTOMATION, BODY = 0x101, 0x102, 0x103, 0x104, 0x210

DBC = """\
VERSION "1.0"

NS_ :

BS_:

BU_: GATEWAY

BO_ 257 MOTION: 8 GATEWAY
 SG_ speed_mps : 0|16@1+ (0.005,0) [0|90] "m/s" GATEWAY
 SG_ accel_mps2 : 16|16@1- (0.001,0) [-32|32] "m/s2" GATEWAY
 SG_ yaw_rate_radps : 32|16@1- (0.0001,0) [-3.2|3.2] "rad/s" GATEWAY
 SG_ motion_counter : 48|4@1+ (1,0) [0|15] "" GATEWAY

BO_ 258 STEERING: 4 GATEWAY
 SG_ steering_rad : 0|16@1- (0.0001,0) [-1|1] "rad" GATEWAY
 SG_ steering_counter : 16|4@1+ (1,0) [0|15] "" GATEWAY

BO_ 259 BRAKE: 3 GATEWAY
 SG_ brake : 0|8@1+ (0.004,0) [0|1] "" GATEWAY
 SG_ brake_pressure_bar : 8|12@1+ (0.05,0) [0|200] "bar" GATEWAY

BO_ 260 AUTOMATION: 2 GATEWAY
 SG_ engaged : 0|1@1+ (1,0) [0|1] "" GATEWAY
 SG_ automation_counter : 8|4@1+ (1,0) [0|15] "" GATEWAY

BO_ 528 BODY: 2 GATEWAY
 SG_ wiper_level : 0|2@1+ (1,0) [0|3] "" GATEWAY
 SG_ headlights : 2|1@1+ (1,0) [0|1] "" GATEWAY
 SG_ outside_temperature_degc : 8|8@1- (0.5,0) [-50|60] "degC" GATEWAY

CM_ SG_ 257 speed_mps "Speed over ground along the vehicle axis";
CM_ SG_ 259 brake "Share of the full brake demand";
CM_ SG_ 260 engaged "1 while the driving automation drives";
"""


@lru_cache(maxsize=1)
def database() -> Any:
    """The DBC as cantools reads it."""
    import cantools

    return cantools.database.load_string(DBC, "dbc")


def frames(world: World, t_s: float, index: int, rng: np.random.Generator) -> list[tuple[int, bytes]]:
    """Frames (id, data) of cycle `index` at `t_s`; the body frame comes with every tenth cycle."""
    ego = world.ego
    counter = index % COUNTER_MODULUS
    noise = rng.normal(0, 1, 4)
    brake = float(ego.at("brake", t_s))
    values: dict[int, dict[str, float]] = {
        MOTION: {
            "speed_mps": max(float(ego.at("speed_mps", t_s)) + 0.02 * noise[0], 0.0),
            "accel_mps2": float(ego.at("accel_mps2", t_s)) + 0.04 * noise[1],
            "yaw_rate_radps": float(ego.at("yaw_rate_radps", t_s)) + 0.001 * noise[2],
            "motion_counter": counter,
        },
        STEERING: {
            "steering_rad": float(ego.at("steering_rad", t_s)) + 0.0005 * noise[3],
            "steering_counter": counter,
        },
        BRAKE: {"brake": brake, "brake_pressure_bar": 90.0 * brake},
        # An edge is an edge: the sample that holds, not a value between two.
        AUTOMATION: {"engaged": float(ego.engaged[_sample(world, t_s)]), "automation_counter": counter},
    }
    if index % 10 == 0:
        script = world.script
        values[BODY] = {
            "wiper_level": 2 if script.weather == "rain" else 0,
            "headlights": 0 if (script.light, script.weather) == ("day", "clear") else 1,
            "outside_temperature_degc": 11.5,
        }
    return [(ident, bytes(database().encode_message(ident, signals))) for ident, signals in values.items()]


def _sample(world: World, t_s: float) -> int:
    return int(
        np.clip(np.searchsorted(world.ego.t_s, t_s + 1e-9, side="right") - 1, 0, len(world.ego.t_s) - 1)
    )
