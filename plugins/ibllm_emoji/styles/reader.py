"""The data's own reader: which thing a picture shows and whose style it has, by the nearest real drawings. Torch-free.

A thing is recognised by its outline and by where its colours are, whatever its size: the picture is cropped to what is drawn, and described by
histograms of oriented gradients (Dalal and Triggs 2005) beside its blurred colours. A style is told by the pixels, blurred a little.

Shapes: b pictures, s styles, n concepts, h w c pixels, k numbers of a description.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

#: Side of the picture that is described, in pixels; that of a cell; orientations; weight of colours beside gradients.
_SIDE, _CELL, _BINS, _COLOUR = 32, 4, 8, 0.15
#: What differs from white by so much is drawn.
_INK = 24
#: Blur of the pixels that tell a style, as a share of the side.
_BLUR = 1 / 32
#: Pictures that are described at once.
_AT_ONCE = 512


def cropped(images: U8) -> F32:
    """(b h w c) → (b 32 32 c) in [0, 1]: what is drawn, in the middle of a square that it fills; a blank picture stays blank."""
    from PIL import Image
    from scipy.ndimage import uniform_filter

    ink = uniform_filter(255 - images.min(-1).astype(np.float32), (0, 3, 3), mode="nearest") > _INK
    out = np.empty((len(images), _SIDE, _SIDE, images.shape[-1]), dtype=np.float32)
    for place, (image, drawn) in enumerate(zip(images, ink, strict=True)):
        rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
        top, bottom, left, right = (rows[0], rows[-1], columns[0], columns[-1]) if len(rows) else (0, image.shape[0], 0, image.shape[1])
        middle_x, middle_y, half = (left + right + 1) / 2, (top + bottom + 1) / 2, max(bottom - top, right - left) / 2 + 1
        box = (middle_x - half, middle_y - half, middle_x + half, middle_y + half)
        # Outside of the picture there is nothing, which the inverse shows as white.
        inverse = Image.fromarray(255 - image).transform((_SIDE, _SIDE), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)
        out[place] = 1 - np.asarray(inverse, dtype=np.float32) / 255
    return out


def described(images: U8) -> F32:
    """(b h w c) → (b k): what a thing is recognised by."""
    parts = [_described(images[start : start + _AT_ONCE]) for start in range(0, len(images), _AT_ONCE)]
    return np.concatenate(parts) if parts else np.empty((0, 0), dtype=np.float32)


def _described(images: U8) -> F32:
    from scipy.ndimage import gaussian_filter

    crop = cropped(images)
    soft = gaussian_filter(crop, (0, 0.5, 0.5, 0))
    down, right = np.gradient(soft, axis=1), np.gradient(soft, axis=2)
    size = np.hypot(down, right)
    strongest = size.argmax(-1)[..., None]
    down, right, size = (np.take_along_axis(some, strongest, -1)[..., 0] for some in (down, right, size))
    turn = np.arctan2(down, right) % np.pi / np.pi * _BINS
    low = np.floor(turn).astype(np.int64)
    bins = np.zeros((*size.shape, _BINS), dtype=np.float32)
    np.put_along_axis(bins, (low % _BINS)[..., None], (size * (1 - (turn - low)))[..., None], -1)
    above = np.take_along_axis(bins, ((low + 1) % _BINS)[..., None], -1)
    np.put_along_axis(bins, ((low + 1) % _BINS)[..., None], above + (size * (turn - low))[..., None], -1)
    middle = slice(_CELL // 2, None, _CELL)
    cells = gaussian_filter(bins, (0, _CELL / 2, _CELL / 2, 0))[:, middle, middle].reshape(len(images), -1)
    # The square root of a histogram of sum 1 has length 1, and then Euclidean distance is Hellinger's.
    cells = np.sqrt(cells / np.maximum(cells.sum(1, keepdims=True), 1e-6))
    colours = gaussian_filter(crop, (0, _CELL / 2, _CELL / 2, 0))[:, middle, middle].reshape(len(images), -1)
    return np.concatenate([cells, _COLOUR * colours], 1).astype(np.float32)


def blurred(images: U8) -> F32:
    """(b h w c) → (b k): what a style is told by."""
    from scipy.ndimage import gaussian_filter

    width = _BLUR * images.shape[1]
    soft = gaussian_filter(images.astype(np.float32) / 255, (0, width, width, 0))
    found: F32 = soft.reshape(len(images), -1)
    return found


def nearest(queries: F32, bank: F32) -> I64:
    """(b k), (n k) → (b) the number of the nearest row of the bank; the first of equally near ones."""
    found: I64 = ((bank * bank).sum(1) - 2 * queries @ bank.T).argmin(1)
    return found


@attrs.frozen(eq=False)
class Reader:
    """Reads pictures by the real drawings of a gallery.

    Attributes:
        things: (s n k) descriptions of the real drawings.
        images: (s n h w c) the drawings.
        looks: (s n) equal where drawings of a style are the same to the eye.
    """

    things: F32
    images: U8
    looks: I64

    @classmethod
    def of(cls, gallery: Any) -> Reader:
        """The reader of a `dataset.Gallery`."""
        return cls(np.stack([described(some) for some in gallery.images]), gallery.images, gallery.looks)

    def concept_right(self, images: U8, concepts: I64, styles: I64) -> npt.NDArray[np.bool_]:
        """(b h w c), (b), (b) → (b): among all real drawings of the style, the nearest is of the concept, or looks like it."""
        queries, right = described(images), np.zeros(len(images), dtype=np.bool_)
        for style in np.unique(styles).tolist():
            rows = np.flatnonzero(styles == style)
            found = nearest(queries[rows], self.things[style])
            right[rows] = self.looks[style, found] == self.looks[style, concepts[rows]]
        return right

    def style_right(self, images: U8, concepts: I64, styles: I64) -> npt.NDArray[np.bool_]:
        """(b h w c), (b), (b) → (b): among the four artists' drawings of the concept, the nearest is that of the style."""
        queries = blurred(images)
        distances = [np.square(queries - blurred(self.images[style, concepts])).sum(1) for style in range(len(self.images))]
        found: npt.NDArray[np.bool_] = np.argmin(distances, axis=0) == styles
        return found
