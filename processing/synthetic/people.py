"""People, bicycles and motorcycles: jointed sticks with the thickness of limbs."""

from __future__ import annotations

import math

import numpy as np

from .painter import Painter
from .plan import Actor, Layout

_SKIN = ((224, 184, 152), (196, 148, 112), (150, 104, 74), (104, 72, 52), (236, 200, 172))
_CLOTHES = (
    (34, 36, 42), (52, 56, 66), (36, 50, 88), (120, 122, 126), (150, 40, 40), (204, 204, 200), (60, 84, 60),
    (112, 84, 60), (28, 28, 30), (176, 130, 60), (84, 40, 70),
)  # fmt: skip
_TROUSERS = ((30, 32, 40), (42, 52, 78), (28, 28, 30), (88, 80, 68), (62, 64, 68))


def _frame(
    painter: Painter, actor: Actor, layout: Layout
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    centre = layout.road.place(actor.s, actor.d)
    right = np.array([math.cos(actor.heading), 0.0, -math.sin(actor.heading)])
    ahead = np.array([math.sin(actor.heading), 0.0, math.cos(actor.heading)])
    depth = float(painter.camera.to_camera(centre)[2])
    return centre, right, ahead, depth


def _draw_foot_shadow(painter: Painter, centre: np.ndarray, depth: float, size: float) -> None:
    turn = np.linspace(0, 2 * math.pi, 10, endpoint=False)
    ring = centre + np.stack([np.cos(turn) * size, np.zeros(10), np.sin(turn) * size * 0.7], axis=-1)
    painter.polygon(ring, (12, 12, 14), depth, alpha=0.4)


def draw_person(painter: Painter, actor: Actor, layout: Layout) -> None:
    """Draw somebody on foot and label them as a pedestrian."""
    rng = np.random.default_rng(actor.seed)
    centre, right, ahead, depth = _frame(painter, actor, layout)
    if depth < 1.0:
        return
    tall = rng.normal(1.70, 0.10) * (0.7 if rng.random() < 0.06 else 1.0)
    stride = rng.uniform(-1, 1) * 0.32
    _draw_foot_shadow(painter, centre, depth, 0.35)
    painter.begin("pedestrian")
    _draw_body(painter, centre, right, ahead, depth, tall, stride, rng, seated=False)
    painter.end()


def _draw_body(
    painter: Painter,
    centre: np.ndarray,
    right: np.ndarray,
    ahead: np.ndarray,
    depth: float,
    tall: float,
    stride: float,
    rng: np.random.Generator,
    seated: bool,
) -> None:
    """Limbs, trunk and head; `centre` is the ground below, or the saddle less the legs when seated."""
    skin = _SKIN[int(rng.integers(len(_SKIN)))]
    shirt = _CLOTHES[int(rng.integers(len(_CLOTHES)))]
    trousers = _TROUSERS[int(rng.integers(len(_TROUSERS)))]
    up = np.array([0.0, tall, 0.0])

    def joint(across: float, height: float, along: float) -> np.ndarray:
        return centre + right * across * tall + up * height + ahead * along * tall

    lean = 0.10 if seated else 0.0
    hips, neck = joint(0, 0.52, 0), joint(0, 0.84, lean)
    for side, phase in ((-1, stride), (1, -stride)):
        hip = hips + right * side * 0.055 * tall
        if seated:
            knee, foot = joint(side * 0.07, 0.44, 0.24), joint(side * 0.07, 0.20 + 0.05 * side, 0.16)
        else:
            knee, foot = joint(side * 0.055, 0.28, phase * 0.45), joint(side * 0.05, 0.02, phase * 0.55)
        painter.strokes([np.stack([hip, knee, foot])], 0.15 * tall / 1.7, trousers, depth, 0.8, claim=True)
        painter.strokes(
            [np.stack([foot, foot + ahead * 0.10 * tall])], 0.08, (28, 26, 26), depth, 0.8, claim=True
        )
    shoulders = [neck + right * side * 0.105 * tall for side in (-1, 1)]
    trunk = np.stack([hips - right * 0.07 * tall, shoulders[0], shoulders[1], hips + right * 0.07 * tall])
    painter.polygon(trunk, shirt, depth, 0.85, claim=True)
    painter.strokes([np.stack([hips, neck])], 0.26 * tall / 1.7, shirt, depth, 0.85, claim=True)
    painter.strokes([np.stack(shoulders)], 0.13 * tall / 1.7, shirt, depth, 0.95, claim=True)
    for side, shoulder in zip((-1, 1), shoulders, strict=True):
        swing = lean + 0.22 if seated else stride * side * 0.5
        elbow = joint(side * 0.135, 0.66, lean + swing * 0.3)
        hand = joint(side * 0.13, 0.60 if seated else 0.50, swing + (0.12 if seated else 0.03))
        painter.strokes(
            [np.stack([shoulder, elbow, hand])], 0.09 * tall / 1.7, shirt, depth, 0.75, claim=True
        )
        painter.disc(hand, 0.045, skin, 0.85, claim=True)
    head = joint(0, 0.93, lean + 0.02)
    painter.disc(head, 0.072 * tall, skin, 0.9, claim=True)
    hair = _CLOTHES[int(rng.integers(3))] if not seated else _CLOTHES[int(rng.integers(len(_CLOTHES)))]
    painter.disc(head + up * 0.022 - ahead * 0.012, 0.07 * tall, hair, 0.8, claim=True)
    if not seated:
        painter.disc(head - up * 0.012 + ahead * 0.02, 0.055 * tall, skin, 0.9)


_TURN = np.linspace(0, 2 * math.pi, 20)


def _wheel(centre: np.ndarray, ahead: np.ndarray, along: float, radius: float) -> np.ndarray:
    hub = centre + ahead * along + np.array([0.0, radius, 0.0])
    return hub + np.outer(np.cos(_TURN), ahead) * radius + np.outer(np.sin(_TURN), [0.0, radius, 0.0])


def draw_bicycle(painter: Painter, actor: Actor, layout: Layout) -> None:
    """Draw a bicycle and, when somebody rides it, the rider; both are labelled."""
    rng = np.random.default_rng(actor.seed)
    centre, right, ahead, depth = _frame(painter, actor, layout)
    if depth < 1.2:
        return
    paint = _CLOTHES[int(rng.integers(len(_CLOTHES)))]
    _draw_foot_shadow(painter, centre, depth, 0.6)
    painter.begin("bicycle")
    painter.strokes(
        [_wheel(centre, ahead, side * 0.52, 0.33) for side in (-1, 1)], 0.045, (24, 24, 26), depth, claim=True
    )

    def at(along: float, height: float, across: float = 0.0) -> np.ndarray:
        return centre + ahead * along + np.array([0.0, height, 0.0]) + right * across

    lines = [
        np.stack([at(-0.52, 0.33), at(-0.12, 0.3), at(-0.2, 0.82), at(-0.52, 0.33)]),
        np.stack([at(-0.12, 0.3), at(0.38, 0.78), at(-0.18, 0.74)]),
        np.stack([at(0.52, 0.33), at(0.36, 0.98)]),
        np.stack([at(0.36, 1.0, -0.27), at(0.36, 1.0, 0.27)]),
    ]
    painter.strokes(lines, 0.045, paint, depth, claim=True)
    painter.strokes([np.stack([at(-0.32, 0.92), at(-0.1, 0.93)])], 0.07, (24, 24, 26), depth, claim=True)
    painter.end()
    if actor.state == "ridden":
        painter.begin("rider")
        _draw_body(painter, at(-0.2, 0.04), right, ahead, depth, rng.normal(1.7, 0.08), 0.0, rng, seated=True)
        painter.end()


def draw_motorcycle(painter: Painter, actor: Actor, layout: Layout) -> None:
    """Draw a motorcycle and, when somebody rides it, the rider; both are labelled."""
    rng = np.random.default_rng(actor.seed)
    centre, right, ahead, depth = _frame(painter, actor, layout)
    if depth < 1.5:
        return
    paint = _CLOTHES[int(rng.integers(len(_CLOTHES)))]
    _draw_foot_shadow(painter, centre, depth, 0.8)

    def at(along: float, height: float, across: float = 0.0) -> np.ndarray:
        return centre + ahead * along + np.array([0.0, height, 0.0]) + right * across

    painter.begin("motorcycle")
    painter.strokes(
        [_wheel(centre, ahead, side * 0.68, 0.28) for side in (-1, 1)], 0.15, (24, 24, 26), depth, claim=True
    )
    painter.strokes(
        [np.stack([at(-0.68, 0.4), at(-0.1, 0.42), at(0.35, 0.5)])], 0.30, (44, 44, 48), depth, claim=True
    )
    painter.strokes([np.stack([at(-0.05, 0.78), at(0.35, 0.82)])], 0.28, paint, depth, claim=True)
    painter.strokes([np.stack([at(-0.8, 0.76), at(-0.1, 0.72)])], 0.16, (28, 28, 30), depth, claim=True)
    painter.strokes([np.stack([at(0.68, 0.3), at(0.42, 1.0)])], 0.08, (130, 132, 136), depth, claim=True)
    painter.strokes(
        [np.stack([at(0.4, 1.05, -0.36), at(0.4, 1.05, 0.36)])], 0.05, (30, 30, 32), depth, claim=True
    )
    tail, lamp = at(-0.85, 0.72), at(0.6, 0.85)
    ahead_of_us = float((painter.camera.position - centre) @ ahead) < 0
    if ahead_of_us:
        painter.disc(tail, 0.07, (210, 30, 26), emits=True)
        painter.glow(tail, 0.3, (255, 40, 24), 0.6 if painter.air.dark else 0.1)
    else:
        painter.disc(lamp, 0.09, (255, 250, 230), emits=True)
        painter.glow(lamp, 0.8, (255, 244, 214), 0.9 if painter.air.dark else 0.15)
    painter.end()
    if actor.state == "ridden":
        painter.begin("rider")
        _draw_body(
            painter, at(-0.15, 0.0), right, ahead, depth, rng.normal(1.72, 0.07), 0.0, rng, seated=True
        )
        painter.end()
