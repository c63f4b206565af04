"""Image tokenizers: a convolutional autoencoder around a quantiser. Shapes: b batch, c h w image, r s rows and columns of tokens, m = r·s, d code width."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from ibllm.plugin import Context, ImageTokenizer, Reconstruction, Residual
from ibllm_tokens.config import FSQConfig, VQConfig
from ibllm_tokens.quantisers import Codebook, FiniteScalarQuantiser, Quantiser


def residual_block(channels: int) -> Residual:
    """(b c h w) → (b c h w): ReLU, 3×3 convolution, ReLU, 1×1 convolution (van den Oord et al. 2017, section 4.1)."""
    spread, mix = nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, channels, 1)
    return Residual(OrderedDict(relu1=nn.ReLU(), spread=spread, relu2=nn.ReLU(), mix=mix))


class ConvTokenizer(ImageTokenizer):
    """Patches enter by one linear layer and leave by another; between them residual blocks on ever smaller maps, quantised at the smallest."""

    checkpointed = ("down", "up")

    def __init__(self, config: VQConfig | FSQConfig, context: Context, quantiser: Quantiser) -> None:
        super().__init__()
        colours, height, width = context.image_shape
        stride = config.stride
        if height % stride or width % stride:
            raise ValueError(
                f"patch = {config.patch} with {len(config.channels)} stages: expected {stride} to divide the image's {height} × {width}"
            )
        self.vocabulary, self.levels, self.grid = quantiser.vocabulary, quantiser.levels, (height // stride, width // stride)
        first, last, patch = config.channels[0], config.channels[-1], config.patch
        down: list[nn.Module] = [nn.Conv2d(colours, first, patch, stride=patch)]
        up: list[nn.Module] = [nn.ConvTranspose2d(first, colours, patch, stride=patch)]
        for number, channels in enumerate(config.channels):
            if number:
                before = config.channels[number - 1]
                down.append(nn.Conv2d(before, channels, 4, stride=2, padding=1))
                up.append(nn.ConvTranspose2d(channels, before, 4, stride=2, padding=1))
            down += [residual_block(channels) for _ in range(config.blocks)]
            up += [residual_block(channels) for _ in range(config.blocks)]
        self.down = nn.Sequential(*down, nn.Conv2d(last, quantiser.width, 1))
        self.quantiser = quantiser
        self.up = nn.Sequential(nn.Conv2d(quantiser.width, last, 3, padding=1), *reversed(up))

    def _encode(self, y: Tensor) -> Tensor:
        """y (b c h w) → (b m d), before quantising."""
        # Convolutions run faster on CPUs and GPUs alike with the channels last.
        places: Tensor = self.down(y.contiguous(memory_format=torch.channels_last))
        return places.flatten(2).transpose(1, 2)

    def _decode(self, codes: Tensor) -> Tensor:
        """(b m d) → (b c h w) in [−1, 1]."""
        maps = codes.transpose(1, 2).reshape(len(codes), -1, *self.grid)
        drawn: Tensor = self.up(maps.contiguous(memory_format=torch.channels_last))
        return drawn.tanh()

    def encode(self, y: Tensor) -> Tensor:
        return self.quantiser.ids(self._encode(y))

    def decode(self, ids: Tensor) -> Tensor:
        return self._decode(self.quantiser.vectors(ids))

    def reconstruct(self, y: Tensor) -> Reconstruction:
        codes, ids, commitment = self.quantiser(self._encode(y))
        return Reconstruction(self._decode(codes), commitment, ids)


class VQTokenizer(ConvTokenizer):
    """An autoencoder with a learned codebook (VQ-VAE, van den Oord et al. 2017)."""

    def __init__(self, config: VQConfig, context: Context) -> None:
        super().__init__(config, context, Codebook(config.codes, config.code_width, config.commitment, config.decay, config.restart))


class FSQTokenizer(ConvTokenizer):
    """An autoencoder with finite scalar quantisation (Mentzer et al. 2023)."""

    def __init__(self, config: FSQConfig, context: Context) -> None:
        super().__init__(config, context, FiniteScalarQuantiser(config.levels))
