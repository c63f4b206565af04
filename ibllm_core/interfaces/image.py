"""Image parts: D_y (latent → image), E_y (image → latent), C (the critic) and codecs (image ↔ discrete tokens or latents, for decoders that work on these).

Shapes: b batch, c h w image, c' h' w' a codec's latents, n latent places, d latent width, k noise width, m image tokens = rows·columns, p patches.
Images are floats in [−1, 1].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import attrs
from torch import Tensor, nn

from .latent import Latent
from .noise import Rng


class ImageEncoder(nn.Module, ABC):
    """E_y."""

    #: d, the width of the latents it gives.
    width: int

    @abstractmethod
    def forward(self, y: Tensor) -> Latent:
        """y (b c h w) in [−1, 1] → latent: tokens (b n d), mask (b n), pooled (b d).

        Where n is a square number the places are a grid's, row by row; a multiple of one (an encoder of several aspects) is one grid after the other.
        """


class ImageDecoder(nn.Module, ABC):
    """D_y, p(y|x) through the latent. What log p means is the decoder's own business.

    One that works on a codec's latents (capability ``image_latents``) is handed their shape for the image's, and says "image" where latents are meant,
    here as in `DrawingDecoder`: y, and what `sample` and `draw` give, have no bounds then (``Context.bounded``). The model puts the codec before `nll` and
    after `sample` and `draw`.
    """

    @abstractmethod
    def nll(self, y: Tensor, z: Latent, rng: Rng) -> Tensor:
        """(b) −log p(y | z) in nats up to a constant, summed over the image, or a bound of it. Draws what it needs from `rng`."""

    @abstractmethod
    def sample(self, z: Latent, rng: Rng) -> Tensor:
        """One image (b c h w) in [−1, 1] for each latent."""

    def forward(self, y: Tensor, z: Latent, rng: Rng) -> Tensor:
        return self.nll(y, z, rng)


class DrawingDecoder(ImageDecoder):
    """A decoder that draws in one differentiable pass (capability ``differentiable_draw``): losses may follow gradients through its images."""

    #: k, numbers of noise an image; 0 for none.
    noise_width: int

    def noise(self, z: Latent, rng: Rng) -> Tensor:
        """(b k) standard normal. A decoder whose noise follows the text, in its width (b n k) or in its distribution, overrides it; it needs no gradient."""
        return rng.normal(self.noise_width)

    @abstractmethod
    def draw(self, z: Latent, noise: Tensor) -> Tensor:
        """latent, noise (b k) or (b n k) → image (b c h w) in [−1, 1], differentiable in both."""

    @abstractmethod
    def likelihood(self, y: Tensor, drawn: Tensor) -> Tensor:
        """(b) −log p(y | drawn) up to a constant, summed over the image: the reconstruction likelihood."""

    @property
    def nll_is_of_a_drawing(self) -> bool:
        """True where `nll` is what it is here: the cycle then takes the likelihood of the drawing that other losses see, and draws once."""
        return type(self).nll is DrawingDecoder.nll and type(self).forward is ImageDecoder.forward

    def nll(self, y: Tensor, z: Latent, rng: Rng) -> Tensor:
        """(b) the likelihood of one drawing. A decoder with another one, a bound with a posterior over its noise say, overrides it."""
        return self.likelihood(y, self.draw(z, self.noise(z, rng)))

    def sample(self, z: Latent, rng: Rng) -> Tensor:
        return self.draw(z, self.noise(z, rng))


class TokenDecoder(ImageDecoder):
    """A decoder over a codec's tokens (capability ``image_tokens``): the image y, and what `sample` gives, are ids (b m) here.

    The model puts the codec before `nll` and after `sample`; the context's `image_tokens` says how many ids and places there are.
    """


class Discriminator(nn.Module, ABC):
    """C. Scores how well an image is real and belongs to a latent; higher is better, without a sigmoid."""

    @abstractmethod
    def forward(self, y: Tensor, z: Latent) -> Tensor:
        """y (b c h w) in [−1, 1], latent → scores (b), or (b p) of a critic that judges each patch by itself; losses average over them.

        Twice differentiable in y and z where the capability ``second_order`` is declared. No item's score depends on the others of the batch.
        """

    def look(self, y: Tensor) -> Any:
        """What the critic sees in an image (by default itself): kept while one player plays, so that a second text costs no second look."""
        return y

    def judge(self, seen: Any, z: Latent) -> Tensor:
        """Scores of what `look` gave: ``judge(look(y), z)`` is ``forward(y, z)``."""
        scores: Tensor = self(seen, z)
        return scores


@attrs.define(eq=False, slots=False)
class Reconstruction:
    """An image through a codec and back, differentiable (past the rounding of tokens straight through).

    Attributes:
        image: (b c h w) in [−1, 1].
        regularisation: (b) what the codec adds to the reconstruction error, already weighted (VQ's commitment, the KL term of a variational autoencoder);
            zeros where it asks for nothing.
        ids: (b m) of a codec that gives tokens.
    """

    image: Tensor
    regularisation: Tensor
    ids: Tensor | None = None


class ImageCodec(nn.Module, ABC):
    """Image ↔ something smaller; trained by losses that ask the cycle for `reconstruction`, frozen where a decoder is trained that works on what it gives.

    It is an `ImageTokenizer`, a `LatentCodec`, or both.
    """

    @abstractmethod
    def reconstruct(self, y: Tensor) -> Reconstruction:
        """y (b c h w) in [−1, 1] → what is left of it.

        In train mode a codec may keep statistics, of its latents or of its codes' use, and draws what it needs from `Rng.of_pass`.
        """

    def forward(self, y: Tensor) -> Reconstruction:
        return self.reconstruct(y)


class LatentCodec(ImageCodec):
    """Image ↔ continuous latents (capability ``latents``) of about zero mean and unit variance over the images it was trained on; it keeps their scale."""

    #: (c', h', w').
    latent_shape: tuple[int, int, int]

    @abstractmethod
    def encode_latents(self, y: Tensor) -> Tensor:
        """y (b c h w) in [−1, 1] → latents (b c' h' w'), without chance."""

    @abstractmethod
    def decode_latents(self, latents: Tensor) -> Tensor:
        """latents (b c' h' w') → image (b c h w) in [−1, 1], differentiable."""


class ImageTokenizer(ImageCodec):
    """Image ↔ discrete tokens (capability ``tokens``)."""

    #: Number of different tokens.
    vocabulary: int
    #: Rows and columns of the grid of tokens; ids are in row-major order.
    grid: tuple[int, int]
    #: Levels of each digit of an id in a mixed radix, the first the least, for decoders that predict digits; empty where ids are made of none.
    levels: tuple[int, ...] = ()

    @abstractmethod
    def encode(self, y: Tensor) -> Tensor:
        """y (b c h w) in [−1, 1] → ids (b m)."""

    @abstractmethod
    def decode(self, ids: Tensor) -> Tensor:
        """ids (b m) → image (b c h w) in [−1, 1]."""
