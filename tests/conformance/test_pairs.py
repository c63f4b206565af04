"""Every pair of image decoder × loss, text encoder × image decoder, image encoder × text decoder is read by the loader, and then takes three finite
training steps, or is refused with a message that says which capability is missing and which parts have it. There is no third outcome.

All pairs are read. What is trained covers all of them, several in a recipe; each in a recipe of its own with ``-m release``.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ibllm_core.host.manager import manager
from ibllm_core.host.options import Config, LossConfig
from ibllm_core.interfaces.batch import Batch, collate
from ibllm_core.interfaces.tokenizer import Tokenizer
from ibllm_core.model import build
from ibllm_core.model.players import Average
from ibllm_core.model.shares import Ranks
from ibllm_core.model.stage import StageTrainer
from ibllm_core.recipe import load
from ibllm_core.recipe.document import to_toml
from ibllm_core.recipe.draft import needs
from ibllm_core.recipe.locate import RecipeErrors
from ibllm_core.recipe.schema import PARTS, READS, Recipe
from ibllm_core.recipe.words import structure

RULES = str(Path(__file__).parents[2] / "recipes" / "variations" / "scenes.rules")
#: Component (or component/variant, where an option gives another capability) → options that make it small.
SMALL: Mapping[str, Mapping[str, dict[str, Any]]] = {
    "text_encoder": {
        "lstm": {"layers": 1},
        "transformer": {"depth": 1},
        "transformer/causal": {"depth": 1, "causal": True},
        "knowledge": {"reads": "words", "graph": "facts"},
        "unified": {"backbone": "lm"},
    },
    "image_decoder": {
        "attngan": {"channels": 8, "groups": 4},
        "cnn": {"channels": [16, 8]},
        "cross_attention": {"depth": 1, "channels": 4},
        "cross_attention/latents": {"depth": 1, "channels": 4, "patch": 2, "works_on": "latents"},
        "dcgan": {"channels": [16, 8]},
        "dcgan/augmentation": {"channels": [16, 8], "augmentation": 5},
        "dfgan": {"channels": 4, "hidden": 8},
        "flow": {"depth": 1, "patch": 8, "steps": 2},
        "maskgit": {"depth": 1},
        "unified": {"backbone": "lm"},
        "unified/flow": {"backbone": "lm", "writes": "flow", "patch": 8, "steps": 2},
        "vq_transformer": {"depth": 1},
        "vq_transformer/caption": {"depth": 1, "caption": True},
    },
    "image_encoder": {
        "cnn": {"channels": [8, 16]},
        "resnet": {"channels": [8, 16], "blocks": [1, 1]},
        "unified": {"backbone": "lm", "patch": 8},
        "vit": {"depth": 1, "patch": 8},
    },
    "text_decoder": {"lstm": {"layers": 1}, "transformer": {"depth": 1}, "unified": {"backbone": "lm"}},
    "discriminator": {"matching_aware": {"channels": [8, 16], "width": 8}},
    "image_tokenizer": {
        "kl": {"patch": 8, "channels": [8], "blocks": 1, "latents": 4},
        "vq": {"patch": 8, "channels": [8], "blocks": 1, "codes": 16, "code_width": 4},
    },
    "loss": {
        "adaptive_weight": {"of": "relativistic"},
        "augmentation_contrast": {"width": 16},
        "contrastive": {"width": 16},
        "damsm": {"width": 16},
        "damsm/generated": {"width": 16, "images": "generated"},
        "link_prediction": {"graph": "facts"},
        "matching": {"width": 16, "depth": 1},
        "rules": {"file": RULES},
        "rules/probe": {"file": RULES, "reader": "probe", "width": 16},
    },
}
#: What stands beside a pair: the first that can do what is asked of it, or the first.
BESIDE = {
    "text_encoder": ("bag", "transformer/causal"),
    "image_decoder": ("dcgan/augmentation", "unified"),
    "image_encoder": ("cnn",),
    "text_decoder": ("lstm", "unified"),
    "discriminator": ("matching_aware",),
    "image_tokenizer": ("vq", "kl"),
}
#: What parts that name a backbone go through.
SHARED = {"lm": {"use": "unified", "depth": 1, "heads": 2}}
#: What stands beside parts and losses that know something.
KNOWING = {"words": {"kind": "text_encoder", "use": "bag"}, "facts": {"use": "graph", "width": 8, "neighbours": 2}}
BATCH, STEPS = 4, 3


@pytest.fixture
def models(request: pytest.FixtureRequest) -> dict[str, str]:
    """Kind of a part → the folder of a model that it can be made of."""
    made = {"text_encoder": "bert", "image_encoder": "vit", "text_decoder": "llama"}
    return {kind: str(request.getfixturevalue(name)) for kind, name in made.items()}


def walked(kind: str) -> list[str]:
    """Every component of ours of a kind, and the variants above."""
    own = [row.name for row in manager().rows() if (row.kind, row.distribution, row.status) == (kind, "ibllm", "ok")]
    return sorted({*own, *(name for name in SMALL.get(kind, {}) if name.partition("/")[0] in own)})


def table(kind: str, name: str) -> dict[str, Any]:
    """The component as a recipe's table."""
    return {"use": name.partition("/")[0], **SMALL.get(kind, {}).get(name, {})}


def config(kind: str, given: Mapping[str, Any]) -> Config:
    """A table's options."""
    rest = {key: value for key, value in given.items() if key not in ("use", "weight")}
    found = structure(manager().config_class(kind, given["use"]), rest)
    assert not isinstance(found, list), found
    return found


def asked(losses: Iterable[Mapping[str, Any]], parts: Mapping[str, Mapping[str, Any]]) -> dict[str, set[str]]:
    """The parts that losses and parts ask for, with the abilities asked of them, and the encoders whose latents they read."""
    configs = [*(config("loss", loss) for loss in losses), *(config(kind, part) for kind, part in parts.items())]
    found: dict[str, set[str]] = {part: set() for part in parts}
    for need in sorted({need for one in configs for need in needs(one)}):
        part, _, ability = need.partition(".")
        if part in PARTS:
            found.setdefault(part, set()).update({ability} - {""})
    return {READS[part]: set() for part in found if part in READS} | found


def neighbour(part: str, abilities: set[str]) -> dict[str, Any]:
    tables = [table(part, name) for name in BESIDE[part]]
    return next((one for one in tables if abilities <= config(part, one).provides()), tables[0])


def recipe_text(losses: Mapping[str, dict[str, Any]], parts: Mapping[str, dict[str, Any]], models: Mapping[str, str] | None = None) -> str:
    """A recipe whose last stage plays the losses on the pair and whatever both ask for; an image tokenizer has a stage of its own before.

    `models`: kind of a part that is made of a model's folder → the folder.
    """
    whole, stated, order = dict(parts), dict(losses), ["only"]
    tokenizers: dict[str, dict[str, Any]] = {"text": {"use": "word", "size": 96, "max_length": 40}}
    for part in [part for part, given in whole.items() if given["use"] == "pretrained"]:
        folder = (models or {})[part]
        whole[part] = whole[part] | ({"model": folder} if part == "image_encoder" else {"tokenizer": part})
        if part != "image_encoder":
            tokenizers[part] = {"use": "pretrained", "model": folder, "max_length": 40}
    composed = {term for loss in losses.values() if isinstance(made := config("loss", loss), LossConfig) for term in made.terms()}
    while missing := {part: abilities for part, abilities in asked(losses.values(), whole).items() if part not in whole}:
        whole |= {part: neighbour(part, abilities) for part, abilities in missing.items()}
    stages: dict[str, dict[str, Any]] = {
        "only": {"steps": STEPS, "train": "all", "losses": {name: 1.0 for name in losses if name not in composed}}
    }
    if any(loss["use"] == "robust_consistency" for loss in losses.values()):
        stages["only"]["perturb"] = {"use": "noise", "epsilon": 0.03, "against": "latent"}
    if "image_tokenizer" in whole:
        stated["codes"], order = {"use": "reconstruction"}, ["codes", "only"]
        stages["codes"] = {"steps": 1, "train": ["image_tokenizer"], "losses": {"codes": 1.0}}
    lent = SHARED if any("backbone" in part for part in whole.values()) else {}
    lent = lent | {name: KNOWING[name] for name in KNOWING for one in (*whole.values(), *stated.values()) if name in one.values()}
    shared = {"shared": lent} if lent else {}
    return to_toml(
        {
            "format": 1,
            "order": order,
            "data": {"use": "shapes", "questions": True, "train_size": 64},
            "tokenizers": tokenizers,
            "model": {"width": 16, **shared, **{part: whole[part] for part in PARTS if part in whole}},
            "losses": stated,
            "optimizer": {"use": "adamw", "lr": 1e-3},
            "training": {"batch": BATCH, "log_every": 1},
            "stages": stages,
        }
    )


@functools.cache
def surroundings(source: str) -> tuple[dict[str, Tokenizer], tuple[Batch, ...]]:
    """Tokenizers and batches of a recipe's data, made once for all recipes that say the same of them."""
    recipe = _RECIPES[source]
    dataset = build.build_dataset(recipe)
    tokenizers = build.build_tokenizers(recipe, [dataset])
    used = {part: tokenizers[getattr(c.config, "tokenizer")] for part, c in recipe.parts.items() if hasattr(c.config, "tokenizer")}  # noqa: B009
    numbers = np.arange(BATCH * STEPS, dtype=np.int64).reshape(STEPS, BATCH)
    both = {part: used.get(part, tokenizers["text"]) for part in ("text_encoder", "text_decoder")}
    return tokenizers, tuple(collate(dataset.samples("train", rows), both, rows) for rows in numbers)


_RECIPES: dict[str, Recipe] = {}


def three_steps(recipe: Recipe, device: torch.device) -> list[dict[str, float]]:
    """What each of the steps logged."""
    source = str([component for path, component in recipe.components().items() if path.startswith(("data", "tokenizers"))])
    source += str([getattr(component.config, "tokenizer", "") for component in recipe.parts.values()])
    _RECIPES[source] = recipe
    tokenizers, batches = surroundings(source)
    model = build.build_model(recipe, tokenizers, build.image_shape(recipe)).to(device)
    stage = recipe.stages["only"]
    losses = build.build_losses(recipe, build.losses_with_terms(recipe, tuple(stage.losses)), model)
    for loss in losses.values():
        loss.to(device)
    trainer = StageTrainer(recipe, stage, model, losses, Average(), Ranks())
    logged = []
    for batch in batches:
        trainer.iterate([batch])
        logged.append(trainer.read())
    assert all(bool(torch.isfinite(tensor).all()) for tensor in model.state_dict().values() if tensor.is_floating_point())
    return logged


def justified(error: RecipeErrors) -> None:
    """Every mistake says what is missing, of which part, and names parts or options that have it, and those really do."""
    for mistake in error.mistakes:
        found = re.fullmatch(r"(\S+) needs (\w+)\.(\w+), which (\S+) \(.*\) does not provide", mistake.what)
        assert found, f"refused, but not for a capability: {mistake}"
        _, part, ability, held = found.groups()
        ways = re.findall(r'"(\w+)"(?: \((\w+) ([=>]) ([^)]+)\))?', mistake.expected)
        ways += [(held, *way) for way in re.findall(rf"model\.{part}\.(\w+) ([=>]) (\S+)", mistake.expected)]
        assert ways or "none that is installed provides it" in mistake.expected, f"it names no part that has {ability}: {mistake}"
        for name, key, sign, value in ways:
            switched = {key: tomllib.loads(f"x = {value}")["x"] if sign == "=" else int(value) + 1} if key else {}
            given = {**table(part, name), **switched}
            assert ability in config(part, given).provides(), f"{name} with {switched} is said to have {ability}: {mistake}"


def outcome(text: str, tmp_path: Path, device: torch.device, name: str, trained: bool = True) -> None:
    """Read or refused with a reason; and if it is to be `trained`, three steps."""
    path = tmp_path / "pair.toml"
    path.write_text(text, encoding="utf-8")
    try:
        recipe = load(path)
    except RecipeErrors as error:
        justified(error)
        return
    if trained:
        plays(recipe, device, [name])


def plays(recipe: Recipe, device: torch.device, names: Iterable[str]) -> None:
    for step, figures in enumerate(three_steps(recipe, device)):
        for name in names:
            played = [key for key in figures if key.startswith("loss/") and key.endswith(f"/{name}")]
            assert played, f"{name} was not played at step {step}: {sorted(figures)}"
        wrong = {key: value for key, value in figures.items() if not math.isfinite(value)}
        assert not wrong, f"step {step}: {wrong}"


#: The whole product is read, and before a release trained; what is trained otherwise are the rows of `covering`.
whole_product = pytest.mark.parametrize(
    "trained", [pytest.param(False, id="read"), pytest.param(True, id="trained", marks=pytest.mark.release)]
)


def beside(losses: Mapping[str, dict[str, Any]], parts: Iterable[str] = ("image_decoder",)) -> dict[str, dict[str, Any]]:
    """The losses with what they need to be played and the parts to be trained."""
    found, options = dict(losses), [made for table in losses.values() if isinstance(made := config("loss", table), LossConfig)]
    found |= {term: table("loss", term) for made in options for term in made.terms()}
    for part, loss in (("image_decoder", "image_nll"), ("text_decoder", "text_nll")):
        if part in parts and not any(made.terms() or any(need.partition(".")[0] == part for need in made.needs()) for made in options):
            found[f"beside_{part}"] = table("loss", loss)
    if any("discriminator" in made.needs() for made in options) and not any("critic" in made.players() for made in options):
        found["adversary"] = table("loss", "hinge")  # so that there is a critic to be looked at
    return found


@whole_product
@pytest.mark.parametrize("loss", walked("loss"))
@pytest.mark.parametrize("decoder", walked("image_decoder"))
def test_image_decoder_and_loss(decoder: str, loss: str, trained: bool, tmp_path: Path, device: torch.device) -> None:
    parts = {"image_decoder": table("image_decoder", decoder)}
    outcome(recipe_text(beside({"pair": table("loss", loss)}), parts), tmp_path, device, "pair", trained)


@whole_product
@pytest.mark.parametrize("decoder", walked("image_decoder"))
@pytest.mark.parametrize("encoder", walked("text_encoder"))
def test_text_encoder_and_image_decoder(
    encoder: str, decoder: str, trained: bool, tmp_path: Path, device: torch.device, models: dict[str, str]
) -> None:
    parts = {"text_encoder": table("text_encoder", encoder), "image_decoder": table("image_decoder", decoder)}
    outcome(recipe_text({"pair": table("loss", "image_nll")}, parts, models), tmp_path, device, "pair", trained)


@whole_product
@pytest.mark.parametrize("decoder", walked("text_decoder"))
@pytest.mark.parametrize("encoder", walked("image_encoder"))
def test_image_encoder_and_text_decoder(
    encoder: str, decoder: str, trained: bool, tmp_path: Path, device: torch.device, models: dict[str, str]
) -> None:
    parts = {"image_encoder": table("image_encoder", encoder), "text_decoder": table("text_decoder", decoder)}
    losses = {"pair": table("loss", "text_nll"), "answer": table("loss", "answer_nll")}
    outcome(recipe_text(losses, parts, models), tmp_path, device, "pair", trained)


# A covering array: each pair of parts, and each part with each loss, that go together are in some row, which is trained.

CROSSED = ("text_encoder", "image_decoder", "image_encoder", "text_decoder")
#: Losses of a row: of more, who is at fault would be hard to see.
MOST = 8
#: What no ability tells: the two read texts with different tokenizers, which the loss refuses.
APART = {("pretrained", "cycle_image"), ("pretrained", "back_translation")}
#: Parts of a model's folder that are trained beside others in tests/pretrained, since each takes seconds.
ELSEWHERE = {("image_encoder", "pretrained"), ("text_decoder", "pretrained")}
Row = dict[str, tuple[str, ...]]


def fits(row: Row) -> bool:
    """By needs and abilities alone; a composite loss is not in a row with its own terms."""
    parts = {kind: _table(kind, row[kind][0]) for kind in CROSSED if kind in row}
    losses = [_table("loss", name) for name in row.get("loss", ())]
    terms = {term for loss in losses if isinstance(made := config("loss", loss), LossConfig) for term in made.terms()}
    if terms & set(row.get("loss", ())) or APART & set(itertools.product(row.get("text_encoder", ()), row.get("loss", ()))):
        return False
    wanted = asked([*losses, *(_table("loss", term) for term in terms)], parts)
    return all(abilities <= config(part, parts.get(part) or neighbour(part, abilities)).provides() for part, abilities in wanted.items())


_table = functools.cache(table)


@functools.cache
def covering() -> list[Row]:
    """Greedy: a row takes in every pair that is not covered yet and goes with what it holds."""
    names = {kind: [name for name in walked(kind) if (kind, name) not in ELSEWHERE] for kind in (*CROSSED, "loss")}
    left = [
        {one: (a,), other: (b,)}
        for one, other in itertools.combinations(names, 2)
        for a, b in itertools.product(names[one], names[other])
        if fits({one: (a,), other: (b,)})
    ]
    rows: list[Row] = []
    while left:
        row: Row = {}
        waiting = []
        for pair in left:
            grown = {kind: tuple(dict.fromkeys((*row.get(kind, ()), *pair.get(kind, ())))) for kind in {**row, **pair}}
            small = all(len(found) <= (MOST if kind == "loss" else 1) for kind, found in grown.items())
            if small and (grown == row or fits(grown)):
                row = grown
            else:
                waiting.append(pair)
        rows.append(row)
        left = waiting
    return rows


@pytest.mark.parametrize("decoder", walked("image_decoder"))
def test_rows_train(decoder: str, tmp_path: Path, device: torch.device, models: dict[str, str]) -> None:
    """A recipe that the loader has no reason to refuse takes three finite steps, in which each of its losses is played."""
    rows = [row for row in covering() if row.get("image_decoder", walked("image_decoder")[:1]) in ((decoder,), [decoder])]
    assert rows
    for row in rows:
        parts = {kind: table(kind, row[kind][0]) for kind in CROSSED if kind in row}
        losses = {name.replace("/", "_"): table("loss", name) for name in row.get("loss", ())}
        path = tmp_path / "row.toml"
        path.write_text(recipe_text(beside(losses, parts), parts, models), encoding="utf-8")
        try:
            plays(load(path), device, losses)
        except Exception as error:
            error.add_note(f"in the row {row}")
            raise
