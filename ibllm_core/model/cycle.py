"""One batch on its way round: x → E_x → z_x → D_y → y' → E_y → z_y → D_x → x'. Every step computed at most once, on demand.

The cycle keeps only the model's side. The critic's scores are never kept: its own step would make them stale.
Shapes: b batch, c h w image, n latent places, d latent width.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..errors import UserError
from ..interfaces.batch import Batch
from ..interfaces.discriminator import Discriminator
from ..interfaces.image import DrawingDecoder, TokenDecoder
from ..interfaces.image_tokenizer import Reconstruction
from ..interfaces.latent import Gaussian, Latent, Tokens
from ..interfaces.loss import AdversarialLoss, CriticLoss, Loss, Scale, Value
from ..interfaces.noise import Rng

if TYPE_CHECKING:
    from .model import Model

_T = TypeVar("_T")


class Cycle:
    """One batch and everything that is computed from it.

    Args:
        model: the parts.
        batch: on the model's device.
        losses: name → loss, so that a composite may ask for another's value.
        key: words that key this batch's noise (seed, step).
        step: iteration in the stage, for what changes over it.
        scale: this process's share of the mean.
    """

    def __init__(
        self,
        model: Model,
        batch: Batch,
        losses: Mapping[str, Loss | CriticLoss] | None = None,
        key: tuple[int | str, ...] = (0,),
        step: int = 0,
        scale: Scale | None = None,
    ) -> None:
        self.model, self.batch, self.step = model, batch, step
        self._losses, self._key, self._scale = losses or {}, key, scale or Scale()
        self._values: dict[str, Tensor] = {}
        self._seen: dict[tuple[int, bool], tuple[Tensor, Any]] = {}

    def __len__(self) -> int:
        return len(self.batch)

    def rng(self, purpose: str) -> Rng:
        """A generator for this batch's items, keyed by seed, step and purpose."""
        return Rng((*self._key, purpose), self.batch.numbers, self.model.device)

    # What the data bring.

    @property
    def x(self) -> Tokens:
        """The captions as E_x reads them."""
        return _there(self.batch.x, "captions")

    @property
    def x_out(self) -> Tokens:
        """The captions as D_x writes them."""
        return _there(self.batch.x_out, "captions")

    @property
    def y(self) -> Tensor:
        """(b c h w) the real images."""
        return _there(self.batch.y, "images")

    @property
    def texts(self) -> Tokens:
        """Captions for losses that need no pairs, as E_x reads them: the unpaired ones where the recipe names such, else the pairs'."""
        return self.x if self.batch.unpaired_x is None else self.batch.unpaired_x

    @property
    def images(self) -> Tensor:
        """(b c h w) images for losses that need no pairs: the unpaired ones where the recipe names such, else the pairs'."""
        return self.y if self.batch.unpaired_y is None else self.batch.unpaired_y

    @property
    def question(self) -> Tokens:
        return _there(self.batch.question, "questions")

    @property
    def answer(self) -> Tokens:
        return _there(self.batch.answer, "answers")

    @property
    def image_dimensions(self) -> int:
        """c·h·w, the numbers in one image."""
        return self.y[0].numel()

    # What the model makes of them.

    @cached_property
    def z_x(self) -> Latent:
        """E_x(x)."""
        z: Latent = self.model.part("text_encoder")(self.x)
        return z

    @cached_property
    def noise(self) -> Tensor:
        """(b k) the noise that y_fake is drawn with."""
        return self._drawer.noise(self.rng("draw"))

    @cached_property
    def y_fake(self) -> Tensor:
        """(b c h w) D_y(z_x, noise), with its graph."""
        return self._drawer.draw(self.z_x, self.noise)

    @cached_property
    def z_y(self) -> Latent:
        """E_y(y)."""
        z: Latent = self.model.part("image_encoder")(self.y)
        return z

    @cached_property
    def z_images(self) -> Latent:
        """E_y of the images, unpaired ones where the recipe names such."""
        if self.batch.unpaired_y is None:
            return self.z_y
        return cast(Latent, self.model.part("image_encoder")(self.images))

    @cached_property
    def z_fake(self) -> Latent:
        """E_y(y_fake)."""
        z: Latent = self.model.part("image_encoder")(self.y_fake)
        return z

    @cached_property
    def image_nll(self) -> Tensor:
        """(b) −log p(y|x). A drawing decoder's likelihood is taken of y_fake, so that the image is drawn once."""
        decoder = self.model.part("image_decoder")
        if isinstance(decoder, DrawingDecoder):
            return decoder.likelihood(self.y, self.y_fake)
        y = self.image_ids if isinstance(decoder, TokenDecoder) else self.y
        return cast(Tensor, decoder(y, self.z_x, self.rng("image_nll")))

    @cached_property
    def image_ids(self) -> Tensor:
        """(b m) the real images as the image tokenizer's ids."""
        return self.model.tokenize(self.y)

    @cached_property
    def reconstruction(self) -> Reconstruction:
        """The images (unpaired ones too) through the image tokenizer and back."""
        return cast(Reconstruction, self.model.part("image_tokenizer")(self.images))

    @cached_property
    def text_nll(self) -> Tensor:
        """(b) −log p(x|y)."""
        nll: Tensor = self.model.part("text_decoder")(self.x_out, self.z_y)
        return nll

    @cached_property
    def cycle_nll(self) -> Tensor:
        """(b) −log p(x|y_fake), the caption read back off the drawn image."""
        nll: Tensor = self.model.part("text_decoder")(self.x_out, self.z_fake)
        return nll

    @cached_property
    def answer_nll(self) -> Tensor:
        """(b) −log p(answer|y, question)."""
        nll: Tensor = self.model.part("text_decoder")(self.answer, self.z_y, self.question)
        return nll

    @property
    def _drawer(self) -> DrawingDecoder:
        decoder = self.model.part("image_decoder")
        assert isinstance(decoder, DrawingDecoder), "a loss that needs a drawn image declares image_decoder.differentiable_draw"
        return decoder

    # What losses ask for.

    def image_nll_of(self, y: Tensor, z: Latent, purpose: str) -> Tensor:
        """(b) −log p(y | z) for any images (b c h w) and latents, through the image tokenizer where the decoder works on tokens."""
        decoder = self.model.part("image_decoder")
        return cast(Tensor, decoder(self.model.tokenize(y) if isinstance(decoder, TokenDecoder) else y, z, self.rng(purpose)))

    def draw_again(self, purpose: str) -> tuple[Tensor, Tensor]:
        """Other noise (b k) than y_fake's for the same captions, and the images (b c h w) drawn with it."""
        noise = self._drawer.noise(self.rng(purpose))
        return noise, self._drawer.draw(self.z_x, noise)

    @property
    def condition(self) -> Gaussian:
        """The distribution (b k') that the image decoder draws the captions' condition from."""
        return self._drawer.gaussian(self.z_x)

    def score(self, y: Tensor, z: Latent) -> Tensor:
        """(b) or (b p) the critic's scores in at least float32; it looks at an image once a play, whatever texts it is scored with."""
        critic = cast(Discriminator, self.model.part("discriminator"))
        key = (id(y), torch.is_grad_enabled())
        if key not in self._seen:
            self._seen[key] = y, critic.look(y)  # with the image, so that no other one can have its id
        scores = critic.judge(self._seen[key][1], z)
        return scores.to(torch.promote_types(scores.dtype, torch.float32))

    def begin_play(self) -> None:
        """Forgets what the critic saw: from one player's turn to the next its weights change."""
        self._seen = {}

    def features(self, y: Tensor, z: Latent) -> tuple[Tensor, ...]:
        """What the critic sees on its way to the score, each (b …), computed anew at every call."""
        return cast(Discriminator, self.model.part("discriminator")).features(y, z)

    def score_twice_differentiable(self, y: Tensor, z: Latent) -> Tensor:
        """As `score`, for penalties: fused attention has no second derivative on a CPU, so the plain kernel is used."""
        with sdpa_kernel(SDPBackend.MATH):
            return self.score(y, z)

    def leaf(self, name: str) -> Tensor:
        """A fresh leaf of the image `name` (``y`` or ``y_fake``) that wants a gradient, so that nobody else pays for it."""
        image: Tensor = getattr(self, name)
        return image.detach().clone().requires_grad_(True)

    def leaf_latent(self, name: str) -> Latent:
        """A fresh leaf of the latent `name` (``z_x``, ``z_y``): tokens and pooled vector want a gradient."""
        z: Latent = getattr(self, name)
        return Latent(z.tokens.detach().clone().requires_grad_(True), z.mask, z.pooled.detach().clone().requires_grad_(True))

    def value(self, name: str) -> Tensor:
        """The value () of the model's loss `name`, computed once for this batch."""
        if name not in self._values:
            loss = self._losses[name]
            assert isinstance(loss, Loss), f"{name} is no loss of the model"
            value = loss(self)
            assert isinstance(value, Tensor) or not loss.composite, f"{name} is composite and gives a sum and its count"
            self._values[name] = value if loss.composite and isinstance(value, Tensor) else self.share(name, value)
        return self._values[name]

    def critic_value(self, name: str) -> Tensor:
        """The value () of the critic's loss `name`, computed anew."""
        loss = self._losses[name]
        assert isinstance(loss, CriticLoss | AdversarialLoss), f"{name} is no loss of the critic"
        return self.share(name, loss.critic(self))

    def share(self, name: str, value: Value) -> Tensor:
        """A loss's value as this process's share: the mean of all shares is the mean over all items."""
        if isinstance(value, Tensor):
            return value * (len(self) * self._scale.shares / self._scale.items) if self._scale.items else value
        total, count = value
        if name in self._scale.counts:
            return total * (self._scale.shares / self._scale.counts[name])
        return total / count


def _there(found: _T | None, what: str) -> _T:
    if found is None:
        raise MissingData(f"it asks for {what}, but the data give none")
    return found


class MissingData(UserError):
    """The data lack what a loss asks for."""


def fabricate(model: Any, batch: int, device: torch.device, text_length: int = 0) -> Batch:
    """A batch of the right shapes and no meaning, for walks on the meta device."""
    import numpy as np

    def text(part: str) -> Tokens | None:
        if part not in model.tokenizers:
            return None
        length = text_length or model.tokenizers[part].max_length
        return Tokens(
            torch.ones(batch, length, dtype=torch.int64, device=device), torch.ones(batch, length, dtype=torch.bool, device=device)
        )

    written = text("text_decoder")
    return Batch(
        numbers=np.arange(batch),
        x=text("text_encoder"),
        x_out=written,
        y=torch.zeros(batch, *model.image_shape, device=device),
        question=written,
        answer=written,
        unpaired_x=text("text_encoder"),
        unpaired_y=torch.zeros(batch, *model.image_shape, device=device),
    )
