"""Light, haze and the time of day: how a daylight colour looks through the windscreen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import skia


@lru_cache(maxsize=256)  # the many faces of a thing share its depth
def _clarity(density: float, depth: float) -> float:
    return math.exp(-density * max(depth, 0.0))


@dataclass(frozen=True)
class Atmosphere:
    """What lies between the thing and the lens.

    Args:
        weather: BDD100K's word for the weather.
        timeofday: BDD100K's word for the time of day.
        ambient: Brightness and tint of unlit surfaces, one factor a channel.
        haze: Colour of the haze, 0 to 255.
        density: Share of light lost to haze a metre.
        sky: Colours of the sky from zenith to horizon.
        sun: Strength of cast shadows, 0 to 1.
        wet: How wet the road is, 0 to 1.
        snow: How much of the ground is covered by snow, 0 to 1.
    """

    weather: str
    timeofday: str
    ambient: tuple[float, float, float]
    haze: tuple[float, float, float]
    density: float
    sky: tuple[tuple[float, float, float], ...]
    sun: float = 0.0
    wet: float = 0.0
    snow: float = 0.0

    @property
    def dark(self) -> bool:
        """True when lamps are what lights the street."""
        return self.timeofday == "night"

    @property
    def brightness(self) -> float:
        """Brightness of unlit surfaces: about 1 at noon, 0.1 at night."""
        return sum(self.ambient) / 3

    def clarity(self, depth: float) -> float:
        """Share of light that passes `depth` metres of air."""
        return _clarity(self.density, depth)

    def headlights(self, depth: float) -> float:
        """How strongly the own headlights light a thing `depth` metres ahead (0 in daylight)."""
        return 0.62 / (1.0 + (depth / 13.0) ** 2) if self.dark else 0.0

    def shade(
        self, rgb: Sequence[float] | np.ndarray, depth: float, light: float = 1.0, beam: float = 1.0
    ) -> tuple[int, int, int]:
        """A daylight colour (0 to 255) as it looks at `depth` metres.

        Args:
            rgb: The colour at noon.
            depth: Metres of air in between.
            light: Daylight that falls on it, 1 for a surface that faces the sky.
            beam: Share of the own headlights that reaches it.
        """
        clear = _clarity(self.density, depth)
        own = self.headlights(depth) * beam
        fog = 1.0 - clear
        ambient, haze = self.ambient, self.haze
        red = rgb[0] * (ambient[0] * light + own) * clear + haze[0] * fog
        green = rgb[1] * (ambient[1] * light + own) * clear + haze[1] * fog
        blue = rgb[2] * (ambient[2] * light + own) * clear + haze[2] * fog
        return min(255, int(red)), min(255, int(green)), min(255, int(blue))

    def tint(self, depth: float, frost: float = 0.0) -> skia.ColorFilter:
        """What `shade` does to a colour, for whole pictures; `frost` whitens them first."""
        clear = self.clarity(depth)
        rows = []
        for i, (ambient, haze) in enumerate(zip(self.ambient, self.haze, strict=True)):
            gain = (ambient + self.headlights(depth)) * clear
            row = [0.0] * 5
            row[i] = gain * (1 - frost)
            row[4] = gain * frost * 0.85 + haze / 255 * (1 - clear)
            rows += row
        return skia.ColorFilters.Matrix([*rows, 0, 0, 0, 1, 0])

    def lamp(self, rgb: Sequence[float] | np.ndarray, depth: float, alpha: float = 1.0) -> int:
        """The colour of something that shines by itself, as Skia's 32-bit value."""
        clear = self.clarity(depth * 0.6)
        red, green, blue = (
            min(255, max(0, int(channel * clear + haze * (1.0 - clear))))
            for channel, haze in zip(rgb, self.haze, strict=True)
        )
        return skia.ColorSetARGB(int(255 * alpha), red, green, blue)


_SKIES = {
    "clear": ((74, 128, 196), (128, 176, 224), (206, 224, 238)),
    "partly cloudy": ((86, 136, 196), (146, 184, 222), (214, 226, 236)),
    "overcast": ((168, 176, 186), (190, 196, 204), (214, 218, 222)),
    "rainy": ((140, 148, 158), (168, 176, 184), (196, 202, 208)),
    "snowy": ((160, 166, 174), (178, 182, 190), (198, 201, 206)),
    "foggy": ((188, 194, 200), (198, 204, 208), (206, 210, 214)),
}
_DENSITIES = {
    "clear": 0.0012,
    "partly cloudy": 0.0014,
    "overcast": 0.003,
    "rainy": 0.007,
    "snowy": 0.008,
    "foggy": 0.032,
}
_BRIGHTNESS = {
    "clear": 1.0,
    "partly cloudy": 0.95,
    "overcast": 0.8,
    "rainy": 0.62,
    "snowy": 0.82,
    "foggy": 0.8,
}


def make_atmosphere(weather: str, timeofday: str, rng: np.random.Generator) -> Atmosphere:
    """Light and haze for a weather (clear, partly cloudy, overcast, rainy, snowy, foggy) and time of day."""
    tint = np.ones(3)
    sky = np.array(_SKIES[weather], dtype=float) * rng.uniform(0.92, 1.05)
    bleached = rng.uniform(0.0, 0.75) ** 1.5  # most lenses burn the sky out
    sky = sky * (1 - bleached) + np.array([236, 240, 244]) * bleached * (sky.max() / 255)
    brightness = _BRIGHTNESS[weather] * rng.uniform(0.88, 1.08)
    density = _DENSITIES[weather] * rng.uniform(0.7, 1.4)
    sun = {"clear": rng.uniform(0.45, 0.8), "partly cloudy": rng.uniform(0.2, 0.6)}.get(weather, 0.1)
    if timeofday == "dawn/dusk":
        glow = np.array([[64, 84, 128], [150, 138, 150], [244, 190, 140]]) * rng.uniform(0.75, 1.0)
        clear_sky = weather in ("clear", "partly cloudy")
        sky = glow if clear_sky else sky * np.array([0.62, 0.62, 0.7])
        brightness *= rng.uniform(0.5, 0.95)
        tint = np.array([1.06, 0.98, 0.96]) if clear_sky else np.array([0.94, 0.97, 1.05])
        sun *= 0.3
    elif timeofday == "night":
        city = rng.uniform(0.5, 1.6)
        murky = 2.4 if weather in ("overcast", "rainy", "snowy", "foggy") else 1.0
        sky = np.array([[5, 6, 11], [9, 9, 14], [20, 17, 18]]) * city * murky
        brightness = float(np.clip(0.14 * np.exp(rng.normal(0, 0.5)), 0.05, 0.42)) * (
            1.3 if weather == "snowy" else 1.0
        )
        tint = np.array([1.15, 0.98, 0.82]) if rng.random() < 0.7 else np.array([0.95, 1.0, 1.08])
        sun = 0.0
    haze = sky[-1] if timeofday != "night" else sky[-1] * 1.1
    return Atmosphere(
        weather=weather,
        timeofday=timeofday,
        ambient=tuple(brightness * tint),
        haze=tuple(haze),
        density=density,
        sky=tuple(tuple(row) for row in sky),
        sun=float(sun),
        wet=float(rng.uniform(0.5, 1.0)) if weather == "rainy" else 0.0,
        snow=float(rng.uniform(0.35, 1.0)) if weather == "snowy" else 0.0,
    )
