"""The layers that the transformer parts are made of.

Shapes: b batch, t query places, s key places, d width, h heads, e width of a head, n latent places.
"""

from __future__ import annotations

import attrs
import torch
from torch import Tensor, nn

from ibllm.plugin import Attention, Config, Context, Dropout, FeedForward, ImageEncoder, KeyValueCache, Latent, TextEncoder, borrow


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward layer, each with a norm before it and a residual connection (pre-norm, Xiong et al. 2020)."""

    def __init__(self, width: int, heads: int, ratio: float, dropout: float | Config) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.hidden_norm, self.hidden = nn.LayerNorm(width), FeedForward(width, ratio)
        self.drop = Dropout(dropout)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, rotary: Tensor | None = None, start: int = 0, *, causal: bool = False
    ) -> Tensor:
        """x (b t d), mask (b t) or (b t t) or its bias, rotary (2 t e/2) → (b t d).

        As many places as `start` come from a text, whose length follows the batch. Either a mask is given or attention is `causal`, not both.
        """
        normed = self.attention_norm(x)
        keys, values = self.attention.keys_values(normed, rotary)
        x = x + self.drop(self.attention(normed, keys, values, mask, causal=causal, rotary=rotary), start)
        return x + self.drop(self.hidden(self.hidden_norm(x)), start)

    def cached(self, x: Tensor, cache: KeyValueCache, layer: int, start: int, mask: Tensor) -> Tensor:
        """The same for the places start … start + t alone, without dropout: x (b t d), mask (b start+t) or (b t start+t) → (b t d)."""
        x = x + cache.attend(self.attention, layer, self.attention_norm(x), start, mask)
        return x + self.hidden(self.hidden_norm(x))


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention to the latent and a feed-forward layer, each with a norm before it and a residual connection."""

    def __init__(self, width: int, heads: int, ratio: float, dropout: float | Config, latent: int) -> None:
        super().__init__()
        self.own_norm, self.own = nn.LayerNorm(width), Attention(width, heads)
        self.latent_norm, self.latent = nn.LayerNorm(width), Attention(width, heads, latent)
        self.hidden_norm, self.hidden = nn.LayerNorm(width), FeedForward(width, ratio)
        self.drop = Dropout(dropout)

    def cached(
        self, x: Tensor, cache: KeyValueCache, layer: int, place: Tensor, mask: Tensor, keys: Tensor, values: Tensor, z_mask: Tensor
    ) -> Tensor:
        """The place (b) of each row alone, without dropout: x (b 1 d), mask (b s), the latent's keys and values (b h n e), its mask (b n) → (b 1 d).

        Masks may be given as biases.
        """
        x = x + cache.attend(self.own, layer, self.own_norm(x), place, mask)
        return self.after_self_attention(x, keys, values, z_mask)

    def after_self_attention(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Cross-attention and feed-forward: x (b t d), the latent's keys and values (b h n e), mask (b n) or its bias → (b t d)."""
        x = x + self.drop(self.latent(self.latent_norm(x), keys, values, mask))
        return x + self.drop(self.hidden(self.hidden_norm(x)))

    def forward(self, x: Tensor, z: Tensor, mask: Tensor, *, causal: bool = True) -> Tensor:
        """x (b t d), the latent's places (b n m), their mask (b n) or its bias → (b t d), all places at once."""
        normed = self.own_norm(x)
        x = x + self.drop(self.own(normed, *self.own.keys_values(normed), causal=causal))
        return self.after_self_attention(x, *self.latent.keys_values(z), mask)


def borrow_backbone(part: TextEncoder | ImageEncoder, name: str, context: Context) -> None:
    """Makes a shared module the part's `backbone`; without a name none. Raises `ValueError` where it has another width than the part."""
    if name:
        shared = context.shared[name]
        if shared.width != part.width:
            raise ValueError(f"backbone = {name!r}: expected one whose width is the part's, {part.width}; its is {shared.width}")
        borrow(part, backbone=shared)


def null_condition(z: Latent) -> Latent:
    """The latent with every place masked: what the decoders over image tokens read in place of a text in classifier-free guidance."""
    return attrs.evolve(z, mask=torch.zeros_like(z.mask))
