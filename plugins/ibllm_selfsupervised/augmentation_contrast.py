"""Contrastive learning of augmented copies. Shapes: b batch, e width of the common space."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import Context, Cycle, Rng, Tokens, WholeBatchLoss, at_least_float32
from ibllm_selfsupervised.augmentation import jitter_brightness, random_crop, random_erase
from ibllm_selfsupervised.config import AugmentationContrastConfig
from ibllm_selfsupervised.word_masking import replace_words, word_mask


def nt_xent(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Unit vectors (b e) of two copies of each item → (), the normalised temperature-scaled cross-entropy: Chen et al. 2020 (SimCLR), eq. 1."""
    both = torch.cat([a, b])
    number = torch.arange(len(both), device=both.device)
    logits = (both @ both.T / temperature).masked_fill(number[:, None] == number, -torch.inf)
    return F.cross_entropy(logits, number.roll(len(a)))


class AugmentationContrast(WholeBatchLoss):
    """Each copy finds the other copy of its item among all 2b copies of the batch (`nt_xent`), past a head that is thrown away afterwards."""

    def __init__(self, config: AugmentationContrastConfig, context: Context) -> None:
        super().__init__()
        self.config, self.part = config, f"{config.of}_encoder"
        width = context.latents[self.part]
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, config.width))

    def image(self, y: Tensor, rng: Rng) -> Tensor:
        """An augmented copy of each image."""
        config = self.config
        cut = random_crop(y, config.crop, rng.fold("crop"))
        return random_erase(jitter_brightness(cut, config.brightness, config.contrast, rng.fold("shade")), config.erase, rng.fold("erase"))

    def text(self, tokens: Tokens, rng: Rng) -> Tokens:
        """A copy of each text without some of its words."""
        return replace_words(tokens, word_mask(tokens) & (rng.uniform(tokens.ids.shape[1]) < self.config.word_dropout))

    def represent(self, cycle: Cycle) -> tuple[Tensor, Tensor]:
        """Each item's two copies as unit vectors (b e)."""
        rngs = [cycle.rng(f"augmentation_contrast {self.config.of}").fold(copy) for copy in range(2)]
        read: Tensor | Tokens
        if self.config.of == "image":
            read = torch.cat([self.image(cycle.images, rng) for rng in rngs])
        else:
            copies = [self.text(cycle.texts, rng) for rng in rngs]
            read = Tokens(torch.cat([copy.ids for copy in copies]), torch.cat([copy.mask for copy in copies]))
        z = cycle.model.part(self.part)(read)
        a, b = F.normalize(at_least_float32(self.head(z.pooled)), dim=-1).chunk(2)
        return a, b

    def compare(self, together: tuple[Tensor, Tensor], rng: Rng) -> Tensor:
        return nt_xent(*together, self.config.temperature)
