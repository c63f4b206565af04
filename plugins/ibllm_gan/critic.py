"""Base class and layers of the critics. Shapes: b batch, c h w image or map, m latent width, d width."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import Discriminator, Latent
from ibllm_gan.config import CriticOptions
from ibllm_gan.spectral import normalise

#: Negative slope of the leaky ReLUs (Radford et al. 2016).
SLOPE = 0.2
#: r, numbers of a kernel of minibatch discrimination (Salimans et al. 2016 have 16 of each of 32).
KERNEL = 8


class TrunkCritic(Discriminator):
    """A critic that computes image features in stages, and joins the text to the last ones.

    No norm over the batch, so that no score depends on other items and a penalty on one image's gradient means what it says (Gulrajani
    et al. 2017, section 4); only operations that can be differentiated twice on every device.
    """

    #: (b c h w) → (b c' h' w') each, the first one from the image.
    stages: nn.ModuleList
    #: Kernels of minibatch discrimination; 0 for none.
    minibatch: int

    def complete(self, config: CriticOptions, channels: int) -> None:
        """What every critic may have besides, once its layers are there: minibatch discrimination by its last map's `channels`, spectral norms."""
        self.minibatch = config.minibatch
        if self.minibatch:
            self.kernel, self.nearness = nn.Linear(channels, self.minibatch * KERNEL), nn.Linear(self.minibatch, 1, bias=False)
        if config.spectral_norm:
            normalise(self)

    def kernels(self, y: Tensor) -> Tensor:
        """(b c h w) → what distances to other images are taken of (b k r) (Salimans et al. 2016, section 3.2)."""
        seen: Tensor = self.kernel(self.look(y).mean((2, 3)))
        return seen.view(len(seen), self.minibatch, KERNEL)

    def closeness(self, near: Tensor) -> Tensor:
        """How near an image is to others by each kernel (b k) → what is added to its score (b)."""
        added: Tensor = self.nearness(near).squeeze(1)
        return added

    @abstractmethod
    def judge(self, seen: Tensor, z: Latent) -> Tensor:
        """The last stage's map (b c h w), latent → scores."""

    def forward(self, y: Tensor, z: Latent) -> Tensor:
        return self.judge(self.look(y), z)

    def look(self, y: Tensor) -> Tensor:
        """The last stage's map (b c h w)."""
        return self._feature_maps(y)[-1]

    def features(self, y: Tensor, z: Latent) -> tuple[Tensor, ...]:
        """The map (b c h w) that each stage gives."""
        return self._feature_maps(y)

    def _feature_maps(self, y: Tensor) -> tuple[Tensor, ...]:
        # Convolutions run faster on CPUs and GPUs alike with the channels last.
        x = y.contiguous(memory_format=torch.channels_last)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return tuple(maps)


class TextConcatenation(nn.Module):
    """Concatenates the pooled latent, projected, to every place of a map, then a 1×1 convolution (Reed et al. 2016, section 4.1)."""

    def __init__(self, latent: int, width: int, before: int, after: int) -> None:
        super().__init__()
        self.text = nn.Linear(latent, width)
        self.mix = nn.Conv2d(before + width, after, 1)

    def forward(self, seen: Tensor, z: Latent) -> Tensor:
        """(b before h w) → (b after h w)."""
        return F.leaky_relu(self.mix(concatenate_vector(seen, F.leaky_relu(self.text(z.pooled), SLOPE))), SLOPE)


def concatenate_vector(seen: Tensor, vector: Tensor) -> Tensor:
    """Map (b c h w), vector (b d) → (b c+d h w), the vector concatenated to every place."""
    return torch.cat([seen, vector[:, :, None, None].expand(-1, -1, *seen.shape[2:]).to(seen.dtype)], 1)


def strided_stages(channels: Sequence[int], shape: tuple[int, int, int]) -> tuple[nn.ModuleList, tuple[int, int, int]]:
    """Stages of a 4×4 convolution with stride 2 and a leaky ReLU (Radford et al. 2016), and (c h w) of the last map.

    Raises:
        ValueError: the image is too small for so many stages.
    """
    before, height, width = shape
    check_size(channels, shape, 1 << len(channels))
    stages = nn.ModuleList()
    for after in channels:
        stages.append(nn.Sequential(nn.Conv2d(before, after, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)))
        before, height, width = after, height // 2, width // 2
    return stages, (before, height, width)


def check_size(channels: Sequence[int], shape: tuple[int, int, int], least: int) -> None:
    """Raises `ValueError` where height or width is below `least` pixels."""
    if min(shape[1:]) < least:
        raise ValueError(
            f"channels = {list(channels)!r}: expected fewer stages for an image of {shape[1]}×{shape[2]} pixels; these ask for {least}×{least}"
        )
