"""Drawings as pixels: OpenMoji's colour font through Pillow with RAQM."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ibllm.plugin import UserError
from ibllm_emoji.openmoji.catalogue import missing_extra, packages

U8 = npt.NDArray[np.uint8]
# The font's geometry: a drawing is 72 units square and as wide as its advance, 330 of 256 em; its baseline lies 58.05 units from the top.
_ADVANCE = 330 / 256
_BASELINE = 58.05 / 72
# Two drawings are the same to the eye below this root mean square difference, as a fraction of the full range. OpenMoji draws "cook" and "man
# cook" with differences of one grey level (0.0017); the nearest drawings that really differ are at 0.013.
SAME = 0.01


def render(texts: Sequence[str], size: int, background: tuple[int, int, int]) -> U8:
    """texts n → images (n size size 3) uint8. Raises `UserError` where Pillow or its text layout is missing."""
    openmoji, _ = packages()
    try:
        from PIL import Image, ImageDraw, ImageFont, features
    except ImportError:
        raise missing_extra("the package pillow") from None
    if not features.check("raqm"):
        raise UserError(
            "the dataset openmoji needs Pillow with RAQM (sequences of code points become one drawing): install the wheels of pillow from PyPI"
        )
    scale = 2  # drawn twice as large and averaged: the font's hinting moves lines by less than a pixel
    from importlib.resources import as_file

    with as_file(openmoji.get_openmoji_font_data() / "glyf_colr0.ttf") as path:
        font = ImageFont.truetype(str(path), size * scale / _ADVANCE, layout_engine=ImageFont.Layout.RAQM)
        images = np.empty((len(texts), size, size, 3), dtype=np.uint8)
        for n, text in enumerate(texts):
            image = Image.new("RGB", (size * scale, size * scale), background)
            ImageDraw.Draw(image).text((0, _BASELINE * size * scale), text, font=font, embedded_color=True, anchor="ls", fill=(0, 0, 0))
            images[n] = np.asarray(image.reduce(scale))
    return images


def near_duplicates(images: U8, limit: float = SAME) -> list[tuple[int, int]]:
    """images (n h w c) → the pairs i < j that are the same to the eye: their root mean square difference is at most `limit` of the range."""
    flat = images.reshape(len(images), -1).astype(np.float32) / 255
    flat -= flat.mean(0)
    squares = (flat * flat).sum(1)
    pairs = []
    for start in range(0, len(flat), 512):
        rows = slice(start, start + 512)
        distance = squares[rows, None] + squares[None] - 2 * flat[rows] @ flat.T
        near_i, near_j = np.nonzero(distance <= limit**2 * flat.shape[1])
        pairs += [(int(i) + start, int(j)) for i, j in zip(near_i, near_j, strict=True) if i + start < j]
    return pairs
