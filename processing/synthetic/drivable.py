"""Which part of the road may be driven on, as BDD100K's drivable masks say it."""

from __future__ import annotations

import numpy as np
import skia

from .camera import FRAME_HEIGHT, FRAME_WIDTH, clip_near
from .ground import strip
from .painter import Painter
from .plan import Layout

DIRECT, ALTERNATIVE, BACKGROUND = 0, 1, 2
DRIVABLE_REACH = 60.0  # metres: annotators stop where the road gets too thin to outline


def drivable_mask(painter: Painter, layout: Layout) -> np.ndarray:
    """Drivable area, uint8 ``(720, 1280)``: 0 ego lane up to the lead vehicle, 1 other lanes our way, 2 rest.

    Whatever covers the road in the picture (vehicles, people, the own bonnet) is cut out of it.
    """
    road = layout.road
    mask = np.zeros((FRAME_HEIGHT, FRAME_WIDTH), np.uint8)
    info = skia.ImageInfo.Make(FRAME_WIDTH, FRAME_HEIGHT, skia.kAlpha_8_ColorType, skia.kPremul_AlphaType)
    canvas = skia.Surface.MakeRasterDirect(info, mask).getCanvas()
    reach = DRIVABLE_REACH if layout.lead is None else min(DRIVABLE_REACH, layout.lead + 0.5)
    for lane in range(road.lanes):
        end = reach if lane == road.ego_lane else DRIVABLE_REACH
        value = 1 + (DIRECT if lane == road.ego_lane else ALTERNATIVE)
        middle = road.lane_centre(lane)
        outline = strip(road, middle - road.lane_width / 2, middle + road.lane_width / 2, -1.0, end)
        pixels = painter.camera.to_pixels(clip_near(painter.camera.to_camera(outline)))
        path = skia.Path()
        path.addPoly([skia.Point(x, y) for x, y in np.clip(pixels, -20000, 20000).tolist()], True)
        paint = skia.Paint(
            AntiAlias=False, BlendMode=skia.BlendMode.kSrc, Color=skia.ColorSetARGB(value, 0, 0, 0)
        )
        canvas.drawPath(path, paint)
    free = (mask > 0) & (painter.owners == 0)
    return np.where(free, mask - 1, BACKGROUND).astype(np.uint8)
