"""One picture of many synthetic scenes, for the documentation."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageOps

from .layout import sample_layout
from .renderer import render_scene

COLUMNS, ROWS = 4, 5
CELL = (320, 180)
# What the sheet shows, in order: every weather by day, then dusk and night.
_WANTED = (
    ("clear", "daytime"), ("partly cloudy", "daytime"), ("overcast", "daytime"), ("snowy", "daytime"),
    ("rainy", "daytime"), ("clear", "night"), ("foggy", "daytime"), ("clear", "dawn/dusk"),
    ("rainy", "night"), ("snowy", "night"), ("clear", "night"), ("clear", "daytime"),
)  # fmt: skip


def choose_seeds(seed: int) -> list[int]:
    """Seeds from `seed` on whose scenes show every weather and time of day, in the sheet's order."""
    chosen: list[int] = []
    following = {wanted: seed for wanted in _WANTED}
    for cell in range(COLUMNS * ROWS):
        wanted = _WANTED[cell % len(_WANTED)]
        candidate = following[wanted]
        while True:
            layout = sample_layout(candidate)
            candidate += 1
            if (layout.weather, layout.timeofday) == wanted:
                break
        following[wanted] = candidate
        chosen.append(candidate - 1)
    return chosen


def write_contact_sheet(path: Path, seed: int = 0) -> None:
    """Render scenes from `seed` on in a grid and write them as one PNG.

    The lowest two bits of each colour are dropped: nobody sees them, and the file is a third smaller.
    """
    sheet = Image.new("RGB", (COLUMNS * CELL[0], ROWS * CELL[1]))
    for cell, chosen in enumerate(choose_seeds(seed)):
        frame = render_scene(chosen, (CELL[0] * 4, CELL[1] * 4)).image.resize(CELL, Image.Resampling.BOX)
        sheet.paste(frame, (cell % COLUMNS * CELL[0], cell // COLUMNS * CELL[1]))
    path.parent.mkdir(parents=True, exist_ok=True)
    ImageOps.posterize(sheet, 6).save(path, optimize=True)
