"""The registry of question families, and asking them all about a scene.

A new family is one function in `decisions`, its phrasings, and one line here.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from . import answers, decisions, wordings
from .decisions import Decision, Fact, Undecidable
from .geometry import View, view
from .phrasings import Phraser, Phrasings
from .scene import CATEGORIES, ROAD_USERS, QuestionAnswer, Scene

__all__ = ["FAMILIES", "Asked", "Fact", "Family", "Undecidable", "ask_all", "group_of"]


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of question.

    Attributes:
        decide: Scene -> decision.
        phrasings: How it is asked.
        rule: The rule in words, for people.
        group: Families that differ only in category or side share a group.
        category: Fills `{x}` in the phrasings.
        side: Fills `{side}`.
        topic: A question and its opposite share a topic; `None` has no opposite.
    """

    decide: Callable[[View], Decision]
    phrasings: Phrasings
    rule: str
    group: str
    category: str | None = None
    side: str | None = None
    topic: str | None = None


COUNTED = ("car", "pedestrian", "truck", "traffic light")
SIDES = ("left", "right")
Named = Iterator[tuple[str, Family]]


def _things() -> Named:
    keys = {x: x.replace(" ", "_") for x in CATEGORIES}
    d, p = decisions, wordings
    rule = "A box of the category 0.025 frame heights or more large is there; no box of any size: absent."
    for x, key in keys.items():
        yield f"presence_{key}", Family(d.presence(x), p.PRESENCE, rule, "presence", x, topic=x)
        yield f"absence_{key}", Family(d.absence(x), p.ABSENCE, rule, "absence", x, topic=x)
    rule = "Number of boxes, exact to five; undecided when boxes smaller than 0.020 would change it."
    for x in COUNTED:
        yield f"count_{keys[x]}", Family(d.count(x), p.COUNT, rule, "count", x)
    rule = "The box with the lowest bottom edge; its side of the corridor; close from 0.60, far above 0.54."
    for x in (x for x in CATEGORIES if x in ROAD_USERS):
        yield f"nearest_{x}", Family(d.nearest(x), p.NEAREST, rule, "nearest", x)
    rule = "Box of the largest thing, if at least a quarter larger than the next."
    for x, key in keys.items():
        yield f"detect_{key}", Family(d.detect(x), p.DETECT, rule, "detect", x)


def _lanes() -> Named:
    d, p = decisions, wordings
    rule = (
        "A person or vehicle whose bottom edge is at or below 0.54 stands in the lane's drivable region, or "
        "a vehicle at or below 0.60 beside the ego lane hides that region."
    )
    for lane in ("left", "mine", "right"):
        key, side = ("mine", None) if lane == "mine" else ("side", lane)
        slots = {"side": side, "topic": f"lane {lane}"}
        clear, blocked = d.lane_clear(lane), d.lane_blocked(lane)
        yield f"lane_clear_{lane}", Family(clear, p.LANE_CLEAR[key], rule, "lane_clear", **slots)
        yield f"lane_blocked_{lane}", Family(blocked, p.LANE_BLOCKED[key], rule, "lane_blocked", **slots)


def _driving() -> Named:
    d, p = decisions, wordings
    texts = {
        name: text.replace("Yes", "Safe").replace("No", "Not safe")
        for name, text in answers.MOVE_FORWARD.items()
    }
    rule = "First of: the driver's light red or yellow; person, vehicle, sign in the corridor or very large."
    go, stop, order = (d.way_ahead(given) for given in (answers.MOVE_FORWARD, answers.MUST_STOP, texts))
    yield "move_forward", Family(go, p.MOVE_FORWARD, rule, "move_forward", topic="way ahead")
    rule = "The opposite of move_forward."
    yield "must_stop", Family(stop, p.MUST_STOP, rule, "must_stop", topic="way ahead")
    rule = "As move_forward, said as an order."
    yield "command_forward", Family(order, p.COMMAND_FORWARD, rule, "command_forward")
    for side in SIDES:
        rule = (
            "No red light, nobody near ahead or on that side, and a drivable area on that side; where none "
            "is labelled the answer is that there is no road, though a side street has no label of its own."
        )
        yield f"turn_{side}", Family(d.turn(side), p.TURN, rule, "turn", side=side)
        order = d.turn(side, "Safe", "Not safe")
        yield f"command_turn_{side}", Family(order, p.COMMAND_TURN, rule, "command_turn", side=side)
        rule = "The lane on that side is clear as in lane_clear; what is behind the camera is not judged."
        yield (
            f"change_lane_{side}",
            Family(d.change_lane(side), p.CHANGE_LANE, rule, "change_lane", side=side),
        )
        order = d.change_lane(side, "Safe", "Not safe")
        yield f"command_lane_{side}", Family(order, p.COMMAND_LANE, rule, "command_lane", side=side)
        rule = "A drivable region on that side of the ego lane."
        yield (
            f"lane_exists_{side}",
            Family(d.lane_exists(side), p.LANE_EXISTS, rule, "lane_exists", side=side),
        )


def _surroundings() -> Named:
    d, p = decisions, wordings
    rule = "A vehicle's bottom edge is at or below 0.60, its middle in the corridor or on that side of it."
    for where in ("ahead", *SIDES):
        key, side = ("ahead", None) if where == "ahead" else ("side", where)
        near = d.vehicle_near(where)
        yield f"vehicle_near_{where}", Family(near, p.VEHICLE_NEAR[key], rule, "vehicle_near", side=side)
    rule = "The road user in the corridor with the lowest bottom edge, at or below 0.54."
    yield "directly_ahead", Family(d.directly_ahead, p.AHEAD, rule, "directly_ahead")
    rule = "Visible vehicles with their middle left and right; two more wins."
    yield "compare_sides", Family(d.compare_sides, p.COMPARE, rule, "compare_sides")
    rule = "Largest light taller than 0.025, 0.2 to 0.8 across, above 0.65; undecided if others disagree."
    yield "light_state", Family(d.light_state, p.LIGHT_STATE, rule, "light_state")
    rule = "A light placed as in light_state has the colour; no: all of them are known, or no light is there."
    yield "light_red", Family(d.light_is("red"), p.LIGHT_RED, rule, "light_is")
    yield "light_green", Family(d.light_is("green"), p.LIGHT_GREEN, rule, "light_is")
    rule = "A light as in light_state is there; no light at all: no."
    yield "light_for_me", Family(d.light_for_me, p.LIGHT_FOR_ME, rule, "light_for_me")


def _whole_frame() -> Named:
    d, p = decisions, wordings
    label = "The frame's label."
    yield "weather", Family(d.weather, p.WEATHER, label, "weather")
    yield "weather_rainy", Family(d.weather_is("rainy"), p.RAINY, label, "weather_is")
    yield "weather_snowy", Family(d.weather_is("snowy"), p.SNOWY, label, "weather_is")
    yield "time_of_day", Family(d.time_of_day, p.TIME_OF_DAY, label, "time_of_day")
    yield "time_night", Family(d.time_is("night"), p.NIGHT, label, "time_is", topic="time")
    yield "time_day", Family(d.time_is("daytime"), p.DAY, label, "time_is", topic="time")
    yield "place", Family(d.place, p.PLACE, label, "place")
    yield (
        "visibility",
        Family(d.visibility, p.VISIBILITY, "Good by day without rain, snow or fog.", "visibility"),
    )
    rule = "Labels of the frame; few vehicles are at most three."
    yield "describe", Family(d.describe, p.DESCRIBE, rule, "describe")
    rule = "Not a question about what the frame shows."
    yield "out_of_scope", Family(d.out_of_scope, p.OUT_OF_SCOPE, rule, "out_of_scope")


FAMILIES = dict(chain(_things(), _lanes(), _driving(), _surroundings(), _whole_frame()))
"""Name -> family, in the order in which a frame's rows are stored."""


def group_of(family: str) -> str:
    """The group of a family: "presence" for "presence_car"."""
    return FAMILIES[family].group


@dataclass
class Asked:
    """What a scene gave: its rows, and the reasons of what stayed undecided."""

    rows: list[QuestionAnswer] = field(default_factory=list)
    undecided: Counter = field(default_factory=Counter)


def ask_all(scene: Scene, seed: int = 0, heldout: bool = False, slips: float = 0.0) -> Asked:
    """Asks every family about a scene.

    Args:
        scene: The scene.
        seed: With the image's name it fixes every phrasing.
        heldout: Whether to use the held-out phrasings.
        slips: Probability of a typing slip, see `Phraser`.

    Returns:
        All decidable rows, and `(family, reason) -> 1` for the rest.
    """
    asked, seen = Asked(), view(scene)
    phraser = Phraser(random.Random(f"{seed}/{scene.image_id}/{heldout}"), heldout, slips)
    for name, family in FAMILIES.items():
        decision = family.decide(seen)
        question, template = phraser.ask(family.phrasings, family.category, family.side)
        if isinstance(decision, Undecidable):
            asked.undecided[name, decision.reason] += 1
            continue
        asked.rows.append(
            QuestionAnswer(
                question,
                decision.answer,
                name,
                f"{name}.{template}",
                decision.evidence,
                decision.holds,
                decision.rule,
                _pair_of(family, scene),
            )
        )
    return asked


def _pair_of(family: Family, scene: Scene) -> str | None:
    """What a question and its opposite share in a frame; at dusk it is neither night nor day."""
    if family.topic is None or (family.topic == "time" and scene.timeofday == "dawn/dusk"):
        return None
    return f"{scene.image_id}/{family.topic}"
