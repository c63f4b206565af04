"""A model of the smallest parts, in double precision, and batches for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ibllm.plugin import TextDecoder, TextEncoder, masked_mean
from ibllm_core.interfaces.batch import Batch
from ibllm_core.interfaces.image import Discriminator, DrawingDecoder, ImageEncoder
from ibllm_core.interfaces.latent import Latent, Tokens
from ibllm_core.model.cycle import Cycle
from ibllm_core.model.model import Model
from ibllm_core.model.watch import Present

SHAPE, WIDTH, IDS, NOISE = (3, 4, 4), 5, 9, 2


class Reader(TextEncoder):
    width = WIDTH

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(IDS, WIDTH)

    def embed(self, ids: Tensor) -> Tensor:
        found: Tensor = self.table(ids)
        return found

    def encode(self, embeddings: Tensor, mask: Tensor) -> Latent:
        return Latent(embeddings, mask, masked_mean(embeddings, mask))


class Drawer(DrawingDecoder):
    noise_width = NOISE

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(WIDTH + NOISE, 48)

    def draw(self, z: Latent, noise: Tensor) -> Tensor:
        flat: Tensor = self.map(torch.cat([z.pooled, noise.to(z.pooled)], 1))
        return flat.tanh().view(-1, *SHAPE)

    def likelihood(self, y: Tensor, drawn: Tensor) -> Tensor:
        return (y - drawn).square().flatten(1).sum(1)


class Looker(ImageEncoder):
    width = WIDTH

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(48, WIDTH)

    def forward(self, y: Tensor) -> Latent:
        pooled = self.map(y.flatten(1)).tanh()
        return Latent(pooled[:, None], torch.ones(len(y), 1, dtype=torch.bool), pooled)


class Writer(TextDecoder):
    vocabulary, max_length = IDS, 8

    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(IDS, WIDTH), nn.Linear(WIDTH, IDS)

    def logits(self, ids: Tensor, mask: Tensor, z: Latent) -> Tensor:
        found: Tensor = self.out((self.table(ids) + z.pooled[:, None]).tanh())
        return found

    def begin(self, z: Latent) -> Any:
        return z.pooled

    def step(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        return self.out((self.table(ids) + state).tanh()), state


class Judge(Discriminator):
    """Smooth, so that finite differences are exact enough; reads tokens and pooled vector."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(48 + 2 * WIDTH, 7), nn.Linear(7, 1)

    def forward(self, y: Tensor, z: Latent) -> Tensor:
        read = torch.cat([y.flatten(1), masked_mean(z.tokens, z.mask), z.pooled], 1)
        scores: Tensor = self.last(self.first(read).tanh()).squeeze(1)
        return scores


def tokens(rows: list[list[int]]) -> Tokens:
    """Rows of ids, padded with 0."""
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    return Tokens(ids, ids != 0)


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    parts = {
        "text_encoder": Reader(),
        "image_decoder": Drawer(),
        "image_encoder": Looker(),
        "text_decoder": Writer(),
        "discriminator": Judge(),
    }
    return Model(parts, {}, SHAPE).double()


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    x = tokens([[1, 4, 5, 2], [1, 6, 2], [1, 7, 8, 4, 2]])
    return Batch(
        numbers=np.arange(3),
        x=x,
        x_out=x,
        y=torch.rand(3, *SHAPE, dtype=torch.float64, generator=generator) * 2 - 1,
        question=tokens([[1, 5, 2], [1, 6, 7, 2], [1, 4, 2]]),
        answer=tokens([[1, 8, 2], [1, 5, 2], [1, 6, 4, 2]]),
    )


@pytest.fixture
def cycle(model: Model, batch: Batch) -> Callable[..., Cycle]:
    """``cycle(losses, step=0)``: a fresh cycle over the same batch."""

    def make(losses: Mapping[str, Any] | None = None, step: int = 0) -> Cycle:
        made = Cycle(model, batch, losses, present=Present(step))
        return made

    return make
