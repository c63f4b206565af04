"""Small layers that several families share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ibllm.blocks.borrowing import borrowed
from ibllm_core.host.options import Config
from ibllm_core.interfaces.noise import Rng
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


class Dropout(nn.Module):
    """Drops each number with probability `p` in training; the others grow by 1/(1 − p) (Srivastava et al. 2014).

    Which ones is keyed by seed, step, part, call and sample, so that it does not depend on how a batch is shared nor on who else draws.

    Args:
        p: the probability; or a component's options, whose live option `dropout` it is at every pass.
    """

    def __init__(self, p: float | Config) -> None:
        super().__init__()
        self.config = p

    @property
    def p(self) -> float:
        """The probability now."""
        return float(self.config.dropout) if isinstance(self.config, Config) else self.config  # type: ignore[attr-defined]

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """(b …) → (b …).

        An axis whose length follows the batch, such as the words of a text, has to be the second. Where it is the part before `start` whose length
        follows it, that draws last.
        """
        p = self.p
        if not (self.training and p):
            return x
        kept = Rng.of_pass(len(x), x.device).kept(p, *x.shape[1:])
        return x * (kept.roll(start, 1) if start else kept) * (1 / (1 - p))


def into_range(bounded: bool) -> nn.Module:
    """The last layer of what draws images, by ``context.bounded``: tanh into [−1, 1], or nothing for a codec's latents."""
    return nn.Tanh() if bounded else nn.Identity()


def position_embedding(places: int, width: int) -> nn.Parameter:
    """(places d) a learned vector for each place, about as large as token embeddings."""
    return nn.Parameter(torch.randn(places, width) * 0.5)


class GridPositions(nn.Module):
    """Learned positions of a grid, row by row: a row's vector and a column's, added (axial, Ho et al. 2019)."""

    def __init__(self, rows: int, columns: int, width: int) -> None:
        super().__init__()
        self.rows, self.columns = position_embedding(rows, width), position_embedding(columns, width)

    def forward(self) -> Tensor:
        """(rows·columns d)."""
        return (self.rows[:, None] + self.columns).flatten(0, 1)


@contextmanager
def dropout_off(part: nn.Module) -> Iterator[None]:
    """Within, a part computes what it does in use, and so does what it borrows. Recurrent layers stay in train mode, without dropout: cuDNN has no other
    backward pass."""
    held = [part, *borrowed(part).values()]
    modes = {module: module.training for one in held for module in one.modules()}
    rates = {module: module.dropout for module in modes if isinstance(module, nn.RNNBase)}
    for one in held:
        one.eval()
    for layer in rates:
        layer.train(modes[layer])
        layer.dropout = 0.0
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for layer, rate in rates.items():
            layer.dropout = rate


def word_dropout(ids: Tensor, probability: float) -> Tensor:
    """ids (b t) with each token but the beginning replaced by <unk> with `probability` (Bowman et al. 2016, section 3.2)."""
    kept = Rng.of_pass(len(ids), ids.device).kept(probability, ids.shape[1])
    return torch.where(kept | (ids == BOS), ids, UNK)


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """(b n d), (b n) → (b d), the mean over the places that the mask keeps."""
    kept = mask.unsqueeze(-1).to(tokens.dtype)
    return (tokens * kept).sum(1) / kept.sum(1).clamp(min=1)
