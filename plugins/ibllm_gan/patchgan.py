"""PatchGAN (Isola et al. 2017), conditioned on text. Shapes: b batch, c h w image or map, m latent width, p patches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ibllm.plugin import Context, Latent
from ibllm_gan.config import PatchGANCriticConfig
from ibllm_gan.critic import SLOPE, TextConcatenation, TrunkCritic, check_size


class PatchGANCritic(TrunkCritic):
    """A Markovian critic (section 3.2.2 and appendix 6.1.2): 4×4 convolutions, the last stage and the scoring one without a stride.

    Gives one score a patch, row by row; no score depends on pixels outside its patch. The pooled latent, concatenated to every place of the last
    map, takes the place of the paper's input image.
    """

    def __init__(self, config: PatchGANCriticConfig, context: Context) -> None:
        super().__init__()
        halvings, before = len(config.channels) - 1, context.image_shape[0]
        # Two convolutions without a stride take one pixel each off the last halved map.
        check_size(config.channels, context.image_shape, 3 << halvings)
        self.stages = nn.ModuleList()
        for number, after in enumerate(config.channels):
            stride = 2 if number < halvings else 1
            self.stages.append(nn.Sequential(nn.Conv2d(before, after, 4, stride=stride, padding=1), nn.LeakyReLU(SLOPE)))
            before = after
        self.join = TextConcatenation(config.latent or context.latent, config.width, before, before)
        self.last = nn.Conv2d(before, 1, 4, padding=1)
        self.complete(config, before)

    def judge(self, seen: Tensor, z: Latent) -> Tensor:
        """→ (b p)."""
        scores: Tensor = self.last(self.join(seen, z))
        return torch.flatten(scores, 1)
