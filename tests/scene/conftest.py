"""A model that draws exactly what captions say: what is wrong in a world is then the world's fault."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ibllm_shapes.grammar import facts, write
from ibllm_shapes.reader import read
from ibllm_shapes.render import render
from ibllm_shapes.scenes import CELLS, COLOURS, SHAPES, SIZES, Scenes
from torch import Tensor, nn

from ibllm.trained import Trained
from ibllm_core.interfaces.batch import to_images, to_pixels, to_tokens
from ibllm_core.interfaces.latent import Latent, Tokens
from ibllm_core.interfaces.noise import Rng
from ibllm_core.model import build
from ibllm_core.model.model import Model
from ibllm_core.recipe import load

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"


def scenes_of(captions: list[str]) -> Scenes:
    """The scenes that captions of cells tell of, centres in the middle of cells."""
    b = len(captions)
    count, numbers, centres = np.zeros(b, dtype=np.int64), np.full((4, b, 3), -1), np.full((2, b, 3), np.nan)
    for i, caption in enumerate(captions):
        found = facts(caption, "cells")
        assert found is not None, caption
        count[i] = len(found)
        for k, (size, colour, shape, place) in enumerate(sorted(found, key=lambda fact: CELLS.index(fact[3]))):
            cell = CELLS.index(place)
            numbers[:, i, k] = SIZES.index(size), COLOURS.index(colour), SHAPES.index(shape), cell
            centres[:, i, k] = 8 + 16 * (cell % 2), 8 + 16 * (cell // 2)
    return Scenes(count, numbers[1], numbers[2], numbers[0], numbers[3], *centres, 32, "cells")


class Reads(nn.Module):
    def forward(self, x: Tokens) -> Latent:
        values = x.ids.float()[..., None]
        return Latent(values, x.mask, values[:, 0])


class Draws(nn.Module):
    """In one pass; `spoiled` shifts what it draws of some colours, a model's mistake."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__()
        self.tokenizer, self.batches, self.spoiled = tokenizer, list[int](), dict[str, str]()
        self.seen = list[str]()

    def captions(self, z: Latent) -> list[str]:
        found = self.tokenizer.decode(z.tokens[..., 0].long().numpy())
        self.seen += found
        for colour, other in self.spoiled.items():
            found = [caption.replace(colour, other) for caption in found]
        return found

    def sample(self, z: Latent, rng: Rng) -> Tensor:
        self.batches.append(len(z))
        return to_images(render(scenes_of(self.captions(z))))


class DrawsTogether(Draws):
    """The same as a flow of one step: its velocity carries whatever noise to the image."""

    def sample_together(self, z: Latent, noise: Tensor, share: Callable[[Tensor], Tensor], batch: int = 128) -> Tensor:
        self.noise = noise
        return noise + share(to_images(render(scenes_of(self.captions(z)))) - noise)


class Looks(nn.Module):
    def forward(self, y: Tensor) -> Latent:
        flat = y.flatten(1)
        return Latent(flat[:, None], torch.ones(len(y), 1, dtype=torch.bool), flat)


class Writes(nn.Module):
    def __init__(self, tokenizer: Any) -> None:
        super().__init__()
        self.tokenizer, self.weight = tokenizer, nn.Parameter(torch.zeros(1))

    def sample(self, z: Latent, rng: Rng, **how: Any) -> Tokens:
        scenes = read(to_pixels(z.pooled.view(-1, 3, 32, 32)), "cells").scenes
        return to_tokens(self.tokenizer, write(scenes, ["en"] * len(scenes), [0] * len(scenes)))


@functools.cache
def _data(sets: tuple[str, ...]) -> tuple[Any, Any, Any]:
    recipe = load(TINY, ["compute.device=cpu", *sets])
    data = build.build_dataset(recipe)
    return recipe, data, build.build_tokenizers(recipe, [data])["text"]


class Oracle(Trained):
    """Draws and reads without a mistake."""

    def __init__(self, together: bool = False, reads: bool = True, *sets: str) -> None:
        super().__init__("oracle")
        recipe, data, tokenizer = _data(sets)
        drawing = (DrawsTogether if together else Draws)(tokenizer)
        parts: dict[str, nn.Module] = {"text_encoder": Reads(), "image_decoder": drawing, "text_decoder": Writes(tokenizer)}
        if reads:
            parts["image_encoder"] = Looks()
        model = Model(parts, {"text_encoder": tokenizer, "text_decoder": tokenizer}, (3, 32, 32))
        self._made.update(recipe=recipe, dataset=data, model=model)

    @property
    def drawing(self) -> Any:
        return self.model.parts["image_decoder"]


@pytest.fixture(scope="session", params=[False, True], ids=["singly", "together"])
def oracle(request: pytest.FixtureRequest) -> Oracle:
    return Oracle(request.param)
