"""Every part's own pass on the meta device: what comes out has to have the shapes that its interface says. And do weights that it starts from fit?

Shapes: b batch, c h w image, n latent places, d latent width, v vocabulary, m image tokens, p patches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ibllm_core.errors import UserError
from ibllm_core.host.attribution import building
from ibllm_core.interfaces.batch import Batch
from ibllm_core.interfaces.image import DrawingDecoder, ImageCodec, ImageTokenizer, LatentCodec, Reconstruction, TokenDecoder
from ibllm_core.interfaces.latent import Latent
from ibllm_core.interfaces.noise import Rng
from ibllm_core.interfaces.tokenizer import BOS
from ibllm_core.model.model import Model
from ibllm_core.recipe.locate import Component
from ibllm_core.recipe.schema import Init, Recipe

from .inputs import META, Handed, Meter, expect, expect_shape

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
    component: Component
    parameters: int
    flops: int
    weights: int
    state: int


def walk_part(recipe: Recipe, model: Model, batch: Batch, name: str, meter: Meter) -> PartRow:
    """Walks one part. Raises `ComponentFailed` where it breaks its contract."""
    component, part, encoder = recipe.parts[name], model.parts[name], recipe.reads(name)
    d, also = recipe.width, ""
    if encoder:
        d, given = recipe.latent_width(encoder), recipe.parts[encoder]
        also = f"; it reads the latents of {encoder} = {given.use} ({given.place}), width d = {d}"
    mask = torch.ones(ITEMS, 5, dtype=torch.bool, device=META)
    z = Latent(torch.zeros(ITEMS, 5, d, device=META), mask, torch.zeros(ITEMS, d, device=META))
    before, handed = meter.flops, Handed(batch=batch, latents=z)
    with building(component, recipe.place_of(name), also=also), meter, torch.no_grad():
        _walk(recipe, model, batch, name, z)
        handed.check()
    parameters, weights = sum(p.numel() for p in part.parameters()), sum(t.nbytes for t in part.state_dict().values())
    state = parameters * 4 * 3  # a gradient and two moments
    return PartRow(name, component, parameters, (meter.flops - before) // ITEMS, weights, state)


def _walk(recipe: Recipe, model: Model, batch: Batch, name: str, z: Latent) -> None:
    part: Any = model.parts[name]
    sizes = {"b": ITEMS, **dict(zip("chw", model.image_shape, strict=True))}
    match recipe.parts[name].kind:
        case "text_encoder" | "image_encoder" as encoder:
            sizes["d"] = recipe.latent_width(name)
            given = part(batch.x if encoder == "text_encoder" else batch.y)
            expect(isinstance(given, Latent), f"forward gave a {type(given).__name__}, not a Latent")
            expect_shape("tokens", given.tokens, "b n d", sizes)
            expect_shape("mask", given.mask, "b n", sizes)
            expect_shape("pooled", given.pooled, "b d", sizes)
            expect(given.mask.dtype == torch.bool, f"mask has dtype {given.mask.dtype}, not bool")
        case "image_decoder":
            for ability, kind in {"image_tokens": TokenDecoder, "differentiable_draw": DrawingDecoder}.items():
                agree = (ability in recipe.parts[name].config.provides()) == isinstance(part, kind)
                expect(agree, f"its config's provides() and its class disagree on {ability}")
            assert batch.y is not None
            rng = Rng((0,), batch.numbers, META)
            y, latents = batch.y, "image_latents" in recipe.parts[name].config.provides()
            if latents or isinstance(part, TokenDecoder):
                codec: Any = model.part("image_tokenizer")
                y = codec.encode_latents(batch.y) if latents else codec.encode(batch.y)
                sizes |= dict(zip("chw", codec.latent_shape, strict=True)) if latents else {}
            expect_shape("nll", part(y, z, rng), "b", sizes)
            if isinstance(part, DrawingDecoder):
                expect_shape("draw", part.draw(z, part.noise(z, rng)), "b c h w", sizes)
        case "text_decoder":
            sizes["v"] = model.tokenizers[name].size
            expect_shape("nll", part(batch.x_out, z), "b", sizes)
            state = part.begin(z)
            for _ in range(2):
                logits, state = part.step(torch.full((ITEMS,), BOS, device=META), state)
                expect_shape("step", logits, "b v", sizes)
        case "discriminator":
            scores = part(batch.y, z)
            expect_shape("scores", scores, "b p" if isinstance(scores, Tensor) and scores.dim() == 2 else "b", sizes)
            judged = part.judge(part.look(batch.y), z)  # what the cycle asks
            expect(judged.shape == scores.shape, f"judge(look(y), z) has shape {tuple(judged.shape)}, forward {tuple(scores.shape)}")
        case "image_tokenizer":
            for ability, codes in {"tokens": ImageTokenizer, "latents": LatentCodec}.items():
                agree = (ability in recipe.parts[name].config.provides()) == isinstance(part, codes)
                expect(agree, f"its config's provides() and its class disagree on {ability}")
            _walk_codec(part, batch, sizes)


def _walk_codec(part: ImageCodec, batch: Batch, sizes: dict[str, int]) -> None:
    assert batch.y is not None
    found = part(batch.y)
    expect(isinstance(found, Reconstruction), f"reconstruct gave a {type(found).__name__}, not a Reconstruction")
    expect_shape("image", found.image, "b c h w", sizes)
    expect_shape("regularisation", found.regularisation, "b", sizes)
    if isinstance(part, ImageTokenizer):
        ids, sizes["m"] = part.encode(batch.y), math.prod(part.grid)
        expect_shape("ids", ids, "b m", sizes)
        expect_shape("decode", part.decode(ids), "b c h w", sizes)
    if isinstance(part, LatentCodec):
        latents, own = part.encode_latents(batch.y), {"b": ITEMS, **dict(zip("chw", part.latent_shape, strict=True))}
        expect_shape("encode_latents", latents, "b c h w", own)
        expect_shape("decode_latents", part.decode_latents(latents), "b c h w", sizes)


def check_starts(recipe: Recipe, model: Model) -> None:
    """Raises `UserError` at the first part whose weights are not there or have other shapes."""
    starts = [("init", recipe.init, dict[str, str]()), *((f"stages.{stage.name}.init", stage.init, {}) for stage in recipe.running())]
    starts += [(f"{recipe.place_of(part)}.init", init, parts) for init, parts in recipe.model.starts() for part in parts]
    for key, init, parts in starts:
        if init is None:
            continue
        given = _shapes(init)
        for part, source in (parts or {name: name for name in init.parts or model.parts}).items():
            theirs = {name.split(".", 2)[2]: shape for name, shape in given.items() if name.startswith(f"parts.{source}.")}
            own = {name: tuple(tensor.shape) for name, tensor in model.parts[part].state_dict().items()}
            wrong = sorted(name for name in own.keys() | theirs.keys() if own.get(name) != theirs.get(name))
            if wrong and (theirs or parts or init.parts):
                one = f"{wrong[0]} is {theirs.get(wrong[0], 'missing')} there, {own.get(wrong[0], 'missing')} here"
                place = next((d.place for d in recipe.dependencies if ".".join(map(str, d.path)) == f"{key}.run"), recipe.place)
                raise UserError(f"{key}: the weights of the run's {source} do not fit this recipe's {part}: {one}", place)


def _shapes(init: Init) -> Mapping[str, tuple[int, ...]]:
    held = "checkpoints/step-*" if init.weights == "raw" else "model"
    try:
        with safe_open(max(Path(init.run).glob(f"{held}/weights.safetensors")), "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in [*file.keys()]}
    except (ValueError, OSError, SafetensorError) as error:
        raise UserError(f"init.run = {init.run!r}: its weights cannot be read: {error}") from error
