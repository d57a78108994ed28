"""Where everything in a street scene stands: sampled first, drawn afterwards.

A street is laid out in road coordinates: `s` metres ahead along the road, `d` metres to the right of the middle of the
ego lane. Traffic keeps to the right, as in the cities where BDD100K was recorded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from . import targets
from .camera import Camera

VIEW = 150.0  # metres: how far ahead the street is laid out


@dataclass(frozen=True)
class Junction:
    """A crossing road: it begins at `start` and is `width` metres wide; `signal` is the ego road's light, if any."""

    start: float
    width: float
    signal: str | None
    crosswalk: bool
    stop_sign: bool
    mast_arm: bool

    @property
    def end(self) -> float:
        """Where the road goes on behind the crossing."""
        return self.start + self.width


@dataclass(frozen=True)
class Road:
    """The road's cross-section and course; all `d` are metres to the right of the middle of the ego lane."""

    scene: str
    lane_width: float
    lanes: int  # in the ego direction
    ego_lane: int  # counted from the left
    opposite: int  # lanes that come towards us
    parking_left: float
    parking_right: float
    shoulder: float
    sidewalk: float
    divider: str  # "yellow", "barrier" or "none"
    marked: bool
    curvature: float  # 1 / metres, positive bends to the right
    ego_offset: float  # metres the camera stands to the right of the middle of its lane
    junctions: tuple[Junction, ...] = ()

    @property
    def divider_d(self) -> float:
        """Left edge of the lanes in the ego direction."""
        return -(self.ego_lane + 0.5) * self.lane_width

    @property
    def right_d(self) -> float:
        """Right edge of the lanes in the ego direction."""
        return (self.lanes - self.ego_lane - 0.5) * self.lane_width

    @property
    def median(self) -> float:
        """Width of what separates the directions, in metres."""
        return 1.6 if self.divider == "barrier" else 0.0

    @property
    def left_d(self) -> float:
        """Left edge of the oncoming lanes."""
        return self.divider_d - self.median - self.opposite * self.lane_width

    @property
    def kerb_left(self) -> float:
        """Where the paved road ends on the left."""
        return self.left_d - self.parking_left - self.shoulder

    @property
    def kerb_right(self) -> float:
        """Where the paved road ends on the right."""
        return self.right_d + self.parking_right + self.shoulder

    def lane_centre(self, lane: int) -> float:
        """Middle of a lane in the ego direction, counted from the left; negative ones are oncoming."""
        if lane >= 0:
            return (lane - self.ego_lane) * self.lane_width
        return self.divider_d - self.median + (lane + 0.5) * self.lane_width

    def place(self, s: np.ndarray | float, d: np.ndarray | float, y: np.ndarray | float = 0.0) -> np.ndarray:
        """Road coordinates and height to world points ``(..., 3)``: the road bends like a parabola."""
        s, d, y = np.broadcast_arrays(np.asarray(s, float), np.asarray(d, float), np.asarray(y, float))
        return np.stack([d - self.ego_offset + 0.5 * self.curvature * s * np.abs(s), y, s], axis=-1)

    def direction(self, s: float) -> float:
        """Angle of the road at `s`, in radians to the right of straight ahead."""
        return math.atan(self.curvature * abs(s))

    def in_junction(self, s: float, margin: float = 0.0) -> bool:
        """True where a crossing road passes."""
        return any(j.start - margin < s < j.end + margin for j in self.junctions)


@dataclass(frozen=True)
class Actor:
    """Something to draw: what it is, where it stands, which way it faces and a seed for its looks."""

    kind: str
    s: float
    d: float
    heading: float  # radians to the right of straight ahead, in the world
    seed: int
    model: str = ""
    state: str = ""
    size: tuple[float, ...] = ()


@dataclass(frozen=True)
class Layout:
    """A whole scene before it is drawn."""

    seed: int
    weather: str
    timeofday: str
    road: Road
    camera: Camera
    actors: tuple[Actor, ...] = field(default_factory=tuple)
    lead: float | None = None  # where the ego lane is blocked by a vehicle, metres ahead


def sample_layout(seed: int) -> Layout:
    """Lay out a scene; the same seed always gives the same one."""
    rng = np.random.default_rng([seed, 2020])
    scene = _choose(rng, targets.SCENE)
    timeofday = _choose(rng, targets.TIMEOFDAY_BY_SCENE[scene])
    weather = _choose(rng, targets.WEATHER_BY_TIMEOFDAY[timeofday])
    road = _sample_road(scene, rng)
    camera = _sample_camera(rng)
    actors, lead = _sample_actors(road, weather, timeofday, rng)
    return Layout(seed, weather, timeofday, road, camera, tuple(actors), lead)


def _choose(rng: np.random.Generator, weights: dict[str, float]) -> str:
    names = list(weights)
    shares = np.array([weights[name] for name in names])
    return names[int(rng.choice(len(names), p=shares / shares.sum()))]


def _sample_camera(rng: np.random.Generator) -> Camera:
    focal = rng.uniform(900, 1150)
    horizon = rng.normal(335, 22)
    return Camera(
        focal=focal,
        height=rng.uniform(1.2, 1.6),
        pitch=math.atan((360 - horizon) / focal),
        yaw=math.radians(rng.normal(0, 2.0)),
        roll=math.radians(rng.normal(0, 0.7)),
    )


def _sample_road(scene: str, rng: np.random.Generator) -> Road:
    if scene == "highway":
        lanes, opposite = int(rng.choice([2, 3, 4], p=[0.3, 0.45, 0.25])), int(rng.integers(0, 4))
        parking, shoulder, sidewalk = (0.0, 0.0), rng.uniform(1.5, 3.0), 0.0
        divider, marked = "barrier", True
        curvature = rng.normal(0, 1 / 900)
    elif scene == "residential":
        lanes, opposite = 1, int(rng.random() < 0.8)
        parking, shoulder, sidewalk = (2.3, 2.3), 0.0, rng.uniform(2.0, 4.0)
        divider, marked = "yellow", bool(rng.random() < 0.4)
        curvature = rng.normal(0, 1 / 350)
    else:
        lanes = int(rng.choice([1, 2, 3, 4], p=[0.28, 0.42, 0.22, 0.08]))
        opposite = 0 if rng.random() < 0.3 else int(rng.integers(1, lanes + 1))
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
    junctions: list[Junction] = []
    s = float(
        rng.choice([rng.uniform(3, 14), rng.uniform(14, 45), rng.uniform(45, 110)], p=[0.3, 0.35, 0.35])
    )
    chance = {"city street": 0.9, "residential": 0.6, "highway": 0.16}[scene]
    signal_chance = {"city street": 0.85, "residential": 0.45, "highway": 1.0}[scene]
    colour = _choose(rng, targets.SIGNAL_STATE)
    while s < VIEW - 30 and rng.random() < chance and len(junctions) < 2:
        has_signal = bool(rng.random() < signal_chance)
        width = rng.uniform(8, 13) if scene == "residential" else rng.uniform(10, 22)
        junctions.append(
            Junction(
                start=s,
                width=width,
                signal=colour if has_signal else None,
                crosswalk=bool(rng.random() < 0.75),
                stop_sign=not has_signal and bool(rng.random() < 0.7),
                mast_arm=bool(rng.random() < 0.6),
            )
        )
        s += width + rng.uniform(45, 90)
        if rng.random() < 0.4:
            colour = _choose(rng, targets.SIGNAL_STATE)
    return tuple(junctions)


def _sample_actors(
    road: Road, weather: str, timeofday: str, rng: np.random.Generator
) -> tuple[list[Actor], float | None]:
    density = float(rng.gamma(targets.TRAFFIC_SHAPE, 1.0 / targets.TRAFFIC_SHAPE))
    traffic, lead = _sample_traffic(road, density, rng)
    actors = traffic
    actors += _sample_parked(road, density, rng)
    actors += _sample_crossing_traffic(road, density, rng)
    actors += _sample_people(road, weather, timeofday, rng)
    actors += _sample_signals(road, rng)
    actors += _sample_signs(road, rng)
    actors += _sample_street_side(road, rng)
    return actors, lead


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(0, 2**31))


def _vehicle(rng: np.random.Generator, road: Road, s: float, d: float, heading: float, state: str) -> Actor:
    model = _choose(rng, targets.VEHICLE_MODEL if road.scene != "highway" else targets.VEHICLE_MODEL_HIGHWAY)
    return Actor("vehicle", s, d, heading, _seed(rng), model=model, state=state)


LENGTHS = {"box_truck": 8.0, "semi": 16.0, "bus": 12.0, "tram": 24.0, "pickup": 5.6, "van": 5.4}


def vehicle_length(model: str) -> float:
    """Length of a vehicle model in metres."""
    return LENGTHS.get(model, 4.7)


def _sample_traffic(road: Road, density: float, rng: np.random.Generator) -> tuple[list[Actor], float | None]:
    """Vehicles in the lanes; returns them and the distance of the first one in the ego lane."""
    actors: list[Actor] = []
    lead = None
    spread = 26.0 if road.scene == "highway" else 20.0
    stop = next((j.start - 3.0 for j in road.junctions if j.signal == "red"), None)
    for lane in range(-road.opposite, road.lanes):
        towards = lane < 0
        is_ego = lane == road.ego_lane
        queue = stop is not None and not towards and rng.random() < 0.7
        gap = spread / max(density, 0.12)
        s = (5.5 if is_ego else -4.0) + rng.exponential(gap * (0.75 if is_ego else 1.0))
        if queue and stop is not None and stop > 12 and rng.random() < 0.6:
            s = max(stop - 6.5 * int(rng.integers(1, 4)), 6.0)
        while s < VIEW - 15:
            d = road.lane_centre(lane) + rng.normal(0, 0.2)
            heading = road.direction(s) + (math.pi if towards else 0.0) + rng.normal(0, 0.02)
            braking = queue and stop is not None and s < stop
            actor = _vehicle(rng, road, s, d, heading, "braking" if braking else "driving")
            length = vehicle_length(actor.model)
            centre = s + length / 2
            actor = Actor("vehicle", centre, d, heading, actor.seed, actor.model, actor.state)
            if not road.in_junction(centre, 2.0) or rng.random() < 0.25:
                actors.append(actor)
                if is_ego and lead is None:
                    lead = s
            s += length + (rng.uniform(1.5, 4.0) if braking else 3.0 + rng.exponential(gap))
    return actors, lead


def _sample_parked(road: Road, density: float, rng: np.random.Generator) -> list[Actor]:
    actors: list[Actor] = []
    for side, width in ((-1, road.parking_left), (1, road.parking_right)):
        if not width:
            continue
        full = float(rng.beta(2.2, 1.6)) * min(1.0, 0.45 + 0.5 * density)
        edge = road.left_d if side < 0 else road.right_d
        s = rng.uniform(-3, 6)
        while s < 90:
            if rng.random() < full and not road.in_junction(s, 7.0):
                d = edge + side * (width / 2 + rng.normal(0, 0.1))
                towards = side < 0 and road.opposite > 0
                heading = road.direction(s) + (math.pi if towards else 0.0) + rng.normal(0, 0.015)
                actor = _vehicle(rng, road, s, d, heading, "parked")
                if vehicle_length(actor.model) < 9:
                    actors.append(actor)
            s += rng.uniform(6.0, 7.5)
    return actors


def _sample_crossing_traffic(road: Road, density: float, rng: np.random.Generator) -> list[Actor]:
    actors: list[Actor] = []
    for junction in road.junctions:
        flow = 0.85 if junction.signal == "red" else 0.3
        for row, heading in ((0.3, math.pi / 2), (0.7, -math.pi / 2)):
            for side in (-1, 1):
                for _ in range(int(rng.poisson(flow * density * 0.8))):
                    inside = junction.signal == "red"
                    d = side * rng.uniform(1 if inside else max(abs(road.kerb_left), road.kerb_right) + 4, 34)
                    s = junction.start + row * junction.width + rng.normal(0, 0.3)
                    actors.append(_vehicle(rng, road, s, d, heading, "driving"))
    return _spaced(actors)


def _spaced(actors: list[Actor]) -> list[Actor]:
    """Drop crossing vehicles that would stand inside one another."""
    kept: list[Actor] = []
    for actor in actors:
        reach = vehicle_length(actor.model) / 2
        clear = all(
            abs(actor.d - other.d) > reach + vehicle_length(other.model) / 2 + 1
            or abs(actor.s - other.s) > 2.6
            for other in kept
        )
        if clear:
            kept.append(actor)
    return kept


def _sample_people(road: Road, weather: str, timeofday: str, rng: np.random.Generator) -> list[Actor]:
    actors: list[Actor] = []
    if rng.random() < targets.PEOPLE_PRESENT[road.scene]:
        count = 1 + int(rng.geometric(1.0 / targets.PEOPLE_MEAN_WHEN_PRESENT))
        near = [j for j in road.junctions if j.start < 60]
        for _ in range(min(count, 20)):
            if near and rng.random() < 0.35:
                junction = near[0]
                s = junction.start - rng.uniform(0.8, 3.2)
                if s < 4:
                    s = junction.end + rng.uniform(0.5, 3.0)
                d = rng.uniform(road.kerb_left - 2, road.kerb_right + 2)
                if junction.signal == "green" and abs(d) < 6:
                    d = road.kerb_right + rng.uniform(0.5, 2.5)
                heading = math.pi / 2 * float(rng.choice([-1, 1]))
            else:
                side = 1 if rng.random() < 0.55 else -1
                edge = road.kerb_right if side > 0 else road.kerb_left
                d = edge + side * rng.uniform(0.5, max(road.sidewalk, 1.5))
                s = rng.uniform(7, 22) if rng.random() < 0.25 else rng.uniform(15, 70)
                heading = float(rng.choice([0.0, math.pi])) + rng.normal(0, 0.2)
            actors.append(Actor("person", float(s), float(d), heading, _seed(rng)))
    for kind, chance in targets.TWO_WHEELERS.items():
        if rng.random() < chance * (0.25 if road.scene == "highway" and kind != "motorcycle" else 1.0):
            ridden = rng.random() < targets.RIDDEN[kind]
            s = rng.uniform(7, 55)
            if ridden:
                d = (
                    road.right_d - rng.uniform(0.2, 1.2)
                    if kind == "bicycle"
                    else road.lane_centre(0) + rng.normal(0, 0.8)
                )
                heading = road.direction(s)
            else:
                d, heading = road.kerb_right + rng.uniform(0.4, 1.5), rng.normal(0, 0.3)
            actors.append(
                Actor(kind, s, float(d), heading, _seed(rng), state="ridden" if ridden else "parked")
            )
    return actors


def _sample_signals(road: Road, rng: np.random.Generator) -> list[Actor]:
    actors: list[Actor] = []
    for junction in road.junctions:
        if junction.signal is None:
            continue
        far = junction.end + 1.5
        right, left = road.kerb_right + 0.8, road.kerb_left - 0.8
        facing = math.pi
        if junction.mast_arm:
            reach = right - road.divider_d
            actors.append(Actor("mast", far, right, facing, _seed(rng), size=(reach, 6.2)))
            heads = np.linspace(0.35, 0.95, int(rng.integers(1, 4)))
            actors += [
                Actor(
                    "signal",
                    far,
                    right - reach * share,
                    facing,
                    _seed(rng),
                    state=junction.signal,
                    size=(5.7,),
                )
                for share in heads
            ]
        for d in (left, right):
            if rng.random() < 0.8:
                actors.append(Actor("signal_post", far, d, facing, _seed(rng)))
                actors.append(Actor("signal", far, d, facing, _seed(rng), state=junction.signal, size=(3.3,)))
                if rng.random() < 0.5:
                    across = math.pi / 2 if d > 0 else -math.pi / 2
                    actors.append(
                        Actor("signal", far + 0.5, d, across, _seed(rng), state="cross", size=(3.3,))
                    )
        if junction.start > 10 and rng.random() < 0.35:
            near_side = float(rng.choice([left, right]))
            actors.append(Actor("signal_post", junction.start - 1.0, near_side, facing, _seed(rng)))
            actors.append(
                Actor(
                    "signal",
                    junction.start - 1.0,
                    near_side,
                    facing,
                    _seed(rng),
                    state=junction.signal,
                    size=(3.0,),
                )
            )
    return actors


def _sample_signs(road: Road, rng: np.random.Generator) -> list[Actor]:
    actors: list[Actor] = []
    if rng.random() < targets.SIGNS_PRESENT:
        for _ in range(int(rng.geometric(1.0 / targets.SIGNS_MEAN_WHEN_PRESENT))):
            side = 1 if rng.random() < 0.65 else -1
            edge = road.kerb_right if side > 0 else road.kerb_left
            s = rng.uniform(10, 85)
            model = _choose(rng, targets.SIGN_MODEL)
            actors.append(
                Actor(
                    "sign",
                    float(s),
                    edge + side * rng.uniform(0.5, 1.4),
                    math.pi,
                    _seed(rng),
                    model,
                    size=(2.6,),
                )
            )
    for junction in road.junctions:
        if junction.stop_sign:
            actors.append(
                Actor(
                    "sign",
                    junction.start - 1.5,
                    road.kerb_right + 0.8,
                    math.pi,
                    _seed(rng),
                    "stop",
                    size=(2.4,),
                )
            )
    if road.scene == "highway" and rng.random() < 0.55:
        s = rng.uniform(30, 100)
        actors.append(
            Actor("gantry", s, 0.0, math.pi, _seed(rng), size=(road.divider_d - 1.0, road.kerb_right + 1.0))
        )
    return actors


def _sample_street_side(road: Road, rng: np.random.Generator) -> list[Actor]:
    actors: list[Actor] = []
    leafy = {"city street": 0.35, "residential": 0.75, "highway": 0.6}[road.scene] * rng.uniform(0.4, 1.4)
    built = {"city street": 0.92, "residential": 0.75, "highway": 0.25}[road.scene]
    tall = rng.gamma(2.0, 6.0)
    for side in (-1, 1):
        edge = road.kerb_right + road.sidewalk if side > 0 else road.kerb_left - road.sidewalk
        s = rng.uniform(-6, 4)
        while s < VIEW:
            length = rng.uniform(9, 26)
            middle = s + length / 2
            if (
                not any(j.start - 5 < s + length and s < j.end + 5 for j in road.junctions)
                and rng.random() < built
            ):
                setback = {"city street": rng.uniform(0, 2), "residential": rng.uniform(5, 9)}.get(
                    road.scene, rng.uniform(10, 30)
                )
                height = (
                    4 + rng.gamma(2.0, 1.6)
                    if road.scene == "residential"
                    else 6 + rng.gamma(2.0, max(tall, 4) / 2)
                )
                model = "house" if road.scene == "residential" else "block"
                actors.append(
                    Actor(
                        "building",
                        s,
                        edge + side * setback,
                        0.0,
                        _seed(rng),
                        model,
                        size=(length, height, float(side)),
                    )
                )
                if model == "house":
                    length *= 0.9
            s += length + (rng.exponential(3.0) if rng.random() < 0.4 else 0.0)
            if rng.random() < leafy and not road.in_junction(middle, 4.0):
                offset = (
                    rng.uniform(0.8, max(road.sidewalk - 0.5, 1.2)) if road.sidewalk else rng.uniform(4, 14)
                )
                kerb = road.kerb_right if side > 0 else road.kerb_left
                actors.append(
                    Actor(
                        "tree",
                        float(middle),
                        kerb + side * offset,
                        0.0,
                        _seed(rng),
                        size=(rng.uniform(5, 11),),
                    )
                )
        for lamp in np.arange(rng.uniform(5, 30), VIEW, rng.uniform(24, 38)):
            if not road.in_junction(float(lamp), 1.0):
                kerb = road.kerb_right if side > 0 else road.kerb_left
                actors.append(
                    Actor("lamp", float(lamp), kerb + side * 0.6, 0.0, _seed(rng), size=(8.0, float(side)))
                )
        if road.scene == "highway":
            actors += [
                Actor("backdrop", s0, (edge + side * 25), 0.0, _seed(rng), size=(rng.uniform(4, 10),))
                for s0 in np.arange(20, VIEW, 12.0).tolist()
            ]
    return actors
