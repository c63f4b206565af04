"""Further named parts: a second critic, and a frozen teacher from another run, with losses as a stranger's package writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from ibllm_cli.main import main
from safetensors.torch import load_file

from ibllm.resolved import resolved
from ibllm_core.host import manager as plugins
from ibllm_core.model import build
from ibllm_core.recipe import load

pytestmark = pytest.mark.usefixtures("plain_runs")

TINY = Path(__file__).parent / "tiny.toml"

MODULES = {
    "more.plugin": """
from ibllm.plugin import ComponentSpec, hookimpl

@hookimpl
def ibllm_components():
    return [
        ComponentSpec("loss", "against", "more.parts:Against", "more.config:AgainstConfig", "a test's"),
        ComponentSpec("loss", "distil", "more.parts:Distil", "more.config:DistilConfig", "a test's"),
    ]
""",
    "more.config": """
import attrs
from ibllm.plugin import LossConfig, option

@attrs.frozen(kw_only=True)
class AgainstConfig(LossConfig):
    critic: str = option("discriminator", help="which critic", part="discriminator")

    def players(self):
        return ("model", "critic")

    def needs(self):
        return frozenset({"text_encoder", "image_decoder.differentiable_draw", "data.pairs"})

@attrs.frozen(kw_only=True)
class DistilConfig(LossConfig):
    teacher: str = option(help="whose latents are followed", part="text_encoder")

    def needs(self):
        return frozenset({"text_encoder", "data.pairs"})
""",
    "more.parts": """
import torch.nn.functional as F
from torch import nn
from ibllm.plugin import AdversarialLoss, Loss

class Against(AdversarialLoss):
    def __init__(self, config, context):
        super().__init__()
        self.name = config.critic

    def critic(self, cycle):
        z = cycle.z_x.detach()
        return (F.relu(1 - cycle.score(cycle.y, z, self.name)) + F.relu(1 + cycle.score(cycle.y_fake.detach(), z, self.name))).mean()

    def forward(self, cycle):
        return -cycle.score(cycle.y_fake, cycle.z_x.detach(), self.name).mean()

class Distil(Loss):
    def __init__(self, config, context):
        super().__init__()
        self.teacher = config.teacher
        self.project = nn.Linear(context.latents["text_encoder"], context.latents[config.teacher])

    def forward(self, cycle):
        wanted = cycle.latent(self.teacher).pooled
        assert not wanted.requires_grad
        return F.mse_loss(self.project(cycle.z_x.pooled), wanted)
""",
}

TEXT = f"""
extends = "{TINY}"
[stages]
image = false
joint = false
[stages.text]
steps = 4
train = "all"
[stages.text.validate]
every = 0
[model]
image_encoder = false
text_decoder = false
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
SECOND = """
[model.extra.second]
kind = "discriminator"
use = "matching_aware"
channels = [4, 8]
width = 8
[model.extra.teacher]
kind = "text_encoder"
use = "transformer"
depth = 1
heads = 2
frozen = true
init = { run = "big" }
[losses.first]
use = "against"
[losses.second]
use = "against"
critic = "second"
[losses.distil]
use = "distil"
teacher = "teacher"
[stages.text.losses]
first = 0.1
second = 0.1
distil = 1.0
"""


@pytest.fixture
def folder(site, tmp_path: Path) -> Iterator[Path]:  # type: ignore[no-untyped-def]
    """Where the recipes lie, in an environment where the package is installed."""
    site.install("more", {"more": "more.plugin"}, MODULES, version="2.0")
    (tmp_path / "big.toml").write_text(TEXT + "[model.discriminator]\nwidth = 8\n[stages.text.losses]\nimage_nll = 1.0\n", encoding="utf-8")
    (tmp_path / "mine.toml").write_text(TEXT + SECOND, encoding="utf-8")
    plugins._manager.cache_clear()
    yield tmp_path
    plugins._manager.cache_clear()


def test_a_second_critic_and_a_frozen_teacher_through_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(folder / "mine.toml")]) == 2
    line = (folder / "mine.toml").read_text().splitlines().index('init = { run = "big" }') + 1
    assert f"mine.toml:{line}: model.extra.teacher.init.run: there is no run {folder}/big" in capsys.readouterr().err
    assert main(["run", str(folder / "big.toml"), "--run-dir", str(folder / "big")]) == 0
    capsys.readouterr()
    assert main(["check", str(folder / "mine.toml")]) == 0
    shown = capsys.readouterr().out
    assert "second" in shown and "teacher" in shown and "note:" not in shown
    run = folder / "run"
    assert main(["run", str(folder / "mine.toml"), "--run-dir", str(run), "--set", "training.ema=0.5"]) == 0

    info = json.loads((run / "run.json").read_text())
    assert info["provenance"]["model.extra.teacher"]["component"] == "text_encoder.transformer"
    assert {row["part"] for row in info["parts"]} >= {"second", "teacher"}
    weights, of_teacher = (load_file(path / "model" / "weights.safetensors") for path in (run, folder / "big"))
    recipe = load(folder / "mine.toml")
    first = build.build_model(recipe, build.build_tokenizers(recipe), build.image_shape(recipe)).state_dict()
    names = [name.removeprefix("parts.teacher.") for name in weights if name.startswith("parts.teacher.")]
    assert names and all(torch.equal(weights[f"parts.teacher.{n}"], of_teacher[f"parts.text_encoder.{n}"]) for n in names)
    for part in ("second", "discriminator", "text_encoder", "image_decoder"):
        moved = [n for n in weights if n.startswith(f"parts.{part}.") and not torch.equal(weights[n], first[n])]
        assert moved, f"{part} was not trained"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {"loss/first", "loss/second", "loss/critic/first", "loss/critic/second", "loss/distil"} <= rows[1].keys() | rows[0].keys()

    # Weights that do not fit are told before anything is spent.
    (folder / "other.toml").write_text((folder / "mine.toml").read_text().replace('"big" }', '"big", parts = ["image_decoder"] }'))
    capsys.readouterr()
    assert main(["check", str(folder / "other.toml")]) == 2
    assert "model.extra.teacher.init: the weights of the run's image_decoder do not fit" in capsys.readouterr().err

    # Without the teacher's run the run is opened and measured all the same.
    (folder / "big").rename(folder / "gone")
    import ibllm

    assert ibllm.open(run).model.generate(["a red circle"]).shape == (1, 32, 32, 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('critic = "second"', 'critic = "teacher"'), 'losses.second.critic: the model has no discriminator "teacher"'),
        (('teacher = "teacher"', 'teacher = "teecher"'), 'losses.distil.teacher: the model has no text_encoder "teecher"'),
        (('kind = "discriminator"', 'kind = "critic"'), "model.extra.second.kind"),
        (('kind = "discriminator"\n', ""), "model.extra.second.kind: missing"),
        (("frozen = true\n", 'frozen = true\ntokenizer = "other"\n'), "model.extra.teacher.tokenizer"),
        (('train = "all"', 'train = ["text_encoder", "teacher"]'), "stages.text.train: teacher is frozen"),
        (("extra.second]", "extra.text_decoder]"), "model.extra.text_decoder: no part can be called so"),
        (("[model.extra.second]", "[model.extra.keys]"), "model.extra.keys = matching_aware"),
    ],
)
def test_mistakes_about_further_parts(
    folder: Path, pretended_run: Callable[[Path], Path], capsys: pytest.CaptureFixture[str], change: tuple[str, str], said: str
) -> None:
    pretended_run(folder / "big")
    recipe = folder / "mine.toml"
    text = recipe.read_text()
    assert change[0] in text
    text = text.replace(*change)
    recipe.write_text(text.replace('critic = "second"', 'critic = "keys"') if "keys]" in text else text)
    assert main(["check", str(recipe)]) == 2
    assert said in capsys.readouterr().err


def test_a_recipe_without_further_parts_has_the_keys_that_it_had() -> None:
    assert "extra" not in resolved(load(TINY))["model"]
