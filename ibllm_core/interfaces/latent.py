"""What encoders hand to decoders, and the tensors that text becomes.

Both are plain classes that nobody changes; declared frozen, torch.compile could not trace them.
"""

from __future__ import annotations

import attrs
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from .noise import on_device


@attrs.define(eq=False, slots=False)
class Tokens:
    """Text as tensors.

    Attributes:
        ids: (b t) int64; 0 padding, 1 beginning, 2 end, 3 unknown.
        mask: (b t) bool, True where there is a token.
    """

    ids: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return self.ids.shape[0]

    def to(self, device: torch.device) -> Tokens:
        return Tokens(on_device(self.ids, device), on_device(self.mask, device))

    def lengths(self) -> Tensor:
        """(b) number of tokens, beginning and end included."""
        return self.mask.sum(1)


@attrs.define(eq=False, slots=False)
class Latent:
    """A joint representation of a caption or an image.

    Attributes:
        tokens: (b n d) one vector for each token or place.
        mask: (b n) bool, True where there is something.
        pooled: (b d) one vector for the whole.
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def detach(self) -> Latent:
        return Latent(self.tokens.detach(), self.mask, self.pooled.detach())

    def roll(self, by: int = 1) -> Latent:
        """The latents of other items: item i gets that of item i − by. For mismatched pairs of a whole batch (`Cycle.whole`)."""
        return Latent(self.tokens.roll(by, 0), self.mask.roll(by, 0), self.pooled.roll(by, 0))

    def rows(self, which: Tensor | slice) -> Latent:
        """The latents of some items."""
        return Latent(self.tokens[which], self.mask[which], self.pooled[which])

    def repeat(self, times: int) -> Latent:
        """(b …) → (b·times …), each item `times` times in a row."""
        return Latent(*(t.repeat_interleave(times, 0) for t in (self.tokens, self.mask, self.pooled)))


def at_least_float32(values: Tensor) -> Tensor:
    """The values in float32, or as they are where they are wider: sums and softmaxes under autocast lose too much in bfloat16."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


pytree.register_pytree_node(Latent, lambda z: ([z.tokens, z.mask, z.pooled], None), lambda leaves, _: Latent(*leaves))
pytree.register_pytree_node(Tokens, lambda x: ([x.ids, x.mask], None), lambda leaves, _: Tokens(*leaves))
