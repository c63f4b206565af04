"""A stranger's decoder with a likelihood of its own (a variational autoencoder), a loss that logs its terms, and what no loss reaches."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ibllm_cli.main import main
from ibllm_testing.stand_ins import TinyDrawer
from safetensors.torch import load_file
from torch import nn

from ibllm.plugin import Batch, Cycle, Latent, Loss, Model, Notice, log
from ibllm_core.host import manager as plugins

pytestmark = pytest.mark.usefixtures("plain_runs")

TINY = Path(__file__).parent / "tiny.toml"

MODULES = {
    "vae.plugin": """
from ibllm.plugin import ComponentSpec, hookimpl

@hookimpl
def ibllm_components():
    return [
        ComponentSpec("image_decoder", "vae", "vae.parts:decoder", "vae.config:VAEConfig", "a test's"),
        ComponentSpec("loss", "spread", "vae.parts:Spread", "vae.config:SpreadConfig", "a test's"),
        ComponentSpec("loss", "detached", "vae.parts:Detached", "vae.config:DetachedConfig", "a test's"),
    ]
""",
    "vae.config": """
import attrs
from ibllm.plugin import Config, LossConfig, option

@attrs.frozen(kw_only=True)
class VAEConfig(Config):
    bound: bool = option(True, help="whether the likelihood is a bound, with the posterior")

    def provides(self):
        return frozenset({"differentiable_draw", "noise"})

@attrs.frozen(kw_only=True)
class SpreadConfig(LossConfig):
    length: int = option(0, help="of what is logged; 0 for a number")

    def needs(self):
        return frozenset({"text_encoder", "data.pairs"})

@attrs.frozen(kw_only=True)
class DetachedConfig(LossConfig):
    whole: bool = option(False, help="nothing at all is reached")

    def needs(self):
        return frozenset({"text_encoder", "image_encoder", "data.pairs"})
""",
    "vae.parts": """
import torch
from torch import nn
from ibllm.plugin import DrawingDecoder, Loss, log

class Drawer(DrawingDecoder):
    def __init__(self, latent, shape):
        super().__init__()
        self.noise_width, self.shape = 4, shape
        self.posterior = nn.Linear(latent + shape[0] * 16, 8)
        self.paint = nn.Linear(latent + 4, shape[0] * 16)

    def draw(self, z, noise):
        small = self.paint(torch.cat([z.pooled, noise], -1)).tanh().unflatten(-1, (self.shape[0], 4, 4))
        return nn.functional.interpolate(small, self.shape[1:])

    def likelihood(self, y, drawn):
        return 20 * (y - drawn).square().flatten(1).sum(1)

class VAE(Drawer):
    def nll(self, y, z, rng):
        seen = nn.functional.adaptive_avg_pool2d(y, 4).flatten(1)
        mean, log_variance = self.posterior(torch.cat([z.pooled, seen], -1)).chunk(2, -1)
        drawn = self.draw(z, mean + (log_variance / 2).exp() * rng.normal(4))
        kl = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2
        reconstruction = self.likelihood(y, drawn)
        log("kl", kl.mean())
        log("reconstruction", reconstruction.mean())
        return reconstruction + kl

def decoder(config, context):
    return (VAE if config.bound else Drawer)(context.latent, context.image_shape)

class Spread(Loss):
    def __init__(self, config, context):
        super().__init__()
        self.length = config.length

    def forward(self, cycle):
        mean = cycle.z_x.pooled.square().mean()
        cycle.log("tokens", cycle.x.lengths().float().mean() if not self.length else torch.zeros(self.length))
        cycle.log("half", 0.5)
        return mean

class Detached(Loss):
    def __init__(self, config, context):
        super().__init__()
        self.whole = config.whole

    def forward(self, cycle):
        value = (cycle.z_x.pooled - cycle.z_y.pooled.detach()).square().mean()
        return value.detach() if self.whole else value
""",
}


#: One stage, text → image, of the stranger's decoder.
BASE = f"""
extends = "{TINY}"
[stages]
image = false
joint = false
[stages.text.validate]
every = 0
[model]
discriminator = false
image_encoder = false
text_decoder = false
[model.text_encoder]
dropout = 0.0
[losses]
adversarial = false
penalty = false
cycle = false
joint = false
text_nll = false
[metrics]
caption_facts = false
round_trip = false
[trackers]
tensorboard = false
[compute]
threads = 1
"""
VAE = '[model.image_decoder]\nuse = "vae"\n'


@pytest.fixture
def stranger(site, tmp_path: Path) -> Iterator[Callable[[str], Path]]:  # type: ignore[no-untyped-def]
    """``stranger(text)``: a recipe that extends `BASE`, in an environment where the package is installed."""
    site.install("vae", {"vae": "vae.plugin"}, MODULES, version="1.4")

    def recipe(more: str) -> Path:
        path = tmp_path / "mine.toml"
        path.write_text(BASE + more, encoding="utf-8")
        return path

    plugins._manager.cache_clear()
    yield recipe
    plugins._manager.cache_clear()


def read(run: Path) -> list[dict[str, Any]]:
    return [row for line in (run / "metrics.jsonl").read_text().splitlines() if (row := json.loads(line))["kind"] == "train"]


def test_the_posterior_of_a_decoder_with_a_bound_learns(stranger: Callable[[str], Path], tmp_path: Path) -> None:
    recipe, run, start = stranger(VAE + "[stages.text]\nsteps = 24\n[optimizer]\nlr = 0.02\n"), tmp_path / "run", tmp_path / "start"
    assert main(["run", str(recipe), "--run-dir", str(run)]) == 0
    assert main(["run", str(recipe), "--run-dir", str(start), "--set", "stages.text.steps=1", "--set", "stages.text.lr=0.0"]) == 0
    before, after = (load_file(path / "model" / "weights.safetensors") for path in (start, run))
    for name in ("posterior.weight", "posterior.bias", "paint.weight"):
        assert not torch.equal(before[f"parts.image_decoder.{name}"], after[f"parts.image_decoder.{name}"]), name
    found = read(run)
    for row in found:
        terms = row["part/image_decoder/kl"] + row["part/image_decoder/reconstruction"]
        assert row["loss/image_nll"] * 3 * 32 * 32 == pytest.approx(terms, rel=1e-5)
    assert found[-1]["loss/image_nll"] < 0.9 * found[0]["loss/image_nll"]
    assert json.loads((run / "run.json").read_text())["notes"] == []


def test_what_no_loss_reaches_is_counted_in_check_terminal_and_record(
    stranger: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = stranger(VAE + "bound = false\n[stages.text]\nsteps = 1\n")
    said = "stage text trains 2 parameters (520 numbers) of model.image_decoder that no loss reaches: posterior.weight, posterior.bias"
    assert main(["check", str(recipe)]) == 0
    assert f"note: {said}" in capsys.readouterr().out
    with pytest.warns(Notice, match=re.escape(said)):  # which the command line shows as a line
        assert main(["run", str(recipe), "--run-dir", str(tmp_path / "run")]) == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["notes"] == [said]


def test_a_part_that_nothing_uses_is_told(stranger: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    recipe = stranger(VAE)
    recipe.write_text(recipe.read_text().replace("image_encoder = false\n", ""))
    assert main(["check", str(recipe)]) == 0
    assert "note: model.image_encoder is there, but no stage trains it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('train = ["text_encoder", "image_encoder"]', "stages.text.train: image_encoder is trained, but no loss of the stage reaches it"),
        (
            'train = "all"',
            "stages.text.losses.detached: it reaches nothing that the stage trains",
        ),
    ],
)
def test_training_that_reaches_nothing_is_refused(
    stranger: Callable[[str], Path], capsys: pytest.CaptureFixture[str], more: str, said: str
) -> None:
    recipe = stranger(f"[losses.detached]\nuse = 'detached'\n[stages.text]\nlosses = {{ detached = 1.0 }}\n{more}\n")
    text = recipe.read_text().replace("image_encoder = false\n", "")
    recipe.write_text(text.replace("text_nll = false", "text_nll = false\nimage_nll = false"))
    assert main(["check", str(recipe), "--set", f"losses.detached.whole={str('.losses.' in said).lower()}"]) == 2
    assert said in capsys.readouterr().err


SPREAD = "[losses.spread]\nuse = 'spread'\n[stages.text]\nsteps = 3\nlosses = { spread = 1.0 }\n[training]\nlog_every = 1\n"


def test_terms_are_means_over_items_whatever_the_micro_batches(stranger: Callable[[str], Path], tmp_path: Path) -> None:
    recipe, found = stranger(SPREAD), []
    for accumulate in (1, 3):
        run = tmp_path / f"run-{accumulate}"
        assert main(["run", str(recipe), "--run-dir", str(run), "--set", f"training.accumulate={accumulate}"]) == 0
        found.append([(row["loss/spread/tokens"], row["loss/spread/half"], row["loss/image_nll"]) for row in read(run)[:1]])
    (whole,), (shared,) = found
    assert shared == pytest.approx(whole, rel=1e-5)
    assert whole[1] == pytest.approx(0.5)


def test_a_term_is_a_number(stranger: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(stranger(SPREAD)), "--set", "losses.spread.length=2"]) == 2
    message = capsys.readouterr().err
    assert "losses.spread = spread (provided by vae 1.4)" in message and "log('tokens')" in message and "shape (2,)" in message


def test_what_is_logged_within_a_composite_keeps_its_own_name() -> None:
    class Inner(Loss):
        def forward(self, cycle: Cycle) -> torch.Tensor:
            cycle.log("term", 2.0)
            return torch.tensor(1.0)

    class Outer(Loss):
        composite = True

        def forward(self, cycle: Cycle) -> torch.Tensor:
            value = cycle.value("inner")
            cycle.log("term", torch.tensor(3.0))
            return value

    model = Model({"text_encoder": nn.Linear(1, 1)}, {}, (3, 8, 8))
    cycle = Cycle(model, Batch(numbers=np.arange(2)), {"inner": Inner(), "outer": Outer()})
    cycle.value("outer")
    log("term", 4.0)  # nobody's
    assert {name: float(value) for name, value in cycle.take_logged().items()} == {"loss/inner/term": 2.0, "loss/outer/term": 3.0}
    assert cycle.take_logged() == {}


def test_a_drawing_is_drawn_once_where_the_likelihood_is_that_of_a_drawing() -> None:
    drawn = []

    class Counted(TinyDrawer):
        def draw(self, z: Latent, noise: torch.Tensor) -> torch.Tensor:
            drawn.append(1)
            return super().draw(z, noise)

    model = Model({"text_encoder": nn.Identity(), "image_decoder": Counted(6, (3, 8, 8))}, {}, (3, 8, 8))
    cycle = Cycle(model, Batch(numbers=np.arange(2), y=torch.zeros(2, 3, 8, 8)))
    z = Latent(torch.zeros(2, 4, 6), torch.ones(2, 4, dtype=torch.bool), torch.zeros(2, 6))
    vars(cycle)["z_x"] = z
    assert torch.equal(cycle.image_nll, model.parts["image_decoder"].likelihood(cycle.y, cycle.y_fake))  # type: ignore[operator]
    assert len(drawn) == 1
