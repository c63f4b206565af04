"""Recipe → parts. Nothing is spent before the contracts have been checked (`ibllm.contracts`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from torch import nn

from ..host.attribution import ComponentFailed, building, naming
from ..host.manager import manager
from ..host.options import DatasetConfig, LossConfig
from ..interfaces.context import Context, ImageTokens
from ..interfaces.dataset import Dataset
from ..interfaces.image import ImageTokenizer, LatentCodec
from ..interfaces.loss import CriticLoss, Loss
from ..interfaces.noise import seeded
from ..interfaces.optimisation import Optimizer, Procedure, Schedule
from ..interfaces.perturbation import Perturbation
from ..interfaces.randomness import derive_key
from ..interfaces.reporting import Metric, Tracker
from ..interfaces.tokenizer import Tokenizer
from ..recipe.locate import Component
from ..recipe.schema import Recipe, Stage
from .model import Model

_T = TypeVar("_T")


def make(recipe: Recipe, component: Component, context: Context, expected: type[_T], key: str) -> _T:
    """Calls a component's factory. Raises `ComponentFailed` with the component's name where it fails or gives something else."""
    also = "" if context.bounded else f"; it works on latents, which are (c h w) = {context.image_shape} in place of the image"
    with building(component, key, also=also, users=True):
        made = manager(recipe.plugins.block).factory(component.kind, component.use)(component.config, context)
    if not isinstance(made, expected):
        raise ComponentFailed(component, key, f"its factory gave a {type(made).__name__}, not a {expected.__name__}")
    return made


def build_dataset(recipe: Recipe, unpaired: str = "") -> Dataset:
    """The recipe's data, or its ``[unpaired.…]`` ones of that name: of another seed, so that data that draw their items draw others."""
    component, key = (recipe.unpaired[unpaired], f"unpaired.{unpaired}") if unpaired else (recipe.data, "data")
    seed = derive_key(recipe.seed.data, "unpaired", unpaired) if unpaired else recipe.seed.data
    dataset, config = make(recipe, component, Context(seed=seed), Dataset, key), component.config
    with naming(recipe):
        shape, sizes = tuple(dataset.image_shape), dict(dataset.sizes())
    if isinstance(config, DatasetConfig):
        if shape != config.image_shape:
            raise ComponentFailed(component, key, f"its images have the shape {shape}, its config says {config.image_shape} (c h w)")
        missing = [split for split in config.splits() if not isinstance(sizes.get(split), int)]
        if missing:
            raise ComponentFailed(
                component, key, f"sizes() gives no number for {', '.join(missing)}, which its config has among its splits"
            )
    return dataset


def build_tokenizers(recipe: Recipe, sources: Sequence[Dataset] = (), saved: Path | None = None) -> dict[str, Tokenizer]:
    """Name → tokenizer: restored from the folder `saved`, or trained on the sources' texts together, or untrained without any (for a check)."""
    tokenizers: dict[str, Tokenizer] = {}
    texts = [text for source in sources for text in source.corpus()] if recipe.tokenizers and saved is None else []
    texts += recipe.languages
    for name, component in recipe.tokenizers.items():
        key = f"tokenizers.{name}"
        tokenizers[name] = tokenizer = make(recipe, component, Context(seed=recipe.seed.init), Tokenizer, key)
        try:
            if saved is not None:
                tokenizer.restore((saved / f"tokenizer-{name}.json").read_text(encoding="utf-8"))
            elif sources:
                tokenizer.train(texts)
        except (ValueError, OSError) as error:
            raise ComponentFailed(component, key, str(error)) from error
    return tokenizers


def build_model(recipe: Recipe, tokenizers: Mapping[str, Tokenizer], image_shape: tuple[int, int, int]) -> Model:
    """The model, each part's weights keyed by (seed, part): swapping one leaves the others' first weights as they were."""
    parts: dict[str, nn.Module] = {}
    keys = {name: getattr(part.config, "tokenizer", "") for name, part in recipe.parts.items()}
    used = {name: tokenizers[key] for name, key in keys.items() if key in tokenizers}
    image_tokens, latent_shape = None, image_shape
    # The codec first: the sizes of a decoder that works on its tokens or latents follow its. Then what parts share.
    for name, component in sorted(
        recipe.parts.items(), key=lambda item: (item[0] != "image_tokenizer", item[0] not in recipe.model.shared)
    ):
        encoder, key = recipe.reads(name), recipe.place_of(name)
        if hasattr(nn.ModuleDict, name):
            raise ComponentFailed(component, key, "torch has a use of its own for the name; expected another one", users=True)
        on_latents = "image_latents" in component.config.provides()
        context = Context(
            seed=recipe.seed.init,
            image_shape=latent_shape if on_latents else image_shape,
            bounded=not on_latents,
            width=recipe.width,
            latent=recipe.latent_width(encoder) if encoder else recipe.width,
            tokenizer=used.get(name),
            image_tokens=image_tokens,
            vocabularies={part: tokenizer.size for part, tokenizer in used.items()},
            shared={shared: parts[shared] for shared in recipe.model.shared if shared in parts},
        )
        with seeded(derive_key(recipe.seed.init, "init", name)):
            parts[name] = part = make(recipe, component, context, nn.Module, key)
        for inside in component.config.trainable():
            try:
                part.get_submodule(inside)
            except AttributeError as error:
                raise ComponentFailed(component, key, f'its config says that "{inside}" can be trained alone, but {error}') from None
        if name == "image_tokenizer" and isinstance(part, ImageTokenizer):
            rows, columns = part.grid
            image_tokens = ImageTokens(vocabulary=part.vocabulary, rows=rows, columns=columns, levels=part.levels)
        if name == "image_tokenizer" and isinstance(part, LatentCodec):
            latent_shape = part.latent_shape
    drawer = recipe.parts.get("image_decoder")
    latents = drawer is not None and "image_latents" in drawer.config.provides()
    used |= {"language": used["text_decoder"]} if recipe.languages else {}
    model = Model({name: parts[name] for name in recipe.parts}, used, image_shape, latents)
    model.beams, model.length_exponent = recipe.evaluation.beams, recipe.evaluation.length_exponent
    return model


def build_losses(recipe: Recipe, names: Sequence[str], model: Model) -> dict[str, Loss | CriticLoss]:
    """Name → loss, each with its own parameters; their sizes follow the model's parts."""
    context = Context(
        seed=recipe.seed.init,
        width=recipe.width,
        latents={name: recipe.latent_width(name) for name, c in recipe.parts.items() if c.kind in ("text_encoder", "image_encoder")},
        image_shape=model.image_shape,
        vocabularies={part: tokenizer.size for part, tokenizer in model.tokenizers.items()},
    )
    losses: dict[str, Loss | CriticLoss] = {}
    for name in names:
        with seeded(derive_key(recipe.seed.init, "loss", name)):
            made = make(recipe, recipe.losses[name].component, context, nn.Module, f"losses.{name}")
        if not isinstance(made, Loss | CriticLoss):
            raise ComponentFailed(recipe.losses[name].component, f"losses.{name}", "its factory gave no loss")
        losses[name] = made
    return losses


def build_metrics(recipe: Recipe) -> dict[str, Metric]:
    context = Context(seed=recipe.seed.evaluation, image_shape=image_shape(recipe))
    return {name: make(recipe, c, context, Metric, f"metrics.{name}") for name, c in recipe.metrics.items()}


def build_trackers(recipe: Recipe) -> dict[str, Tracker]:
    return {name: make(recipe, c, Context(), Tracker, f"trackers.{name}") for name, c in recipe.trackers.items()}


def build_optimizer(recipe: Recipe, player: str) -> Optimizer:
    return make(recipe, recipe.players[player].optimizer, Context(), Optimizer, f"players.{player}.optimizer")


def build_schedule(recipe: Recipe, stage: Stage) -> Schedule:
    return make(recipe, stage.schedule, Context(steps=stage.steps), Schedule, f"stages.{stage.name}.schedule")


def build_procedure(recipe: Recipe, stage: Stage) -> Procedure:
    return make(recipe, stage.procedure, Context(steps=stage.steps), Procedure, f"stages.{stage.name}.procedure")


def build_perturbation(recipe: Recipe, stage: Stage) -> Perturbation | None:
    """None where the stage perturbs nothing."""
    return make(recipe, stage.perturb, Context(steps=stage.steps), Perturbation, f"stages.{stage.name}.perturb") if stage.perturb else None


def losses_with_terms(recipe: Recipe, names: Sequence[str]) -> tuple[str, ...]:
    """The losses `names` and the terms that composites among them are made of."""
    configs = [recipe.losses[name].component.config for name in names]
    terms = [term for config in configs if isinstance(config, LossConfig) for term in config.terms()]
    return tuple(dict.fromkeys([*names, *terms]))


def image_shape(recipe: Recipe) -> tuple[int, int, int]:
    """(c, h, w) of the recipe's images, known before there is any data."""
    config = recipe.data.config
    if not isinstance(config, DatasetConfig):
        raise ComponentFailed(recipe.data, "data", "its config derives from no DatasetConfig")
    return config.image_shape
