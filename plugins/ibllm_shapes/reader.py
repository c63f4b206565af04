"""Reads scenes back from pixels by analysis: find the objects, try every shape and size, fit the centre, draw the result and compare.

No part of it is trained. A picture that no scene explains within the limits below is refused, so a blurred, blended, faded or speckled
picture counts as wrong however much a person would recognise in it.
"""

from __future__ import annotations

import functools
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from ibllm_shapes.analysis import CONTRAST, DetectedObjects, detect_objects, fit_objects, patches
from ibllm_shapes.config import MOST
from ibllm_shapes.render import BACKGROUND, coverage, distances, patch_size
from ibllm_shapes.scenes import GRIDS, SHAPES, SIZES, Scenes

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

#: Pixels up to this far (at size 32) outside an object's edge are its neighbourhood, all others are background.
NEIGHBOURHOOD = 1.5
#: The blur that must be refused: its standard deviation in pixels at size 32.
BLUR = 0.8
#: An object's form may deviate from the drawing by this much of what a Gaussian blur of `BLUR` leaves of the same shape and size. On such blurred
#: renderings the least seen is 0.94; a mean over jitter of ±0.5 px stays below 0.7, over ±1 px it has its median at 0.8.
FORM_LIMIT = 0.92
#: The root mean squared error of an object's mean colour, of 0..1: an error of 0.05 passes; fading by a fifth, alone or blended with another
#: scene, is 0.07 for the weakest colour, green, and up to 0.17.
COLOUR_LIMIT = 0.065
#: Root mean squared error of the background, of 0..1: noise of 0.02 passes, speckle of 0.08 (0.07 once clipped) does not.
BACKGROUND_LIMIT = 0.05
#: The background's greatest mean error over 3×3 pixels, and of one pixel, of 0..1: a fifth of the weakest colour, as a faint second scene shows
#: it, is 0.12; the softness that `FORM_LIMIT` allows spills at most 0.08 and 0.15 that far out.
SMUDGE_LIMIT, PIXEL_LIMIT = 0.1, 0.25


@attrs.frozen(eq=False)
class Reading:
    """What was read from a batch of pictures.

    Attributes:
        scenes: the best explanation of each picture, also of those refused; no objects where none or more than their placement has were found.
        clean: (b) whether there is an explanation within every limit: only then is it a reading.
        sound: (b k) which objects of `scenes` are within `FORM_LIMIT` and `COLOUR_LIMIT`, whatever the rest of the picture.
        form: (b) the worst object's deviation in form, see `FORM_LIMIT`; nan without objects.
        colour: (b) the worst object's deviation in colour, see `COLOUR_LIMIT`; nan without objects.
        background, smudge, pixel: (b) errors of the background, see `BACKGROUND_LIMIT` and `SMUDGE_LIMIT`, `PIXEL_LIMIT`.
    """

    scenes: Scenes
    clean: Bool
    sound: Bool
    form: F64
    colour: F64
    background: F64
    smudge: F64
    pixel: F64


def read(images: npt.NDArray[np.uint8], placement: str, colours: int = 8, forms: int = 6) -> Reading:
    """The scenes that explain pictures.

    Args:
        images: (b h w 3) with equal height and width.
        placement, colours, forms: as in `ibllm_shapes.config.ShapesConfig`.
    """
    difference = (images.astype(np.float32) - BACKGROUND) / np.float32(255)
    side = images.shape[1]
    found, counts = detect_objects(difference, placement, colours)
    shape, size, dx, dy = fit_objects(patches(difference, found), found.x - found.left, found.y - found.top, side, forms)
    distance = distances(shape, size, dx, dy, side)
    error, background = _compare(difference, found, distance)
    form, colour = _object_errors(error, found, distance)
    form /= _blurred_form(side)[shape, size]

    def worst(values: F64) -> F64:
        out = np.full(len(images), -np.inf)
        np.maximum.at(out, found.picture, values)
        return np.where(np.isinf(out), np.nan, out)

    outside = error * background[..., None]
    residuals = {
        "form": worst(form),
        "colour": worst(colour),
        "background": np.sqrt((outside.astype(np.float64) ** 2).sum(axis=(1, 2, 3)) / np.maximum(3 * background.sum(axis=(1, 2)), 1)),
        "smudge": np.abs(_box(outside)).max(axis=(1, 2, 3)).astype(np.float64),
        "pixel": np.abs(outside).max(axis=(1, 2, 3)).astype(np.float64),
    }
    limits = {"form": FORM_LIMIT, "colour": COLOUR_LIMIT, "background": BACKGROUND_LIMIT, "smudge": SMUDGE_LIMIT, "pixel": PIXEL_LIMIT}
    # nan, no objects, is within no limit.
    clean = np.logical_and.reduce([residuals[name] <= limit for name, limit in limits.items()])
    x, y = (found.left + dx).astype(np.float64), (found.top + dy).astype(np.float64)
    scenes = attrs.evolve(_scenes(found, counts, shape, size, x, y, side, placement), colours=colours, forms=forms)
    sound = np.zeros(scenes.cell.shape, dtype=bool)
    sound[found.picture, found.slot] = (form <= FORM_LIMIT) & (colour <= COLOUR_LIMIT)
    return Reading(scenes.sorted(), clean, np.take_along_axis(sound, scenes.order, axis=1), **residuals)


def _scenes(found: DetectedObjects, counts: I64, shape: I64, size: I64, x: F64, y: F64, side: int, placement: str) -> Scenes:
    """The objects found, picture by picture, in the order they were found."""

    def column(values: npt.NDArray[Any], empty: float) -> npt.NDArray[Any]:
        out = np.full((len(counts), MOST[placement]), empty, dtype=values.dtype)
        out[found.picture, found.slot] = values
        return out

    grid = GRIDS.get(placement, 1)
    row, place = (np.floor(values * grid / side).clip(0, grid - 1).astype(np.int64) for values in (y, x))
    return Scenes(
        count=np.where(counts <= MOST[placement], counts, 0),
        colour=column(found.colour, -1),
        shape=column(shape, -1),
        size=column(size, -1),
        cell=column(grid * row + place if placement in GRIDS else np.full_like(shape, -1), -1),
        x=column(x, np.nan),
        y=column(y, np.nan),
        image_size=side,
        placement=placement,
    )


def _compare(difference: F32, found: DetectedObjects, distance: F32) -> tuple[F32, Bool]:
    """(b h w 3) what the drawing of all objects leaves unexplained, and (b h w) which pixels are in no object's neighbourhood."""
    b, side = difference.shape[:2]
    patch = patch_size(side)
    margin, steps = patch // 2, np.arange(patch)
    wide = side + 2 * margin
    alpha = coverage(distance)
    drawn = np.zeros((b, wide, wide, 3), dtype=np.float32)
    nearest = np.full((b, wide, wide), np.inf, dtype=np.float32)
    for slot in range(int(found.slot.max(initial=-1)) + 1):
        k = np.flatnonzero(found.slot == slot)
        where = (found.picture[k, None, None], found.top[k, None, None] + steps[:, None], found.left[k, None, None] + steps[None, :])
        drawn[where] += alpha[k, ..., None] * CONTRAST[found.colour[k], None, None]
        nearest[where] = np.minimum(nearest[where], distance[k])
    inner = (slice(None), slice(margin, margin + side), slice(margin, margin + side))
    return difference - drawn[inner], nearest[inner] >= NEIGHBOURHOOD * side / 32


def _object_errors(error: F32, found: DetectedObjects, distance: F32) -> tuple[F64, F64]:
    """(n) each object's deviation in form and in colour.

    The mean colour's error is the error summed over the neighbourhood by the area drawn: blurring moves light and does not change it. Form is what
    remains without it: the root of the squared error by the squared drawing.
    """
    side, patch = error.shape[1], distance.shape[1]
    margin, steps = patch // 2, np.arange(patch)
    padded = np.pad(error, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    local = padded[found.picture[:, None, None], found.top[:, None, None] + steps[:, None], found.left[:, None, None] + steps[None, :]]
    near = (distance < NEIGHBOURHOOD * side / 32)[..., None]
    alpha = coverage(distance)[..., None]
    contrast = np.linalg.norm(CONTRAST[found.colour], axis=-1)
    mean_error = (local * near).sum(axis=(1, 2), keepdims=True) / alpha.sum(axis=(1, 2), keepdims=True)
    rest = (local - mean_error * alpha) * near
    form = np.sqrt((rest**2).sum(axis=(1, 2, 3)) / (alpha**2).sum(axis=(1, 2, 3))) / contrast
    return form.astype(np.float64), np.sqrt((mean_error[:, 0, 0] ** 2).mean(axis=-1)).astype(np.float64)


@functools.cache
def _blurred_form(side: int) -> F64:
    """(shapes sizes) the deviation in form of each object once blurred by `BLUR`: the least over centres within a pixel."""
    kinds, sigma, patch = len(SHAPES) * len(SIZES), BLUR * side / 32, patch_size(side)
    phase = (np.arange(4) + 0.5) / 4 - 0.5
    shape, size, x, y = (
        values.ravel() for values in np.meshgrid(np.arange(len(SHAPES)), np.arange(len(SIZES)), phase, phase, indexing="ij")
    )
    # The blur as a matrix: Gaussian weights between the pixels of an axis.
    axis = np.arange(patch)
    kernel = np.exp(-0.5 * ((axis[:, None] - axis[None, :]) / sigma) ** 2)
    kernel = (kernel / np.exp(-0.5 * (np.arange(-patch, patch + 1) / sigma) ** 2).sum()).astype(np.float32)
    distance = distances(shape, size, x, y, side)
    alpha = coverage(distance)
    rest = (kernel @ alpha @ kernel - alpha) * (distance < NEIGHBOURHOOD * side / 32)
    form = np.sqrt((rest.astype(np.float64) ** 2).sum(axis=(1, 2)) / (alpha**2).sum(axis=(1, 2)))
    least: F64 = form.reshape(kinds, -1).min(axis=1).reshape(len(SHAPES), len(SIZES))
    return least


def _box(values: F32) -> F32:
    """(b h w c) the mean over each pixel's 3×3 neighbours; beyond the picture's edge there is no error."""
    h, w = values.shape[1:3]
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = padded[:, :h] + padded[:, 1 : h + 1] + padded[:, 2:]
    mean: F32 = (rows[:, :, :w] + rows[:, :, 1 : w + 1] + rows[:, :, 2:]) / np.float32(9)
    return mean
