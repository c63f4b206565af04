"""Every part's own pass on the meta device: what comes out has to have the shapes that its interface says.

Shapes: b batch, c h w image, n latent places, d latent width, v vocabulary, t tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from ..host.attribution import building
from ..interfaces.batch import Batch
from ..interfaces.image import DrawingDecoder, ImageDecoder, TokenDecoder
from ..interfaces.image_tokenizer import ImageTokenizer, Reconstruction
from ..interfaces.latent import Latent
from ..interfaces.noise import Rng
from ..interfaces.text import TextDecoder
from ..interfaces.tokenizer import BOS
from ..model.model import Model
from ..recipe.schema import READS, Recipe
from .inputs import unchanged
from .meter import Meter
from .shapes import META, expect, expect_shape

#: Items of the batch that is walked: more than one, so that batch and other axes cannot be mistaken for each other; prime for the same reason.
ITEMS = 3


@attrs.frozen
class PartRow:
    """One part as it was built.

    Attributes:
        flops: of one forward pass for one item, multiplications and additions counted apart; what the walk of this part's own pass costs.
        weights: bytes of its parameters and buffers.
        state: bytes of gradients and optimizer moments while it is trained.
    """

    part: str
    component: str
    distribution: str
    version: str
    parameters: int
    flops: int
    weights: int
    state: int


def walk_part(recipe: Recipe, model: Model, batch: Batch, name: str, meter: Meter) -> PartRow:
    """Walks one part. Raises `BuildError` where it breaks its contract."""
    component, part = recipe.parts[name], model.parts[name]
    before, latent = meter.flops, _latent(recipe, name)
    with building(component, f"model.{name}", also=_reads(recipe, name)), meter, torch.no_grad(), unchanged(batch=batch, latents=latent):
        _WALKS[name](recipe, model, batch, latent)
    parameters = sum(p.numel() for p in part.parameters())
    weights = sum(t.numel() * t.element_size() for t in part.state_dict().values())
    return PartRow(
        name,
        str(component),
        component.distribution,
        component.version,
        parameters,
        (meter.flops - before) // ITEMS,
        weights,
        parameters * 4 * 3,  # a gradient and two moments
    )


_WalkPart = Callable[[Recipe, Model, Batch, Latent], None]


def _walk_encoder(name: str) -> _WalkPart:
    def walk(recipe: Recipe, model: Model, batch: Batch, _: Latent) -> None:
        part = model.parts[name]
        z = part(batch.x if name == "text_encoder" else batch.y)
        expect(isinstance(z, Latent), f"forward gave a {type(z).__name__}, not a Latent")
        d = recipe.latent_width(name)
        expect_shape("tokens", z.tokens, "b n d", (ITEMS, None, d))
        expect_shape("mask", z.mask, "b n", (ITEMS, z.tokens.shape[1]))
        expect_shape("pooled", z.pooled, "b d", (ITEMS, d))
        expect(z.mask.dtype == torch.bool, f"mask has dtype {z.mask.dtype}, not bool")

    return walk


def _walk_image_decoder(recipe: Recipe, model: Model, batch: Batch, z: Latent) -> None:
    decoder = model.parts["image_decoder"]
    assert isinstance(decoder, ImageDecoder) and batch.y is not None
    rng = Rng((0,), batch.numbers, META)
    _declared(recipe, "image_decoder", "image_tokens", isinstance(decoder, TokenDecoder))
    _declared(recipe, "image_decoder", "differentiable_draw", isinstance(decoder, DrawingDecoder))
    y = model.tokenize(batch.y) if isinstance(decoder, TokenDecoder) else batch.y
    expect_shape("nll", decoder(y, z, rng), "b", (ITEMS,))
    if isinstance(decoder, DrawingDecoder):
        expect_shape("draw", decoder.draw(z, decoder.noise(rng)), "b c h w", (ITEMS, *model.image_shape))


def _walk_text_decoder(recipe: Recipe, model: Model, batch: Batch, z: Latent) -> None:
    decoder = model.parts["text_decoder"]
    assert isinstance(decoder, TextDecoder) and batch.x_out is not None
    expect_shape("nll", decoder(batch.x_out, z), "b", (ITEMS,))
    state = decoder.begin(z)
    for _ in range(2):
        logits, state = decoder.step(torch.full((ITEMS,), BOS, device=META), state)
        expect_shape("step", logits, "b v", (ITEMS, model.tokenizers["text_decoder"].size))


def _walk_discriminator(recipe: Recipe, model: Model, batch: Batch, z: Latent) -> None:
    scores = model.parts["discriminator"](batch.y, z)
    by_patch = isinstance(scores, Tensor) and scores.dim() == 2
    expect_shape("scores", scores, "b p" if by_patch else "b", (ITEMS, None) if by_patch else (ITEMS,))


def _walk_image_tokenizer(recipe: Recipe, model: Model, batch: Batch, _: Latent) -> None:
    tokenizer = model.parts["image_tokenizer"]
    assert isinstance(tokenizer, ImageTokenizer) and batch.y is not None
    found = tokenizer(batch.y)
    expect(isinstance(found, Reconstruction), f"reconstruct gave a {type(found).__name__}, not a Reconstruction")
    places = tokenizer.grid[0] * tokenizer.grid[1]
    expect_shape("image", found.image, "b c h w", (ITEMS, *model.image_shape))
    expect_shape("commitment", found.commitment, "b", (ITEMS,))
    ids = tokenizer.encode(batch.y)
    expect_shape("ids", ids, "b m", (ITEMS, places))
    expect_shape("decode", tokenizer.decode(ids), "b c h w", (ITEMS, *model.image_shape))


def _declared(recipe: Recipe, name: str, ability: str, able: bool) -> None:
    declared = ability in recipe.parts[name].config.provides()
    expect(declared == able, f"its config's provides() and its class disagree on {ability}")


_WALKS: dict[str, _WalkPart] = {
    "text_encoder": _walk_encoder("text_encoder"),
    "image_encoder": _walk_encoder("image_encoder"),
    "image_decoder": _walk_image_decoder,
    "text_decoder": _walk_text_decoder,
    "discriminator": _walk_discriminator,
    "image_tokenizer": _walk_image_tokenizer,
}


def _latent(recipe: Recipe, reader: str) -> Latent:
    """A latent of the width that the part's encoder gives; of the model's where it reads none."""
    encoder = READS.get(reader, "")
    d = recipe.latent_width(encoder) if encoder in recipe.parts else recipe.width
    places = 5
    return Latent(
        torch.zeros(ITEMS, places, d, device=META),
        torch.ones(ITEMS, places, dtype=torch.bool, device=META),
        torch.zeros(ITEMS, d, device=META),
    )


def _reads(recipe: Recipe, name: str) -> str:
    """Where a part reads another's latents, both are named; empty for other parts."""
    encoder = READS.get(name, "")
    if encoder not in recipe.parts:
        return ""
    other = recipe.parts[encoder]
    return f"; it reads the latents of {encoder} = {other.use} ({other.place}), width d = {recipe.latent_width(encoder)}"
