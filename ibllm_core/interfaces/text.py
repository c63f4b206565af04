"""Text parts: E_x (tokens → latent) and D_x (latent → tokens).

Shapes: b batch, t tokens of a text, n latent places, d latent width, e embedding width, v vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from .latent import Latent, Tokens
from .noise import Rng
from .tokenizer import BOS, EOS


def asking(count: int, device: torch.device) -> Tokens:
    """The prefix (b 3) of a text decoder that is to write a question: an empty text with a second beginning in it.

    Without a prefix it writes a caption, after a question an answer. The beginning is no word, so every tokenizer has it and no text contains it.
    """
    ids = torch.full((count, 3), BOS, device=device)
    ids[:, -1] = EOS
    return Tokens(ids, torch.ones_like(ids, dtype=torch.bool))


class TextEncoder(nn.Module, ABC):
    """E_x. `embed` and `encode` are separate so that soft tokens (mixtures of embeddings) can enter."""

    #: d, the width of the latents it gives.
    width: int

    @abstractmethod
    def embed(self, ids: Tensor) -> Tensor:
        """ids (b t) → embeddings (b t e), positions not yet included."""

    @abstractmethod
    def encode(self, embeddings: Tensor, mask: Tensor) -> Latent:
        """embeddings (b t e), mask (b t) → latent: tokens (b t d), mask (b t), pooled (b d). Padding never changes the result."""

    def forward(self, tokens: Tokens) -> Latent:
        return self.encode(self.embed(tokens.ids), tokens.mask)


class TextDecoder(nn.Module, ABC):
    """D_x, an autoregressive p(x|y): log p(x|y) = Σ_t log p(x_t | x_<t, y), exact.

    Subclasses give teacher-forced `logits` and the stepwise pair `begin`, `step`; the likelihood and how a text is written follow from them in
    `ibllm.plugin.TextDecoder`, from which decoders derive.
    """

    #: v, number of ids.
    vocabulary: int
    #: Longest text in tokens that `sample` writes.
    max_length: int

    @abstractmethod
    def logits(self, ids: Tensor, mask: Tensor, z: Latent) -> Tensor:
        """ids (b t), mask (b t) → logits (b t v); place t predicts token t + 1 from tokens ≤ t and the latent."""

    @abstractmethod
    def begin(self, z: Latent) -> Any:
        """The state before the first token: a tree (tuples, lists, dicts) of tensors with the batch as first axis.

        Shapes stay the same from step to step (a cache is allocated whole, with each row's own length), so that rows of a batch
        may be at different places.
        """

    @abstractmethod
    def step(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        """ids (b) → logits (b v) of the next token, and the state after it; the state before may be written over (a cache in place)."""

    @abstractmethod
    def nll(self, tokens: Tokens, z: Latent, prefix: Tokens | None = None) -> Tensor:
        """(b) −log p(tokens | z, prefix) in nats, summed over the text (its end token included).

        A `prefix` (a question, or `asking`) conditions and is not itself counted: the sequence read is beginning, prefix, tokens.
        """

    def forward(self, tokens: Tokens, z: Latent, prefix: Tokens | None = None) -> Tensor:
        return self.nll(tokens, z, prefix)

    @abstractmethod
    def sample(
        self,
        z: Latent,
        rng: Rng | None = None,
        *,
        prefix: Tokens | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        beams: int = 1,
        length_exponent: float = 0.0,
    ) -> Tokens:
        """Writes a text for each latent: beginning, text, end, without the prefix.

        `temperature` 0 takes the likeliest token, otherwise `rng` draws within the nucleus `top_p`; more `beams` than one search for the
        likeliest text.
        """
