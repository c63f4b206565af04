"""Stand-ins for the parts that a tested part meets: small, smooth, and able to do everything. No recipe can name them.

Shapes: b batch, t tokens, n latent places, d latent width, c h w image, k noise width, m image tokens, v vocabulary.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import TextDecoder, TextEncoder, masked_mean
from ibllm_core.interfaces.context import ImageTokens
from ibllm_core.interfaces.image import (
    Discriminator,
    DrawingDecoder,
    ImageEncoder,
    ImageTokenizer,
    LatentCodec,
    Reconstruction,
    TokenDecoder,
)
from ibllm_core.interfaces.latent import Latent, Tokens, at_least_float32
from ibllm_core.interfaces.noise import Rng
from ibllm_core.interfaces.tokenizer import SPECIAL, UNK, Tokenizer

#: What the letter tokenizer knows beside the special ids, the most frequent first, so that a small size still spells something.
LETTERS = " etaoinsrhldcumfpgwybvkxjqz"
#: Height and width of the map that the image parts see.
GRID = 4


class LetterTokenizer(Tokenizer):
    """One id a letter; nothing to learn."""

    def __init__(self, size: int = len(SPECIAL) + len(LETTERS), max_length: int = 16) -> None:
        self.size, self.max_length = size, max_length
        self._letters = LETTERS[: size - len(SPECIAL)]

    def train(self, texts: Sequence[str]) -> None:
        pass

    def encode_one(self, text: str) -> list[int]:
        return [
            self._letters.find(letter) + len(SPECIAL) if letter in self._letters else UNK for letter in unicodedata.normalize("NFC", text)
        ]

    def decode_one(self, ids: Sequence[int]) -> str:
        return "".join(self._letters[i - len(SPECIAL)] if i >= len(SPECIAL) else "?" for i in ids)

    def state(self) -> str:
        return "{}"

    def restore(self, state: str) -> None:
        pass


class TinyTextEncoder(TextEncoder):
    """Embeddings and a second look at each token beside the whole text (capability ``soft_tokens``)."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.table, self.join = nn.Embedding(vocabulary, width), nn.Linear(2 * width, width)

    def embed(self, ids: Tensor) -> Tensor:
        embedded: Tensor = self.table(ids)
        return embedded

    def encode(self, embeddings: Tensor, mask: Tensor) -> Latent:
        whole = masked_mean(embeddings, mask).unsqueeze(1).expand_as(embeddings)
        tokens = self.join(torch.cat([embeddings, whole], -1)).tanh() * mask.unsqueeze(-1)
        return Latent(tokens, mask, masked_mean(tokens, mask))


class TinyImageEncoder(ImageEncoder):
    """The mean colours of a grid of 4 × 4 places."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.see = nn.Linear(channels, width)
        self.places = nn.Parameter(torch.randn(GRID * GRID, width))

    def forward(self, y: Tensor) -> Latent:
        tokens = (self.see(small(y).flatten(2).transpose(1, 2)) + self.places).tanh()
        return Latent(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=y.device), tokens.mean(1))


class TinyDrawer(DrawingDecoder):
    """Draws 4 × 4 colours (capabilities ``differentiable_draw``, ``noise``, ``conditioning_augmentation``)."""

    def __init__(self, latent: int, shape: tuple[int, int, int], noise: int = 6) -> None:
        super().__init__()
        self.noise_width, self.shape = noise, shape
        self.condition = nn.Linear(2 * latent, 2 * noise)
        self.paint = nn.Linear(latent + noise, shape[0] * GRID * GRID)

    def gaussian(self, z: Latent) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.condition(torch.cat([z.pooled, masked_mean(z.tokens, z.mask)], -1)).chunk(2, -1)
        return mean, log_variance

    def draw(self, z: Latent, noise: Tensor) -> Tensor:
        mean, log_variance = self.gaussian(z)
        seen = torch.cat([z.pooled, mean + (0.5 * log_variance).exp() * noise], -1)
        return large(self.paint(seen).tanh().unflatten(-1, (-1, GRID, GRID)), self.shape)

    def likelihood(self, y: Tensor, drawn: Tensor) -> Tensor:
        return at_least_float32(y - drawn).square().flatten(1).sum(1) / 2


class TinyTokenDrawer(TokenDecoder):
    """p(id | latent), each place by itself (capabilities ``image_tokens``, ``noise``, ``exact_likelihood``, ``caption_likelihood``)."""

    def __init__(self, latent: int, tokens: ImageTokens, vocabulary: int) -> None:
        super().__init__()
        self.places, self.ids = tokens.rows * tokens.columns, tokens.vocabulary
        self.choose = nn.Linear(2 * latent, self.places * self.ids)
        self.read, self.write = nn.Embedding(vocabulary, latent), nn.Linear(latent, vocabulary)

    def logits(self, z: Latent) -> Tensor:
        """(b m v)."""
        seen = torch.cat([z.pooled, masked_mean(z.tokens, z.mask)], -1)
        return at_least_float32(self.choose(seen)).view(-1, self.places, self.ids)

    def nll(self, y: Tensor, z: Latent, rng: Rng) -> Tensor:
        return F.cross_entropy(self.logits(z).transpose(1, 2), y, reduction="none").sum(1)

    def sample(self, z: Latent, rng: Rng) -> Tensor:
        passed = self.logits(z).softmax(-1).cumsum(-1) <= rng.uniform(self.places, 1)
        return passed.sum(-1).clamp(max=self.ids - 1)

    def caption_nll(self, tokens: Tokens, y: Tensor, z: Latent, rng: Rng) -> tuple[Tensor, Tensor]:
        logits = at_least_float32(self.write(self.read(tokens.ids[:, :-1])).transpose(1, 2))
        text = F.cross_entropy(logits, tokens.ids[:, 1:], reduction="none") * tokens.mask[:, 1:]
        return text.sum(1), self.nll(y, z, rng)


class TinyTextDecoder(TextDecoder):
    """p(token | the token before, latent) (capabilities ``exact_likelihood``, ``prefix``)."""

    def __init__(self, vocabulary: int, max_length: int, latent: int) -> None:
        super().__init__()
        self.vocabulary, self.max_length = vocabulary, max_length
        self.table, self.look = nn.Embedding(vocabulary, latent), nn.Linear(2 * latent, latent)
        self.head = nn.Linear(latent, vocabulary)

    def _seen(self, z: Latent) -> Tensor:
        return self.look(torch.cat([z.pooled, masked_mean(z.tokens, z.mask)], -1))

    def logits(self, ids: Tensor, mask: Tensor, z: Latent) -> Tensor:
        return self.head((self.table(ids) + self._seen(z).unsqueeze(1)).tanh())

    def begin(self, z: Latent) -> Any:
        return self._seen(z)

    def step(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        return self.head((self.table(ids) + state).tanh()), state


class TinyCritic(Discriminator):
    """Smooth, so that finite differences are near (capabilities ``second_order``, ``features``); scores the image, or each of 4 × 4 patches."""

    def __init__(self, latent: int, channels: int, by_patch: bool = False) -> None:
        super().__init__()
        self.by_patch = by_patch
        self.see, self.read, self.score = nn.Linear(channels, latent), nn.Linear(2 * latent, latent), nn.Linear(latent, 1)

    def features(self, y: Tensor, z: Latent) -> tuple[Tensor, ...]:
        seen = self.see(small(y).flatten(2).transpose(1, 2)).tanh()
        text = self.read(torch.cat([z.pooled, masked_mean(z.tokens, z.mask)], -1))
        return seen, (seen * text.unsqueeze(1)).tanh()

    def forward(self, y: Tensor, z: Latent) -> Tensor:
        scores: Tensor = self.score(self.features(y, z)[-1]).squeeze(-1)
        return scores if self.by_patch else scores.mean(1)


class TinyCodec(ImageTokenizer, LatentCodec):
    """The nearest of a few colours at each of 4 × 4 places, straight through (van den Oord et al. 2017); its latents are what is quantised then
    (capabilities ``tokens``, ``latents``, ``regularisation``)."""

    grid = (GRID, GRID)

    def __init__(self, shape: tuple[int, int, int], vocabulary: int = 8, width: int = 6) -> None:
        super().__init__()
        self.vocabulary, self.shape, self.latent_shape = vocabulary, shape, (width, GRID, GRID)
        self.see, self.paint = nn.Linear(shape[0], width), nn.Linear(width, shape[0])
        self.codes = nn.Parameter(torch.randn(vocabulary, width))

    def encode(self, y: Tensor) -> Tensor:
        return self._nearest(self._seen(y))

    def decode(self, ids: Tensor) -> Tensor:
        return self._painted(self.codes[ids])

    def encode_latents(self, y: Tensor) -> Tensor:
        return self._seen(y).transpose(1, 2).reshape(len(y), *self.latent_shape)

    def decode_latents(self, latents: Tensor) -> Tensor:
        return self._painted(latents.flatten(2).transpose(1, 2))

    def reconstruct(self, y: Tensor) -> Reconstruction:
        seen = self._seen(y)
        ids = self._nearest(seen)
        codes = self.codes[ids]
        commitment = ((seen.detach() - codes).square() + 0.25 * (seen - codes.detach()).square()).flatten(1).mean(1)
        return Reconstruction(self._painted(seen + (codes - seen).detach()), commitment, ids)

    def _seen(self, y: Tensor) -> Tensor:
        """(b m e)."""
        return self.see(small(y).flatten(2).transpose(1, 2))

    def _nearest(self, seen: Tensor) -> Tensor:
        return torch.cdist(seen, self.codes).argmin(-1)

    def _painted(self, codes: Tensor) -> Tensor:
        """(b m e) → (b c h w)."""
        return large(self.paint(codes).tanh().transpose(1, 2).unflatten(-1, (GRID, GRID)), self.shape)


def small(y: Tensor) -> Tensor:
    """(b c h w) → (b c 4 4), the mean of each place."""
    c, h, w = y.shape[1:]
    return y.reshape(-1, c, GRID, h // GRID, GRID, w // GRID).mean((3, 5))


def large(y: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """(b c 4 4) → (b c h w)."""
    return y.repeat_interleave(shape[1] // GRID, 2).repeat_interleave(shape[2] // GRID, 3)
