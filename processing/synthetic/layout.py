"""Sample a street scene from its seed: road, weather, light, camera; `population` fills it."""

from __future__ import annotations

import math

import numpy as np

from . import targets
from .camera import Camera
from .plan import VIEW, Junction, Layout, Road
from .population import choose, sample_actors


def sample_layout(seed: int) -> Layout:
    """Lay out a scene; the same seed always gives the same one."""
    rng = np.random.default_rng([seed, 2020])
    scene = choose(rng, targets.SCENE)
    timeofday = choose(rng, targets.TIMEOFDAY_BY_SCENE[scene])
    weather = choose(rng, targets.WEATHER_BY_TIMEOFDAY[timeofday])
    road = _sample_road(scene, rng)
    camera = _sample_camera(rng)
    actors, lead = sample_actors(road, rng)
    return Layout(seed, weather, timeofday, road, camera, tuple(actors), lead)


def _sample_camera(rng: np.random.Generator) -> Camera:
    focal = rng.uniform(880, 1120)
    horizon = np.clip(rng.normal(targets.HORIZON_MEAN, targets.HORIZON_SPREAD), 190, 430)
    return Camera(
        focal=focal,
        height=rng.uniform(1.2, 1.6),
        pitch=math.atan((360 - horizon) / focal),
        yaw=math.radians(rng.normal(1.6, 3.4)),
        roll=math.radians(rng.normal(0, 0.8)),
    )


def _sample_road(scene: str, rng: np.random.Generator) -> Road:
    if scene == "highway":
        lanes, opposite = int(rng.choice([2, 3, 4], p=[0.3, 0.45, 0.25])), int(rng.integers(0, 4))
        parking, shoulder, sidewalk = (0.0, 0.0), rng.uniform(1.5, 3.0), 0.0
        divider, marked = "barrier", True
        curvature = rng.normal(0, 1 / 900)
    elif scene == "residential":
        lanes, opposite = 1, int(rng.random() < 0.75)
        parking, shoulder, sidewalk = (2.3, 2.3), 0.0, rng.uniform(2.0, 4.0)
        divider, marked = "yellow", bool(rng.random() < 0.4)
        curvature = rng.normal(0, 1 / 350)
    else:
        lanes = int(rng.choice([1, 2, 3, 4], p=[0.40, 0.37, 0.17, 0.06]))
        opposite = 0 if rng.random() < 0.28 else int(rng.integers(1, lanes + 1))
        parking = (2.4 * (rng.random() < 0.6), 2.4 * (rng.random() < 0.65))
        shoulder, sidewalk = 0.3, rng.uniform(2.5, 5.0)
        divider, marked = "yellow", bool(rng.random() < 0.9)
        curvature = rng.normal(0, 1 / 1500)
    return Road(
        scene=scene,
        lane_width=rng.uniform(3.2, 3.75),
        lanes=lanes,
        ego_lane=int(rng.integers(0, lanes)),
        opposite=opposite,
        parking_left=parking[0],
        parking_right=parking[1],
        shoulder=shoulder,
        sidewalk=sidewalk,
        divider=divider if opposite or scene == "highway" else "none",
        marked=marked,
        curvature=float(np.clip(curvature, -1 / 160, 1 / 160)),
        ego_offset=float(np.clip(rng.normal(0, 0.25), -0.6, 0.6)),
        junctions=_sample_junctions(scene, rng),
    )


def _sample_junctions(scene: str, rng: np.random.Generator) -> tuple[Junction, ...]:
    """The crossings ahead; one signal colour often holds for all of them, as on a green wave."""
    junctions: list[Junction] = []
    ranges = ((3, 14), (14, 40), (40, 100))
    s = float(rng.uniform(*ranges[int(rng.choice(3, p=[0.36, 0.36, 0.28]))]))
    chance, signalled = targets.JUNCTION[scene], targets.JUNCTION_SIGNALLED[scene]
    colour = choose(rng, targets.SIGNAL_STATE)
    while s < VIEW - 30 and rng.random() < chance and len(junctions) < 3:
        has_signal = bool(rng.random() < signalled)
        width = rng.uniform(8, 13) if scene == "residential" else rng.uniform(10, 20)
        junctions.append(
            Junction(
                start=s,
                width=width,
                signal=colour if has_signal else None,
                crosswalk=bool(rng.random() < 0.75),
                stop_sign=not has_signal and bool(rng.random() < 0.7),
                mast_arm=bool(rng.random() < 0.65),
            )
        )
        s += width + rng.uniform(35, 75)
        if rng.random() < 0.3:
            colour = choose(rng, targets.SIGNAL_STATE)
    return tuple(junctions)
