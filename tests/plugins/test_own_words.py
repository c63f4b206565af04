"""A package's own capability, ``package.word``: recipes join it like any other, and the kit knows whose it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from ibllm_cli.main import main
from ibllm_testing import ImageDecoderSuite, LossSuite

from ibllm_core.host import manager as plugins

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"
PLUGIN = """
from ibllm.plugin import ComponentSpec, hookimpl

@hookimpl
def ibllm_components():
    yield ComponentSpec("image_decoder", "pen", "inky_pen.parts:Pen", "inky_pen.config:PenConfig", "a pen")
    yield ComponentSpec("loss", "splash", "inky_pen.parts:Splash", "inky_pen.config:SplashConfig", "splashes")
"""
CONFIG = """
import attrs
from ibllm.plugin import Config, LossConfig

@attrs.frozen(kw_only=True)
class PenConfig(Config):
    "A pen."
    def provides(self):
        return frozenset({"differentiable_draw", "WORD"})

@attrs.frozen(kw_only=True)
class SplashConfig(LossConfig):
    "Splashes."
    def needs(self):
        return frozenset({"image_decoder.inky_pen.splash"})
"""
PARTS = """
import torch
from ibllm.plugin import DrawingDecoder, Loss

class Pen(DrawingDecoder):
    noise_width = 0

    def __init__(self, config, context):
        super().__init__()
        self.shape = context.image_shape
        self.ink = torch.nn.Linear(context.latent, self.shape[0])

    def draw(self, z, noise):
        return self.ink(z.pooled).tanh()[:, :, None, None].expand(-1, *self.shape)

    def likelihood(self, y, drawn):
        return (drawn - y).square().flatten(1).sum(1)

class Splash(Loss):
    def __init__(self, config, context):
        super().__init__()

    def forward(self, cycle):
        return cycle.image_nll.mean()
"""
USES = ["--set", "losses.splash.use=splash", "--set", "stages.text.losses.splash=1.0"]


@pytest.fixture
def inky(site, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """``inky(word)``: the distribution inky-pen, whose decoder provides the word."""

    def install(word: str) -> None:
        modules = {
            "inky_pen.__init__": "",
            "inky_pen.plugin": PLUGIN,
            "inky_pen.config": CONFIG.replace("WORD", word),
            "inky_pen.parts": PARTS,
        }
        site.install("inky-pen", {"inky": "inky_pen.plugin"}, modules)
        monkeypatch.setattr(plugins, "_manager", plugins._manager.__wrapped__)

    return install


def test_a_recipe_joins_needs_and_provides(inky, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    inky("inky_pen.splash")
    assert main(["check", str(TINY), *USES, "--set", "model.image_decoder={use='pen'}"]) == 0
    capsys.readouterr()
    assert main(["check", str(TINY), *USES]) == 2
    said = capsys.readouterr().err
    assert "splash needs image_decoder.inky_pen.splash, which cross_attention" in said
    assert 'expected: [model.image_decoder] with use = "pen"' in said


class PenSuite(ImageDecoderSuite):
    component = "pen"


class SplashSuite(LossSuite):
    component = "splash"


@pytest.mark.parametrize("word", ["inky_pen.splash", "inky-pen.splash"])
def test_the_kit_accepts_a_word_of_the_components_own_package(inky, word: str) -> None:  # type: ignore[no-untyped-def]
    inky(word)
    PenSuite().test_capabilities_are_known_words()
    SplashSuite().test_capabilities_are_known_words()


@pytest.mark.parametrize("word", ["other.splash", "splash", "inky_pen.", ".splash"])
def test_the_kit_refuses_any_other(inky, word: str) -> None:  # type: ignore[no-untyped-def]
    inky(word)
    with pytest.raises(AssertionError, match=rf"image_decoder\.pen provides {word}: no words of .*inky-pen or inky_pen\.word"):
        PenSuite().test_capabilities_are_known_words()
