"""The words that `provides` and `needs` use, and what each promises. Torch-free; a word not listed here is an error."""

from __future__ import annotations

from collections.abc import Mapping

CAPABILITIES: Mapping[str, str] = {
    "differentiable_draw": "an image decoder that draws in one differentiable pass (interfaces.image.DrawingDecoder)",
    "exact_likelihood": "a decoder whose nll is exact, not a bound or a reconstruction",
    "noise": "a decoder whose images vary with noise",
    "image_tokens": "an image decoder that works on the tokens of an image tokenizer",
    "soft_tokens": "a text encoder that can encode mixtures of embeddings",
    "prefix": "a text decoder that can go on from a given beginning (questions)",
    "second_order": "a discriminator that can be differentiated twice by image and latent",
}
