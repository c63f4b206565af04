"""Contracts, checked on the meta device before anything is spent: every part is built without memory, every loss walked once.

Shapes: b batch, c h w image, n latent places, d latent width, v vocabulary, t tokens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from . import build
from .batch import Batch
from .build import BuildError
from .cycle import Cycle, fabricate
from .errors import UserError
from .interfaces.image import DrawingDecoder, ImageDecoder, TokenDecoder
from .interfaces.image_tokenizer import ImageTokenizer, Reconstruction
from .interfaces.latent import Latent
from .interfaces.text import TextDecoder
from .interfaces.tokenizer import BOS
from .model import Model
from .noise import Rng
from .recipe.schema import READS, Recipe, Stage

META = torch.device("meta")
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


@attrs.frozen
class StageRow:
    """One stage: its losses' walk. `saved` is bytes kept for the backward pass at the stage's batch size (per micro-batch)."""

    stage: str
    steps: int
    losses: tuple[str, ...]
    trained: int
    saved: int


@attrs.frozen
class Report:
    """What a check found out: a recipe whose parts fit."""

    parts: tuple[PartRow, ...]
    stages: tuple[StageRow, ...]


def check(recipe: Recipe) -> Report:
    """Builds the recipe on the meta device, walks every part and every stage's losses. Raises `BuildError` at the first contract that is not kept."""
    tokenizers = build.build_tokenizers(recipe)
    with META:
        model = build.build_model(recipe, tokenizers, build.image_shape(recipe))
    batch = fabricate(model, ITEMS, META)
    rows = tuple(_part(recipe, model, batch, name) for name in model.parts)
    stages = tuple(_stage(recipe, model, stage) for stage in recipe.running())
    for player in recipe.players:
        build.build_optimizer(recipe, player)
    build.build_metrics(recipe)
    build.build_trackers(recipe)
    return Report(rows, stages)


def _part(recipe: Recipe, model: Model, batch: Batch, name: str) -> PartRow:
    component, part = recipe.parts[name], model.parts[name]
    counter: Any = FlopCounterMode(display=False)
    with _blamed(recipe, name), counter, torch.no_grad():
        _WALKS.get(name, lambda *_: None)(recipe, model, batch)  # type: ignore[no-untyped-call]
    parameters = sum(p.numel() for p in part.parameters())
    weights = sum(t.numel() * t.element_size() for t in part.state_dict().values())
    return PartRow(
        name,
        str(component),
        component.distribution,
        component.version,
        parameters,
        counter.get_total_flops() // ITEMS,
        weights,
        parameters * 4 * 3,  # a gradient and two moments
    )


def _walk_encoder(name: str) -> Callable[[Recipe, Model, Batch], None]:
    def walk(recipe: Recipe, model: Model, batch: Batch) -> None:
        part = model.parts[name]
        z = part(batch.x if name == "text_encoder" else batch.y)
        _expect(isinstance(z, Latent), f"forward gave a {type(z).__name__}, not a Latent")
        d = recipe.latent_width(name)
        _shape("tokens", z.tokens, "b n d", (ITEMS, None, d))
        _shape("mask", z.mask, "b n", (ITEMS, z.tokens.shape[1]))
        _shape("pooled", z.pooled, "b d", (ITEMS, d))
        _expect(z.mask.dtype == torch.bool, f"mask has dtype {z.mask.dtype}, not bool")

    return walk


def _walk_image_decoder(recipe: Recipe, model: Model, batch: Batch) -> None:
    decoder, z = model.parts["image_decoder"], _latent(recipe, "image_decoder")
    assert isinstance(decoder, ImageDecoder) and batch.y is not None
    rng = Rng((0,), batch.numbers, META)
    _declared(recipe, "image_decoder", "image_tokens", isinstance(decoder, TokenDecoder))
    _declared(recipe, "image_decoder", "differentiable_draw", isinstance(decoder, DrawingDecoder))
    y = model.tokenize(batch.y) if isinstance(decoder, TokenDecoder) else batch.y
    _shape("nll", decoder(y, z, rng), "b", (ITEMS,))
    if isinstance(decoder, DrawingDecoder):
        _shape("draw", decoder.draw(z, decoder.noise(rng)), "b c h w", (ITEMS, *model.image_shape))


def _walk_text_decoder(recipe: Recipe, model: Model, batch: Batch) -> None:
    decoder, z = model.parts["text_decoder"], _latent(recipe, "text_decoder")
    assert isinstance(decoder, TextDecoder) and batch.x_out is not None
    _shape("nll", decoder(batch.x_out, z), "b", (ITEMS,))
    state = decoder.begin(z)
    for _ in range(2):
        logits, state = decoder.step(torch.full((ITEMS,), BOS, device=META), state)
        _shape("step", logits, "b v", (ITEMS, model.tokenizers["text_decoder"].size))


def _walk_discriminator(recipe: Recipe, model: Model, batch: Batch) -> None:
    scores = model.parts["discriminator"](batch.y, _latent(recipe, "discriminator"))
    by_patch = isinstance(scores, Tensor) and scores.dim() == 2
    _shape("scores", scores, "b p" if by_patch else "b", (ITEMS, None) if by_patch else (ITEMS,))


def _walk_image_tokenizer(recipe: Recipe, model: Model, batch: Batch) -> None:
    tokenizer = model.parts["image_tokenizer"]
    assert isinstance(tokenizer, ImageTokenizer) and batch.y is not None
    found = tokenizer(batch.y)
    _expect(isinstance(found, Reconstruction), f"reconstruct gave a {type(found).__name__}, not a Reconstruction")
    places = tokenizer.grid[0] * tokenizer.grid[1]
    _shape("image", found.image, "b c h w", (ITEMS, *model.image_shape))
    _shape("commitment", found.commitment, "b", (ITEMS,))
    ids = tokenizer.encode(batch.y)
    _shape("ids", ids, "b m", (ITEMS, places))
    _shape("decode", tokenizer.decode(ids), "b c h w", (ITEMS, *model.image_shape))


def _declared(recipe: Recipe, name: str, ability: str, able: bool) -> None:
    declared = ability in recipe.parts[name].config.provides()
    _expect(declared == able, f"its config's provides() and its class disagree on {ability}")


_WALKS: dict[str, Callable[[Recipe, Model, Batch], None]] = {
    "text_encoder": _walk_encoder("text_encoder"),
    "image_encoder": _walk_encoder("image_encoder"),
    "image_decoder": _walk_image_decoder,
    "text_decoder": _walk_text_decoder,
    "discriminator": _walk_discriminator,
    "image_tokenizer": _walk_image_tokenizer,
}


def _latent(recipe: Recipe, reader: str) -> Latent:
    """A latent of the width that the part's encoder gives."""
    encoder = READS[reader]
    d = recipe.latent_width(encoder) if encoder in recipe.parts else recipe.width
    places = 5
    return Latent(
        torch.zeros(ITEMS, places, d, device=META),
        torch.ones(ITEMS, places, dtype=torch.bool, device=META),
        torch.zeros(ITEMS, d, device=META),
    )


def _stage(recipe: Recipe, model: Model, stage: Stage) -> StageRow:
    """Walks a stage's losses at its batch size and counts what they keep for the backward pass."""
    from .training.player import make_players, set_trainable

    names = build.losses_with_terms(recipe, tuple(stage.losses))
    with META:
        losses = build.build_losses(recipe, names, model)
    set_trainable(model, stage.train)
    size = max(2, stage.training.batch // stage.training.accumulate)
    cycle = Cycle(model, _as_given(recipe, fabricate(model, size, META)), losses, (0,))
    kept: dict[int, int] = {}
    own = {id(p) for p in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        if id(tensor) not in own:
            kept[id(tensor)] = tensor.numel() * tensor.element_size()
        return tensor

    players = make_players(recipe, stage, model, losses)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        for player in players:
            for term in player.terms:
                component = recipe.losses[term.name].component
                try:
                    value = cycle.value(term.name) if player.name == "model" else cycle.critic_value(term.name)
                    _shape("value", value, "", ())
                except UserError as error:
                    raise BuildError(component, f"losses.{term.name}", str(error)) from error
                except Exception as error:
                    problem = f"in stage {stage.name}: {type(error).__name__}: {error}"
                    raise BuildError(component, f"losses.{term.name}", problem) from error
    build.build_schedule(recipe, stage)
    trained = sum(p.numel() for player in players for p in player.parameters.values())
    return StageRow(stage.name, stage.steps, tuple(stage.losses), trained, sum(kept.values()))


def _as_given(recipe: Recipe, batch: Batch) -> Batch:
    """The batch without what the recipe's data do not give."""
    given, missing = recipe.data.config.provides(), dict[str, Any]()
    for ability, fields in {"captions": ("x", "x_out"), "images": ("y",), "questions": ("question", "answer")}.items():
        missing |= dict.fromkeys(fields) if ability not in given else {}
    for name, field in {"text": "unpaired_x", "images": "unpaired_y"}.items():
        missing |= {field: None} if name not in recipe.unpaired else {}
    return attrs.evolve(batch, **missing)


@contextlib.contextmanager
def _blamed(recipe: Recipe, name: str) -> Iterator[None]:
    """Whatever goes wrong within is the part's; where it reads another's latents, both are named."""
    component, encoder = recipe.parts[name], READS.get(name, "")
    try:
        yield
    except Exception as error:
        problem = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        if encoder in recipe.parts:
            other = recipe.parts[encoder]
            problem += f"; it reads the latents of {encoder} = {other.use} ({other.place}), width d = {recipe.latent_width(encoder)}"
        raise BuildError(component, f"model.{name}", problem) from error


def _shape(what: str, tensor: Any, axes: str, wanted: tuple[int | None, ...]) -> None:
    _expect(isinstance(tensor, Tensor), f"{what} is a {type(tensor).__name__}, not a tensor")
    found = tuple(tensor.shape)
    fits = len(found) == len(wanted) and all(w is None or f == w for f, w in zip(found, wanted, strict=True))
    if not fits:
        names = axes.split()
        sizes = " ".join(f"{axis}={'any' if size is None else size}" for axis, size in zip(names, wanted, strict=True))
        wrong = [axis for axis, f, w in zip(names, found, wanted, strict=False) if w is not None and f != w]
        blame = f", axis {', '.join(wrong)} is wrong" if wrong and len(found) == len(wanted) else ""
        raise UserError(f"{what} has shape {found}, the interface says ({axes}) with {sizes or 'no axes'}{blame}")


def _expect(true: bool, problem: str) -> None:
    if not true:
        raise UserError(problem)
