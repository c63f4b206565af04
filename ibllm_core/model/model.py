"""The composed parts: generate, caption, ask, answer, round trip."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..errors import UserError
from ..interfaces.batch import to_images, to_pixels, to_tokens, told
from ..interfaces.image import ImageDecoder, ImageEncoder, ImageTokenizer, LatentCodec, TokenDecoder
from ..interfaces.latent import Latent
from ..interfaces.noise import Rng
from ..interfaces.text import TextDecoder, TextEncoder, asking
from ..interfaces.tokenizer import Tokenizer
from .compute import arithmetic

Pixels = npt.NDArray[np.uint8]


class Model(nn.Module):
    """Parts by name, and what they do together.

    Args:
        parts: part name → module.
        tokenizers: ``text_encoder`` and ``text_decoder`` → the tokenizer each uses; ``language`` → what reads the codes that D_x is told, if it is.
        image_shape: (c, h, w).
        latents: the image decoder works on the latents of the codec, ``image_tokenizer``.
    """

    def __init__(
        self, parts: Mapping[str, nn.Module], tokenizers: Mapping[str, Tokenizer], image_shape: tuple[int, int, int], latents: bool = False
    ) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)
        self.tokenizers = dict(tokenizers)
        self.image_shape, self._latents = image_shape, latents
        self.autocast: torch.dtype | None = None
        self.tf32 = False
        #: Parts that lie in shards over the processes of a run (`ibllm_core.model.sharding`).
        self.sharded: list[Any] = []
        #: Where in the recipe torch's global generators were drawn from in training: such numbers depend on how a batch is shared.
        self.unkeyed = set[str]()
        self.beams, self.length_exponent = 1, 0.0

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def part(self, name: str) -> nn.Module:
        """The part `name`. Raises `UserError` where the model has none."""
        if name not in self.parts:
            raise UserError(f"this model has no {name}; it has {', '.join(self.parts)}")
        return self.parts[name]

    @property
    def works_on(self) -> str:
        """What the image decoder works on: ``images``, or ``tokens`` or ``latents`` of the codec."""
        tokens = "image_decoder" in self.parts and isinstance(self.parts["image_decoder"], TokenDecoder)
        return "tokens" if tokens else "latents" if self._latents else "images"

    def encode_image(self, y: Tensor) -> Tensor:
        """y (b c h w) as the image decoder works on it: itself, or without a gradient the codec's ids (b m) or latents (b c' h' w')."""
        if self.works_on == "images":
            return y
        codec = self.part("image_tokenizer")
        with torch.no_grad():
            return cast(LatentCodec, codec).encode_latents(y) if self.works_on == "latents" else cast(ImageTokenizer, codec).encode(y)

    def decode_image(self, drawn: Tensor) -> Tensor:
        """What the image decoder works on → image (b c h w) in [−1, 1], differentiable but for ids."""
        if self.works_on == "images":
            return drawn
        codec = self.part("image_tokenizer")
        return cast(LatentCodec, codec).decode_latents(drawn) if self.works_on == "latents" else cast(ImageTokenizer, codec).decode(drawn)

    def sample_image(self, z: Latent, rng: Rng) -> Tensor:
        """One image (b c h w) in [−1, 1] for each latent."""
        return self.decode_image(cast(ImageDecoder, self.part("image_decoder")).sample(z, rng))

    def precision(self) -> AbstractContextManager[Any]:
        """Autocast as the recipe asks."""
        return nullcontext() if self.autocast is None else torch.autocast(self.device.type, dtype=self.autocast)

    @contextmanager
    def inference(self) -> Iterator[None]:
        """No gradients, dropout off; afterwards every module is in the mode it was in."""
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        self.reshard()
        try:
            with torch.no_grad(), arithmetic(self.tf32), self.precision():
                yield
        finally:
            for module, mode in modes:
                module.training = mode
            self.reshard()

    def reshard(self) -> None:
        """Parts that lie in shards, which may change now, are gathered anew when they are used next."""
        for part in self.sharded:
            part.reshard()

    def generate(self, captions: Sequence[str], *, seed: int = 0, numbers: npt.ArrayLike | None = None, batch: int = 128) -> Pixels:
        """Draws an image for each caption: (b h w c) uint8.

        Args:
            seed: of the noise.
            numbers: (b) what keys each item's noise, by default its place; equal numbers give equal noise.
            batch: items a forward pass; the result does not depend on it.
        """
        keys = np.arange(len(captions)) if numbers is None else np.asarray(numbers)
        encoder = cast(TextEncoder, self.part("text_encoder"))

        def draw(rows: slice) -> Pixels:
            z = encoder(to_tokens(self.tokenizers["text_encoder"], captions[rows]).to(self.device))
            return to_pixels(self.sample_image(z, Rng((seed, "generate"), keys[rows], self.device)))

        with self.inference():
            drawn = [draw(rows) for rows in _slices(len(captions), batch)]
        c, h, w = self.image_shape
        return np.concatenate(drawn) if drawn else np.zeros((0, h, w, c), np.uint8)

    def caption(
        self,
        images: Pixels,
        *,
        questions: Sequence[str] | None = None,
        asks: bool = False,
        languages: Sequence[str] | None = None,
        seed: int = 0,
        temperature: float = 0.0,
        top_p: float = 1.0,
        beams: int | None = None,
        length_exponent: float | None = None,
        numbers: npt.ArrayLike | None = None,
        batch: int = 128,
    ) -> list[str]:
        """Writes a caption for each image (b h w c) uint8, with `questions` an answer, or where it `asks` a question.

        Args:
            languages: a code for each, of a decoder that is told them (its option `languages`); others write as ever.
            seed: of what is drawn.
            temperature: 0 takes the likeliest word each time; otherwise words are drawn within the nucleus `top_p`.
            top_p: in (0, 1].
            beams: texts that are followed at once to find the likeliest; 1 follows the likeliest word only.
            length_exponent: texts are compared by log p / length^exponent; 0 by log p, larger ones favour longer texts. Both are the recipe's,
                ``[evaluation]``, when left out.
            numbers: (b) what keys each item's chance, by default its place.
            batch: items a forward pass; the result does not depend on it.
        """
        if temperature and beams is not None and beams > 1:
            raise UserError(
                f"temperature = {temperature}, beams = {beams}: expected one of the two; texts are either drawn or searched for"
            )
        if beams is not None and beams < 1:
            raise UserError(f"beams = {beams}: expected at least 1")
        followed = 1 if temperature else self.beams if beams is None else beams
        exponent = self.length_exponent if length_exponent is None else length_exponent
        self._check_images(images)
        encoder, decoder = cast(ImageEncoder, self.part("image_encoder")), cast(TextDecoder, self.part("text_decoder"))
        tokenizer, keys = self.tokenizers["text_decoder"], np.arange(len(images)) if numbers is None else np.asarray(numbers)

        def write(rows: slice) -> list[str]:
            z = encoder(to_images(images[rows]).to(self.device))
            prefix = asking(len(z), self.device) if asks else None
            if languages is not None and "language" in self.tokenizers:
                prefix = told(self.tokenizers["language"], languages[rows]).to(self.device)
            if questions is not None:
                prefix = to_tokens(tokenizer, questions[rows]).to(self.device)
            rng = Rng((seed, "ask" if asks else "caption"), keys[rows], self.device)
            tokens = decoder.sample(z, rng, prefix=prefix, temperature=temperature, top_p=top_p, beams=followed, length_exponent=exponent)
            return tokenizer.decode(tokens.ids.cpu().numpy())

        with self.inference():
            return [text for rows in _slices(len(images), batch) for text in write(rows)]

    def answer(self, images: Pixels, questions: Sequence[str], **how: Any) -> list[str]:
        """Answers a question about each image (b h w c) uint8; `how` is as for `caption`."""
        return self.caption(images, questions=questions, **how)

    def ask(self, images: Pixels, *, temperature: float = 1.0, top_p: float = 0.9, **how: Any) -> list[str]:
        """Asks a question about each image (b h w c) uint8, drawn within a nucleus by default; `how` is as for `caption`."""
        return self.caption(images, asks=True, temperature=temperature, top_p=top_p, **how)

    def round_trip(self, captions: Sequence[str], *, seed: int = 0) -> tuple[Pixels, list[str]]:
        """Text → image → text: the drawn images (b h w c) and the captions read off them."""
        images = self.generate(captions, seed=seed)
        return images, self.caption(images)

    def _check_images(self, images: Pixels) -> None:
        c, h, w = self.image_shape
        if images.ndim != 4 or images.shape[1:] != (h, w, c) or images.dtype != np.uint8:
            raise UserError(f"images must be uint8 of shape (b, {h}, {w}, {c}), not {images.dtype} {images.shape}")


def _slices(total: int, size: int) -> Iterator[slice]:
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))
