"""The picture that comes with an answer: where the model looked, over the frame, with a caption below.

Drawn with Pillow alone. The colours are matplotlib's "plasma", which grows evenly in brightness and reads the
same with any colour vision; what the model did not look at stays untouched.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from traffic_vlm.processing.image_processing_traffic_vlm import to_rgb

PLASMA = np.array(
    [(13, 8, 135), (126, 3, 168), (204, 71, 120), (248, 149, 64), (240, 249, 33)], dtype=np.float32
)
STRONGEST_COVER = 0.62  # opacity of the heat at the map's peak
INK, FAINT_INK, PAPER = (20, 20, 20), (95, 95, 95), (255, 255, 255)
BAR = (0, 114, 178)  # Okabe and Ito's blue
UNSURE_BAR = (213, 94, 0)  # Okabe and Ito's vermilion
SMALLEST_WIDTH = 360
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw_overlay(
    image: Image.Image,
    evidence_map: np.ndarray,
    question: str,
    answer: str,
    confidence: float,
    abstained: bool = False,
    boxes: Sequence[Sequence[float]] = (),
    note: str = "",
) -> Image.Image:
    """Lay the heat of an evidence map over a frame and write question, answer and confidence below it.

    Args:
        image: The frame, at its own size, which it keeps; drawn upright, as the model sees it.
        evidence_map: Attention `(grid_height, grid_width)`, not negative.
        question: As asked.
        answer: As generated.
        confidence: From 0 to 1.
        abstained: Whether the model would rather not say.
        boxes: Edges `(x1, y1, x2, y2)` of what is outlined, as fractions of the frame.
        note: What else is said in small letters: how faithful the heat is.

    Returns:
        An RGB picture: the frame at its own size (one narrower than 360 pixels gets a margin) and the caption
        below it.

    Raises:
        ValueError: If the map is no grid of finite numbers from 0 up with something in it.
    """
    picture = draw_heat(image, evidence_map)
    for box in boxes:
        _draw_box(picture, box)
    width = max(picture.width, SMALLEST_WIDTH)
    caption = _draw_caption(width, question, answer, confidence, abstained, note)
    canvas = Image.new("RGB", (width, picture.height + caption.height), PAPER)
    canvas.paste(picture, (0, 0))
    canvas.paste(caption, (0, picture.height))
    return canvas


def draw_heat(image: Image.Image, evidence_map: np.ndarray) -> Image.Image:
    """Colour a frame by an evidence map `(grid_height, grid_width)`; the frame, upright, keeps its size."""
    image = to_rgb(image)
    heat = _upsample(evidence_map, image.size)
    colors = plasma(np.linspace(0, 1, 256))
    color = Image.merge("RGB", [heat.point(colors[:, channel].tolist()) for channel in range(3)])
    cover = heat.point([round(255 * STRONGEST_COVER * (level / 255) ** 0.7) for level in range(256)])
    return Image.composite(color, image, cover)


def plasma(values: np.ndarray) -> np.ndarray:
    """Colours `(n, 3)`, uint8, of `n` values from 0 to 1."""
    stops = np.linspace(0, 1, len(PLASMA))
    channels = [np.interp(values, stops, PLASMA[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).astype(np.uint8)


def stack_panels(panels: Sequence[Image.Image]) -> Image.Image:
    """Put panels below each other, with a gap between them."""
    gap = 12
    width = max(panel.width for panel in panels)
    height = sum(panel.height for panel in panels) + gap * (len(panels) - 1)
    sheet = Image.new("RGB", (width, height), PAPER)
    top = 0
    for panel in panels:
        sheet.paste(panel, (0, top))
        top += panel.height + gap
    return sheet


def _upsample(evidence_map: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Blow the grid up to `size` (width, height) smoothly, scaled so that the peak is 255 (mode L)."""
    grid = np.asarray(evidence_map, dtype=np.float32)
    if grid.ndim != 2 or grid.size == 0 or not np.isfinite(grid).all() or grid.min() < 0 or grid.max() <= 0:
        raise ValueError(
            "An evidence map is a grid of finite numbers from 0 up, at least one of them positive."
        )
    smooth = Image.fromarray(grid / grid.max() * 255).resize(size, Image.Resampling.BICUBIC)
    return smooth.convert("L")  # which clips what the filter overshot


def _draw_box(picture: Image.Image, box: Sequence[float]) -> None:
    """Outline the region in white between two thin black lines, visible on any background."""
    left, top, right, bottom = (
        round(edge * length)
        for edge, length in zip(box, (picture.width - 1, picture.height - 1) * 2, strict=True)
    )
    line = max(1, picture.width // 400)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((left, top, right, bottom), outline="black", width=3 * line)
    inner = (left + line, top + line, max(left + line, right - line), max(top + line, bottom - line))
    draw.rectangle(inner, outline="white", width=line)


def _draw_caption(
    width: int, question: str, answer: str, confidence: float, abstained: bool, note: str
) -> Image.Image:
    """Draw the panel below the frame: question, answer, a bar for the confidence, the key of the colours."""
    size = max(13, min(30, width // 40))
    margin, small = round(size * 0.8), max(11, round(size * 0.7))
    font, small_font = ImageFont.load_default(size), ImageFont.load_default(small)
    sure = f"{confidence:.0%} sure" + (", better not relied upon" if abstained else "")
    lines = [(line, font, FAINT_INK) for line in _wrap(question, font, width - 2 * margin)]
    lines += [(line, font, INK) for line in _wrap(answer or "(no answer)", font, width - 2 * margin)]
    notes = _wrap(note, small_font, width - 2 * margin)
    step, small_step = round(size * 1.35), round(small * 1.45)
    bar_top = margin + step * len(lines) + small // 2
    height = bar_top + round(small * 1.6) + small_step * len(notes) + margin
    panel = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(panel)
    for number, (line, line_font, ink) in enumerate(lines):
        draw.text((margin, margin + step * number), line, font=line_font, fill=ink)
    bar_width = round(width * 0.25)
    filled = margin + round(bar_width * min(max(confidence, 0.0), 1.0))
    draw.rectangle((margin, bar_top, margin + bar_width, bar_top + small), outline=FAINT_INK)
    draw.rectangle((margin, bar_top, filled, bar_top + small), fill=UNSURE_BAR if abstained else BAR)
    draw.text((margin + bar_width + small, bar_top - small * 0.15), sure, font=small_font, fill=INK)
    for number, line in enumerate(notes):
        top = bar_top + round(small * 1.6) + small_step * number
        draw.text((margin, top), line, font=small_font, fill=FAINT_INK)
    _draw_key(panel, small_font, small, margin, bar_top)
    return panel


def _draw_key(panel: Image.Image, font: Font, size: int, margin: int, top: int) -> None:
    """Draw what the colours mean into the panel's lower right corner, where there is room."""
    length = round(panel.width * 0.14)
    label = "attention"
    left = panel.width - margin - length
    label_left = left - font.getlength(label) - size // 2
    if label_left < panel.width * 0.72:
        return
    ramp = np.tile(plasma(np.linspace(0, 1, length)), (size, 1, 1))
    panel.paste(Image.fromarray(ramp), (left, top))
    ImageDraw.Draw(panel).text((label_left, top - size * 0.15), label, font=font, fill=FAINT_INK)


def _wrap(text: str, font: Font, width: int) -> list[str]:
    """Break a text into lines no wider than `width` pixels; a word too long for a line is broken anywhere."""
    lines = [""]
    for word in " ".join(text.split()).split(" "):
        candidate = f"{lines[-1]} {word}".strip()
        if font.getlength(candidate) <= width:
            lines[-1] = candidate
            continue
        lines.append("")
        for character in word:
            if lines[-1] and font.getlength(lines[-1] + character) > width:
                lines.append("")
            lines[-1] += character
    return [line for line in lines if line]
