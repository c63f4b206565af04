"""The data's own reader: which thing a picture shows, by the nearest real drawing, and whose style it has, by the nearest style. Torch-free.

A thing is recognised by its outline and by where its colours are, whatever its size: the picture is cropped to what is drawn, and described by
histograms of oriented gradients (Dalal and Triggs 2005) beside its blurred colours. A style is told by its palette and by how far drawings
reach, whatever they show: by the nearest of four means after Fisher's linear discriminant, which is fitted to the training drawings.

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
#: Steps of a palette's axes, parts of a margin, and the share of the mean variance that is added to each of the discriminant's.
_STEPS, _PARTS, _RIDGE = 8, 16, 0.03
#: Blur of drawings, as a share of the side, that are fitted beside the sharp ones, so that a soft drawing is of no other style.
_BLUR = 0.7 / 32
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


def manner(images: U8) -> F32:
    """(b h w c) → (b k): what a style is told by, the square roots of a histogram of colours, and how far into the margins drawings reach."""
    parts = [_manner(images[start : start + _AT_ONCE]) for start in range(0, len(images), _AT_ONCE)]
    return np.concatenate(parts) if parts else np.empty((0, 0), dtype=np.float32)


def _manner(images: U8) -> F32:
    count, height, width = images.shape[:3]
    # A pixel counts for the eight colours around it, the more the nearer they are.
    places = images.reshape(count, -1, 3).astype(np.float32) / 255 * (_STEPS - 1)
    low = np.clip(np.floor(places), 0, _STEPS - 2)
    part = places - low
    first = np.arange(count)[:, None] * _STEPS**3 + (low.astype(np.int64) * (_STEPS**2, _STEPS, 1)).sum(-1)
    colours = np.zeros(count * _STEPS**3)
    for corner in np.ndindex(2, 2, 2):
        weight = np.where(corner, part, 1 - part).prod(-1)
        colours += np.bincount((first + np.dot(corner, (_STEPS**2, _STEPS, 1))).ravel(), weight.ravel(), len(colours))
    palette = np.sqrt(colours.reshape(count, -1) / (height * width))
    ink = 1 - images.min(-1).astype(np.float32) / 255
    margins = []
    for reach in (ink.max(2), ink.max(1)):
        edges = np.linspace(0, reach.shape[1], _PARTS + 1).astype(np.int64)
        means = np.add.reduceat(reach, edges[:-1], axis=1) / np.diff(edges)
        margins += [means[:, : _PARTS // 4], means[:, -(_PARTS // 4) :]]
    return np.concatenate([palette, *margins], 1).astype(np.float32)


def discriminant(described: F32, styles: I64) -> tuple[F32, F32]:
    """Fisher's linear discriminant of pictures (b k) of known styles (b), with a ridge → weights (k s) and offsets (s).

    The style of x is the largest of x·w + o, which is the nearest mean by Mahalanobis' distance.
    """
    means = np.stack([described[styles == style].mean(0) for style in range(int(styles.max()) + 1)])
    rest = described - means[styles]
    within = rest.T @ rest / len(rest)
    within += _RIDGE * np.trace(within) / len(within) * np.eye(len(within), dtype=np.float32)
    weights = np.linalg.solve(within, means.T).astype(np.float32)
    return weights, (-0.5 * (means.T * weights).sum(0)).astype(np.float32)


def nearest(queries: F32, bank: F32) -> I64:
    """(b k), (n k) → (b) the number of the nearest row of the bank; the first of equally near ones."""
    found: I64 = ((bank * bank).sum(1) - 2 * queries @ bank.T).argmin(1)
    return found


@attrs.frozen(eq=False)
class Reader:
    """Reads pictures by the real drawings of a gallery.

    Attributes:
        things: (s n k) descriptions of the real drawings.
        looks: (s n) equal where drawings of a style are the same to the eye.
        weights, offsets: (k s), (s) of the styles' discriminant.
    """

    things: F32
    looks: I64
    weights: F32
    offsets: F32

    @classmethod
    def of(cls, gallery: Any) -> Reader:
        """The reader of a `dataset.Gallery`: things are compared with all of its drawings, the discriminant of styles is fitted to the trained ones."""
        from scipy.ndimage import gaussian_filter

        trained = np.array(sorted({(style, number) for number, style, _ in gallery.items["train"]}), dtype=np.int64)
        sharp = gallery.images[trained[:, 0], trained[:, 1]]
        blur = _BLUR * sharp.shape[1]
        soft = gaussian_filter(sharp, (0, blur, blur, 0))
        fitted = discriminant(np.concatenate([manner(sharp), manner(soft)]), np.tile(trained[:, 0], 2))
        return cls(np.stack([described(some) for some in gallery.images]), gallery.looks, *fitted)

    def concept_right(self, images: U8, concepts: I64, styles: I64) -> npt.NDArray[np.bool_]:
        """(b h w c), (b), (b) → (b): among all real drawings of the style, the nearest is of the concept, or looks like it."""
        queries, right = described(images), np.zeros(len(images), dtype=np.bool_)
        for style in np.unique(styles).tolist():
            rows = np.flatnonzero(styles == style)
            found = nearest(queries[rows], self.things[style])
            right[rows] = self.looks[style, found] == self.looks[style, concepts[rows]]
        return right

    def style_right(self, images: U8, styles: I64) -> npt.NDArray[np.bool_]:
        """(b h w c), (b) → (b): the nearest of the four styles is that one."""
        found: npt.NDArray[np.bool_] = (manner(images) @ self.weights + self.offsets).argmax(1) == styles
        return found
