"""One batch as tensors, and how a dataset's samples become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .interfaces.dataset import Samples
from .interfaces.latent import Tokens
from .interfaces.tokenizer import Tokenizer


@attrs.frozen(eq=False, kw_only=True)
class Batch:
    """Captions and images of b items; either may be absent (unpaired data).

    Attributes:
        numbers: (b) what keys each item's noise: its place in the iteration over all ranks, or its index in a split.
        x: the caption as E_x's tokenizer reads it.
        x_out: the caption as D_x's tokenizer writes it.
        y: (b c h w) images in [−1, 1].
        question, answer: for D_x.
        unpaired_x: captions of other data, as E_x's tokenizer reads them.
        unpaired_y: (b c h w) images of other data.
    """

    numbers: npt.NDArray[np.int64]
    x: Tokens | None = None
    x_out: Tokens | None = None
    y: Tensor | None = None
    question: Tokens | None = None
    answer: Tokens | None = None
    unpaired_x: Tokens | None = None
    unpaired_y: Tensor | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    def to(self, device: torch.device) -> Batch:
        if device.type == "cpu":
            return self
        moved: dict[str, Any] = {
            field.name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value.to(device)
            for field in attrs.fields(Batch)
            if isinstance(value := getattr(self, field.name), Tensor | Tokens)
        }
        return attrs.evolve(self, **moved)


def to_tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> Tokens:
    ids, mask = tokenizer.encode(texts)
    return Tokens(torch.from_numpy(ids), torch.from_numpy(mask))


def to_images(pixels: npt.NDArray[np.uint8]) -> Tensor:
    """(b h w c) uint8 → (b c h w) float32 in [−1, 1]."""
    own = pixels if pixels.flags.writeable else pixels.copy()  # torch has no tensors that are read-only
    return torch.from_numpy(own).permute(0, 3, 1, 2).to(torch.float32).mul_(1 / 127.5).sub_(1)


def to_pixels(images: Tensor) -> npt.NDArray[np.uint8]:
    """(b c h w) in [−1, 1] → (b h w c) uint8."""
    scaled = images.detach().float().clamp(-1, 1).add(1).mul(127.5).round()
    return scaled.permute(0, 2, 3, 1).contiguous().to(torch.uint8).cpu().numpy()


def add_unpaired(batch: Batch, found: Mapping[str, Samples], tokenizers: Mapping[str, Tokenizer]) -> Batch:
    """The batch with the captions of the samples ``text`` and the images of the samples ``images``, where there are such."""
    reads, text, images = tokenizers.get("text_encoder"), found.get("text"), found.get("images")
    return attrs.evolve(
        batch,
        unpaired_x=None if reads is None or text is None or text.captions is None else to_tokens(reads, text.captions),
        unpaired_y=None if images is None or images.images is None else to_images(images.images),
    )


def collate(samples: Samples, tokenizers: Mapping[str, Tokenizer], numbers: npt.NDArray[np.int64]) -> Batch:
    """Samples → tensors. `tokenizers` maps ``text_encoder`` and ``text_decoder`` to theirs; a part that is absent gets no text."""
    reads, writes = tokenizers.get("text_encoder"), tokenizers.get("text_decoder")
    captions = samples.captions
    x = to_tokens(reads, captions) if reads and captions is not None else None
    x_out = x if reads is writes else (to_tokens(writes, captions) if writes and captions is not None else None)
    asks = writes is not None and samples.questions is not None and samples.answers is not None
    return Batch(
        numbers=numbers,
        x=x,
        x_out=x_out,
        y=None if samples.images is None else to_images(samples.images),
        question=to_tokens(writes, samples.questions) if asks else None,  # type: ignore[arg-type]
        answer=to_tokens(writes, samples.answers) if asks else None,  # type: ignore[arg-type]
    )
