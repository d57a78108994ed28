"""Fill a street: traffic, parked cars, people, signals, signs, buildings and trees."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from . import targets
from .plan import VIEW, Actor, Junction, Road
from .vehicle_models import MODELS

FACING = math.pi  # turned towards us


def choose(rng: np.random.Generator, weights: dict[str, float]) -> str:
    """Draw a name with a chance in proportion to its weight."""
    names = list(weights)
    shares = np.array([weights[name] for name in names])
    return names[int(rng.choice(len(names), p=shares / shares.sum()))]


def sample_actors(road: Road, rng: np.random.Generator) -> tuple[list[Actor], float | None]:
    """All that stands on and beside a road, and how far ahead the ego lane is blocked (None: it is free)."""
    density = float(rng.gamma(targets.TRAFFIC_SHAPE, 1.2 / targets.TRAFFIC_SHAPE))
    frontage = _frontage(road, -1, rng) + _frontage(road, 1, rng)
    movable, lead = _traffic(road, density, rng)
    movable += _parked(road, density, rng)
    movable += _crossing_traffic(road, density, rng)
    movable += _outdoors(_far_lots(road, density, rng), frontage)
    movable += _two_wheelers(road, rng)
    movable += _people(road, rng)
    actors = _without_overlaps(movable) + frontage
    actors += _signals(road, rng)
    actors += _signs(road, rng)
    actors += _furniture(road, -1, rng) + _furniture(road, 1, rng)
    actors += _highway_parts(road, rng) if road.scene == "highway" else []
    return actors, lead


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(0, 2**31))


def _edge(road: Road, side: int) -> float:
    return road.kerb_right if side > 0 else road.kerb_left


# --- traffic


def _vehicle(rng: np.random.Generator, road: Road, s: float, d: float, heading: float, state: str) -> Actor:
    models = targets.VEHICLE_MODEL_HIGHWAY if road.scene == "highway" else targets.VEHICLE_MODEL
    return Actor("vehicle", s, d, heading, _seed(rng), model=choose(rng, models), state=state)


def _traffic(road: Road, density: float, rng: np.random.Generator) -> tuple[list[Actor], float | None]:
    """Vehicles in the lanes, and the distance of the nearest one in the ego lane."""
    actors: list[Actor] = []
    lead = None
    gap = (24.0 if road.scene == "highway" else 22.0) / max(density, 0.12)
    stop = next((j.start - 3.0 for j in road.junctions if j.signal == "red"), None)
    for lane in range(-road.opposite, road.lanes):
        towards, is_ego = lane < 0, lane == road.ego_lane
        if is_ego and rng.random() < targets.OPEN_ROAD:
            continue
        queue = stop is not None and not towards and rng.random() < 0.75
        s = 5.0 + rng.exponential(gap * 0.55) if is_ego else -4.0 + rng.exponential(gap)
        if queue and stop is not None and stop > 12 and rng.random() < 0.7:
            s = max(stop - 6.5 * int(rng.integers(1, 4)), 6.0)
        while s < VIEW - 10:
            braking = queue and stop is not None and s < stop
            heading = road.direction(s) + (FACING if towards else 0.0) + rng.normal(0, 0.02)
            d = road.lane_centre(lane) + rng.normal(0, 0.2)
            actor = _vehicle(
                rng, road, s, d, heading, "braking" if braking or rng.random() < 0.2 else "driving"
            )
            length = MODELS[actor.model].length
            actor = replace(actor, s=s + length / 2)
            if not road.in_junction(actor.s, 2.0) or rng.random() < 0.3:
                actors.append(actor)
                if is_ego and lead is None:
                    lead = s
            s += length + (rng.uniform(1.5, 4.0) if braking else 3.0 + rng.exponential(gap))
    return actors, lead


def _parked(road: Road, density: float, rng: np.random.Generator) -> list[Actor]:
    actors: list[Actor] = []
    for side, width in ((-1, road.parking_left), (1, road.parking_right)):
        if not width:
            continue
        full = float(rng.beta(2.2, 1.6)) * min(1.0, 0.4 + 0.6 * density)
        edge = road.left_d if side < 0 else road.right_d
        s = rng.uniform(-3, 6)
        while s < 120:
            if rng.random() < full and not road.in_junction(s, 7.0):
                d = edge + side * (width / 2 + rng.normal(0, 0.1))
                towards = side < 0 and road.opposite > 0
                heading = road.direction(s) + (FACING if towards else 0.0) + rng.normal(0, 0.015)
                actor = _vehicle(rng, road, s, d, heading, "parked")
                if MODELS[actor.model].length < 9:
                    actors.append(actor)
            s += rng.uniform(6.0, 7.5)
    return actors


def _crossing_traffic(road: Road, density: float, rng: np.random.Generator) -> list[Actor]:
    """Vehicles on the crossing roads: they drive while our light is red and wait while it is green."""
    actors: list[Actor] = []
    widest = max(abs(road.kerb_left), road.kerb_right)
    for junction in road.junctions:
        flow = density * (0.9 if junction.signal == "red" else 0.55)
        for row, heading in ((0.3, math.pi / 2), (0.7, -math.pi / 2)):
            for side in (-1, 1):
                nearest = 1.0 if junction.signal == "red" else widest + 4.0
                for _ in range(int(rng.poisson(flow))):
                    s = junction.start + row * junction.width + rng.normal(0, 0.3)
                    d = side * rng.uniform(nearest, 40.0)
                    actors.append(_vehicle(rng, road, s, d, heading, "driving"))
    return actors


def _without_overlaps(actors: list[Actor]) -> list[Actor]:
    """Leave out whoever would stand inside somebody named before."""
    kept: list[Actor] = []
    taken: list[tuple[float, float, float, float]] = []
    for actor in actors:
        half_s, half_d = _half_footprint(actor)
        s, d = actor.s, actor.d
        if all(
            abs(s - x) > half_s + half_x or abs(d - y) > half_d + half_y for x, y, half_x, half_y in taken
        ):
            kept.append(actor)
            taken.append((s, d, half_s, half_d))
    return kept


def _half_footprint(actor: Actor) -> tuple[float, float]:
    """Half the room an actor takes along and across the road, in metres, with some air around."""
    half_length, half_width = {"person": (0.35, 0.35), "bicycle": (1.0, 0.45), "motorcycle": (1.2, 0.5)}.get(
        actor.kind, (0.0, 0.0)
    )
    if actor.kind == "vehicle":
        model = MODELS[actor.model]
        half_length, half_width = model.length / 2 + 0.25, model.width / 2 + 0.1
    crosswise = abs(math.sin(actor.heading)) > 0.7
    return (half_width, half_length) if crosswise else (half_length, half_width)


def _far_lots(road: Road, density: float, rng: np.random.Generator) -> list[Actor]:
    """Cars parked off the road: drives, car parks, the other carriageway's far side."""
    actors: list[Actor] = []
    for _ in range(int(rng.poisson(targets.OFF_ROAD_CARS[road.scene] * density))):
        side = -1 if rng.random() < 0.55 else 1
        s = rng.uniform(18, 110)
        d = _edge(road, side) + side * (road.sidewalk + rng.uniform(2.5, 5.0))
        if not road.in_junction(s, 6.0):
            heading = float(rng.choice([math.pi / 2, -math.pi / 2])) + rng.normal(0, 0.1)
            actors.append(_vehicle(rng, road, s, d, heading, "parked"))
    return [actor for actor in actors if MODELS[actor.model].length < 9]


def _outdoors(cars: list[Actor], frontage: list[Actor]) -> list[Actor]:
    """Leave out the cars that would be parked inside a building."""
    buildings = [actor for actor in frontage if actor.kind == "building"]
    return [
        car
        for car in cars
        if not any(
            building.s - 2 < car.s < building.s + building.size[0] + 2
            and building.d * car.d > 0
            and abs(car.d) > abs(building.d) - 2.6
            for building in buildings
        )
    ]


# --- people


def _people(road: Road, rng: np.random.Generator) -> list[Actor]:
    if rng.random() > targets.PEOPLE_PRESENT[road.scene]:
        return []
    actors: list[Actor] = []
    near = [j for j in road.junctions if j.start < 70]
    for _ in range(min(int(rng.geometric(1.0 / targets.PEOPLE_MEAN_WHEN_PRESENT)), 22)):
        if near and rng.random() < 0.42:
            actors.append(_person_at_crossing(road, near[int(rng.integers(len(near)))], rng))
        else:
            side = 1 if rng.random() < 0.58 else -1
            d = _edge(road, side) + side * rng.uniform(0.5, max(road.sidewalk, 1.5))
            s = rng.uniform(8, 30) if rng.random() < 0.3 else rng.uniform(20, 85)
            heading = float(rng.choice([0.0, FACING])) + rng.normal(0, 0.25)
            actors.append(Actor("person", float(s), float(d), heading, _seed(rng)))
            if rng.random() < 0.25:  # two together
                beside = float(d) + rng.choice([-0.7, 0.7])
                actors.append(Actor("person", float(s) + rng.normal(0, 0.2), beside, heading, _seed(rng)))
    return actors


def _person_at_crossing(road: Road, junction: Junction, rng: np.random.Generator) -> Actor:
    """Somebody on or beside the crossing; nobody walks in front of us while our light is green."""
    s = junction.start - rng.uniform(0.8, 3.2)
    if s < 5 or rng.random() < 0.4:
        s = junction.end + rng.uniform(0.9, 3.2)
    d = rng.uniform(road.kerb_left - 2, road.kerb_right + 2)
    if junction.signal == "green" and road.left_d - 1 < d < road.right_d + 1:
        d = float(
            rng.choice([road.kerb_right + rng.uniform(0.5, 2.5), road.kerb_left - rng.uniform(0.5, 2.5)])
        )
    heading = math.pi / 2 * float(rng.choice([-1, 1])) + rng.normal(0, 0.2)
    return Actor("person", float(s), float(d), heading, _seed(rng))


def _two_wheelers(road: Road, rng: np.random.Generator) -> list[Actor]:
    actors: list[Actor] = []
    for kind, chance in targets.TWO_WHEELERS.items():
        if road.scene == "highway" and kind == "bicycle":
            continue
        for _ in range(int(rng.poisson(chance))):
            ridden = rng.random() < targets.RIDDEN[kind]
            s = rng.uniform(8, 45)
            heading = road.direction(s) + rng.normal(0, 0.08)
            if not ridden:
                side = 1 if rng.random() < 0.6 else -1
                d = _edge(road, side) + side * rng.uniform(0.4, 1.2)
                heading += float(rng.choice([0.0, math.pi / 2, FACING]))
            elif kind == "bicycle":
                d = road.right_d + rng.uniform(-1.2, 0.3)
            else:
                d = road.lane_centre(int(rng.integers(0, road.lanes))) + rng.normal(0, 0.7)
            if ridden and rng.random() < 0.25:  # somebody coming towards us
                d, heading = road.left_d + rng.uniform(0.4, 1.2), heading + FACING
            actors.append(
                Actor(kind, s, float(d), heading, _seed(rng), state="ridden" if ridden else "parked")
            )
    return actors


# --- signals and signs


def _signals(road: Road, rng: np.random.Generator) -> list[Actor]:
    actors: list[Actor] = []
    for junction in road.junctions:
        if junction.signal is not None:
            actors += _signals_at(road, junction, rng)
    return actors


def _signals_at(road: Road, junction: Junction, rng: np.random.Generator) -> list[Actor]:
    """Heads on a mast arm behind the crossing, on posts at its corners, and those of the crossing road."""
    state = junction.signal or ""
    far, near = junction.end + 1.5, junction.start - 1.2
    right, left = road.kerb_right + 0.8, road.kerb_left - 0.8

    def head(s: float, d: float, height: float) -> Actor:
        return Actor("signal", s, d, FACING, _seed(rng), state=state, size=(height,))

    actors: list[Actor] = []
    if junction.mast_arm:
        reach = min(right - road.divider_d, 14.0)
        actors.append(Actor("mast", far, right, FACING, _seed(rng), size=(reach, 6.2)))
        shares = np.linspace(0.35, 0.95, int(rng.integers(1, 4)))
        actors += [head(far, right - reach * share, 5.7) for share in shares]
    for d in (left, right):
        if rng.random() < 0.72:
            actors += [Actor("signal_post", far, d, FACING, _seed(rng)), head(far, d, 3.3)]
            if rng.random() < 0.75:
                across = math.pi / 2 if d > 0 else -math.pi / 2
                side_d = d + (0.55 if d > 0 else -0.55)
                actors.append(
                    Actor("signal", far + 0.4, side_d, across, _seed(rng), state="cross", size=(3.3,))
                )
        if near > 9 and rng.random() < 0.35:
            actors += [Actor("signal_post", near, d, FACING, _seed(rng)), head(near, d, 3.0)]
    return actors


def _signs(road: Road, rng: np.random.Generator) -> list[Actor]:
    actors: list[Actor] = []
    models = targets.SIGN_MODEL_HIGHWAY if road.scene == "highway" else targets.SIGN_MODEL
    if rng.random() < targets.SIGNS_PRESENT:
        for _ in range(int(rng.geometric(1.0 / targets.SIGNS_MEAN_WHEN_PRESENT))):
            side = 1 if rng.random() < 0.6 else -1
            d = _edge(road, side) + side * rng.uniform(0.4, 1.2)
            s, height = rng.gamma(2.2, 14.0) + 8.0, rng.uniform(2.2, 3.4)
            model = choose(rng, models)
            crowded = any(abs(other.s - s) < 5.0 and (other.d > 0) == (d > 0) for other in actors)
            if s < VIEW and not crowded and not road.in_junction(s):
                actors.append(Actor("sign", float(s), d, FACING, _seed(rng), model, size=(height,)))
    for junction in road.junctions:
        if junction.stop_sign:
            d = road.kerb_right + 0.8
            actors.append(Actor("sign", junction.start - 1.5, d, FACING, _seed(rng), "stop", size=(2.4,)))
        elif rng.random() < 0.5:
            d = road.kerb_right + 1.2
            actors.append(Actor("sign", junction.end + 2.0, d, FACING, _seed(rng), "street", size=(3.0,)))
    if road.scene == "highway" and rng.random() < 0.6:
        s = rng.uniform(25, 110)
        size = (road.divider_d - 1.0, road.kerb_right + 1.0)
        actors.append(Actor("gantry", s, 0.0, FACING, _seed(rng), size=size))
    return actors


# --- beside the road


def _frontage(road: Road, side: int, rng: np.random.Generator) -> list[Actor]:
    """Buildings and trees along one side of the street."""
    actors: list[Actor] = []
    leafy = {"city street": 0.35, "residential": 0.75, "highway": 0.5}[road.scene] * rng.uniform(0.3, 1.4)
    built = {"city street": rng.choice([0.95, 0.6]), "residential": 0.8, "highway": 0.22}[road.scene]
    tall = rng.gamma(2.0, 3.5)
    edge = _edge(road, side)
    s = rng.uniform(-8, 4)
    while s < VIEW:
        house = road.scene == "residential"
        length = rng.uniform(8, 14) if house else rng.uniform(9, 26)
        blocked = any(j.start - 4 < s + length and s < j.end + 4 for j in road.junctions)
        if not blocked and rng.random() < built:
            low, high = {"city street": (0.0, 1.5), "residential": (5.0, 8.0), "highway": (10.0, 30.0)}[
                road.scene
            ]
            d = edge + side * (road.sidewalk + rng.uniform(low, high))
            height = 7.0 + rng.gamma(2.0, 0.8) if house else 5.5 + rng.gamma(2.0, max(tall, 2.0))
            model = "house" if house else "block"
            actors.append(Actor("building", s, d, 0.0, _seed(rng), model, size=(length, height, float(side))))
        if rng.random() < leafy and not road.in_junction(s, 4.0):
            offset = rng.uniform(0.8, max(road.sidewalk - 0.6, 1.2)) if road.sidewalk else rng.uniform(4, 16)
            tree = Actor(
                "tree", float(s), edge + side * offset, 0.0, _seed(rng), size=(rng.uniform(5.5, 11),)
            )
            actors.append(tree)
        s += length + (rng.uniform(2.5, 5) if house else rng.exponential(3.0) * (rng.random() < 0.4))
    if road.scene == "residential" and rng.random() < 0.5:
        fence = edge + side * (road.sidewalk + 0.4)
        for start in np.arange(0.0, 90.0, 5.0).tolist():
            if rng.random() < 0.75 and not road.in_junction(start + 2.5, 7.0):
                actors.append(
                    Actor("hedge", start, fence, 0.0, _seed(rng), size=(5.0, rng.uniform(0.6, 1.2)))
                )
    if road.scene != "city street" or rng.random() < 0.4:
        behind = edge + side * (road.sidewalk + (14.0 if road.scene == "highway" else 24.0))
        for start in np.arange(-5, VIEW + 60, 16.0).tolist():
            size = (17.0, rng.uniform(3.0, 8.0))
            actors.append(Actor("hedge", start, behind, 0.0, _seed(rng), size=size))
    return actors


def _furniture(road: Road, side: int, rng: np.random.Generator) -> list[Actor]:
    """Street lamps, utility poles, bins and cones along one side."""
    actors: list[Actor] = []
    kerb = _edge(road, side)
    spacing = rng.uniform(24, 38)
    for s in np.arange(rng.uniform(4, 30), VIEW, spacing).tolist():
        if not road.in_junction(s, 1.0):
            actors.append(Actor("lamp", s, kerb + side * 0.6, 0.0, _seed(rng), size=(8.0, float(side))))
    if road.scene != "highway" and rng.random() < 0.4:
        spacing = rng.uniform(28, 36)
        for s in np.arange(rng.uniform(2, 25), VIEW, spacing).tolist():
            actors.append(Actor("pole", s, kerb + side * 1.0, 0.0, _seed(rng), size=(9.5, spacing)))
    if road.sidewalk:
        for s in rng.uniform(8, 70, int(rng.poisson(2.0))).tolist():
            if not road.in_junction(s, 1.0):
                actors.append(Actor("bin", s, kerb + side * rng.uniform(0.5, 1.2), 0.0, _seed(rng)))
    if rng.random() < 0.05:
        start = rng.uniform(8, 25)
        actors += [
            Actor("cone", start + i * 3.0, kerb - side * (2.2 + 0.2 * i), 0.0, _seed(rng))
            for i in range(int(rng.integers(3, 8)))
            if not road.in_junction(start + i * 3.0, 4.0)
        ]
    return actors


def _highway_parts(road: Road, rng: np.random.Generator) -> list[Actor]:
    """The median barrier, a guard rail or wall on the right, perhaps a bridge ahead."""
    actors: list[Actor] = []
    outer = "rail" if rng.random() < 0.6 else "concrete"
    lines = [(road.divider_d - 0.8, "concrete", 0.9), (road.kerb_right + 0.5, outer, 0.8)]
    if road.opposite:
        lines.append((road.kerb_left - 0.5, outer, 0.8))
    for d, model, height in lines:
        for s in np.arange(-2.0, VIEW, 6.0).tolist():
            actors.append(Actor("barrier", s, d, 0.0, _seed(rng), model, size=(6.0, height)))
    if rng.random() < 0.22:
        size = (road.kerb_left - 3.0, road.kerb_right + 3.0)
        actors.append(Actor("bridge", rng.uniform(30, 110), 0.0, 0.0, _seed(rng), size=size))
    return actors
