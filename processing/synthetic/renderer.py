"""Render a street scene and label it in BDD100K's 2020 format.

Why a 2D library: a 3D renderer (moderngl, pyrender, Open3D) needs an OpenGL context, which a headless
machine without a GPU only has through extra packages of the system, and would still need meshes and
textures nobody ships with this package. Skia draws anti-aliased polygons on any CPU from one wheel, with
the same bytes on every run. The pinhole camera, the sorting by distance and the count of visible pixels
are all the 3D that a street of simple bodies needs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from .atmosphere import make_atmosphere
from .buildings import draw_building
from .camera import FRAME_HEIGHT, FRAME_WIDTH
from .drivable import drivable_mask
from .effects import (
    develop,
    draw_bonnet,
    draw_glows,
    draw_precipitation,
    draw_windscreen,
    reflect_in_wet_road,
)
from .ground import draw_ground
from .layout import sample_layout
from .painter import Drawn, Painter
from .people import draw_bicycle, draw_motorcycle, draw_person
from .plan import Actor, Layout
from .sky import draw_sky
from .street import (
    draw_barrier,
    draw_bin,
    draw_bridge,
    draw_cone,
    draw_gantry,
    draw_hedge,
    draw_lamp,
    draw_mast,
    draw_pole,
    draw_sign,
    draw_signal,
    draw_signal_post,
    draw_tree,
)
from .vehicles import draw_vehicle

# Pixels of the 1280x720 frame: smaller boxes are not labelled, as hardly any are in the release.
MIN_SHORT_SIDE, MIN_LONG_SIDE = 5.0, 9.0
MIN_VISIBLE = 12  # pixels of the 1280x720 frame that must be seen of a labelled object
MIN_VISIBLE_SHARE = 0.10
OCCLUDED_SHARE = 0.95  # an object is called occluded when less than this share of it is seen

_DRAW = {
    "vehicle": draw_vehicle,
    "person": draw_person,
    "bicycle": draw_bicycle,
    "motorcycle": draw_motorcycle,
    "building": draw_building,
    "hedge": draw_hedge,
    "tree": draw_tree,
    "lamp": draw_lamp,
    "pole": draw_pole,
    "barrier": draw_barrier,
    "bridge": draw_bridge,
    "cone": draw_cone,
    "bin": draw_bin,
    "mast": draw_mast,
    "signal_post": draw_signal_post,
    "signal": draw_signal,
    "sign": draw_sign,
    "gantry": draw_gantry,
}


@dataclass(frozen=True)
class RenderedScene:
    """A synthetic frame with its labels.

    Attributes:
        image: The frame, RGB, in the size that was asked for.
        record: One record of BDD100K's 2020 detection release (Scalabel), in 1280x720 pixels: `name`,
            `attributes` (weather, timeofday, scene) and `labels`, each with `id`, `category`, `attributes`
            (occluded, truncated, trafficLightColor) and `box2d`.
        drivable: Drivable area, uint8 ``(720, 1280)``: 0 direct (the ego lane), 1 alternative, 2 background.
    """

    image: Image.Image
    record: dict
    drivable: np.ndarray


def scene_name(seed: int) -> str:
    """The file stem of a synthetic frame; no frame of BDD100K is called like this."""
    return f"synthetic-{seed:06d}"


def check_request(seed: int, size: tuple[int, int]) -> None:
    """Raise a ValueError for a negative seed or a size that is not 16:9 or too small to see anything in."""
    if seed < 0:
        raise ValueError(f"a scene's seed must be zero or more, not {seed}")
    if size[0] < 64 or abs(size[0] * 9 - size[1] * 16) > 16:
        raise ValueError(f"a frame must be 16:9 and at least 64 pixels wide, not {size[0]}x{size[1]}")


def render_scene(seed: int, size: tuple[int, int] = (512, 288)) -> RenderedScene:
    """Render the scene of a seed: the same picture and labels every time.

    Args:
        seed: Which scene, zero or more.
        size: Width and height of the picture in pixels; labels are in 1280x720 whatever it is.

    Raises:
        ValueError: The seed is negative or the size is not 16:9 or too small to see anything in.
    """
    check_request(seed, size)
    return render_layout(sample_layout(seed), size)


def render_layout(layout: Layout, size: tuple[int, int] = (512, 288)) -> RenderedScene:
    """Render a scene that was laid out by hand or by `sample_layout`; see `render_scene`."""
    rng = np.random.default_rng([layout.seed, 100])
    painter = Painter(layout.camera, make_atmosphere(layout.weather, layout.timeofday, rng), size)
    draw_sky(painter, rng)
    draw_ground(painter, layout, rng)
    lamps = _lamp_places(layout)
    for actor in _far_to_near(layout):
        _light_up(painter, layout, actor, lamps)
        _DRAW[actor.kind](painter, actor, layout)
    draw_glows(painter)
    reflect_in_wet_road(painter)
    draw_precipitation(painter, rng)
    draw_bonnet(painter, rng)
    draw_windscreen(painter, rng)
    painter.count_visible()
    pixels = develop(painter.pixels[..., :3], painter.air.dark, rng)
    return RenderedScene(Image.fromarray(pixels), _record(layout, painter), drivable_mask(painter, layout))


def _far_to_near(layout: Layout) -> list[Actor]:
    """The painter's order: by distance from the camera, those behind it left out."""

    def distance(actor: Actor) -> float:
        reach = actor.size[0] if actor.kind == "building" else 0.0  # its end wall hides the next one's front
        point = layout.road.place(actor.s + reach, actor.d)
        return float(np.hypot(point[0], point[2]))

    return sorted(layout.actors, key=distance, reverse=True)


def _lamp_places(layout: Layout) -> np.ndarray:
    """Where the street lamps stand, ``(lamps, 3)``."""
    places = [layout.road.place(actor.s, actor.d) for actor in layout.actors if actor.kind == "lamp"]
    return np.array(places).reshape(-1, 3)


def _light_up(painter: Painter, layout: Layout, actor: Actor, lamps: np.ndarray) -> None:
    """At night, set how much of the own headlights and of the street lamps reaches an actor."""
    if not painter.air.dark:
        return
    place = layout.road.place(actor.s, actor.d)
    angle = np.arctan2(place[0], max(float(place[2]), 0.5))
    painter.beam = float(np.exp(-((angle / 0.4) ** 2)))
    far = ((lamps - place) ** 2).sum(1) if len(lamps) else np.array([1e6])
    painter.lamplight = 0.8 + float((2.2 / (1.0 + far / 40.0)).sum())


def _record(layout: Layout, painter: Painter) -> dict:
    labels = [label for label in map(_label, painter.drawn) if label is not None]
    for number, label in enumerate(labels):
        label["id"] = str(number)
    return {
        "name": f"{scene_name(layout.seed)}.jpg",
        "attributes": {"weather": layout.weather, "timeofday": layout.timeofday, "scene": layout.road.scene},
        "labels": labels,
    }


def _label(drawn: Drawn) -> dict | None:
    """A Scalabel label, or None where too little of the object is seen.

    The box holds the whole extent inside the frame, the hidden part too, as BDD100K's annotators draw it.
    """
    x1, y1, x2, y2 = drawn.extent
    left, top, right, bottom = (
        max(x1, 0.0),
        max(y1, 0.0),
        min(x2, float(FRAME_WIDTH)),
        min(y2, float(FRAME_HEIGHT)),
    )
    short, long = sorted((right - left, bottom - top))
    if short < MIN_SHORT_SIDE or long < MIN_LONG_SIDE:
        return None
    if drawn.visible < MIN_VISIBLE or drawn.visible < MIN_VISIBLE_SHARE * drawn.pixels:
        return None
    return {
        "id": "",
        "category": drawn.category,
        "attributes": {
            "occluded": drawn.visible < OCCLUDED_SHARE * drawn.pixels,
            "truncated": drawn.cut or x1 < -1 or y1 < -1 or x2 > FRAME_WIDTH + 1 or y2 > FRAME_HEIGHT + 1,
            "trafficLightColor": drawn.light,
        },
        "box2d": {"x1": round(left, 2), "y1": round(top, 2), "x2": round(right, 2), "y2": round(bottom, 2)},
    }
