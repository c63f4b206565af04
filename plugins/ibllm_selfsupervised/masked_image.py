"""Masked image modelling. Shapes: b batch, c h w image, r s rows and columns of patches, n latent places, d latent width, p side of a patch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import Context, Cycle, Loss, Rng, UserError, at_least_float32
from ibllm_selfsupervised.config import MaskedImageConfig


def grid_of(places: int, height: int, width: int) -> tuple[int, int, int]:
    """Grids, rows and columns of a latent's places: as few grids, one after the other, as have the image's proportions.

    Raises `UserError` where no number of grids does.
    """
    for grids in range(1, places + 1):
        rows = math.isqrt(places // grids * height // width)
        if places % grids == 0 and rows and rows * width % height == 0 and grids * rows * (rows * width // height) == places:
            return grids, rows, rows * width // height
    raise UserError(f"masked_image: the image encoder gives {places} latent places, which form no grid of an image of {height} × {width}")


def random_patches(patches: int, ratio: float, rng: Rng) -> Tensor:
    """(b patches) bool, the same number hidden in every image: `ratio` of them, at least one and never all."""
    masked = min(max(1, round(ratio * patches)), patches - 1)
    return rng.uniform(patches).argsort(1).argsort(1) < masked


class MaskedImage(Loss):
    """E |y − ŷ| over the pixels of hidden patches, ŷ from the image encoder's latent of what is left: Xie et al. 2022 (SimMIM), section 3.

    A hidden patch is filled with one learned colour. The latent's places are brought to the grid of patches (the mean of those that a patch holds; the
    nearest one where they are fewer), and a hidden layer that also knows the patch's place draws its pixels; SimMIM's single linear layer
    would do only for encoders whose places are the patches.
    """

    def __init__(self, config: MaskedImageConfig, context: Context) -> None:
        super().__init__()
        self.config, p = config, config.patch
        c, h, w = context.image_shape
        self.rows, self.columns, d = h // p, w // p, context.latents["image_encoder"]
        if h % p or w % p or self.rows * self.columns < 2:
            raise ValueError(
                f"patch = {p}: expected a divisor of the images' height {h} and width {w}, so that there are at least two patches"
            )
        self.colour = nn.Parameter(torch.zeros(c))
        self.places = nn.Parameter(torch.randn(self.rows * self.columns, d) * 0.02)
        self.head = nn.Sequential(nn.Linear(d, d), nn.GELU(), nn.Linear(d, c * p * p))

    def draw(self, tokens: Tensor) -> Tensor:
        """Latent places (b n d) → (b r·s c·p·p), each patch's pixels."""
        grids, rows, columns = grid_of(tokens.shape[1], self.rows, self.columns)
        maps = tokens.reshape(len(tokens), grids, rows, columns, -1).mean(1).permute(0, 3, 1, 2)
        cells = F.adaptive_avg_pool2d(maps, (self.rows, self.columns)).flatten(2).transpose(1, 2)
        patches: Tensor = self.head(cells + self.places)
        return patches

    def forward(self, cycle: Cycle) -> Tensor:
        y, p = cycle.images, self.config.patch
        masked = random_patches(self.rows * self.columns, self.config.ratio, cycle.rng("masked_image"))
        mask = masked.view(-1, 1, self.rows, self.columns).repeat_interleave(p, 2).repeat_interleave(p, 3)
        z = cycle.model.part("image_encoder")(torch.where(mask, self.colour.to(y.dtype)[:, None, None], y))
        wanted = F.unfold(y, p, stride=p).transpose(1, 2)
        wrong = (at_least_float32(self.draw(z.tokens)) - wanted).abs().mean(2)
        return (wrong * masked).sum() / masked.sum()
