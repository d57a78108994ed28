"""Pictures as bad cameras and bad weather give them: the fifteen common corruptions and a windscreen's.

The fifteen kinds in five severities are those of Hendrycks and Dietterich (2019, arXiv:1903.12261), built
here on
NumPy, SciPy and Pillow: the package that carries them (imagecorruptions) has had no release that runs with
current scikit-image. Sizes in pixels are scaled from their 224 pixels to the frame's height. Frost is
drawn, since the original pastes photographs. All functions take and return float RGB (height, width, 3)
from 0 to 1.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage, signal

SEVERITIES = (1, 2, 3, 4, 5)
#: Frames are brought to this height first: severities mean the same whatever the camera.
WORKING_HEIGHT = 288
Corruption = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


def _scale(x: np.ndarray) -> float:
    return x.shape[0] / 224


def _luminance(x: np.ndarray) -> np.ndarray:
    return x @ np.array([0.299, 0.587, 0.114])


def _convolve(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Each channel with a kernel that sums to 1, edges mirrored."""
    y, z = kernel.shape[0] // 2, kernel.shape[1] // 2
    padded = np.pad(x, ((y, y), (z, z), (0, 0)), mode="reflect")
    return signal.oaconvolve(padded, kernel[..., None], mode="valid", axes=(0, 1))


def _noise(shape: tuple[int, int], rng: np.random.Generator, roughness: float) -> np.ndarray:
    """Fractal noise from 0 to 1: its spectrum falls with frequency to the power of `roughness`."""
    fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]
    frequency = np.maximum(np.hypot(fy * shape[0], fx * shape[1]), 1.0)
    spectrum = np.fft.rfft2(rng.standard_normal(shape)) / frequency**roughness
    field = np.fft.irfft2(spectrum, s=shape)
    return (field - field.min()) / (field.max() - field.min())


def _line(length: float, angle: float) -> np.ndarray:
    """A kernel that smears along a line of a length in pixels at an angle in degrees."""
    half = max(round(length / 2), 1)
    at = np.linspace(-half, half, 4 * half + 1)
    kernel = np.zeros((2 * half + 1, 2 * half + 1))
    rows = np.rint(half + at * np.sin(np.radians(angle))).astype(int)
    np.add.at(kernel, (rows, np.rint(half + at * np.cos(np.radians(angle))).astype(int)), 1.0)
    return kernel / kernel.sum()


def gaussian_noise(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Sensor noise in low light."""
    return x + rng.normal(0, (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1], x.shape)


def shot_noise(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Too few photons."""
    photons = (60, 25, 12, 5, 3)[severity - 1]
    return rng.poisson(x * photons) / photons


def impulse_noise(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Dead and hot pixels."""
    amount = (0.03, 0.06, 0.09, 0.17, 0.27)[severity - 1]
    drawn = rng.random(x.shape)
    return np.where(drawn < amount / 2, 0.0, np.where(drawn < amount, 1.0, x))


def defocus_blur(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Out of focus: every point becomes a disc."""
    radius = (3, 4, 6, 8, 10)[severity - 1] * _scale(x)
    half = int(np.ceil(radius))
    y, z = np.mgrid[-half : half + 1, -half : half + 1]
    disc = (np.hypot(y, z) <= radius).astype(float)
    return _convolve(x, disc / disc.sum())


def glass_blur(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Frosted glass: pixels change places with near ones."""
    sigma, reach = ((0.7, 1), (0.9, 2), (1.0, 2), (1.1, 3), (1.5, 4))[severity - 1]
    blur = (sigma * _scale(x), sigma * _scale(x), 0)
    reach = max(round(reach * _scale(x)), 1)
    x = ndimage.gaussian_filter(x, blur)
    rows, columns = np.indices(x.shape[:2])
    rows = np.clip(rows + rng.integers(-reach, reach + 1, rows.shape), 0, x.shape[0] - 1)
    columns = np.clip(columns + rng.integers(-reach, reach + 1, columns.shape), 0, x.shape[1] - 1)
    return ndimage.gaussian_filter(x[rows, columns], blur)


def motion_blur(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """A shaken camera."""
    length = (10, 15, 20, 25, 30)[severity - 1] * _scale(x)
    return _convolve(x, _line(length, rng.uniform(-45, 45)))


def zoom_blur(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Moving towards the scene while the shutter is open."""
    furthest = (1.11, 1.16, 1.21, 1.26, 1.31)[severity - 1]
    picture = _image(x)
    width, height = picture.size
    layers = [x]
    for factor in np.arange(1.02, furthest, 0.02):
        dx, dy = width * (1 - 1 / factor) / 2, height * (1 - 1 / factor) / 2
        box = (dx, dy, width - dx, height - dy)
        layers.append(_array(picture.resize(picture.size, Image.Resampling.BILINEAR, box=box)))
    return np.mean(layers, axis=0)


def snow(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Falling snow: bright streaks over a paler picture."""
    mean, threshold = ((0.1, 0.5), (0.2, 0.5), (0.55, 0.9), (0.55, 0.85), (0.55, 0.8))[severity - 1]
    length, keep = ((8, 0.8), (10, 0.7), (10, 0.7), (10, 0.65), (12, 0.55))[severity - 1]
    flakes = ndimage.zoom(rng.normal(mean, 0.3, (x.shape[0] // 2 + 1, x.shape[1] // 2 + 1)), 2, order=1)
    flakes = np.clip(flakes[: x.shape[0], : x.shape[1]], 0, 1) * (
        flakes[: x.shape[0], : x.shape[1]] > threshold
    )
    flakes = _convolve(flakes[..., None], _line(length * _scale(x), rng.uniform(60, 120)))
    pale = np.maximum(x, _luminance(x)[..., None] * 1.5 + 0.5)
    return keep * x + (1 - keep) * pale + flakes + flakes[::-1, ::-1]


def frost(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Ice on the windscreen: bright veins that grow from the edges."""
    keep, ice = ((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))[severity - 1]
    shape = x.shape[:2]
    veins = sum((1 - np.abs(2 * _noise(shape, rng, roughness) - 1)) ** 6 for roughness in (1.2, 1.5, 1.8)) / 2
    rows, columns = (np.abs(np.linspace(-1, 1, size)) for size in shape)
    edge = np.maximum.outer(rows, columns) ** 1.5
    cover = np.clip(veins * (0.35 + edge) + 0.25 * edge, 0, 1)[..., None]
    return keep * x + ice * cover * np.array([0.92, 0.97, 1.0])


def fog(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Fog in drifts."""
    amount, roughness = ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))[severity - 1]
    brightest = x.max()
    drifts = _noise(x.shape[:2], rng, roughness)[..., None]
    return (x + amount * drifts) * brightest / (brightest + amount)


def brightness(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Overexposed: more of the same colours."""
    value = x.max(-1, keepdims=True)
    more = np.minimum(value + (0.1, 0.2, 0.3, 0.4, 0.5)[severity - 1], 1.0)
    return np.where(value > 0, x * more / np.maximum(value, 1e-6), more)


def contrast(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Low contrast."""
    mean = x.mean((0, 1), keepdims=True)
    return (x - mean) * (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1] + mean


def elastic_transform(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Small regions stretched and squeezed."""
    amplitude, smooth = ((2, 10), (3, 9), (4, 8), (5, 7), (6, 6))[severity - 1]
    moves = [ndimage.gaussian_filter(rng.uniform(-1, 1, x.shape[:2]), smooth * _scale(x)) for _ in range(2)]
    rows, columns = (
        index + move / np.abs(move).max() * amplitude * _scale(x)
        for index, move in zip(np.indices(x.shape[:2]).astype(float), moves, strict=True)
    )
    channels = [
        ndimage.map_coordinates(x[..., c], (rows, columns), order=1, mode="reflect") for c in range(3)
    ]
    return np.stack(channels, axis=-1)


def pixelate(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Too few pixels, shown large."""
    return _smaller(x, (0.6, 0.5, 0.4, 0.3, 0.25)[severity - 1], Image.Resampling.NEAREST)


def jpeg_compression(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Strong JPEG compression."""
    buffer = io.BytesIO()
    _image(x).save(buffer, "JPEG", quality=(25, 18, 15, 10, 7)[severity - 1])
    return _array(Image.open(buffer))


def lens_dirt(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Dried drops and smears on the glass, out of focus."""
    spots = np.zeros(x.shape[:2])
    for _ in range((6, 12, 20, 30, 45)[severity - 1]):
        y, z = rng.uniform(0, x.shape[0]), rng.uniform(0, x.shape[1])
        radius = rng.uniform(0.015, 0.06) * x.shape[0]
        rows, columns = np.ogrid[: x.shape[0], : x.shape[1]]
        spots = np.maximum(spots, (np.hypot(rows - y, columns - z) < radius) * rng.uniform(0.5, 0.95))
    cover = ndimage.gaussian_filter(spots, 0.008 * x.shape[0])[..., None]
    return x * (1 - cover) + cover * np.array([0.22, 0.19, 0.15])


def night(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Night: dark and bluish, lights stay, and the sensor's noise comes up."""
    level = (0.6, 0.45, 0.33, 0.22, 0.14)[severity - 1]
    dark = x ** (1 + 0.25 * severity) * level * np.array([0.85, 0.92, 1.05])
    lights = np.clip((x.max(-1, keepdims=True) - 0.9) * 10, 0, 1) * x * 0.5
    return dark + lights + rng.normal(0, 0.01 * severity, x.shape)


def glare(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """A low sun in the picture."""
    rows, columns = np.ogrid[: x.shape[0], : x.shape[1]]
    y, z = rng.uniform(0.1, 0.45) * x.shape[0], rng.uniform(0.2, 0.8) * x.shape[1]
    distance = np.hypot(rows - y, columns - z) / x.shape[0]
    strength = (0.5, 0.8, 1.1, 1.5, 2.0)[severity - 1]
    light = strength * (np.exp(-distance * 4) + 0.25 * np.exp(-distance))
    return x + light[..., None] * np.array([1.0, 0.95, 0.82])


def resolution(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """A worse camera: 1/2 to 1/10 of the pixels a side, shown smoothly."""
    return _smaller(x, (1 / 2, 1 / 3, 1 / 4, 1 / 6, 1 / 10)[severity - 1], Image.Resampling.BICUBIC)


def crop(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """A longer lens: the middle 95% to 70% of the frame fills it."""
    keep = (0.95, 0.9, 0.85, 0.78, 0.7)[severity - 1]
    picture = _image(x)
    width, height = picture.size
    left, top = width * (1 - keep) / 2, height * (1 - keep) / 2
    box = (left, top, width - left, height - top)
    return _array(picture.resize(picture.size, Image.Resampling.BILINEAR, box=box))


def horizon_shift(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """A camera that is tilted: the picture moves up or down by 3% to 18% of its height."""
    rows = round((0.03, 0.06, 0.1, 0.14, 0.18)[severity - 1] * x.shape[0]) * int(rng.choice([-1, 1]))
    at = np.clip(np.arange(x.shape[0]) - rows, 0, x.shape[0] - 1)
    return x[at]


def _smaller(x: np.ndarray, factor: float, back: Image.Resampling) -> np.ndarray:
    """Through a smaller picture and back to its size."""
    picture = _image(x)
    size = (max(round(picture.width * factor), 1), max(round(picture.height * factor), 1))
    return _array(picture.resize(size, Image.Resampling.BOX).resize(picture.size, back))


def _image(x: np.ndarray) -> Image.Image:
    return Image.fromarray((np.clip(x, 0, 1) * 255 + 0.5).astype(np.uint8))


def _array(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB"), dtype=np.float64) / 255


_NOISE = (gaussian_noise, shot_noise, impulse_noise)
_BLUR = (defocus_blur, glass_blur, motion_blur, zoom_blur)
_WEATHER = (snow, frost, fog, brightness)
_DIGITAL = (contrast, elastic_transform, pixelate, jpeg_compression)
COMMON: dict[str, Corruption] = {f.__name__: f for f in (*_NOISE, *_BLUR, *_WEATHER, *_DIGITAL)}
_WINDSCREEN = (lens_dirt, night, glare, resolution, crop, horizon_shift)
DRIVING: dict[str, Corruption] = {f.__name__: f for f in _WINDSCREEN}
ALL = COMMON | DRIVING


def corrupt(picture: Image.Image, name: str, severity: int, seed: int = 0) -> Image.Image:
    """A corrupted copy of a picture.

    Args:
        picture: a frame of any size; it is brought to `WORKING_HEIGHT` first.
        name: one of `ALL`.
        severity: 1 to 5.
        seed: of what is random.

    Returns:
        An RGB picture.

    Raises:
        ValueError: if the name or the severity is unknown.
    """
    if name not in ALL or severity not in SEVERITIES:
        raise ValueError(f"no corruption {name!r} of severity {severity}; there are {', '.join(ALL)}, 1 to 5")
    width = max(round(picture.width * WORKING_HEIGHT / picture.height), 8)
    x = _array(picture.convert("RGB").resize((width, WORKING_HEIGHT), Image.Resampling.BILINEAR))
    return _image(ALL[name](x, severity, np.random.default_rng(seed)))
