"""Drawing scenes: signed distances evaluated near each object, for the whole batch at once."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ibllm_shapes.scenes import HALF_WIDTHS, REACH, SHAPES, Scenes

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]

#: A dark neutral ground: all ten colours differ from it and from each other by at least 95 of 441 (Euclidean, 8 bits a channel).
BACKGROUND = np.array([24, 24, 24], dtype=np.float32)
#: In the order of `scenes.COLOURS`.
PALETTE = np.array(
    [
        *((225, 30, 40), (40, 175, 60), (40, 85, 250), (250, 230, 50), (180, 60, 215), (50, 215, 230), (255, 135, 24), (242, 242, 242)),
        *((255, 120, 180), (120, 240, 150)),
    ],
    dtype=np.float32,
)


def _circle(x: F32, y: F32, h: F32) -> F32:
    out: F32 = np.sqrt(x * x + y * y) - h
    return out


def _square(x: F32, y: F32, h: F32) -> F32:
    out: F32 = np.maximum(np.abs(x), np.abs(y)) - np.float32(0.9) * h
    return out


def _triangle(x: F32, y: F32, h: F32) -> F32:
    half, width = 0.95, 1.08
    norm = math.hypot(2 * half, width)
    side = np.abs(x) * np.float32(2 * half / norm) - (y + np.float32(half) * h) * np.float32(width / norm)
    out: F32 = np.maximum(side, y - np.float32(half) * h)
    return out


def _diamond(x: F32, y: F32, h: F32) -> F32:
    out: F32 = (np.abs(x) + np.abs(y) - np.float32(REACH) * h) * np.float32(math.sqrt(0.5))
    return out


def _cross(x: F32, y: F32, h: F32) -> F32:
    x, y = np.abs(x), np.abs(y)
    out: F32 = np.maximum(np.maximum(x, y) - h, np.minimum(x, y) - np.float32(0.35) * h)
    return out


def _ring(x: F32, y: F32, h: F32) -> F32:
    out: F32 = np.abs(np.sqrt(x * x + y * y) - np.float32(0.75) * h) - np.float32(0.25) * h
    return out


def _frame(x: F32, y: F32, h: F32) -> F32:
    out: F32 = np.abs(np.maximum(np.abs(x), np.abs(y)) - np.float32(0.72) * h) - np.float32(0.23) * h
    return out


def _heart(x: F32, y: F32, h: F32) -> F32:
    """Two discs, and the square on its corner that touches both from below."""
    x, root = np.abs(x), np.float32(math.sqrt(0.5))
    disc = np.sqrt((x - np.float32(0.5) * h) ** 2 + (y + np.float32(0.35) * h) ** 2) - np.float32(0.52) * h
    # Its sides leave the discs at right angles to their radii.
    corner = np.maximum((x + y) * root - np.float32(0.626) * h, (x - y) * root - np.float32(0.601) * h)
    out: F32 = np.minimum(disc, np.maximum(corner, -y - np.float32(0.35) * h))
    return out


def _pillar(x: F32, y: F32, h: F32) -> F32:
    out: F32 = np.maximum(np.abs(x) - np.float32(0.42) * h, np.abs(y) - np.float32(1.05) * h)
    return out


def _crescent(x: F32, y: F32, h: F32) -> F32:
    """A disc without what another one covers, which lies above it: horns up."""
    out: F32 = np.maximum(np.sqrt(x * x + y * y) - h, np.float32(0.72) * h - np.sqrt(x * x + (y + np.float32(0.55) * h) ** 2))
    return out


#: In the order of `scenes.SHAPES`: (x, y) from the centre, half width → signed distance, negative inside; exact inside and near straight edges.
_DISTANCES: tuple[Callable[[F32, F32, F32], F32], ...] = (
    *(_circle, _square, _triangle, _diamond, _cross, _ring),
    *(_frame, _heart, _pillar, _crescent),
)
assert len(_DISTANCES) == len(SHAPES)


def patch_size(image_size: int) -> int:
    """Height and width of the patch that holds any object, wherever its centre lies within the patch's two middle pixels."""
    return 2 * (math.ceil(REACH * max(HALF_WIDTHS) * image_size / 32) + 1)


def distances(shape: npt.ArrayLike, size: npt.ArrayLike, dx: npt.ArrayLike, dy: npt.ArrayLike, image_size: int) -> F32:
    """(n p p) signed distance in pixels of each patch pixel from an object's edge.

    Args:
        shape, size: (n) numbers.
        dx, dy: (n) the centre's place relative to the middle of the patch, in pixels.
    """
    shape = np.asarray(shape)
    patch = patch_size(image_size)
    axis = np.arange(patch, dtype=np.float32) + np.float32(0.5 - patch / 2)
    half = (np.array(HALF_WIDTHS, dtype=np.float32) * np.float32(image_size / 32))[np.asarray(size)]
    x = axis[None, :] - np.asarray(dx, dtype=np.float32)[:, None]
    y = axis[None, :] - np.asarray(dy, dtype=np.float32)[:, None]
    out = np.empty((len(shape), patch, patch), dtype=np.float32)
    for number, distance in enumerate(_DISTANCES):
        rows = np.flatnonzero(shape == number)
        if len(rows):
            out[rows] = distance(x[rows, None, :], y[rows, :, None], half[rows, None, None])
    return out


def coverage(distance: F32) -> F32:
    """How much of a pixel the object covers, in [0, 1], to first order: the edge taken as straight within the pixel."""
    out: F32 = np.clip(np.float32(0.5) - distance, np.float32(0), np.float32(1))
    return out


def render(scenes: Scenes) -> U8:
    """(b h w 3) the scenes drawn. Objects do not overlap, so they are simply added."""
    n, side, patch = len(scenes), scenes.image_size, patch_size(scenes.image_size)
    # The margin takes patches of centres anywhere in the image.
    margin = patch // 2
    wide = side + 2 * margin
    slot, rows = np.nonzero(scenes.present.T)
    x, y = scenes.x[rows, slot], scenes.y[rows, slot]
    left, top = np.rint(x).astype(np.int64), np.rint(y).astype(np.int64)
    alpha = coverage(distances(scenes.shape[rows, slot], scenes.size[rows, slot], x - left, y - top, side)).reshape(
        len(rows), patch * patch
    )
    contrast = (PALETTE - BACKGROUND)[scenes.colour[rows, slot]]
    # Patch (top + margin) - patch / 2 starts at row `top` of the wide canvas, since the margin is half a patch.
    square = (np.arange(patch)[:, None] * wide + np.arange(patch)[None, :]).ravel()
    places = (rows * (wide * wide) + top * wide + left)[:, None] + square[None, :]
    # Patches of one image may overlap though objects do not: they are added one object an image at a time.
    turns = np.split(np.arange(len(rows)), np.searchsorted(slot, range(1, scenes.colour.shape[1])))
    images = np.empty((n, side, side, 3), dtype=np.uint8)
    for channel in range(3):  # a plane is written several times as fast as three channels beside each other
        added = alpha * contrast[:, channel, None]
        pixels = np.rint(added, out=added).astype(np.uint8)
        canvas = np.full(n * wide * wide, BACKGROUND[channel], dtype=np.uint8)
        for turn in turns:
            canvas[places[turn]] += pixels[turn]
        images[..., channel] = canvas.reshape(n, wide, wide)[:, margin : margin + side, margin : margin + side]
    return images
