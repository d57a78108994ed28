"""The pixels of TrafficVLM: any picture in, a normalised rectangle out, with nothing but Pillow and NumPy.

A frame is resized to the size that the checkpoint sets (160 x 288, height x width, where none is given),
about as wide for its height as dashcam frames are, 16:9. It is never cropped, because what matters often
stands at the edge; a frame of another shape is stretched.
"""

import base64
import binascii
import io
import urllib.request
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature, get_size_dict
from transformers.image_utils import (
    ChannelDimension,
    PILImageResampling,
    infer_channel_dimension_format,
    to_numpy_array,
)
from transformers.utils import TensorType

# A frame has about 1 million pixels. A picture of more than this is a mistake or an attack on the memory.
MAX_PIXELS = 100_000_000
# Pillow knows many more kinds, and hands some of them, such as PostScript, to programs outside. Its JPEG is
# also MPO, which some cameras write.
KINDS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
MAX_DOWNLOAD_BYTES = 50_000_000
DOWNLOAD_TIMEOUT_SECONDS = 20


def open_image(source: str | Path | bytes, min_size: tuple[int, int] | None = None) -> Image.Image:
    """Read a picture from a path, an http(s) address, a `data:` address or its file's bytes as upright RGB.

    Args:
        source: Where the picture is.
        min_size: Smallest `(height, width)` that will do. A JPEG much larger than that is decoded at half,
            quarter or eighth size, which is several times faster. None decodes every pixel.

    Returns:
        The picture, EXIF orientation applied, transparency on white, mode RGB.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is empty, truncated, absurdly large or no picture of one of `KINDS`.
    """
    if isinstance(source, bytes):
        return _decode(io.BytesIO(source), "picture", min_size)
    name = str(source)
    if name.startswith(("http://", "https://")):
        return _decode(io.BytesIO(_download(name)), name, min_size)
    if name.startswith("data:"):
        return _decode(io.BytesIO(_decode_data_address(name)), name[:40] + "...", min_size)
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file.")
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder, not a picture.")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty.")
    return _decode(path, name, min_size)


def _download(address: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=DOWNLOAD_TIMEOUT_SECONDS) as response:
            content = response.read(MAX_DOWNLOAD_BYTES + 1)
    except OSError as error:
        raise OSError(f"{address}: could not be downloaded ({error}).") from error
    if len(content) > MAX_DOWNLOAD_BYTES:
        raise ValueError(f"{address}: larger than {MAX_DOWNLOAD_BYTES // 1_000_000} MB.")
    return content


def _decode_data_address(address: str) -> bytes:
    try:
        return base64.b64decode(address.partition(",")[2], validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{address[:40]}...: not base64 data ({error}).") from error


def _decode(file: Path | io.BytesIO, name: str, min_size: tuple[int, int] | None) -> Image.Image:
    """Open, check the size before any pixel is decoded, decode."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # a picture is good or refused; Pillow's doubts on the way are neither
        return _decode_checked(file, name, min_size)


def _decode_checked(file: Path | io.BytesIO, name: str, min_size: tuple[int, int] | None) -> Image.Image:
    try:
        image = Image.open(file, formats=KINDS)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name}: absurdly large ({error}).") from error
    except Exception as error:  # decoders raise anything on a broken header
        raise ValueError(f"{name}: not a picture of a known kind ({', '.join(KINDS)}).") from error
    with image:
        _check_size(image.width, image.height, name)
        try:
            if min_size is not None:
                # Twice the size is left to the resize filter, so that the fast way looks like the slow one.
                image.draft("RGB", (2 * min_size[1], 2 * min_size[0]))
            return to_rgb(image)
        except Exception as error:  # decoders raise anything on broken data
            raise ValueError(f"{name}: damaged or truncated picture ({error}).") from error


def _check_size(width: int, height: int, name: str) -> None:
    if width < 1 or height < 1:
        raise ValueError(f"{name}: the picture has no pixels ({width} x {height}).")
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"{name}: absurdly large picture ({width} x {height}), "
            f"at most {MAX_PIXELS // 1_000_000} megapixels can be read."
        )


def to_rgb(image: Image.Image) -> Image.Image:
    """Turn a picture of any mode upright and into 8-bit RGB; what is transparent becomes white.

    Args:
        image: A picture of any mode: 1, L, LA, P, RGB, RGBA, CMYK, YCbCr, LAB, HSV, I, I;16, F.

    Returns:
        The same picture in mode RGB.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_to_eight_bits(np.asarray(image))).convert("RGB")
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _to_eight_bits(values: np.ndarray) -> np.ndarray:
    """Scale values to 0..255: floats up to 1 are fractions, wide integers above 255 are 16 bits deep."""
    if values.dtype == np.uint8:
        return values
    largest = values.max(initial=0)
    scale = 1.0
    if values.dtype == bool or (values.dtype.kind == "f" and largest <= 1):
        scale = 255.0
    elif values.dtype == np.uint16 or largest > 255:
        scale = 1 / 257  # 65535 -> 255
    return np.clip(np.nan_to_num(values.astype(np.float32)) * scale + 0.5, 0, 255).astype(np.uint8)


def _array_to_image(array: np.ndarray, input_data_format: str | ChannelDimension | None) -> Image.Image:
    """Read an array (height, width[, channels]) or (channels, height, width) as a picture."""
    if array.ndim not in (2, 3) or array.size == 0:
        raise ValueError(f"An image array needs 2 or 3 axes and some pixels, got the shape {array.shape}.")
    complaint = (
        f"An image array needs 1, 3 or 4 channels on its first or last axis, got the shape {array.shape}. "
        "Turn it into grey, RGB or RGBA; for grey with alpha, say where its channels are (input_data_format)."
    )
    if array.ndim == 2:
        array = array[..., None]
    else:
        # Two channels are not guessed: a picture that is two pixels high looks the same.
        if input_data_format is None and not {1, 3, 4} & {array.shape[0], array.shape[-1]}:
            raise ValueError(complaint)
        channels = input_data_format or infer_channel_dimension_format(array, num_channels=(1, 3, 4))
        if channels in (ChannelDimension.FIRST, ChannelDimension.FIRST.value):
            array = np.moveaxis(array, 0, -1)
    if array.shape[-1] > 4:
        raise ValueError(complaint)
    _check_size(array.shape[1], array.shape[0], "image array")
    array = np.ascontiguousarray(_to_eight_bits(array))
    return to_rgb(Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array))


class TrafficVLMImageProcessor(BaseImageProcessor):
    """Turns pictures into `pixel_values`: resize to a rectangle, scale to 0..1, normalise.

    Takes Pillow pictures, arrays and tensors (1, 3 or 4 channels, first or last, of 8 or 16 bits, or floats
    from 0 to 1), paths, http(s) and `data:` addresses, one or a list of them.

    Args:
        do_resize: Whether to resize, defaults to True.
        size: `{"height": ..., "width": ...}` in pixels, defaults to 160 x 288.
        resample: Pillow's filter, defaults to bilinear. Pillow widens it when it shrinks: nothing aliases.
        do_rescale: Whether to multiply by `rescale_factor`, defaults to True.
        rescale_factor: Defaults to 1 / 255.
        do_normalize: Whether to subtract the mean and divide by the standard deviation, defaults to True.
        image_mean: One value a channel, defaults to 0.5 (SigLIP's).
        image_std: One value a channel, defaults to 0.5 (SigLIP's).
        do_convert_rgb: Always True; kept because tools look for it.
    """

    model_input_names = ["pixel_values"]  # noqa: RUF012 (the base class's convention)

    def __init__(
        self,
        do_resize: bool = True,
        size: dict[str, int] | None = None,
        resample: int = PILImageResampling.BILINEAR,
        do_rescale: bool = True,
        rescale_factor: float = 1 / 255,
        do_normalize: bool = True,
        image_mean: float | list[float] | None = None,
        image_std: float | list[float] | None = None,
        do_convert_rgb: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.do_resize = do_resize
        self.size = _rectangle(size or {"height": 160, "width": 288})
        self.resample = int(resample)
        self.do_rescale = do_rescale
        self.rescale_factor = rescale_factor
        self.do_normalize = do_normalize
        self.image_mean = [0.5, 0.5, 0.5] if image_mean is None else image_mean
        self.image_std = [0.5, 0.5, 0.5] if image_std is None else image_std
        self.do_convert_rgb = do_convert_rgb

    def fetch_images(self, image_url_or_urls: Any) -> Any:
        """Open paths and addresses, at a reduced size where the format allows; leave pictures as they are."""
        if isinstance(image_url_or_urls, (list, tuple)):
            return [self.fetch_images(item) for item in image_url_or_urls]
        if isinstance(image_url_or_urls, (str, Path)):
            min_size = (self.size["height"], self.size["width"]) if self.do_resize else None
            return open_image(image_url_or_urls, min_size)
        return image_url_or_urls

    def preprocess(
        self,
        images: Any,
        do_resize: bool | None = None,
        size: dict[str, int] | None = None,
        resample: int | None = None,
        do_rescale: bool | None = None,
        rescale_factor: float | None = None,
        do_normalize: bool | None = None,
        image_mean: float | list[float] | None = None,
        image_std: float | list[float] | None = None,
        do_convert_rgb: bool | None = None,
        return_tensors: str | TensorType | None = None,
        data_format: str | ChannelDimension = ChannelDimension.FIRST,
        input_data_format: str | ChannelDimension | None = None,
    ) -> BatchFeature:
        """Turn one picture or several into `pixel_values`; every argument left out is the processor's own.

        Returns:
            `pixel_values`, float32, `(num_images, 3, height, width)`.

        Raises:
            ValueError: If a picture is empty, damaged, absurdly large or of no known kind, or if pictures of
                different sizes are not resized.
            OSError: If a file or an address cannot be read.
        """
        do_resize = self.do_resize if do_resize is None else do_resize
        size = self.size if size is None else _rectangle(size)
        resample = self.resample if resample is None else int(resample)
        scale = self.rescale_factor if rescale_factor is None else rescale_factor
        do_rescale = self.do_rescale if do_rescale is None else do_rescale
        do_normalize = self.do_normalize if do_normalize is None else do_normalize
        mean = np.asarray(self.image_mean if image_mean is None else image_mean, dtype=np.float32)
        std = np.asarray(self.image_std if image_std is None else image_std, dtype=np.float32)
        if do_normalize and (mean.size not in (1, 3) or std.size not in (1, 3) or (std == 0).any()):
            raise ValueError("image_mean and image_std need one value or three, and no zero deviation.")
        min_size = (size["height"], size["width"]) if do_resize else None

        frames = []
        for image in _as_list(images):
            picture, was_fraction = _load(image, min_size, input_data_format)
            if do_resize and picture.size != (size["width"], size["height"]):
                # The same call that packs the training frames, so that training and use see the same pixels.
                picture = picture.resize((size["width"], size["height"]), resample, reducing_gap=2.0)
            pixels: np.ndarray = np.asarray(picture, dtype=np.float32)
            if do_rescale:
                pixels = pixels * scale
            elif was_fraction:
                pixels = pixels / 255  # fractions came in, so fractions go out
            frames.append((pixels - mean) / std if do_normalize else pixels)
        if len({frame.shape for frame in frames}) > 1:
            raise ValueError("Pictures of different sizes can only be batched with do_resize=True.")
        pixel_values = np.stack(frames).astype(np.float32)
        if data_format in (ChannelDimension.FIRST, ChannelDimension.FIRST.value):
            pixel_values = np.ascontiguousarray(pixel_values.transpose(0, 3, 1, 2))
        return BatchFeature({"pixel_values": pixel_values}, tensor_type=return_tensors)


def _rectangle(size: Any) -> dict[str, int]:
    size = dict(get_size_dict(size))
    if set(size) != {"height", "width"} or min(size.values()) < 1:
        raise ValueError(f"size must hold a positive 'height' and 'width', got {size}.")
    return size


def _as_list(images: Any) -> list[Any]:
    """Unpack one picture, a batch array, or lists of them however nested, into a flat list."""
    if isinstance(images, (list, tuple)):
        flat = [image for item in images for image in _as_list(item)]
    else:
        is_batch = getattr(images, "ndim", 0) == 4
        flat = list(images) if is_batch else [images]
    if not flat:
        raise ValueError("There is no picture to look at.")
    return flat


def _load(
    image: Any, min_size: tuple[int, int] | None, input_data_format: str | ChannelDimension | None
) -> tuple[Image.Image, bool]:
    """Return the picture as RGB, and whether it came as fractions from 0 to 1."""
    if isinstance(image, (str, Path)):
        return open_image(image, min_size), False
    if isinstance(image, Image.Image):
        _check_size(image.width, image.height, getattr(image, "filename", "") or "image")
        try:
            return to_rgb(image), False
        except (OSError, SyntaxError) as error:
            name = getattr(image, "filename", "") or "image"
            raise ValueError(f"{name}: damaged or truncated picture ({error}).") from error
    if isinstance(image, np.ndarray) or hasattr(image, "__array__"):
        if getattr(getattr(image, "dtype", None), "is_floating_point", False):
            image = image.float()  # a tensor, perhaps of bfloat16, which NumPy lacks
        array = to_numpy_array(image)
        fractions = array.dtype.kind == "f" and array.size > 0 and array.max() <= 1
        return _array_to_image(array, input_data_format), bool(fractions)
    raise ValueError(
        f"Cannot read a picture from a {type(image).__name__}; give a path, a picture or an array."
    )


TrafficVLMImageProcessor.register_for_auto_class("AutoImageProcessor")
