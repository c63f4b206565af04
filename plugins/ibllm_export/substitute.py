"""A model whose passes are an exported folder's graphs, so that the run's own metrics can look at it. Shapes: b batch, h w c image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ibllm_core.errors import UserError
from ibllm_core.interfaces.batch import to_images, to_tokens
from ibllm_core.interfaces.noise import Rng
from ibllm_core.interfaces.text import TextEncoder
from ibllm_core.model.model import Model, Pixels

from .run_onnx import Exported, to_pixels


class Recorded(Rng):
    """A keyed generator that keeps what it gave, in order, whatever the purpose."""

    def __init__(self, key: tuple[int | str, ...], samples: npt.ArrayLike, device: torch.device) -> None:
        super().__init__(key, samples, device)
        self.given: list[Tensor] = []

    def normal(self, *shape: int) -> Tensor:
        self.given.append(super().normal(*shape))
        return self.given[-1]

    def uniform(self, *shape: int) -> Tensor:
        self.given.append(super().uniform(*shape))
        return self.given[-1]

    def integers(self, high: int, *shape: int) -> Tensor:
        return (self.uniform(*shape) * high).floor().long()


class Substitute(Model):
    """The same parts and tokenizers, but `generate` and `caption` run the graphs. The noise is what the model itself draws with.

    Captions are greedy, as the stand-alone program writes them.
    """

    def __init__(self, model: Model, exported: Exported) -> None:
        super().__init__(dict(model.parts.items()), model.tokenizers, model.image_shape, model.works_on == "latents")
        self.exported = exported

    def generate(self, captions: Sequence[str], *, seed: int = 0, numbers: npt.ArrayLike | None = None, batch: int = 128) -> Pixels:
        keys = np.arange(len(captions)) if numbers is None else np.asarray(numbers)
        encoder, drawn = cast(TextEncoder, self.part("text_encoder")), []
        for start in range(0, len(captions), batch):
            rows = slice(start, start + batch)
            tokens = to_tokens(self.tokenizers["text_encoder"], captions[rows])
            with self.inference():  # drawn twice: the sampler says what it draws with only by drawing
                rng = Recorded((seed, "generate"), keys[rows], self.device)
                self.sample_image(encoder(tokens.to(self.device)), rng)
            noise = [some.cpu().numpy() for some in rng.given]
            drawn.append(to_pixels(self.exported.images(tokens.ids.numpy(), tokens.mask.numpy(), noise)))
        return np.concatenate(drawn)

    def caption(
        self,
        images: Pixels,
        *,
        questions: Sequence[str] | None = None,
        temperature: float = 0.0,
        beams: int | None = None,
        batch: int = 128,
        **how: Any,
    ) -> list[str]:
        """Greedy captions. Raises `UserError` for anything else."""
        if questions is not None or temperature or (beams or 1) > 1:
            raise UserError("the exported graphs write greedy captions only: no answers, no drawn words, no search")
        tokenizer, texts = self.tokenizers["text_decoder"], []
        for start in range(0, len(images), batch):
            texts += tokenizer.decode(self.exported.write(to_images(images[start : start + batch]).numpy()))
        return texts
