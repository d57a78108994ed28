"""Rendered scenes to try the model on: some to pick from, and a drive along a street."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from PIL import Image

#: What is on offer, and the seed that renders it.
SCENES = {
    "Red light": 24,
    "Car ahead": 3,
    "Snow": 0,
    "Fog": 55,
    "Night": 4,
    "Highway, rain": 13,
}
DRIVE_SEED, DRIVE_FRAMES, DRIVE_STEP = 24, 12, 1.6  # metres from one frame to the next
SIZE = (768, 432)


def can_render() -> bool:
    """Whether scenes can be drawn here (the extra `[render]`, and the system's libGL, which Skia wants)."""
    try:
        import skia  # noqa: F401
    except ImportError:
        return False
    return True


def render(seed: int) -> Image.Image:
    """The scene of a seed, as a picture of `SIZE`."""
    from traffic_vlm.processing.synthetic import render_scene

    return render_scene(seed, SIZE).image


def write_thumbnails(folder: Path) -> dict[str, Path]:
    """Write a small picture of every scene and return where each is."""
    paths = {}
    for name, seed in SCENES.items():
        paths[name] = folder / f"scene-{seed}.jpg"
        render(seed).resize((256, 144), Image.Resampling.LANCZOS).save(paths[name], quality=88)
    return paths


def drive(
    seed: int = DRIVE_SEED, frames: int = DRIVE_FRAMES, step: float = DRIVE_STEP
) -> Iterator[Image.Image]:
    """Frames of a drive along a standing street, one every `step` metres."""
    from traffic_vlm.processing.synthetic import render_layout
    from traffic_vlm.processing.synthetic.layout import sample_layout

    start = sample_layout(seed)
    for number in range(frames):
        gone = number * step
        crossings = tuple(replace(junction, start=junction.start - gone) for junction in start.road.junctions)
        yield render_layout(
            replace(
                start,
                road=replace(start.road, junctions=crossings),
                actors=tuple(replace(actor, s=actor.s - gone) for actor in start.actors),
                lead=None if start.lead is None else start.lead - gone,
            ),
            SIZE,
        ).image
