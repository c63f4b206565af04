"""What parts are fed with: texts of unequal length, images, latents with empty places, image tokens.

Shapes: b batch, t tokens, n latent places, d latent width, c h w image, m image tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ibllm_core.interfaces.batch import Batch
from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.latent import Latent, Tokens
from ibllm_core.interfaces.noise import Rng
from ibllm_core.interfaces.tokenizer import BOS, EOS, PAD, SPECIAL

#: Items of a batch, and how many tokens and latent places of each are real: the longest, the shortest there can be, others between.
ITEMS = 3
KEPT = (5, 1, 3)
#: What masked places are filled with: large, so that a leak shows whatever is added to it.
JUNK = 50.0


@attrs.frozen(eq=False, kw_only=True)
class Inputs:
    """Everything a part may ask for, b items of each.

    Attributes:
        numbers: (b) what keys each item's noise.
        x: captions.
        other: other texts, for questions and prefixes.
        y: (b c h w) images in [−1, 1].
        z: latents of the context's width.
        z_x: latents of the same width whose places belong to the tokens of `x`.
        ids: (b m) image tokens.
    """

    numbers: npt.NDArray[np.int64]
    x: Tokens
    other: Tokens
    y: Tensor
    z: Latent
    z_x: Latent
    ids: Tensor

    def __len__(self) -> int:
        return len(self.numbers)

    def rng(self, *purpose: str) -> Rng:
        """Noise keyed by the items' numbers."""
        return Rng((7, *purpose), self.numbers, self.y.device)

    def take(self, *rows: int) -> Inputs:
        """Some of the items."""
        return self._mapped(lambda tensor: tensor[list(rows)], self.numbers[list(rows)])

    def trimmed(self) -> Inputs:
        """The same items, their texts as short as the longest of them lets them be."""
        x, other = (Tokens(*(t[:, : int(text.mask.sum(1).max())] for t in (text.ids, text.mask))) for text in (self.x, self.other))
        return attrs.evolve(self, x=x, other=other)

    def to(self, device: torch.device) -> Inputs:
        return self._mapped(lambda tensor: tensor.to(device), self.numbers)

    def clone(self) -> Inputs:
        return self._mapped(torch.clone, self.numbers.copy())

    def tensors(self) -> dict[str, Tensor]:
        """Name → tensor."""
        found = {"images": self.y, "image tokens": self.ids}
        for name, tokens in (("text", self.x), ("other text", self.other)):
            found |= {f"{name} ids": tokens.ids, f"{name} mask": tokens.mask}
        for name, z in (("latent", self.z), ("text's latent", self.z_x)):
            found |= {f"{name} tokens": z.tokens, f"{name} mask": z.mask, f"{name} pooled": z.pooled}
        return found

    def padded(self, longest: int) -> Inputs:
        """The same items with more padding, all of it holding junk; texts up to `longest` tokens."""
        x, other = _padded_tokens(self.x, longest), _padded_tokens(self.other, longest)
        z_x = _padded_latent(self.z_x, places=x.ids.shape[1] - self.x.ids.shape[1])
        return attrs.evolve(self, x=x, other=other, z=_padded_latent(self.z, places=2), z_x=z_x)

    def batch(self) -> Batch:
        """As a loss sees it, unpaired data and perturbed images included."""
        return Batch(
            numbers=self.numbers,
            x=self.x,
            x_out=self.x,
            y=self.y,
            question=self.other,
            answer=self.x,
            unpaired_x=self.other,
            unpaired_y=self.y.flip(-1),
            y_clean=self.y,
            y_perturbed=0.9 * self.y,
        )

    def _mapped(self, change: Any, numbers: npt.NDArray[np.int64]) -> Inputs:
        def tokens(of: Tokens) -> Tokens:
            return Tokens(change(of.ids), change(of.mask))

        def latent(of: Latent) -> Latent:
            return Latent(change(of.tokens), change(of.mask), change(of.pooled))

        return Inputs(
            numbers=numbers,
            x=tokens(self.x),
            other=tokens(self.other),
            y=change(self.y),
            z=latent(self.z),
            z_x=latent(self.z_x),
            ids=change(self.ids),
        )


def fabricate(context: Context, items: int = ITEMS, seed: int = 0, lengths: Sequence[int] = KEPT) -> Inputs:
    """`items` items on the CPU, a function of the context's sizes and of `seed`; `lengths` are those of texts and latents, in turns."""
    random = torch.Generator().manual_seed(seed)
    kept = torch.tensor([lengths[n % len(lengths)] for n in range(items)])
    mask, d = torch.arange(max(lengths)) < kept[:, None], context.latent or context.width
    x = _texts(context, kept, random)
    tokens = context.image_tokens
    high, count = (tokens.vocabulary, tokens.rows * tokens.columns) if tokens is not None else (2, 1)
    return Inputs(
        numbers=np.arange(11, 11 + items),
        x=x,
        other=_texts(context, kept.flip(0), random),
        y=_images(items, context.image_shape, random),
        z=_latent(mask, d, random),
        z_x=_latent(x.mask, d, random),
        ids=torch.randint(high, (items, count), generator=random),
    )


def _latent(mask: Tensor, d: int, random: torch.Generator) -> Latent:
    """mask (b n) → a latent of width d, empty where it is masked."""
    b, n = mask.shape
    return Latent(torch.randn(b, n, d, generator=random) * mask.unsqueeze(-1), mask, torch.randn(b, d, generator=random))


def _texts(context: Context, kept: Tensor, random: torch.Generator) -> Tokens:
    """Texts of `kept` − 1 tokens between beginning and end: the shortest is empty."""
    size, longest = (context.tokenizer.size, context.tokenizer.max_length) if context.tokenizer is not None else (9, 8)
    lengths = (kept + 1).clamp(max=longest)
    t = int(lengths.max())
    place = torch.arange(t)
    ids = torch.randint(len(SPECIAL), size, (len(kept), t), generator=random)
    ids = torch.where(place == lengths[:, None] - 1, EOS, ids)
    ids[:, 0] = BOS
    mask = place < lengths[:, None]
    return Tokens(torch.where(mask, ids, PAD), mask)


def _images(items: int, shape: tuple[int, int, int], random: torch.Generator) -> Tensor:
    """Smooth patterns with a few rectangles: neither constant nor pure noise, since some parts look for forms on a ground."""
    c, h, w = shape
    y = torch.rand(items, c, 1, 1, generator=random) * 0.6 - 0.3 + 0.1 * torch.rand(items, c, h, w, generator=random)
    for n in range(items):
        top, left = int(torch.randint(h // 2, (), generator=random)), int(torch.randint(w // 2, (), generator=random))
        y[n, :, top : top + h // 3, left : left + w // 3] = torch.rand(c, 1, 1, generator=random) * 2 - 1
    return y.clamp(-1, 1)


def _padded_tokens(tokens: Tokens, longest: int) -> Tokens:
    more = max(0, min(2, longest - tokens.ids.shape[1]))
    ids, mask = torch.nn.functional.pad(tokens.ids, (0, more)), torch.nn.functional.pad(tokens.mask, (0, more))
    return Tokens(torch.where(mask, ids, len(SPECIAL)), mask)


def _padded_latent(z: Latent, places: int) -> Latent:
    tokens, mask = torch.nn.functional.pad(z.tokens, (0, 0, 0, places)), torch.nn.functional.pad(z.mask, (0, places))
    junk = JUNK * torch.sin(torch.arange(tokens.numel(), device=tokens.device, dtype=torch.float32)).view_as(tokens)
    return Latent(torch.where(mask.unsqueeze(-1), tokens, junk), mask, z.pooled)
