from __future__ import annotations
import torch
from torch import Tensor, nn
from ibllm.plugin import GridPositions, ImageEncoder, Latent, TextEncoder, masked_mean


class UnifiedTextEncoder(TextEncoder):
    def __init__(self, backbone) -> None:
        super().__init__()
        object.__setattr__(self, "backbone", backbone)
        self.width = backbone.width

    def embed(self, ids: Tensor) -> Tensor:
        return self.backbone.embed(ids)

    def encode(self, embeddings: Tensor, mask: Tensor) -> Latent:
        x = embeddings * mask.unsqueeze(-1)
        return Latent(x, mask, masked_mean(x, mask))


class UnifiedImageEncoder(ImageEncoder):
    def __init__(self, patch, image_shape, backbone, channels=()) -> None:
        super().__init__()
        self.width = backbone.width
        c, h, w = image_shape
        if channels:
            layers, before = [], c
            for n, k in enumerate(channels):
                layers += [nn.Conv2d(before, k, 3, stride=2 if n else 1, padding=1), nn.GELU()]
                before = k
            s = patch // 2 ** (len(channels) - 1)
            self.enter = nn.Sequential(*layers, nn.Conv2d(before, self.width, s, stride=s))
        else:
            self.enter = nn.Conv2d(c, self.width, patch, stride=patch)
        self.positions = GridPositions(h // patch, w // patch, self.width)

    def forward(self, y: Tensor) -> Latent:
        x = self.enter(y).flatten(2).transpose(1, 2) + self.positions()
        return Latent(x, torch.ones(x.shape[:2], dtype=torch.bool, device=y.device), x.mean(1))
