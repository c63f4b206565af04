"""Codecs that give tokens: a convolutional autoencoder around a quantiser. Shapes: b batch, c h w image, m = r·s rows · columns of tokens, d code width."""

from __future__ import annotations

from torch import Tensor

from ibllm.plugin import Context, ImageTokenizer, Reconstruction
from ibllm_tokens.autoencoder import ConvCodec
from ibllm_tokens.config import FSQConfig, VQConfig
from ibllm_tokens.quantisers import Codebook, FiniteScalarQuantiser, Quantiser


class ConvTokenizer(ConvCodec, ImageTokenizer):
    """The autoencoder's places, quantised."""

    def __init__(self, config: VQConfig | FSQConfig, context: Context, quantiser: Quantiser) -> None:
        super().__init__(config, context, quantiser.width, quantiser.width)
        self.vocabulary, self.levels, self.quantiser = quantiser.vocabulary, quantiser.levels, quantiser

    def encode(self, y: Tensor) -> Tensor:
        return self.quantiser.ids(self._places(y))

    def decode(self, ids: Tensor) -> Tensor:
        return self._image(self.quantiser.vectors(ids))

    def reconstruct(self, y: Tensor) -> Reconstruction:
        codes, ids, commitment = self.quantiser(self._places(y))
        return Reconstruction(self._image(codes), commitment, ids)

    def _places(self, y: Tensor) -> Tensor:
        """y (b c h w) → (b m d), before quantising."""
        return self._encode(y).flatten(2).transpose(1, 2)

    def _image(self, codes: Tensor) -> Tensor:
        """(b m d) → (b c h w) in [−1, 1]."""
        return self._decode(codes.transpose(1, 2).reshape(len(codes), -1, *self.grid))


class VQTokenizer(ConvTokenizer):
    """An autoencoder with a learned codebook (VQ-VAE, van den Oord et al. 2017)."""

    def __init__(self, config: VQConfig, context: Context) -> None:
        super().__init__(config, context, Codebook(config.codes, config.code_width, config.commitment, config.decay, config.restart))


class FSQTokenizer(ConvTokenizer):
    """An autoencoder with finite scalar quantisation (Mentzer et al. 2023)."""

    def __init__(self, config: FSQConfig, context: Context) -> None:
        super().__init__(config, context, FiniteScalarQuantiser(config.levels))
