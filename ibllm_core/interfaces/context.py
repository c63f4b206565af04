"""What the surroundings fix for a component: handed to every factory beside its own options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from torch import nn

    from .tokenizer import Tokenizer


@attrs.frozen(kw_only=True)
class ImageTokens:
    """An image tokenizer's sizes: `vocabulary` different tokens on a grid of `rows` × `columns`.

    An id's digits have so many `levels` each, the first digit the least; empty where ids are made of none.
    """

    vocabulary: int
    rows: int
    columns: int
    levels: tuple[int, ...] = ()


@attrs.frozen(kw_only=True)
class Context:
    """Facts from the neighbours and the recipe. What does not apply to a kind keeps its default.

    Attributes:
        seed: for datasets, the data seed; for other components the initialisation's.
        image_shape: (c, h, w) of the data's images; for image decoders that work on a codec's latents, these' shape.
        bounded: images lie in [−1, 1]; False for image decoders that work on latents, which have about unit variance.
        width: ``model.width``, the width of every part that does not state its own.
        latent: width d of the latents that the part reads (decoders, discriminators); 0 for parts that read none.
        latents: part name → width d of the latents it gives (losses that compare latents).
        tokenizer: of text encoders and text decoders.
        image_tokens: of image decoders that work on a codec's tokens: its sizes.
        vocabularies: part name → number of ids of its tokenizer (for what predicts a text that another part reads).
        shared: name → module of ``[model.shared.NAME]``, for parts that name it; hold it by `ibllm.plugin.borrow`.
        steps: for schedules, the stage's number of steps.
    """

    seed: int = 0
    image_shape: tuple[int, int, int] = (3, 32, 32)
    bounded: bool = True
    width: int = 128
    latent: int = 0
    latents: Mapping[str, int] = attrs.field(factory=dict)
    tokenizer: Tokenizer | None = None
    image_tokens: ImageTokens | None = None
    vocabularies: Mapping[str, int] = attrs.field(factory=dict)
    shared: Mapping[str, nn.Module] = attrs.field(factory=dict)
    steps: int = 0
