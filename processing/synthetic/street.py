"""What stands beside and above the road: trees, lamps, poles, barriers, signals and signs."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import skia

from .painter import Colour, Painter
from .plan import Actor, Layout
from .textures import NUM_TREES, SPRITE, bare_tree, leafy_tree

_METAL = (92, 96, 98)
_UP = np.array([0.0, 1.0, 0.0])
_INK = (34, 34, 32)
_WHITE = (230, 228, 222)


def _stand(painter: Painter, actor: Actor, layout: Layout) -> tuple[np.ndarray, float]:
    """Where an actor stands in the world, and its depth in metres."""
    foot = layout.road.place(actor.s, actor.d)
    return foot, float(painter.camera.to_camera(foot)[2])


def _upright(bottom: np.ndarray, width: float, height: float) -> np.ndarray:
    """A vertical rectangle ``(4, 3)`` that faces back along the road, standing on `bottom` ``(3,)``."""
    half = np.array([width / 2, 0.0, 0.0])
    return np.stack(
        [bottom - half, bottom + half, bottom + half + _UP * height, bottom - half + _UP * height]
    )


# --- greenery


def draw_tree(painter: Painter, actor: Actor, layout: Layout) -> None:
    """Draw a tree from one of a few painted ones, bare in winter."""
    foot, depth = _stand(painter, actor, layout)
    if depth < 3:
        return
    tall = actor.size[0]
    kind = actor.seed % NUM_TREES
    winter = painter.air.snow > 0 or layout.seed % 5 == 0
    image = (bare_tree if winter else leafy_tree)(kind)
    pixels, _ = painter.camera.project(np.stack([foot, foot + _UP * tall]))
    size = float(pixels[0, 1] - pixels[1, 1])
    box = skia.Rect.MakeXYWH(float(pixels[0, 0]) - size / 2, float(pixels[1, 1]), size, size)
    if actor.seed % 2:  # every other one the other way round
        painter.canvas.save()
        painter.canvas.translate(2 * float(pixels[0, 0]), 0)
        painter.canvas.scale(-1, 1)
    paint = skia.Paint(ColorFilter=painter.air.tint(depth, frost=0.5 * painter.air.snow))
    sampling = skia.SamplingOptions(skia.FilterMode.kLinear, skia.MipmapMode.kNearest)
    painter.canvas.drawImageRect(image, skia.Rect.MakeWH(SPRITE, SPRITE), box, sampling, paint)
    if actor.seed % 2:
        painter.canvas.restore()
    painter.begin()
    painter.claim_line(np.stack([foot, foot + _UP * tall * 0.4]), 0.25, depth)
    if not winter:
        painter.claim_oval(foot + _UP * tall * 0.62, tall * 0.3, tall * 0.27)
    painter.end()


def draw_hedge(painter: Painter, actor: Actor, layout: Layout) -> None:
    """Draw a hedge or distant greenery: a bank of leaves along the road, darker ones behind lighter."""
    rng = np.random.default_rng(actor.seed)
    length, height = actor.size
    s = np.linspace(actor.s, actor.s + length, 15)
    bottom = layout.road.place(s[[-1, 0]], actor.d)
    depth = max(3.0, float(painter.camera.to_camera(bottom.mean(0))[2]))
    snow = 0.6 * painter.air.snow
    green = np.array([84, 98, 62]) * rng.uniform(0.75, 1.1) * (1 - snow) + 200 * snow
    bumps = 0.8 + 0.2 * np.abs(np.sin(np.linspace(0, 9, 15) + rng.uniform(0, 3))) + rng.normal(0, 0.06, 15)
    painter.begin()
    for share, light in ((1.0, 0.72), (0.72, 0.86), (0.45, 0.98)):
        top = layout.road.place(s, actor.d, height * share * np.roll(bumps, int(7 * share)))
        outline = np.concatenate([top, bottom])
        painter.polygon(outline, green, depth, light, claim=share == 1.0, low_light=light * 0.6)
    painter.end()


# --- lamps, poles, barriers


def draw_lamp(painter: Painter, actor: Actor, layout: Layout) -> None:
    """Draw a street lamp whose arm reaches over the road; lit in the dark."""
    height, side = actor.size
    foot, depth = _stand(painter, actor, layout)
    if depth < 2:
        return
    top = foot + _UP * height
    head = lamp_head(foot, actor)
    painter.begin()
    painter.strokes([np.stack([foot, top, head])], 0.14, _METAL, depth, 0.8, claim=True)
    painter.strokes([np.stack([head, head - np.array([side * 0.5, 0.0, 0.0])])], 0.2, _METAL, depth, 0.7)
    if painter.air.dark:
        painter.disc(head, 0.2, (255, 240, 214), emits=True)
        painter.glow(head, 2.6, lamp_colour(layout), 1.0)
    painter.end()


def lamp_head(foot: np.ndarray, actor: Actor) -> np.ndarray:
    """Where the light of a street lamp is, ``(3,)``, given where it stands."""
    height, side = actor.size
    return foot + np.array([-side * 2.2, height + 0.25, 0.0])


def lamp_colour(layout: Layout) -> tuple[int, int, int]:
    """Sodium or LED: one kind of street lamp a street."""
    return (255, 190, 112) if layout.seed % 3 else (232, 240, 255)


def draw_pole(painter: Painter, actor: Actor, layout: Layout) -> None:
    """Draw a wooden utility pole and its wires to the next one."""
    foot, depth = _stand(painter, actor, layout)
    if depth < 2:
        return
    height, spacing = actor.size
    wood = (84, 72, 62)
    following = layout.road.place(actor.s + spacing, actor.d)
    painter.begin()
    painter.strokes([np.stack([foot, foot + _UP * height])], 0.24, wood, depth, 0.8, claim=True)
    arm = np.array([0.9, 0.0, 0.0])
    painter.strokes(
        [np.stack([foot + _UP * height * 0.94 - arm, foot + _UP * height * 0.94 + arm])], 0.12, wood, depth
    )
    for across in (-0.8, 0.0, 0.8):
        share = np.linspace(0, 1, 7)[:, None]
        sag = _UP * (height * 0.94 - 0.7 * 4 * share * (1 - share))
        wire = foot * (1 - share) + following * share + sag + np.array([across, 0.0, 0.0])
        painter.strokes([wire], 0.02, (30, 30, 32), depth + spacing / 2)
    painter.end()


def draw_barrier(painter: Painter, actor: Actor, layout: Layout) -> None:
    """Draw a piece of concrete barrier or guard rail along the road."""
    length, height = actor.size
    s = np.array([actor.s, actor.s + length])
    low, high = layout.road.place(s, actor.d), layout.road.place(s, actor.d, height)
    depth = max(2.0, float(painter.camera.to_camera(low.mean(0))[2]))
    painter.begin()
    if actor.model == "rail":
        rail = np.concatenate([layout.road.place(s, actor.d, height * 0.55), high[::-1]])
        painter.strokes([np.stack([low[0], high[0]])], 0.12, _METAL, depth, 0.7, claim=True)
        painter.polygon(rail, (150, 154, 156), depth, 1.0, claim=True, low_light=0.6)
    else:
        painter.polygon(
            np.concatenate([low, high[::-1]]), (168, 164, 156), depth, 0.95, claim=True, low_light=0.62
        )
    painter.end()


def draw_cone(painter: Painter, actor: Actor, layout: Layout) -> None:
    """Draw a traffic cone."""
    foot, depth = _stand(painter, actor, layout)
    if depth < 2:
        return
    painter.begin()
    for low, high, rgb in ((0.0, 0.3, (226, 96, 30)), (0.3, 0.48, _WHITE), (0.48, 0.72, (226, 96, 30))):
        half_low, half_high = 0.17 * (1 - low / 0.8), 0.17 * (1 - high / 0.8)
        corners = np.array(
            [[-half_low, low, 0], [half_low, low, 0], [half_high, high, 0], [-half_high, high, 0]]
        )
        painter.polygon(foot + corners, rgb, depth, claim=True)
    painter.end()


def draw_bin(painter: Painter, actor: Actor, layout: Layout) -> None:
    """Draw street furniture on the pavement: a litter bin, a post box or a hydrant."""
    foot, depth = _stand(painter, actor, layout)
    if depth < 2:
        return
    width, height, rgb = (
        (0.6, 0.95, (62, 66, 64)),
        (0.55, 1.2, (38, 62, 120)),
        (0.3, 0.75, (176, 44, 38)),
        (0.5, 1.1, (40, 92, 60)),
    )[actor.seed % 4]
    painter.begin()
    painter.polygon(_upright(foot, width, height), rgb, depth, 0.95, claim=True, low_light=0.6)
    painter.end()


# --- traffic lights

_LAMPS = {"red": (255, 26, 28), "yellow": (255, 190, 40), "green": (60, 255, 170)}
_CODES = {"red": "R", "yellow": "Y", "green": "G"}


def draw_signal(painter: Painter, actor: Actor, layout: Layout) -> None:
    """Draw a traffic light's head and label it; one that faces the crossing road shows us no colour."""
    foot, depth = _stand(painter, actor, layout)
    if depth < 2:
        return
    bottom = foot + np.array([0.0, actor.size[0] - 0.5, -0.15])
    housing = (34, 36, 34) if layout.seed % 3 else (196, 158, 40)
    if actor.state == "cross":
        _draw_signal_from_the_side(painter, bottom, depth, housing, 1 if actor.heading > 0 else -1)
        return
    painter.begin("traffic light", _CODES[actor.state])
    backplate = _upright(bottom - _UP * 0.07, 0.58, 1.24)
    painter.polygon(backplate, (24, 25, 24), depth, 0.8, claim=True)
    painter.polygon(_upright(bottom, 0.40, 1.10), housing, depth, 0.9, low_light=0.7)
    strong = 1.0 if painter.air.dark else 0.5
    for i, name in enumerate(("green", "yellow", "red")):
        centre = bottom + np.array([0.0, 0.2 + 0.35 * i, -0.05])
        if name == actor.state:
            painter.disc(centre, 0.15, _LAMPS[name], emits=True)
            painter.glow(centre, 1.9 if painter.air.dark else 0.45, _LAMPS[name], strong)
        else:
            painter.disc(centre, 0.13, (22, 22, 22), 0.7)
    painter.end()


def _draw_signal_from_the_side(
    painter: Painter, bottom: np.ndarray, depth: float, housing: Colour, facing: int
) -> None:
    painter.begin("traffic light", "NA")
    painter.polygon(_upright(bottom, 0.28, 1.08), housing, depth, 0.7, claim=True)
    for i in range(3):
        visor = bottom + np.array([facing * 0.26, 0.14 + 0.35 * i, 0.0])
        painter.polygon(_upright(visor, 0.28, 0.16), housing, depth, 0.6, claim=True)
    painter.end()


def draw_signal_post(painter: Painter, actor: Actor, layout: Layout) -> None:
    """Draw the post beside the road that carries a traffic light."""
    foot, depth = _stand(painter, actor, layout)
    _draw_post(painter, foot, depth, 4.2, 0.14)


def _draw_post(painter: Painter, foot: np.ndarray, depth: float, height: float, width: float) -> None:
    if depth < 2:
        return
    painter.begin()
    painter.strokes([np.stack([foot, foot + _UP * height])], width, _METAL, depth, 0.8, claim=True)
    painter.end()


def draw_mast(painter: Painter, actor: Actor, layout: Layout) -> None:
    """Draw a mast whose arm reaches over the road to carry traffic lights, with a street name on it."""
    reach, height = actor.size
    foot, depth = _stand(painter, actor, layout)
    if depth < 2:
        return
    top = foot + _UP * height
    painter.begin()
    painter.strokes([np.stack([foot, top])], 0.22, _METAL, depth, 0.8, claim=True)
    painter.strokes(
        [np.stack([top, top - np.array([reach, -0.2, 0.0])])], 0.14, _METAL, depth, 0.8, claim=True
    )
    painter.end()
    if actor.seed % 2:
        painter.begin("traffic sign")
        _plate(
            painter,
            top - np.array([reach * 0.22, 0.1, 0.1]),
            depth,
            (1.9, 0.5),
            (22, 104, 62),
            ((0, 0.38),),
            _WHITE,
        )
        painter.end()


# --- signs


def draw_sign(painter: Painter, actor: Actor, layout: Layout) -> None:
    """Draw a traffic sign on its post and label the plate."""
    foot, depth = _stand(painter, actor, layout)
    if depth < 2:
        return
    height = actor.size[0]
    _draw_post(painter, foot, depth, height, 0.07)
    painter.begin("traffic sign")
    _PLATES[actor.model](painter, foot + np.array([0.0, height, -0.06]), depth)
    painter.end()


def _polygon_around(centre: np.ndarray, radius: float, corners: int, turn: float) -> np.ndarray:
    angle = turn + np.linspace(0, 2 * math.pi, corners, endpoint=False)
    return centre + np.stack([radius * np.cos(angle), radius * np.sin(angle), np.zeros(corners)], axis=-1)


def _bar(centre: np.ndarray, half: float, up: float = 0.0) -> np.ndarray:
    """A level line ``(2, 3)`` just in front of a plate, `up` metres above its middle."""
    offset = np.array([half, 0.0, 0.0])
    lifted = centre + np.array([0.0, up, -0.01])
    return np.stack([lifted - offset, lifted + offset])


# Letters as strokes on a grid 2 wide and 4 high.
_STROKES = {
    "S": ((2, 4), (0, 4), (0, 2), (2, 2), (2, 0), (0, 0)),
    "T": ((0, 4), (2, 4), (1, 4), (1, 0)),
    "O": ((0, 0), (0, 4), (2, 4), (2, 0), (0, 0)),
    "P": ((0, 0), (0, 4), (2, 4), (2, 2), (0, 2)),
}


def _stop(painter: Painter, centre: np.ndarray, depth: float) -> None:
    painter.polygon(_polygon_around(centre, 0.42, 8, math.pi / 8), _WHITE, depth, claim=True)
    painter.polygon(_polygon_around(centre, 0.385, 8, math.pi / 8), (180, 28, 34), depth)
    if depth > 30:
        painter.strokes([_bar(centre, 0.22)], 0.14, (220, 170, 168), depth)
        return
    lines = []
    for i, letter in enumerate("STOP"):
        grid = np.array(_STROKES[letter], float)
        across, up = -0.27 + 0.145 * i + grid[:, 0] * 0.045, -0.11 + grid[:, 1] * 0.055
        lines.append(centre + np.stack([across, up, np.full(len(grid), -0.01)], axis=-1))
    painter.strokes(lines, 0.035, _WHITE, depth)


def _warning(painter: Painter, centre: np.ndarray, depth: float) -> None:
    painter.polygon(_polygon_around(centre, 0.55, 4, 0), (30, 30, 28), depth, claim=True)
    painter.polygon(_polygon_around(centre, 0.50, 4, 0), (232, 184, 30), depth)
    painter.strokes([np.stack([centre - _UP * 0.18, centre + _UP * 0.18])], 0.08, _INK, depth)


def _plate(
    painter: Painter,
    centre: np.ndarray,
    depth: float,
    size: tuple[float, float],
    rgb: Colour,
    lines: tuple[tuple[float, float], ...],
    ink: Colour,
) -> None:
    """A board with lines of unreadable writing: (height, half width) of each in shares of the board."""
    width, height = size
    painter.polygon(_upright(centre - _UP * height / 2, width, height), rgb, depth, claim=True)
    painter.strokes([_bar(centre, half * width, y * height) for y, half in lines], 0.1 * height, ink, depth)


def _speed(painter: Painter, centre: np.ndarray, depth: float) -> None:
    _plate(painter, centre, depth, (0.61, 0.76), _WHITE, ((0.3, 0.25), (0.0, 0.22), (-0.2, 0.22)), _INK)


def _parking(painter: Painter, centre: np.ndarray, depth: float) -> None:
    _plate(
        painter, centre, depth, (0.36, 0.5), _WHITE, ((0.25, 0.3), (0.0, 0.25), (-0.25, 0.3)), (190, 40, 40)
    )


def _street_name(painter: Painter, centre: np.ndarray, depth: float) -> None:
    _plate(painter, centre + _UP * 0.4, depth, (1.0, 0.26), (22, 104, 62), ((0.0, 0.36),), _WHITE)


def _oneway(painter: Painter, centre: np.ndarray, depth: float) -> None:
    _plate(painter, centre, depth, (0.92, 0.32), (28, 28, 30), (), _WHITE)
    across = (-0.36, 0.1, 0.1, 0.38, 0.1, 0.1, -0.36)
    up = (-0.05, -0.05, -0.11, 0.0, 0.11, 0.05, 0.05)
    arrow = np.stack([across, up, np.full(len(up), -0.01)], axis=-1)
    painter.polygon(centre + arrow, _WHITE, depth)


def _no_entry(painter: Painter, centre: np.ndarray, depth: float) -> None:
    painter.disc(centre, 0.38, (184, 30, 36), claim=True)
    painter.strokes([_bar(centre, 0.22)], 0.12, _WHITE, depth)


def _billboard(painter: Painter, centre: np.ndarray, depth: float) -> None:
    lines = ((0.28, 0.35), (0.0, 0.25), (-0.25, 0.35))
    _plate(painter, centre + _UP * 0.6, depth, (1.5, 1.1), (24, 108, 66), lines, _WHITE)


_PLATES: dict[str, Callable[[Painter, np.ndarray, float], None]] = {
    "stop": _stop,
    "warning": _warning,
    "speed": _speed,
    "parking": _parking,
    "street": _street_name,
    "oneway": _oneway,
    "no_entry": _no_entry,
    "guide": _billboard,
}


def draw_gantry(painter: Painter, actor: Actor, layout: Layout) -> None:
    """Draw a motorway gantry with its green boards; the boards are labelled."""
    rng = np.random.default_rng(actor.seed)
    left, right = actor.size
    feet = layout.road.place(actor.s, np.array([left, right]))
    depth = max(2.0, float(painter.camera.to_camera(feet.mean(0))[2]))
    tall = _UP * 6.4
    painter.begin()
    painter.strokes([np.stack([foot, foot + tall]) for foot in feet], 0.35, _METAL, depth, 0.9, claim=True)
    painter.strokes([feet + tall, feet + tall * 0.9], 0.18, _METAL, depth, 0.9, claim=True)
    painter.end()
    count = int(rng.integers(1, 4))
    for share in (np.arange(count) + 0.5) / count:
        painter.begin("traffic sign")
        centre = feet[0] * (1 - share) + feet[1] * share + tall + np.array([0.0, 0.1, -0.2])
        width = min(rng.uniform(2.6, 3.8), (right - left) / count * 0.9)
        lines = ((0.25, 0.35), (0.0, 0.30), (-0.25, 0.2))
        _plate(painter, centre, depth, (width, rng.uniform(1.8, 2.6)), (24, 108, 66), lines, _WHITE)
        painter.end()


def draw_bridge(painter: Painter, actor: Actor, layout: Layout) -> None:
    """Draw a bridge that crosses above the road, on piers beside it."""
    left, right = actor.size
    foot = layout.road.place(actor.s, 0.0)
    depth = max(2.0, float(painter.camera.to_camera(foot)[2]))
    if depth < 12:
        return
    concrete = (150, 146, 138)
    painter.begin()
    for d in (left, right):
        pier = layout.road.place(actor.s, d)
        painter.polygon(_upright(pier, 1.6, 6.0), concrete, depth, 0.6, claim=True)
    deck = _upright(foot + _UP * 5.6, 240.0, 1.9)
    painter.polygon(deck, concrete, depth, 0.85, claim=True, low_light=0.55)
    painter.strokes([np.stack([deck[3] + _UP * 0.9, deck[2] + _UP * 0.9])], 0.08, _METAL, depth)
    painter.end()
