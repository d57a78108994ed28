"""A painter that draws far things first and remembers which object every pixel belongs to.

Two surfaces are kept: the picture itself and, beside it, one byte a pixel that names the owner. The second
one is what makes the labels perfect: how much of an object is visible is counted, not estimated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import skia

from .atmosphere import Atmosphere
from .camera import FRAME_HEIGHT, FRAME_WIDTH, NEAR, Camera, clip_near

Colour = Sequence[float] | np.ndarray  # red, green, blue from 0 to 255, in daylight
GROUND = 0
OWN_CAR = 254
SCENERY = 255
MAX_OBJECTS = 250
FEW = 24  # corners of a polygon up to which plain numbers are faster than arrays
ROUNDED_REACH = 40.0  # metres: beyond, corners are smaller than a pixel


@dataclass
class Drawn:
    """One labelled object that was drawn: its whole extent and, in the end, what is seen of it."""

    owner: int
    category: str
    light: str = "NA"
    extent: list[float] = field(default_factory=lambda: [1e9, 1e9, -1e9, -1e9])
    cut: bool = False  # reaches behind the lens
    pixels: int = 0  # drawn inside the frame, before anything covered it
    visible: int = 0


@dataclass(frozen=True)
class Glow:
    """A lamp that shines at the viewer: place and radius in pixels, colour, strength, and who carries it."""

    x: float
    y: float
    radius: float
    colour: Colour
    strength: float
    owner: int


def convex_hull(points: np.ndarray) -> list[tuple[float, float]]:
    """Corners of the convex hull of points ``(n, 2)``, in order (Andrew's monotone chain, 1979)."""
    ordered = sorted(map(tuple, points.tolist()))

    def half(sequence: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
        chain: list[tuple[float, float]] = []
        for x, y in sequence:
            while len(chain) > 1:
                (x1, y1), (x2, y2) = chain[-2:]
                if (x2 - x1) * (y - y1) - (y2 - y1) * (x - x1) > 0:
                    break
                chain.pop()
            chain.append((x, y))
        return chain[:-1]

    return half(ordered) + half(reversed(ordered))


class Painter:
    """Draws polygons and strokes given in world coordinates.

    Args:
        camera: Where the frame is seen from.
        air: Light and haze.
        size: Width and height of the picture in pixels; labels stay in 1280x720.
    """

    def __init__(self, camera: Camera, air: Atmosphere, size: tuple[int, int]):
        self.camera = camera
        self.air = air
        self.size = size
        self.pixels = np.zeros((size[1], size[0], 4), np.uint8)
        self.surface = skia.Surface(self.pixels)
        self.canvas = self.surface.getCanvas()
        self.canvas.scale(size[0] / FRAME_WIDTH, size[1] / FRAME_HEIGHT)
        self.owners = np.zeros((FRAME_HEIGHT, FRAME_WIDTH), np.uint8)
        info = skia.ImageInfo.Make(FRAME_WIDTH, FRAME_HEIGHT, skia.kAlpha_8_ColorType, skia.kPremul_AlphaType)
        self.owner_surface = skia.Surface.MakeRasterDirect(info, self.owners)
        self.owner_canvas = self.owner_surface.getCanvas()
        # One paint each for what is drawn most: making a new one takes as long as filling a small polygon.
        self.fill = skia.Paint(AntiAlias=True)
        self.owner_fill = skia.Paint(AntiAlias=False, BlendMode=skia.BlendMode.kSrc)
        self.drawn: list[Drawn] = []
        self.glows: list[Glow] = []
        self.owner = GROUND
        self.current: Drawn | None = None
        self.beam = 1.0  # share of the own headlights that reaches what is being drawn
        self.lamplight = 1.0  # how much street lamps brighten it

    # --- whose pixels these are

    def begin(self, category: str | None = None, light: str = "NA") -> None:
        """Start an object: labelled when it has a BDD100K category, else scenery that only hides."""
        self.current = None
        self.owner = SCENERY
        if category is not None and len(self.drawn) < MAX_OBJECTS:
            self.current = Drawn(owner=len(self.drawn) + 1, category=category, light=light)
            self.owner = self.current.owner
            self.drawn.append(self.current)

    def end(self) -> None:
        """Finish the object and count the pixels it covers now, before anything nearer is drawn."""
        if self.current is not None:
            self.current.pixels = self._count(self.current)
        self.current = None
        self.owner = GROUND

    def count_visible(self) -> None:
        """Count what is left of every object once the frame is complete."""
        for drawn in self.drawn:
            drawn.visible = self._count(drawn)

    def _count(self, drawn: Drawn) -> int:
        x1, y1, x2, y2 = drawn.extent
        left, top = int(max(0, np.floor(x1) - 1)), int(max(0, np.floor(y1) - 1))
        right, bottom = int(min(FRAME_WIDTH, np.ceil(x2) + 1)), int(min(FRAME_HEIGHT, np.ceil(y2) + 1))
        if right <= left or bottom <= top:
            return 0
        return int((self.owners[top:bottom, left:right] == drawn.owner).sum())

    def _claim(self, path: skia.Path, points: Sequence[Sequence[float]], stroke: float = 0.0) -> None:
        """Give the pixels under a path to the current object, and widen its extent by points (x, y)."""
        paint = self.owner_fill
        if stroke:
            paint = skia.Paint(paint)
            paint.setStyle(skia.Paint.kStroke_Style)
            paint.setStrokeWidth(stroke)
            paint.setStrokeCap(skia.Paint.kRound_Cap)
            paint.setStrokeJoin(skia.Paint.kRound_Join)
        paint.setColor(skia.ColorSetARGB(self.owner, 0, 0, 0))
        self.owner_canvas.drawPath(path, paint)
        if self.current is not None and points:
            columns, rows = zip(*points, strict=True)
            half, extent = stroke / 2, self.current.extent
            extent[0], extent[1] = min(extent[0], min(columns) - half), min(extent[1], min(rows) - half)
            extent[2], extent[3] = max(extent[2], max(columns) + half), max(extent[3], max(rows) + half)

    # --- drawing

    def colour(self, rgb: Colour, depth: float, light: float = 1.0, alpha: float = 1.0) -> int:
        """A daylight colour as the lens sees it at some depth, as Skia's 32-bit value."""
        red, green, blue = self.air.shade(rgb, depth, light * self.lamplight, self.beam)
        return skia.ColorSetARGB(int(255 * alpha), red, green, blue)

    def outline(self, points: np.ndarray) -> tuple[skia.Path, Sequence[Sequence[float]]]:
        """The outline of a world polygon ``(n, 3)``: a path and its pixels (x, y), maybe none."""
        pixels: Sequence[Sequence[float]] | None = None
        if len(points) <= FEW:
            pixels = self.camera.project_few(points)
        if pixels is None:
            corners = self.camera.to_camera(points)
            seen = clip_near(corners)
            if self.current is not None and seen is not corners:
                self.current.cut = True
            pixels = self.camera.to_pixels(seen).tolist() if len(seen) > 2 else []
        path = skia.Path()
        if pixels:
            path.addPoly([skia.Point(x, y) for x, y in pixels], True)
        return path, pixels

    def polygon(
        self,
        points: np.ndarray,
        rgb: Colour,
        depth: float,
        light: float = 1.0,
        alpha: float = 1.0,
        claim: bool = False,
        low_light: float | None = None,
    ) -> None:
        """Fill a world polygon ``(n, 3)``; with `claim` its pixels belong to the current object.

        With `low_light` the light falls off from `light` at the upper edge to that at the lower one.
        """
        path, pixels = self.outline(points)
        if path.isEmpty():
            return
        paint, colour = self.fill, self.colour(rgb, depth, light, alpha)
        if low_light is not None:
            paint = skia.Paint(paint)
            rows = [y for _, y in pixels]
            top, bottom = min(rows), max(rows)
            ends = [colour, self.colour(rgb, depth, low_light, alpha)]
            paint.setShader(
                skia.GradientShader.MakeLinear([skia.Point(0, top), skia.Point(0, bottom + 0.5)], ends)
            )
        paint.setColor(colour)
        self.canvas.drawPath(path, paint)
        if claim and self.owner != GROUND:
            self._claim(path, pixels)

    @contextmanager
    def rounded(self, points: np.ndarray, radius: float, depth: float) -> Iterator[None]:
        """Draw only inside the convex hull of world points ``(n, 3)``, its corners rounded.

        Bodies are made of flat faces; cutting all of them along one rounded outline takes the edge off.
        """
        pixels, depths = self.camera.project(points)
        if (depths < NEAR).any() or depth > ROUNDED_REACH:
            yield
            return
        sharp = skia.Path()
        sharp.addPoly([skia.Point(x, y) for x, y in convex_hull(pixels)], True)
        corners = skia.Paint(PathEffect=skia.CornerPathEffect.Make(radius * self.camera.focal / depth))
        outline = skia.Path()
        corners.getFillPath(sharp, outline)
        for canvas, smooth in ((self.canvas, True), (self.owner_canvas, False)):
            canvas.save()
            canvas.clipPath(outline, skia.ClipOp.kIntersect, smooth)
        yield
        self.canvas.restore()
        self.owner_canvas.restore()

    def polygons(
        self, quads: np.ndarray, rgb: Colour, depth: float, light: float = 1.0, alpha: float = 1.0
    ) -> None:
        """Fill many world polygons ``(count, corners, 3)`` of one colour, less those cut by the lens."""
        self._fill_many(quads, self.colour(rgb, depth, light, alpha))

    def _fill_many(self, quads: np.ndarray, colour: int) -> None:
        if not len(quads):
            return
        pixels, depths = self.camera.project(quads)
        path = skia.Path()
        for corners in pixels[(depths > NEAR).all(1)].tolist():
            path.addPoly([skia.Point(x, y) for x, y in corners], True)
        self.canvas.drawPath(path, skia.Paint(AntiAlias=True, Color=colour))

    def strokes(
        self,
        lines: Iterable[np.ndarray],
        width: float,
        rgb: Colour,
        depth: float,
        light: float = 1.0,
        claim: bool = False,
    ) -> None:
        """Draw world polylines, each ``(n, 3)``, `width` metres thick, with round ends."""
        path = skia.Path()
        claimed = []
        for line in lines:
            pixels, depths = self.camera.project(line)
            if (depths < NEAR).any():
                if self.current is not None:
                    self.current.cut = True
                continue
            path.addPoly([skia.Point(x, y) for x, y in pixels.tolist()], False)
            claimed.append(pixels)
        if not claimed:
            return
        thickness = max(width * self.camera.focal / max(depth, NEAR), 0.6)
        paint = skia.Paint(
            AntiAlias=True,
            Style=skia.Paint.kStroke_Style,
            StrokeWidth=thickness,
            StrokeCap=skia.Paint.kRound_Cap,
            StrokeJoin=skia.Paint.kRound_Join,
            Color=self.colour(rgb, depth, light),
        )
        self.canvas.drawPath(path, paint)
        if claim and self.owner != GROUND:
            self._claim(path, np.concatenate(claimed).tolist(), thickness)

    def disc(
        self,
        centre: np.ndarray,
        radius: float,
        rgb: Colour,
        light: float = 1.0,
        claim: bool = False,
        emits: bool = False,
        alpha: float = 1.0,
    ) -> None:
        """Draw a disc that faces the camera, `radius` metres; one that emits keeps its colour in the dark."""
        pixels, depth = self.camera.project(centre)
        if depth < NEAR:
            return
        size = radius * self.camera.focal / float(depth)
        colour = (
            self.air.lamp(rgb, float(depth), alpha) if emits else self.colour(rgb, float(depth), light, alpha)
        )
        self.canvas.drawCircle(
            float(pixels[0]), float(pixels[1]), size, skia.Paint(AntiAlias=True, Color=colour)
        )
        if claim and self.owner != GROUND:
            path = skia.Path()
            path.addCircle(float(pixels[0]), float(pixels[1]), size)
            x, y = pixels.tolist()
            self._claim(path, [(x - size, y - size), (x + size, y + size)])

    def lit_polygon(self, points: np.ndarray, rgb: Colour, depth: float, alpha: float = 1.0) -> None:
        """Fill a world polygon ``(n, 3)`` that shines by itself, such as a lamp's glass."""
        path, _ = self.outline(points)
        if not path.isEmpty():
            self.canvas.drawPath(path, skia.Paint(AntiAlias=True, Color=self.air.lamp(rgb, depth, alpha)))

    def lit_polygons(self, quads: np.ndarray, rgb: Colour, depth: float, alpha: float = 1.0) -> None:
        """Fill many small world polygons ``(count, corners, 3)`` that shine by themselves."""
        self._fill_many(quads, self.air.lamp(rgb, depth, alpha))

    def claim_line(self, line: np.ndarray, width: float, depth: float) -> None:
        """Give the pixels under a world line ``(n, 3)`` of some width in metres to the current object."""
        pixels, depths = self.camera.project(line)
        if (depths < NEAR).any():
            return
        path = skia.Path()
        path.addPoly([skia.Point(x, y) for x, y in pixels.tolist()], False)
        self._claim(path, pixels.tolist(), width * self.camera.focal / depth)

    def claim_oval(self, centre: np.ndarray, half_width: float, half_height: float) -> None:
        """Give the pixels under an oval that faces the camera to the current object."""
        pixels, depth = self.camera.project(centre)
        if depth < NEAR:
            return
        scale = self.camera.focal / float(depth)
        low = pixels - np.array([half_width, half_height]) * scale
        path = skia.Path()
        path.addOval(skia.Rect.MakeXYWH(*low.tolist(), 2 * half_width * scale, 2 * half_height * scale))
        self._claim(path, np.stack([low, 2 * pixels - low]).tolist())

    def glow(self, centre: np.ndarray, radius: float, rgb: Colour, strength: float = 1.0) -> None:
        """Remember a halo of `radius` metres around a lamp; it is added if the lamp is seen in the end."""
        pixels, depth = self.camera.project(centre)
        if depth < NEAR:
            return
        size = radius * self.camera.focal / float(depth)
        strength = strength * self.air.clarity(float(depth) * 0.5)
        self.glows.append(Glow(float(pixels[0]), float(pixels[1]), max(size, 3.0), rgb, strength, self.owner))
