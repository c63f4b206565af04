"""The analysis behind the reader: which pixels are objects, and which shape, size, colour and centre draws each of them best."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from ibllm_shapes.config import MOST
from ibllm_shapes.render import BACKGROUND, PALETTE, coverage, distances, patch_size
from ibllm_shapes.scenes import GRIDS, SIZES

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

#: A pixel belongs to some object if a channel differs from the background by this much (of 0..1): far above noise, and a third of the
#: weakest colour's strongest channel (green, 0.59).
FOREGROUND = 0.2
#: Fewer pixels than this (at size 32) are no object: the smallest, a small cross, covers 28.
FEWEST_PIXELS = 10
#: Hypotheses of shape and size whose centre is fitted, and Gauss–Newton steps of that fit.
FINALISTS, FIT_STEPS = 3, 4

#: (colours 3) each colour minus the background, of 0..1.
CONTRAST = ((PALETTE - BACKGROUND) / 255).astype(np.float32)


def _components(mask: Bool) -> I64:
    """(b h w) a number for each 4-connected component, 0 outside."""
    b, h, w = mask.shape
    labels = np.where(mask, np.arange(1, b * h * w + 1).reshape(b, h, w), 0)
    while True:
        grown = labels.copy()
        np.maximum(grown[:, 1:], labels[:, :-1], out=grown[:, 1:])
        np.maximum(grown[:, :-1], grown[:, 1:] * mask[:, :-1], out=grown[:, :-1])
        np.maximum(grown[:, :, 1:], grown[:, :, :-1], out=grown[:, :, 1:])
        np.maximum(grown[:, :, :-1], grown[:, :, 1:] * mask[:, :, :-1], out=grown[:, :, :-1])
        grown *= mask
        if np.array_equal(grown, labels):
            return labels
        labels = grown


def _grid_cells(whole: npt.NDArray[Any], h: int, w: int, grid: int, back: bool = False) -> npt.NDArray[Any]:
    """(b h w) → (b·grid² h/grid w/grid), the cells as pictures of their own, or `back`: neighbours whose tips meet stay apart."""
    if back:
        return whole.reshape(-1, grid, grid, h // grid, w // grid).swapaxes(2, 3).reshape(-1, h, w)
    return whole.reshape(-1, grid, h // grid, grid, w // grid).swapaxes(2, 3).reshape(-1, h // grid, w // grid)


def _box_centres(places: npt.NDArray[np.float64], member: I64, number: int) -> I64:
    """The middle between the least and the greatest place of each component's pixels."""
    least, most = np.full(number, np.inf), np.full(number, -np.inf)
    np.minimum.at(least, member, places)
    np.maximum.at(most, member, places)
    middle: I64 = np.rint((least + most) / 2).astype(np.int64)
    return middle


@attrs.frozen(eq=False)
class DetectedObjects:
    """The n objects found in a batch.

    Attributes:
        picture, slot: (n) the picture each belongs to and its number there.
        left, top: (n) the pixel corner nearest to the middle of its bounding box: the middle of its patch.
        x, y: (n) its centroid in pixels.
        colour: (n) place in `COLOURS`.
        owner: (b h w) 1 + number of the object a pixel belongs to; 0 for none.
    """

    picture: I64
    slot: I64
    left: I64
    top: I64
    x: F32
    y: F32
    colour: I64
    owner: I64


def detect_objects(difference: F32, placement: str, colours: int) -> tuple[DetectedObjects, I64]:
    """The objects of pictures that have no more than their placement allows, in one of the first `colours` colours, and the number of objects of
    every picture."""
    b, h, w, _ = difference.shape
    mask = np.abs(difference).max(axis=-1) > FOREGROUND
    grid = GRIDS.get(placement, 1)
    labels = _grid_cells(_components(_grid_cells(mask, h, w, grid)), h, w, grid, back=True)
    pixels = np.flatnonzero(labels)
    names, member = np.unique(labels.ravel()[pixels], return_inverse=True)
    area = np.bincount(member, minlength=len(names))
    picture_of = np.zeros(len(names), dtype=np.int64)
    picture_of[member] = pixels // (h * w)
    big = area >= FEWEST_PIXELS * h * w / 1024
    counts = np.bincount(picture_of[big], minlength=b)
    kept = big & (counts[picture_of] <= MOST[placement])
    number = np.where(kept, np.cumsum(kept), 0)
    owner = np.zeros(b * h * w, dtype=np.int64)
    owner[pixels] = number[member]

    strength = np.abs(difference).reshape(-1, 3)[pixels].sum(axis=-1)
    total = np.bincount(member, strength, minlength=len(names))
    rows, columns = pixels // w % h + 0.5, pixels % w + 0.5
    left, top = _box_centres(columns, member, len(names)), _box_centres(rows, member, len(names))
    x = np.bincount(member, strength * columns, minlength=len(names)) / total
    y = np.bincount(member, strength * rows, minlength=len(names)) / total
    contrast_sum = np.stack([np.bincount(member, difference.reshape(-1, 3)[pixels, k], minlength=len(names)) for k in range(3)], axis=-1)
    # Fading keeps the direction from the background to a colour, and the residual sees the fading.
    direction = CONTRAST[:colours] / np.linalg.norm(CONTRAST[:colours], axis=-1, keepdims=True)
    colour = (contrast_sum @ direction.T).argmax(axis=-1)
    picture = picture_of[kept]
    # Components are numbered picture by picture.
    slot = np.arange(len(picture)) - np.searchsorted(picture, picture, side="left")
    centroid = (x[kept].astype(np.float32), y[kept].astype(np.float32))
    return DetectedObjects(picture, slot, left[kept], top[kept], *centroid, colour[kept], owner.reshape(b, h, w)), counts


def patches(difference: F32, found: DetectedObjects) -> F32:
    """(n p p) how much of its colour each pixel near an object shows, other objects' pixels as 0."""
    side = difference.shape[1]
    patch = patch_size(side)
    steps = np.arange(patch) - patch // 2
    rows, columns = found.top[:, None, None] + steps[None, :, None], found.left[:, None, None] + steps[None, None, :]
    inside = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)
    rows, columns = rows.clip(0, side - 1), columns.clip(0, side - 1)
    picture = found.picture[:, None, None]
    owner = found.owner[picture, rows, columns]
    own = inside & ((owner == 0) | (owner == np.arange(1, len(found.left) + 1)[:, None, None]))
    contrast = CONTRAST[found.colour]
    contrast = contrast / (contrast**2).sum(axis=-1, keepdims=True)
    amount = np.einsum("npqc,nc->npq", difference[picture, rows, columns], contrast)
    return np.where(own, amount, np.float32(0))


def _centroid_offsets(side: int, forms: int) -> F32:
    """(shapes sizes) how far below its centre each object's centroid lies, in pixels."""
    shape, size = np.divmod(np.arange(forms * len(SIZES)), len(SIZES))
    zero = np.zeros(len(shape))
    alpha = coverage(distances(shape, size, zero, zero, side))
    rows = np.arange(alpha.shape[1], dtype=np.float32) + 0.5 - alpha.shape[1] / 2
    offsets: F32 = ((alpha.sum(axis=2) * rows).sum(axis=1) / alpha.sum(axis=(1, 2))).reshape(forms, len(SIZES))
    return offsets


def fit_objects(amount: F32, dx: F32, dy: F32, side: int, forms: int) -> tuple[I64, I64, F32, F32]:
    """Shape, size and centre (relative to the patch's middle) of the drawing nearest to each patch, from its centroid (dx, dy).

    Args:
        forms: the first so many shapes are tried.
    """
    n, kinds = len(amount), forms * len(SIZES)
    shape, size = np.divmod(np.arange(kinds), len(SIZES))
    scale = side / 32
    # What no object shows, a stain with its centroid far from its middle, must not lead out of the patch.
    dx, dy = np.clip(dx, -2 * scale, 2 * scale).astype(np.float32), np.clip(dy, -2 * scale, 2 * scale).astype(np.float32)
    offsets = _centroid_offsets(side, forms).ravel()
    start_x, start_y = np.repeat(dx[:, None], kinds, axis=1), dy[:, None] - offsets[None, :]
    trial = coverage(distances(np.tile(shape, n), np.tile(size, n), start_x.ravel(), start_y.ravel(), side))
    error = ((trial.reshape(n, kinds, *amount.shape[1:]) - amount[:, None]) ** 2).sum(axis=(2, 3))
    best = np.argsort(error, axis=1)[:, :FINALISTS]
    kind = best.ravel()
    goal = np.repeat(amount, FINALISTS, axis=0)
    x, y = np.take_along_axis(start_x, best, axis=1).ravel(), np.take_along_axis(start_y, best, axis=1).ravel()

    def draw(px: F32, py: F32) -> F32:
        return coverage(distances(shape[kind], size[kind], px, py, side))

    h = np.float32(0.25)
    least, best_x, best_y = np.full(len(kind), np.inf), x, y
    for step in range(FIT_STEPS + 1):
        rest = goal - draw(x, y)
        error = (rest**2).sum(axis=(1, 2))
        better = error < least
        least, best_x, best_y = np.where(better, error, least), np.where(better, x, best_x), np.where(better, y, best_y)
        if step == FIT_STEPS:
            break
        gx, gy = (draw(x + h, y) - draw(x - h, y)) / (2 * h), (draw(x, y + h) - draw(x, y - h)) / (2 * h)
        xx, yy, xy = (gx * gx).sum(axis=(1, 2)), (gy * gy).sum(axis=(1, 2)), (gx * gy).sum(axis=(1, 2))
        rx, ry = (gx * rest).sum(axis=(1, 2)), (gy * rest).sum(axis=(1, 2))
        # Every shape has edges in both directions, so the determinant is far from 0.
        determinant = xx * yy - xy * xy
        x = (x + np.clip((yy * rx - xy * ry) / determinant, -scale, scale)).clip(-3 * scale, 3 * scale)
        y = (y + np.clip((xx * ry - xy * rx) / determinant, -scale, scale)).clip(-3 * scale, 3 * scale)
    winner = np.arange(n) * FINALISTS + least.reshape(n, FINALISTS).argmin(axis=1)
    return shape[kind[winner]], size[kind[winner]], best_x[winner].astype(np.float32), best_y[winner].astype(np.float32)
