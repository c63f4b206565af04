"""A stage that trains a sub-module of a part alone: a stranger's decoder with a prior over its noise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from ibllm_cli.main import main
from torch import Tensor

from ibllm_core.host import manager as plugins
from ibllm_core.host.attribution import ComponentFailed
from ibllm_core.model.players import Average
from ibllm_core.recipe import Recipe, load
from ibllm_core.runs.directory import RunDirectory
from ibllm_core.training.job import Job
from ibllm_core.training.session import Session

from .test_resume import interrupted, same_weights

pytestmark = pytest.mark.usefixtures("plain_runs")

TINY = Path(__file__).parent / "tiny.toml"
MODULES = {
    "posterior.plugin": """
from ibllm.plugin import ComponentSpec, hookimpl

@hookimpl
def ibllm_components():
    return [ComponentSpec("image_decoder", "posterior", "posterior.parts:Decoder", "posterior.config:DecoderConfig", "a test's")]
""",
    "posterior.config": """
import attrs
from ibllm.plugin import Config, option

@attrs.frozen(kw_only=True)
class DecoderConfig(Config):
    alone: tuple[str, ...] = option(("prior",), help="sub-modules that may be trained alone")

    def provides(self):
        return frozenset({"differentiable_draw", "noise"})

    def trainable(self):
        return self.alone
""",
    "posterior.parts": """
from torch import nn
from ibllm.plugin import DrawingDecoder, Dropout

class Decoder(DrawingDecoder):
    noise_width = 4

    def __init__(self, config, context):
        super().__init__()
        self.shape = context.image_shape
        self.body = nn.Sequential(nn.Linear(context.latent + 4, 8), nn.BatchNorm1d(8), Dropout(0.5), nn.Linear(8, 3))
        self.prior = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), Dropout(0.1))

    def draw(self, z, noise):
        drawn = self.body(nn.functional.pad(z.pooled, (0, 4)) + nn.functional.pad(self.prior(noise), (z.pooled.shape[1], 0)))
        return drawn.tanh()[..., None, None].expand(-1, *self.shape)

    def likelihood(self, y, drawn):
        return (y - drawn).square().flatten(1).sum(1)
""",
}
#: The decoder in the first stage, its prior in the second, all of it in the third.
STAGES = f"""
extends = "{TINY}"
order = ["text", "prior", "joint"]
[model]
image_encoder = false
text_decoder = false
discriminator = false
image_decoder = {{ use = "posterior" }}
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
[stages]
image = false
joint = {{ steps = 3, losses = {{ image_nll = 1.0 }} }}
[stages.text]
steps = 3
[stages.prior]
steps = 4
train = ["image_decoder.prior"]
losses = {{ image_nll = 1.0 }}
[training]
checkpoint_every = 1
"""
PRIOR, REST, READER = "parts.image_decoder.prior", "parts.image_decoder.body", "parts.text_encoder"


@pytest.fixture
def mine(site, tmp_path: Path) -> Iterator[Path]:  # type: ignore[no-untyped-def]
    """The recipe, in an environment where the package is installed."""
    site.install("posterior", {"posterior": "posterior.plugin"}, MODULES, version="2.0")
    (tmp_path / "mine.toml").write_text(STAGES, encoding="utf-8")
    plugins._manager.cache_clear()
    yield tmp_path / "mine.toml"
    plugins._manager.cache_clear()


def read(path: Path, *sets: str) -> Recipe:
    return load(path, ("compute.device=cpu", "compute.threads=1", "stages.text.validate.every=0", *sets))


def of(owner: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items() if name.startswith(f"{owner}.")}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    assert a and a.keys() == b.keys()
    return all(torch.equal(a[name], b[name]) for name in a)


def test_only_the_sub_module_is_trained(mine: Path, tmp_path: Path) -> None:
    """The rest of its part is frozen as a frozen part is: weights, statistics and averages stay, bit for bit. Averages count the steps of each."""
    session = Session(read(mine), RunDirectory(tmp_path / "run"))
    counts = {"text": (3, 3, 3), "prior": (3, 3 + 4, 3), "joint": (6, 7 + 3, 6)}
    for stage in session.recipe.running():
        before = [dict(tensors) for tensors in (session.shared()["weights"], session.average.weights)]
        before = [{name: tensor.clone() for name, tensor in tensors.items()} for tensors in before]
        trainer, feeder = session.trainer(stage), session.feeder(stage)
        for step in range(stage.steps):
            trainer.iterate(feeder.make(step))
        feeder.close()
        after = [session.shared()["weights"], session.average.weights]
        for owner, moves in ((PRIOR, True), (REST, stage.name != "prior"), (READER, stage.name != "prior")):
            for then, now in zip(before, after, strict=True):
                assert equal(of(owner, then), of(owner, dict(now))) != moves, (stage.name, owner)
        whole = stage.name != "prior"
        prefix = "image_decoder.prior" if stage.name == "prior" else "image_decoder"
        assert trainer.statistics and all(name.startswith(f"{prefix}.") for name in trainer.statistics)
        assert {name.startswith("image_decoder.prior.") for name in trainer.players[-1].parameters} == ({True, False} if whole else {True})
        modes = {name: module.training for name, module in session.model.named_modules()}
        assert modes[f"{PRIOR}.2"] and modes[f"{REST}.2"] == whole and modes["parts.image_decoder"] == whole
        owners = ("parts.image_decoder", PRIOR, READER)
        assert tuple(session.average.steps[owner] for owner in owners) == counts[stage.name]


def test_a_run_that_was_stopped_in_its_midst_goes_on(mine: Path, tmp_path: Path) -> None:
    recipe = read(mine)
    Job(recipe, tmp_path / "whole").run()
    run = interrupted(recipe, tmp_path / "run", 5)
    Job(recipe, run).run(resume=True)
    assert same_weights(run, tmp_path / "whole")


def test_an_average_of_before_it_could_be_trained_alone_is_gone_on_with() -> None:
    part = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    former, now = Average({"parts.a": part}), Average({"parts.a": part, "parts.a.1": part[1]})
    former.follow(["parts.a"], 0.5)
    now.restore(former.state())
    assert set(now.weights) == set(former.weights) and dict(now.steps) == {"parts.a": 1, "parts.a.1": 1}
    now.follow(["parts.a.1"], 0.5)
    assert dict(now.steps) == {"parts.a": 1, "parts.a.1": 2}
    assert now.restart("parts.a") == 2 and not now.steps


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ('["image_decoder.prio"]', 'image_decoder has no "prio" that can be trained alone'),
        ('["image_decoder.prior", "text_encoder", "image_decoder.prior"]', "image_decoder.prior is named 2 times"),
        ('["image_decoder.prior", "image_decoder"]', "image_decoder.prior is part of image_decoder, which is trained whole"),
        ('["text_encoder.embed"]', "nothing of text_encoder can be trained alone"),
        ('["image_tokenizer.prior"]', "the model has no image_tokenizer"),
        ('["image_decodr.prior"]', 'there is no part "image_decodr"'),
    ],
)
def test_mistakes(mine: Path, capsys: pytest.CaptureFixture[str], train: str, said: str) -> None:
    mine.write_text(STAGES.replace('["image_decoder.prior"]', train))
    line = STAGES.splitlines().index('train = ["image_decoder.prior"]') + 1
    assert main(["check", str(mine)]) == 2
    shown = capsys.readouterr().err
    assert f"mine.toml:{line}: stages.prior.train: {said}" in shown
    if train == '["image_decoder.prio"]':
        assert "expected: one of image_decoder.prior, image_decoder\n" in shown and "did you mean: image_decoder.prior\n" in shown
        assert "provided by: image_decoder.posterior of posterior 2.0" in shown


def test_what_is_trained_to_no_purpose_or_too_early_is_told(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(mine)]) == 0
    assert "note" not in capsys.readouterr().out
    assert (
        main(
            [
                "check",
                str(mine),
                "--set",
                'order=["prior", "text", "joint"]',
                "--set",
                'stages.prior.train=["image_decoder.prior", "text_encoder"]',
            ]
        )
        == 0
    )
    assert "stage prior trains image_decoder.prior; the rest of model.image_decoder has its first weights" in capsys.readouterr().out
    mine.write_text(
        STAGES.replace('image_decoder = { use = "posterior" }', 'image_decoder = { use = "posterior", alone = ["body.1", "ghost"] }')
    )
    assert main(["check", str(mine), "--set", 'stages.prior.train=["image_decoder.body.1"]']) == 2
    assert 'its config says that "ghost" can be trained alone' in capsys.readouterr().err


def test_a_part_that_is_taken_away_is_named_no_more(mine: Path) -> None:
    mine.write_text(STAGES.replace('["image_decoder.prior"]', '["image_decoder.prior", "discriminator.head"]'))
    assert read(mine).stages["prior"].train == ("image_decoder.prior",)


def test_its_error_is_the_components(mine: Path) -> None:
    from ibllm_core.model import build

    recipe = read(mine, 'model.image_decoder.alone=["prior", "ghost"]')
    with pytest.raises(ComponentFailed, match="ghost"):
        build.build_model(recipe, build.build_tokenizers(recipe), build.image_shape(recipe))
