"""Vectors ↔ ids. Shapes: b batch, m places, d numbers a code, k codes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from itertools import accumulate
from operator import mul

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ibllm.plugin import Rng

#: Below this a code's moving average of uses counts as none.
UNUSED = 1e-6
#: How far (of one level) the outermost levels lie inside the range that tanh can reach: FSQ's ε.
EPSILON = 1e-3


class Quantiser(nn.Module, ABC):
    """Vectors ↔ ids in [0, vocabulary)."""

    vocabulary: int
    #: d.
    width: int
    #: Levels of each digit of an id, the first the least; empty where ids are made of none.
    levels: tuple[int, ...] = ()

    @abstractmethod
    def ids(self, z: Tensor) -> Tensor:
        """z (b m d) → ids (b m)."""

    @abstractmethod
    def vectors(self, ids: Tensor) -> Tensor:
        """ids (b m) → codes (b m d)."""

    @abstractmethod
    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z (b m d) → codes (b m d) whose gradient goes straight through to z, ids (b m), commitment (b)."""


def straight_through(value: Tensor, gradient: Tensor) -> Tensor:
    """`value` exactly, with the gradient going to `gradient` unchanged (Bengio, Léonard and Courville 2013)."""
    return value.detach() + (gradient - gradient.detach())


class Codebook(Quantiser):
    """The nearest of k learned vectors (van den Oord, Vinyals and Kavukcuoglu 2017, eq. 1–3).

    The codes are moving averages of the places that chose them (ibid., appendix A.1) rather than learned by gradient: they do not depend on
    the optimizer, its rate and its weight decay, and a restarted code has no stale moments. They are buffers, so averaged weights
    (``training.ema``) leave them as they are: there is one codebook, itself an average of about the same reach, and ids mean the same with
    and without averaged weights.

    In train mode each call moves the codes after it has used them. Codes that no place chose for `restart` calls are put onto places of
    the batch, drawn in proportion to their squared distance from their code (as in k-means++, Arthur and Vassilvitskii 2007); all count as
    unused at first, so the first batch sets the codebook. Under torch.distributed all processes keep the same codes.
    """

    codes: Tensor
    uses: Tensor
    idle: Tensor

    def __init__(self, codes: int, width: int, commitment: float, decay: float, restart: int) -> None:
        super().__init__()
        self.vocabulary, self.width = codes, width
        self.commitment, self.decay, self.restart = commitment, decay, restart
        self.register_buffer("codes", torch.randn(codes, width))
        self.register_buffer("uses", torch.zeros(codes))
        self.register_buffer("idle", torch.full((codes,), restart))

    def ids(self, z: Tensor) -> Tensor:
        with torch.no_grad():
            # In float32 under autocast too, where a matrix product would round the distances.
            found: Tensor = torch.cdist(z.float().flatten(0, 1), self.codes).argmin(-1).view(z.shape[:2])
        return found

    def vectors(self, ids: Tensor) -> Tensor:
        return self.codes[ids]

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = z.float()
        ids = self.ids(z)
        codes = self.vectors(ids)
        error = (z - codes).square()
        if self.training:
            self._update_codes(z.detach().flatten(0, 1), ids.flatten(), error.detach().flatten(0, 1).sum(1))
        return straight_through(codes, z), ids, self.commitment * error.mean((1, 2))

    @torch.no_grad()
    def _update_codes(self, z: Tensor, ids: Tensor, error: Tensor) -> None:
        """Moves the codes towards z (n d), whose codes are ids (n) at squared distances error (n)."""
        chosen = torch.zeros_like(self.uses).index_add_(0, ids, torch.ones_like(error))
        total = torch.zeros_like(self.codes).index_add_(0, ids, z)
        share = (error + UNUSED).double().cumsum(0)
        chance = Rng.of_pass(1, z.device).uniform(self.vocabulary)[0]
        places = z[torch.searchsorted(share, chance * share[-1]).clamp(max=len(z) - 1)]
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(chosen)
            dist.all_reduce(total)
            dist.broadcast(places, 0)
        # N ← γN + (1 − γ)n, m ← γm + (1 − γ)Σz, e = m / N, written for e: unlike m / N it stays put where nothing was chosen for long.
        self.uses.lerp_(chosen, 1 - self.decay)
        step = (1 - self.decay) * (total - chosen[:, None] * self.codes) / self.uses.clamp(min=UNUSED)[:, None]
        self.codes.add_(step)
        self.idle.add_(1).mul_(chosen == 0)
        if self.restart:
            dead = self.idle >= self.restart
            self.codes.copy_(torch.where(dead[:, None], places, self.codes))
            # Without a past, the next step puts the code onto the mean of the places that choose it.
            self.uses.mul_(~dead)
            self.idle.mul_(~dead)


class FiniteScalarQuantiser(Quantiser):
    """Each number of a code is rounded to one of its levels (finite scalar quantisation, Mentzer et al. 2023, section 3 and appendix A).

    A number is bounded by ``tanh``, shifted by half a level where the number of levels is even, rounded, and scaled to [−1, 1]; an id has the
    levels as digits in a mixed radix, the first the least. The paper's listing shifts by tan(offset / half range); atanh, taken here, is what
    keeps 0 at 0, and needs the range to be a little wider than the levels, not narrower.
    """

    half_range: Tensor
    offset: Tensor
    scale: Tensor
    basis: Tensor
    radix: Tensor

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.vocabulary, self.width, self.levels = math.prod(levels), len(levels), levels
        counts = torch.tensor(levels)
        self.register_buffer("radix", counts, persistent=False)
        self.register_buffer("basis", torch.tensor([1, *accumulate(levels[:-1], mul)]), persistent=False)
        self.register_buffer("half_range", (counts - 1) * (1 + EPSILON) / 2, persistent=False)
        self.register_buffer("offset", (counts % 2 == 0) / 2, persistent=False)
        self.register_buffer("scale", counts // 2, persistent=False)

    def bound(self, z: Tensor) -> Tensor:
        """(… d) → (… d), each number within the range of its levels, one unit a level."""
        return (z.float() + torch.atanh(self.offset / self.half_range)).tanh() * self.half_range - self.offset

    def ids(self, z: Tensor) -> Tensor:
        return ((self.bound(z).round().long() + self.scale) * self.basis).sum(-1)

    def vectors(self, ids: Tensor) -> Tensor:
        digits = ids[..., None].div(self.basis, rounding_mode="floor") % self.radix
        return (digits - self.scale) / self.scale

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ids, bounded = self.ids(z), self.bound(z)
        return straight_through(self.vectors(ids), bounded / self.scale), ids, torch.zeros_like(bounded[:, 0, 0])
