"""Small layers that several families share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ibllm_core.interfaces.tokenizer import BOS, UNK


class Residual(nn.Sequential):
    """x + f(x), f the layers one after the other: a residual connection (He et al. 2016)."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape that f keeps."""
        out: Tensor = x + super().forward(x)  # type: ignore[no-untyped-call]
        return out


class FeedForward(nn.Sequential):
    """A transformer's feed-forward layer, with GELU: (… d) → (… d). `ratio` is its hidden width relative to d."""

    def __init__(self, width: int, ratio: float) -> None:
        hidden = max(1, int(width * ratio))
        super().__init__(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


def position_embedding(places: int, width: int) -> nn.Parameter:
    """(places d) a learned vector for each place, about as large as token embeddings."""
    return nn.Parameter(torch.randn(places, width) * 0.5)


def word_dropout(ids: Tensor, probability: float) -> Tensor:
    """ids (b t) with each token but the beginning replaced by <unk> with `probability` (Bowman et al. 2016, section 3.2)."""
    dropped = torch.rand(ids.shape, device=ids.device) < probability
    return torch.where(dropped & (ids != BOS), UNK, ids)
