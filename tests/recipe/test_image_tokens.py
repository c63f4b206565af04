"""Recipes with an image tokenizer: what a loss goes through includes what its parts work on, but only its own parts learn from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibllm_core.host import manager as plugins
from ibllm_core.host.entry_points import PLUGINS
from ibllm_core.recipe import load
from ibllm_core.recipe.locate import RecipeErrors

BASE = Path(__file__).parent / "bad" / "base.toml"

SPECS = """
from ibllm_core.host.hookspecs import hookimpl
from ibllm_core.host.spec import ComponentSpec

@hookimpl
def ibllm_components():
    return [
        ComponentSpec("image_decoder", "pieces", "pieces.parts:Pieces", "pieces.config:PiecesConfig", "a test's"),
        ComponentSpec("image_tokenizer", "cutter", "pieces.parts:Cutter", "pieces.config:CutterConfig", "a test's"),
        ComponentSpec("discriminator", "seer", "pieces.parts:Seer", "pieces.config:SeerConfig", "a test's"),
    ]
"""

CONFIG = """
import attrs
from ibllm_core.host.options import Config, option

@attrs.frozen(kw_only=True)
class PiecesConfig(Config):
    latent: int | None = option(None, help="width of the latents it reads", ge=1)

    def provides(self):
        return frozenset({"image_tokens"})

    def needs(self):
        return frozenset({"image_tokenizer", "image_tokenizer.tokens"})

@attrs.frozen(kw_only=True)
class CutterConfig(Config):
    def provides(self):
        return frozenset({"tokens"})

@attrs.frozen(kw_only=True)
class SeerConfig(Config):
    def provides(self):
        return frozenset({"features"})
"""

TOKENS = """
extends = "{base}"
order = ["tokens", "text"]
[model.image_decoder]
use = "pieces"
[model.image_tokenizer]
use = "cutter"
[losses]
text_nll = false
joint = false
adversarial = false
penalty = false
[losses.reconstruction]
use = "reconstruction"
[metrics]
counted = false
[stages]
image = false
joint = false
[stages.tokens]
steps = 3
train = ["image_tokenizer"]
losses = {{ reconstruction = 1.0 }}
"""


@pytest.fixture
def check(site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):  # type: ignore[no-untyped-def]
    """What is wrong with a recipe of image tokens, changed by overrides; and the parts that its stages train."""
    from importlib import metadata

    site.install("pieces", {"pieces": "pieces.plugin"}, {"pieces.plugin": SPECS, "pieces.config": CONFIG}, version="1.0")
    points = [point for point in metadata.entry_points(group=PLUGINS) if point.dist and point.dist.name in ("ibllm", "pieces")]
    recipe = tmp_path / "tokens.toml"
    recipe.write_text(TOKENS.format(base=BASE))

    def found(*overrides: str) -> tuple[str, dict[str, tuple[str, ...]]]:
        try:
            read = load(recipe, overrides, manager=plugins.Manager((), points))
        except RecipeErrors as error:
            return str(error), {}
        return "", {stage.name: stage.train for stage in read.running()}

    return found


def test_a_tokenizer_trained_first(check) -> None:  # type: ignore[no-untyped-def]
    assert check() == ("", {"tokens": ("image_tokenizer",), "text": ("text_encoder", "image_decoder")})


def test_a_loss_goes_through_what_its_parts_work_on(check, pretended_run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    problem, _ = check("stages.tokens.steps=0")
    assert "image_nll goes through image_tokenizer, which neither this stage trains nor one before it" in problem
    assert "1 mistake" in problem
    run = pretended_run(tmp_path / "tokens")
    assert check("stages.tokens.steps=0", f'model.image_tokenizer.init={{ run = "{run}" }}')[0] == ""


def test_no_gradient_reaches_the_tokenizer_through_its_tokens(check) -> None:  # type: ignore[no-untyped-def]
    problem, _ = check('stages.text.train=["text_encoder", "image_decoder", "image_tokenizer"]')
    assert "image_tokenizer is trained, but no loss of the stage reaches it" in problem
    problem, _ = check('stages.text.train=["image_tokenizer"]')
    assert "image_nll trains no part in this stage" in problem and "text_encoder or image_decoder in stages.text.train" in problem


def test_all_leaves_the_tokenizer_alone_where_no_loss_reaches_it(check) -> None:  # type: ignore[no-untyped-def]
    problem, trained = check('stages.text.train="all"', "model.discriminator=false")
    assert problem == "" and set(trained["text"]) == {"text_encoder", "image_decoder", "image_encoder", "text_decoder"}
    _, trained = check('stages.text.train="all"', "stages.text.losses={ image_nll = 1.0, reconstruction = 1.0 }")
    assert "image_tokenizer" in trained["text"] and "discriminator" not in trained["text"]


def test_a_decoder_of_tokens_needs_a_tokenizer_and_a_codebook_has_one(check) -> None:  # type: ignore[no-untyped-def]
    problem, _ = check("model.image_tokenizer=false", "stages.tokens=false", "losses.reconstruction=false", 'order=["text"]')
    assert "pieces needs a part that the model lacks: image_tokenizer" in problem
    problem, _ = check('losses.reconstruction.use="codec_regularisation"')
    assert "codec_regularisation needs image_tokenizer.regularisation, which cutter" in problem


def test_a_decoder_works_on_what_the_codec_gives(check) -> None:  # type: ignore[no-untyped-def]
    problem, _ = check('model.image_decoder={ use = "flow", works_on = "latents" }')
    assert "flow needs image_tokenizer.latents, which cutter" in problem and '[model.image_tokenizer] with use = "kl"' in problem
    problem, _ = check('model.image_tokenizer={ use = "kl" }')
    assert "pieces needs image_tokenizer.tokens, which kl" in problem
    on_latents = ('model.image_tokenizer={ use = "kl" }', 'model.image_decoder={ use = "flow", works_on = "latents" }')
    assert check(*on_latents) == ("", {"tokens": ("image_tokenizer",), "text": ("text_encoder", "image_decoder")})
    problem, _ = check(*on_latents, "stages.tokens.steps=0")
    assert "image_nll goes through image_tokenizer, which neither this stage trains nor one before it" in problem


def test_a_drawn_image_is_asked_of_a_decoder_that_draws(check) -> None:  # type: ignore[no-untyped-def]
    problem, _ = check('losses.image_nll.kind="l1"')
    assert "image_nll needs image_decoder.differentiable_draw, which pieces" in problem


def test_feature_matching_wants_a_critic_that_somebody_trains(check) -> None:  # type: ignore[no-untyped-def]
    draws = ('model.image_decoder.use="cross_attention"', 'model.discriminator.use="seer"', 'losses.match.use="feature_matching"')
    alone = (*draws, "stages.text.losses={ image_nll = 1.0, match = 1.0 }")
    assert "match goes through discriminator, which neither this stage trains nor one before it" in check(*alone)[0]
    problem, _ = check(*alone, 'stages.text.train=["text_encoder", "image_decoder", "discriminator"]')
    assert "the discriminator is trained, but no loss of the stage is the critic's" in problem
    both = (*draws, 'losses.hinge.use="hinge"', "stages.text.losses={ image_nll = 1.0, match = 1.0, hinge = 1.0 }")
    assert check(*both, 'stages.text.train=["text_encoder", "image_decoder", "discriminator"]')[0] == ""
