"""Windows drawn together. Shapes: k windows, c h w a window's pixels or its latents, H W the world's.

A decoder that draws in steps (`Joint`) has the velocities of overlapping windows averaged at every step (MultiDiffusion, Bar-Tal et al. 2023, for flows):
windows start from one world of noise, so what they share stays the same. Any other draws each window by itself, all with the same noise,
and the drawings are blended.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Protocol, cast, runtime_checkable

import attrs
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ibllm.plugin import Latent, LatentCodec, Rng, TextEncoder, Tokens, concatenate_latents, to_pixels, to_tokens
from ibllm_core.model.model import Model

from .plan import Plan

U8 = npt.NDArray[np.uint8]


@runtime_checkable
class Joint(Protocol):
    """An image decoder whose images may be drawn together."""

    def sample_together(self, z: Latent, noise: Tensor, share: Callable[[Tensor], Tensor], batch: int = ...) -> Tensor:
        """Draws from standard normal noise (b c h w); at every step `share` makes of all velocities (b c h w) those that are gone along.

        Args:
            batch: items a forward pass.
        """


@attrs.frozen(eq=False)
class Drawn:
    """A world and its windows.

    Attributes:
        world: (H W c).
        windows: (k h w c) as each was drawn.
        together: they were denoised together.
    """

    world: U8
    windows: U8
    together: bool


def grain(model: Model) -> int:
    """Pixels that windows have to lie on multiples of: a latent's, where windows of latents are drawn together."""
    if model.works_on != "latents" or not isinstance(model.part("image_decoder"), Joint):
        return 1
    return model.image_shape[1] // cast(LatentCodec, model.part("image_tokenizer")).latent_shape[1]


def draw_windows(model: Model, plan: Plan, seed: int, batch: int, best_of: int = 1) -> Drawn:
    """Draws all windows and blends them by their weights.

    Args:
        best_of: drawings of each window, of which those are taken that fit best where they overlap (`ibllm_scene.choosing`).
    """
    decoder = model.part("image_decoder")
    with model.inference():
        z = _latents(model, [window.caption for window in plan.windows], batch)
        images = (
            _together(model, decoder, z, plan, seed, batch) if isinstance(decoder, Joint) else _singly(model, z, plan, seed, batch, best_of)
        ).float()
        canvas = _Canvas(
            torch.from_numpy(plan.pixels()).to(model.device), torch.from_numpy(plan.weights).to(images), plan.height * plan.width
        )
        world = canvas.mean(images).view(1, -1, plan.height, plan.width)
        return Drawn(to_pixels(world)[0], to_pixels(images), isinstance(decoder, Joint))


def _latents(model: Model, captions: list[str], batch: int) -> Latent:
    """The k captions' latents, all of one length."""
    tokens = to_tokens(model.tokenizers["text_encoder"], captions).to(model.device)
    encoder = cast(TextEncoder, model.part("text_encoder"))
    parts = [encoder(Tokens(tokens.ids[rows], tokens.mask[rows])) for rows in _slices(len(captions), batch)]
    return functools.reduce(concatenate_latents, parts)


def _singly(model: Model, z: Latent, plan: Plan, seed: int, batch: int, best_of: int) -> Tensor:
    """(k c h w) images in [−1, 1]. All have the same noise: what it decides, a style say, is the same all around."""

    def drawn(number: int) -> Tensor:
        noise = [Rng((seed, "scene"), np.full(rows.stop - rows.start, number), model.device) for rows in _slices(len(z), batch)]
        return torch.cat([model.sample_image(z.rows(rows), rng) for rows, rng in zip(_slices(len(z), batch), noise, strict=True)])

    if best_of == 1:
        return drawn(0)
    from .choosing import fitting

    return fitting(plan, torch.stack([drawn(number) for number in range(best_of)]))


def _together(model: Model, decoder: Joint, z: Latent, plan: Plan, seed: int, batch: int) -> Tensor:
    """(k c h w) images in [−1, 1]."""
    step, places, weights = grain(model), torch.from_numpy(plan.pixels()), torch.from_numpy(plan.weights).float()
    channels, wide = model.image_shape[0], plan.width // step
    if step > 1:
        channels = cast(LatentCodec, model.part("image_tokenizer")).latent_shape[0]
        # A latent counts as its least pixel does, so that none of it shows what its window has no say in.
        weights = -F.max_pool2d(-weights[:, None], step)[:, 0]
        corner = places[:, ::step, ::step]
        places = corner // plan.width // step * wide + corner % plan.width // step
    size = plan.height // step * wide
    canvas = _Canvas(places.to(model.device), weights.to(model.device), size)
    noise = Rng((seed, "scene"), [0], model.device).normal(channels, size)[0]
    drawn = decoder.sample_together(z, noise[:, canvas.places].transpose(0, 1), canvas.shared, batch)
    return torch.cat([model.decode_image(drawn[rows]) for rows in _slices(len(drawn), batch)])


def _slices(total: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]


class _Canvas:
    """Weighted means over windows.

    Args:
        places: (k h w) each pixel's place among the world's.
        weights: (k h w).
        size: H·W.
    """

    def __init__(self, places: Tensor, weights: Tensor, size: int) -> None:
        self.places, self.weights = places, weights
        self.total = weights.new_zeros(size).index_add_(0, places.flatten(), weights.flatten())

    def mean(self, values: Tensor) -> Tensor:
        """(k c h w) → (c H·W)."""
        weighted = (values * self.weights[:, None].to(values.dtype)).transpose(0, 1).flatten(1)
        summed = values.new_zeros(values.shape[1], len(self.total)).index_add_(1, self.places.flatten(), weighted)
        return summed / self.total.clamp(min=torch.finfo(torch.float32).tiny).to(values.dtype)

    def shared(self, values: Tensor) -> Tensor:
        """(k c h w) → the same with the means in the place of whatever counts; where a window does not count it keeps its own."""
        means = self.mean(values)[:, self.places].transpose(0, 1)
        return torch.where(self.weights[:, None] > 0, means, values)
