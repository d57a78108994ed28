"""What the labels decide about each question: small pure functions from a scene to a fact or "undecidable".

None of them guesses: a missing label is unknown, a borderline case is left out. All are symmetric in left and
right.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from . import answers
from .geometry import (
    ALMOST_MY_LIGHT,
    BLOCKS,
    COUNTED_SIZE,
    FREE,
    NEAR,
    NOT_NEAR,
    VISIBLE_SIZE,
    View,
    area,
    is_beside,
    is_beyond_next,
    is_light_placed,
    location_tokens,
    may_stand_in,
    middle,
    side_of,
    size,
    view,
)
from .scene import (
    CATEGORIES,
    PEOPLE,
    ROAD_USERS,
    TIMES_OF_DAY,
    UNNAMED,
    VEHICLES,
    WEATHERS,
    Box,
    Scene,
    SceneObject,
)


@dataclass(frozen=True, slots=True)
class Fact:
    """An answer that the labels support.

    Attributes:
        answer: The answer's text.
        evidence: Boxes of the things it rests on.
        holds: What those boxes hold.
        rule: The rule's name.
    """

    answer: str
    evidence: tuple[Box, ...] = ()
    holds: str | None = None
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Undecidable:
    """A question that the labels do not decide, and why."""

    reason: str


Decision = Fact | Undecidable
UNANNOTATED = Undecidable("frame has no object labels")
UNKNOWN_KIND = Undecidable("something of unknown kind is there")


def _boxes(things: list[SceneObject]) -> tuple[Box, ...]:
    return tuple(thing.box for thing in things)


def _fact(answer: str, things: list[SceneObject], rule: str, holds: str | None = None) -> Fact:
    """A fact whose evidence is these things; they hold their category when they share one."""
    kinds = {thing.category for thing in things}
    if holds is None and kinds:
        holds = kinds.pop() if len(kinds) == 1 else "vehicle" if kinds <= set(VEHICLES) else "object"
    return Fact(answer, _boxes(things), holds, rule)


# Things ----------------------------------------------------------------------------------------


def _named(seen: View, category: str) -> list[SceneObject] | Undecidable:
    """The things of a category; when there is none, but something that nobody could name, that is unknown."""
    if seen.scene.objects is None:
        return UNANNOTATED
    things = seen.scene.of(category)
    if not things and _unnamed(seen, category):
        return UNKNOWN_KIND
    return things


def _unnamed(seen: View, category: str) -> list[SceneObject]:
    """Things of unknown kind that may be of a category."""
    return seen.scene.of(*(name for name, members in UNNAMED.items() if category in members))


def _presence(seen: View, category: str, yes: str, no: str) -> Decision:
    things = _named(seen, category)
    if isinstance(things, Undecidable):
        return things
    if not things:
        return Fact(no, rule="absent")
    visible = [thing for thing in things if size(thing, seen.scene) >= VISIBLE_SIZE]
    if not visible:
        return Undecidable("only too small to see")
    return _fact(yes, visible, "present")


def presence(category: str) -> Callable[[View], Decision]:
    """Whether a category is in the frame."""
    return lambda seen: _presence(seen, category, "Yes.", "No.")


def absence(category: str) -> Callable[[View], Decision]:
    """Whether a category is not in the frame: the opposite of `presence`."""
    return lambda seen: _presence(seen, category, "No, there is one.", "Yes, there are none.")


def count(category: str) -> Callable[[View], Decision]:
    """How many things of a category there are: exact to five, then "more than five"."""

    def decide(seen: View) -> Decision:
        things = _named(seen, category)
        if isinstance(things, Undecidable):
            return things
        visible = [thing for thing in things if size(thing, seen.scene) >= COUNTED_SIZE]
        number = min(len(things), 6)
        if min(len(visible), 6) != number:
            return Undecidable("some are too small to count")
        if number < 6 and _unnamed(seen, category):
            return UNKNOWN_KIND
        return _fact(answers.NUMBERS[number], visible, "count")

    return decide


def nearest(category: str) -> Callable[[View], Decision]:
    """Side and distance of the road user of a category whose bottom edge is lowest."""

    def decide(seen: View) -> Decision:
        named = _named(seen, category)
        if isinstance(named, Undecidable):
            return named
        things = sorted(named, key=lambda thing: -thing.box[3])
        if not things:
            return Fact("There is none.", rule="absent")
        closest = things[0]
        where = side_of(closest)
        if size(closest, seen.scene) < VISIBLE_SIZE:
            return Undecidable("only too small to see")
        if any(closest.box[3] - thing.box[3] < 0.02 and side_of(thing) != where for thing in things[1:]):
            return Undecidable("two are about equally near")
        if any(closest.box[3] - thing.box[3] < 0.02 for thing in _unnamed(seen, category)):
            return UNKNOWN_KIND
        distance = "close" if closest.box[3] >= NEAR else "far away" if closest.box[3] < BLOCKS else "not far"
        place = "Ahead" if where == "ahead" else f"On the {where}"
        return _fact(f"{place}, {distance}.", [closest], "lowest bottom edge")

    return decide


def detect(category: str) -> Callable[[View], Decision]:
    """Location tokens of the clearly largest thing of a category."""

    def decide(seen: View) -> Decision:
        named = _named(seen, category)
        if isinstance(named, Undecidable):
            return named
        things = sorted(named, key=lambda thing: -area(thing.box))
        if not things:
            return Fact("There is none.", rule="absent")
        if size(things[0], seen.scene) < VISIBLE_SIZE:
            return Undecidable("only too small to see")
        if len(things) > 1 and area(things[1].box) > 0.8 * area(things[0].box):
            return Undecidable("no clearly largest")
        if any(area(thing.box) > 0.8 * area(things[0].box) for thing in _unnamed(seen, category)):
            return UNKNOWN_KIND
        return _fact(f"{location_tokens(things[0].box)} {category}", [things[0]], "largest box")

    return decide


def compare_sides(seen: View) -> Decision:
    """Which half of the picture holds more vehicles."""
    if seen.scene.objects is None:
        return UNANNOTATED
    vehicles = [thing for thing in seen.scene.of(*VEHICLES) if size(thing, seen.scene) >= VISIBLE_SIZE]
    left = [thing for thing in vehicles if middle(thing.box) < 0.5]
    right = [thing for thing in vehicles if middle(thing.box) > 0.5]
    if not vehicles:
        return Undecidable("no vehicle on either side")
    if len(left) == len(right):
        return _fact("About the same.", vehicles, "equal counts", "vehicle")
    if abs(len(left) - len(right)) == 1:
        return Undecidable("counts differ by one")
    more, name = (left, "left") if len(left) > len(right) else (right, "right")
    return _fact(f"On the {name}.", more, "more vehicles", "vehicle")


def directly_ahead(seen: View) -> Decision:
    """The nearest road user in the corridor."""
    if seen.scene.objects is None:
        return UNANNOTATED
    users = [thing for thing in seen.corridor if thing.category in ROAD_USERS and side_of(thing) == "ahead"]
    users.sort(key=lambda thing: -thing.box[3])
    if not users or users[0].box[3] < FREE:
        return Fact("Nothing close.", rule="corridor free")
    first = users[0]
    if first.box[3] < BLOCKS or size(first, seen.scene) < VISIBLE_SIZE:
        return Undecidable("only something far away ahead")
    if any(t.category != first.category and first.box[3] - t.box[3] < 0.02 for t in users[1:]):
        return Undecidable("two are about equally near")
    if first.category not in CATEGORIES:
        return UNKNOWN_KIND
    return _fact(f"A {first.category}.", [first], "nearest in the corridor")


def vehicle_near(where: str) -> Callable[[View], Decision]:
    """Whether a vehicle is near, ahead or on a side."""

    def decide(seen: View) -> Decision:
        if seen.scene.objects is None:
            return UNANNOTATED
        near = seen.near_vehicles(where)
        if near:
            return _fact("Yes.", near, "near vehicle")
        if seen.near_vehicles(where, NOT_NEAR):
            return Undecidable("neither near nor far")
        return Fact("No.", rule="no near vehicle")

    return decide


# Lanes -----------------------------------------------------------------------------------------

SLIVER = "too little of a lane is marked on that side"


@functools.lru_cache(maxsize=12)
def _lane(seen: View, which: str) -> Decision:
    """State of a lane: the answer is one of the fixed reasons, without the decision in front."""
    if seen.scene.objects is None:
        return UNANNOTATED
    if seen.scene.drivable is None:
        return Undecidable("no drivable area labelled")
    if seen.lanes is None:
        return Undecidable("ego lane not marked")
    if not seen.lanes.usual_pitch:
        return Undecidable("camera pitch unusual, distances unknown")
    standing = [thing for thing in seen.stands[which] if thing.box[3] >= BLOCKS]
    blocking = standing
    if which != "mine":
        markings = seen.scene.lanes or ()
        blocking = [t for t in standing if not is_beyond_next(t, which, seen.lanes, markings)]
    if standing and not blocking:
        return Undecidable("only in a lane farther to that side")
    people = [thing for thing in blocking if thing.category in PEOPLE]
    if people:
        return _fact(answers.PERSON_THERE, people, "person stands in the lane", "person")
    if blocking:
        return _fact(answers.VEHICLE_THERE, blocking, "vehicle stands in the lane", "vehicle")
    if not seen.lanes.exists(which):
        if seen.near_vehicles(which, NOT_NEAR):
            return Undecidable("a near vehicle may hide the lane")
        if seen.lanes.cells[which].any():
            return Undecidable(SLIVER)
        return Fact(answers.NO_LANE, rule="no drivable lane on that side")
    if any(thing.box[3] >= FREE for thing in seen.stands[which]):
        return Undecidable("vehicle neither near nor far in the lane")
    placed = {id(thing) for things in seen.stands.values() for thing in things}
    loose = [t for t in seen.scene.of(*ROAD_USERS) if id(t) not in placed and t.box[3] >= FREE]
    if any(may_stand_in(thing, which, seen.lanes) for thing in loose):
        return Undecidable("somebody stands where the lane's region ends")
    if which != "mine" and any(is_beside(thing, which, seen.lanes) for thing in loose):
        return Undecidable("somebody stands beside the ego lane, or in the next one")
    return Fact(answers.CLEAR, (seen.lanes.box(which),), "lane", "nobody stands in the lane")


def _decide(state: Decision, yes: str, no: str) -> Decision:
    """Puts a decision in front of a reason: `yes` when it is clear, `no` otherwise."""
    if isinstance(state, Undecidable):
        return state
    word = yes if state.answer == answers.CLEAR else no
    return Fact(f"{word}, {state.answer}.", state.evidence, state.holds, state.rule)


def lane_clear(which: str) -> Callable[[View], Decision]:
    """Whether nobody stands in a lane."""
    return lambda seen: _decide(_lane(seen, which), "Yes", "No")


def lane_blocked(which: str) -> Callable[[View], Decision]:
    """Whether somebody stands in a lane: the opposite of `lane_clear`, where the lane exists."""

    def decide(seen: View) -> Decision:
        state = _lane(seen, which)
        if isinstance(state, Fact) and state.answer == answers.NO_LANE:
            return Undecidable("no such lane")
        return _decide(state, "No", "Yes")

    return decide


def lane_exists(which: str) -> Callable[[View], Decision]:
    """Whether there is a lane on a side."""

    def decide(seen: View) -> Decision:
        if seen.lanes is None:
            return Undecidable(
                "ego lane not marked" if seen.scene.drivable is not None else "no drivable area labelled"
            )
        if seen.lanes.exists(which):
            return Fact("Yes.", (seen.lanes.box(which),), "lane", "drivable lane on that side")
        if seen.scene.objects is None or seen.near_vehicles(which, NOT_NEAR) or seen.stands[which]:
            return Undecidable("a near vehicle may hide the lane")
        if seen.lanes.cells[which].any():
            return Undecidable(SLIVER)
        return Fact("No.", rule="no drivable lane on that side")

    return decide


def change_lane(which: str, yes: str = "Yes", no: str = "No") -> Callable[[View], Decision]:
    """Whether a change into the lane on a side is safe, as far as the frame shows."""
    return lambda seen: _decide(_lane(seen, which), yes, no)


# Driving ---------------------------------------------------------------------------------------


def _my_light(seen: View) -> tuple[list[SceneObject], bool]:
    """The driver's lights that are red or yellow, and whether the colour of another one is unknown."""
    stops = [light for light in seen.lights if light.light in ("red", "yellow")]
    return stops, any(light.light is None for light in seen.lights)


def _may_stop(seen: View) -> bool:
    """Whether a light that is not green falls only a little short of being the driver's, who has no other."""
    others = [light for light in seen.scene.of("traffic light") if light.light != "green"]
    return not seen.lights and any(is_light_placed(light, ALMOST_MY_LIGHT) for light in others)


DOUBTFUL_LIGHT = Undecidable("a light that is not green may be the driver's")


def reading(seen: View) -> tuple[str, list[SceneObject]]:
    """The first of the five classes that holds by the letter of its rule, and the things that make it so."""
    blockers = {
        "red": _my_light(seen)[0],
        "person": [thing for thing in seen.corridor if thing.category in PEOPLE],
        "vehicle": [thing for thing in seen.corridor if thing.category in VEHICLES],
        "obstacle": [thing for thing in seen.corridor if thing.category == "traffic sign"],
    }
    return next(((name, things) for name, things in blockers.items() if things), ("safe", []))


def forerunner_class(scene: Scene) -> str | None:
    """The five-way reading by the letter of its rule, on every frame that has object labels.

    A light whose colour is not known is neither red nor yellow, so it does not count; the frame is read as
    if it were not there. The question `move_forward` leaves such a frame undecided instead, unless another
    light is red or yellow. Use this to compare with numbers that were counted over all frames.

    Args:
        scene: The scene.

    Returns:
        "red", "person", "vehicle", "obstacle" or "safe"; `None` for a frame without object labels.
    """
    return None if scene.objects is None else reading(view(scene))[0]


def _way_ahead(seen: View) -> tuple[str, list[SceneObject]] | Undecidable:
    """The five-way reading where the labels decide it: all lights that could stop the driver are known, and
    what is in the way is large enough to be seen."""
    if seen.scene.objects is None:
        return UNANNOTATED
    stops, unknown = _my_light(seen)
    if unknown and not stops:
        return Undecidable("colour of the driver's light unknown")
    name, things = reading(seen)
    if name == "safe" and _may_stop(seen):
        return DOUBTFUL_LIGHT
    shines = name == "red"  # a light is seen at a size at which other things are not
    if things and not shines and all(size(thing, seen.scene) < VISIBLE_SIZE for thing in things):
        return Undecidable("only too small to see")
    return name, things


HOLDS = {
    "red": "traffic light",
    "person": "person",
    "vehicle": "vehicle",
    "obstacle": "traffic sign",
    "safe": None,
}


def way_ahead(texts: dict[str, str]) -> Callable[[View], Decision]:
    """Whether the way ahead is clear, answered with the given text for each of the five classes."""

    def decide(seen: View) -> Decision:
        way = _way_ahead(seen)
        if isinstance(way, Undecidable):
            return way
        name, things = way
        return Fact(texts[name], _boxes(things), HOLDS[name], f"way ahead: {name}")

    return decide


def turn(which: str, yes: str = "Yes", no: str = "No") -> Callable[[View], Decision]:
    """Whether a turn to a side is safe: no red light, nobody near ahead or on that side, a road there."""

    def decide(seen: View) -> Decision:
        if seen.scene.objects is None:
            return UNANNOTATED
        stops, unknown = _my_light(seen)
        if stops:
            return _fact(f"{no}, {answers.RED_LIGHT}.", stops, "red light")
        if unknown:
            return Undecidable("colour of the driver's light unknown")
        walking = [t for t in seen.scene.of(*PEOPLE) if side_of(t) in (which, "ahead") and t.box[3] >= FREE]
        people = [thing for thing in walking if thing.box[3] >= BLOCKS]
        if people:
            return _fact(f"{no}, {answers.PERSON_IN_WAY}.", people, "person near on the way", "person")
        vehicles = seen.near_vehicles("ahead") + seen.near_vehicles(which)
        if vehicles:
            return _fact(f"{no}, {answers.VEHICLE_IN_WAY}.", vehicles, "vehicle near on the way", "vehicle")
        if walking or seen.near_vehicles("ahead", NOT_NEAR) or seen.near_vehicles(which, NOT_NEAR):
            return Undecidable("neither near nor far")
        if seen.lanes is None:
            return Undecidable(
                "ego lane not marked" if seen.scene.drivable is not None else "no drivable area labelled"
            )
        if not seen.lanes.exists(which):
            if seen.lanes.cells[which].any():
                return Undecidable(SLIVER)
            return Fact(f"{no}, {answers.NO_ROAD}.", rule="no drivable area on that side")
        if _may_stop(seen):
            return DOUBTFUL_LIGHT
        return Fact(f"{yes}, {answers.CLEAR}.", (seen.lanes.box(which),), "lane", "way to that side free")

    return decide


# Lights ----------------------------------------------------------------------------------------


def _light(seen: View) -> SceneObject | Undecidable:
    """The driver's light: the largest relevant one, when no other relevant one contradicts it."""
    if seen.scene.objects is None:
        return UNANNOTATED
    if not seen.lights:
        return Undecidable("no traffic light for the driver")
    largest = max(seen.lights, key=lambda light: area(light.box))
    if largest.light is None:
        return Undecidable("colour unknown")
    if any(light.light not in (None, largest.light) for light in seen.lights):
        return Undecidable("lights contradict each other")
    return largest


def light_state(seen: View) -> Decision:
    """Colour of the driver's light."""
    light = _light(seen)
    if isinstance(light, Undecidable):
        return light
    return _fact(f"{str(light.light).capitalize()}.", [light], "largest relevant light")


def light_is(colour: str) -> Callable[[View], Decision]:
    """Whether one of the driver's lights has a colour; "no" needs all colours known, or no light."""

    def decide(seen: View) -> Decision:
        if seen.scene.objects is None:
            return UNANNOTATED
        showing = [light for light in seen.lights if light.light == colour]
        if showing:
            return _fact("Yes.", showing, f"a relevant light is {colour}")
        if any(light.light is None for light in seen.lights):
            return Undecidable("colour unknown")
        if not seen.lights and seen.scene.of("traffic light"):
            return Undecidable("lights there, none clearly the driver's")
        return _fact("No.", seen.lights, f"no relevant light is {colour}")

    return decide


def light_for_me(seen: View) -> Decision:
    """Whether a traffic light is large, central and high enough to be the driver's."""
    if seen.scene.objects is None:
        return UNANNOTATED
    if seen.lights:
        return _fact("Yes.", seen.lights, "relevant light")
    if seen.scene.of("traffic light"):
        return Undecidable("lights there, none clearly the driver's")
    return Fact("No.", rule="no light at all")


# The whole frame -------------------------------------------------------------------------------


def attribute(name: str, texts: dict[str, str]) -> Callable[[View], Decision]:
    """An attribute of the frame, answered with the text for its value."""

    def decide(seen: View) -> Decision:
        value = getattr(seen.scene, name)
        if value not in texts:
            return Undecidable(f"{name} not labelled")
        return Fact(texts[value], rule=name)

    return decide


WEATHER_TEXTS = {value: value.capitalize() + "." for value in WEATHERS}
TIME_TEXTS = {"daytime": "Day.", "dawn/dusk": "Dawn or dusk.", "night": "Night."}
PLACE_TEXTS = {
    "city street": "A city street.",
    "highway": "A highway.",
    "residential": "A residential area.",
    "parking lot": "A parking lot.",
    "tunnel": "A tunnel.",
    "gas stations": "A gas station.",
}

weather = attribute("weather", WEATHER_TEXTS)
time_of_day = attribute("timeofday", TIME_TEXTS)
place = attribute("scene", PLACE_TEXTS)


def weather_is(wanted: str) -> Callable[[View], Decision]:
    """Whether the weather is labelled as this."""
    return attribute("weather", {value: "Yes." if value == wanted else "No." for value in WEATHERS})


def time_is(wanted: str) -> Callable[[View], Decision]:
    """Whether the time of day is labelled as this."""
    return attribute("timeofday", {value: "Yes." if value == wanted else "No." for value in TIMES_OF_DAY})


def visibility(seen: View) -> Decision:
    """Good by day without rain, snow or fog; otherwise not, and why."""
    weather, time = seen.scene.weather, seen.scene.timeofday
    if weather in ("rainy", "snowy", "foggy"):
        return Fact(f"No, it is {weather}.", rule="weather")
    if time == "night":
        return Fact("No, it is dark.", rule="night") if weather else Undecidable("weather not labelled")
    if time == "daytime" and weather:
        return Fact("Yes.", rule="dry day")
    return Undecidable("dawn or dusk" if weather and time else "weather or time of day not labelled")


def describe(seen: View) -> Decision:
    """Weather, time of day, traffic, people and the driver's light in one sentence."""
    scene = seen.scene
    if scene.objects is None or scene.weather is None or scene.timeofday is None:
        return Undecidable("weather, time of day or objects not labelled")
    time = {"daytime": "day", "dawn/dusk": "dusk", "night": "night"}[scene.timeofday]
    article = "An" if scene.weather == "overcast" else "A"
    vehicles = [thing for thing in scene.of(*VEHICLES) if size(thing, scene) >= VISIBLE_SIZE]
    people = [thing for thing in scene.of(*PEOPLE) if size(thing, scene) >= VISIBLE_SIZE]
    if bool(vehicles) != bool(scene.of(*VEHICLES)) or bool(people) != bool(scene.of(*PEOPLE)):
        return Undecidable("only too small to see")
    if len(vehicles) <= 3 < len(scene.of(*VEHICLES)):
        return Undecidable("some are too small to count")
    traffic = "no" if not vehicles else "few" if len(vehicles) <= 3 else "many"
    crowd = "people" if people else "no people"
    light = _light(seen)
    if seen.lights and isinstance(light, Undecidable):
        return light
    ending = "" if isinstance(light, Undecidable) else f", {light.light} light"
    text = f"{article} {scene.weather} {time}, {traffic} vehicles, {crowd}{ending}."
    return _fact(text, vehicles + people, "description", "object" if vehicles or people else None)


def out_of_scope(_: View) -> Decision:
    """What no dashcam frame can tell."""
    return Fact(answers.OUT_OF_SCOPE, rule="out of scope")
