"""Classifier-free guidance (Ho and Salimans 2022) of the decoders over image tokens. Shapes: b batch, n latent places, v vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor

from ibllm.plugin import Latent, Rng
from ibllm.plugin import guided as combine


def thinned(mask: Tensor, probability: float, rng: Rng) -> Tensor:
    """mask (b n) with whole rows hidden, each with `probability`."""
    return mask & (rng.uniform(1) >= probability)


def doubled(z: Latent) -> Latent:
    """(b …) → (2b …): the latents, then the same with every place hidden, so that both conditions go through the model together."""
    return Latent(torch.cat([z.tokens, z.tokens]), torch.cat([z.mask, torch.zeros_like(z.mask)]), torch.cat([z.pooled, z.pooled]))


def guided(logits: Tensor, scale: float) -> Tensor:
    """logits (2b … v) of the latents and of the null condition → those that are drawn from (b … v)."""
    conditional, null = logits.float().chunk(2)
    return combine(conditional, null, scale)
