"""Classifier-free guidance (Ho and Salimans 2022). Shapes: b batch, n latent places, d width.

A decoder that offers it says what its null condition is: the latent that stands for "no text".
"""

from __future__ import annotations

import torch
from torch import Tensor

from ibllm_core.interfaces.latent import Latent
from ibllm_core.interfaces.noise import Rng


def drop_condition(z: Latent, null: Latent, probability: float, rng: Rng) -> Latent:
    """Condition dropout: each item's latent, or with `probability` its null condition (algorithm 1)."""
    dropped = rng.uniform() < probability

    def choose(own: Tensor, other: Tensor) -> Tensor:
        return own if own is other else torch.where(dropped.view(-1, *[1] * (own.dim() - 1)), other, own)

    return Latent(choose(z.tokens, null.tokens), choose(z.mask, null.mask), choose(z.pooled, null.pooled))


def concatenate_latents(z: Latent, null: Latent) -> Latent:
    """(b …), (b …) → (2b …), so that both conditions go through a network in one pass."""
    return Latent(torch.cat([z.tokens, null.tokens]), torch.cat([z.mask, null.mask]), torch.cat([z.pooled, null.pooled]))


def guided(outputs: Tensor, scale: float) -> Tensor:
    """Logits or velocities (2b …), given the latents and given the null condition → null + s·(conditional − null) (b …), in float32.

    Eq. 6 with s = 1 + w.
    """
    conditional, null = outputs.float().view(
        2, -1, *outputs.shape[1:]
    )  # chunk would make the batch's length a constant of an exported graph
    return null + scale * (conditional - null)
