"""Images of requests: their size is looked at before they are decoded, so that a small file that unpacks to gigabytes costs nothing."""

from __future__ import annotations

import base64
import binascii
import io
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["FORMATS", "TooLarge", "Unreadable", "decoded", "png"]

Pixels = npt.NDArray[np.uint8]

#: What is read; others (TIFF, EPS, …) have readers that do much more than a picture needs.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")


class TooLarge(ValueError):
    """An image of more pixels than are taken."""


class Unreadable(ValueError):
    """No image, or a damaged one."""


def decoded(data: str, pixels: int) -> Image.Image:
    """An image from base64, with or without ``data:image/…;base64,`` before it; of several frames the first.

    Args:
        pixels: at most so many (width · height) are decoded.

    Raises:
        TooLarge, Unreadable: as they say.
    """
    from PIL import Image

    try:
        raw = base64.b64decode(data.partition(",")[2] if data.startswith("data:") else data, validate=True)
    except (binascii.Error, ValueError):
        raise Unreadable("image: expected base64 of a file") from None
    try:
        image = Image.open(io.BytesIO(raw), formats=FORMATS)
    except Image.DecompressionBombError:
        raise TooLarge(f"image: too many pixels; at most {pixels:,} are taken") from None
    except Exception:  # readers of damaged files raise anything
        raise Unreadable(f"image: cannot be read; expected one of {', '.join(FORMATS)}") from None
    width, height = image.size
    if width * height > pixels:
        raise TooLarge(f"image: {width} × {height} pixels; at most {pixels:,} are taken")
    try:
        image.load()
    except Exception:
        raise Unreadable(f"image: the {image.format} file is damaged or cut off") from None
    return image


def png(pixels: Pixels) -> bytes:
    """(h w c) uint8 as a PNG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "PNG")
    return file.getvalue()


def as_text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
