"""``[model.shared.NAME]``: a module that two parts use, as a stranger's package writes all three."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from ibllm_cli.main import main
from ibllm_export.graphs import Reading, _traced
from ibllm_inspect.differences import differences
from ibllm_study.sharing import prefixes, run_key
from safetensors.torch import load_file
from torch.export import Dim

import ibllm
from ibllm.contracts import check
from ibllm.resolved import resolved
from ibllm_core.host import manager as plugins
from ibllm_core.model import build
from ibllm_core.recipe import load

pytestmark = pytest.mark.usefixtures("plain_runs")

TINY = Path(__file__).parent / "tiny.toml"

MODULES = {
    "lender.plugin": """
from ibllm.plugin import ComponentSpec, hookimpl

@hookimpl
def ibllm_components():
    return [
        ComponentSpec("backbone", "mixer", "lender.parts:Mixer", "lender.config:MixerConfig", "a test's"),
        ComponentSpec("text_encoder", "mixed", "lender.parts:Reader", "lender.config:BorrowerConfig", "a test's"),
        ComponentSpec("image_encoder", "mixed", "lender.parts:Looker", "lender.config:BorrowerConfig", "a test's"),
        ComponentSpec("discriminator", "mixed", "lender.parts:Judge", "lender.config:BorrowerConfig", "a test's"),
    ]
""",
    "lender.config": """
import attrs
from ibllm.plugin import Config, option

@attrs.frozen(kw_only=True)
class MixerConfig(Config):
    width: int | None = option(None, help="its width", ge=1)
    mixes: bool = option(True, help="whether it mixes")

    def provides(self):
        return frozenset({"lender.mixes"}) if self.mixes else frozenset()

@attrs.frozen(kw_only=True)
class BorrowerConfig(Config):
    backbone: str = option("", help="the shared module", part="backbone")
    tokenizer: str = option("text", help="which tokenizer")

    def needs(self):
        return frozenset({f"{self.backbone}.lender.mixes"}) if self.backbone else frozenset()
""",
    "lender.parts": """
import torch
from torch import nn
from ibllm.plugin import Discriminator, Dropout, ImageEncoder, Latent, TextEncoder, borrow, masked_mean

class Mixer(nn.Module):
    def __init__(self, config, context):
        super().__init__()
        assert context.image_shape == (3, 32, 32) and set(context.vocabularies) >= {"text_encoder"} and not context.shared
        self.width = config.width or context.width
        self.layers = nn.Sequential(nn.Linear(self.width, self.width), nn.GELU(), Dropout(0.1), nn.Linear(self.width, self.width))

    def mix(self, tokens):
        return tokens + self.layers(tokens)

class Reader(TextEncoder):
    def __init__(self, config, context):
        super().__init__()
        self.width = context.shared[config.backbone].width
        self.embedding = nn.Embedding(context.tokenizer.size, self.width)
        borrow(self, backbone=context.shared[config.backbone])

    def embed(self, ids):
        return self.embedding(ids)

    def encode(self, embeddings, mask):
        tokens = self.backbone.mix(embeddings)
        return Latent(tokens, mask, masked_mean(tokens, mask))

class Looker(ImageEncoder):
    def __init__(self, config, context):
        super().__init__()
        self.width = context.shared[config.backbone].width
        self.patches = nn.Conv2d(3, self.width, 8, 8)
        borrow(self, backbone=context.shared[config.backbone])

    def forward(self, y):
        tokens = self.backbone.mix(self.patches(y).flatten(2).mT)
        return Latent(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=y.device), tokens.mean(1))

class Judge(Discriminator):
    def __init__(self, config, context):
        super().__init__()
        self.look_at = Looker(config, context)

    def look(self, y):
        return self.look_at(y).pooled

    def judge(self, seen, z):
        return (seen * z.pooled).sum(1)

    def forward(self, y, z):
        return self.judge(self.look(y), z)
""",
}

TEXT = f"""
extends = "{TINY}"
order = ["text", "read"]
[model.shared.mixer]
use = "mixer"
[model.text_encoder]
use = "mixed"
backbone = "mixer"
[model.image_encoder]
use = "mixed"
backbone = "mixer"
[model]
discriminator = false
[losses]
adversarial = false
penalty = false
cycle = false
joint = false
[stages]
image = false
joint = false
[stages.text]
steps = 3
train = ["text_encoder", "image_decoder", "mixer"]
[stages.read]
steps = 3
train = ["image_encoder", "text_decoder"]
losses = {{ text_nll = 1.0 }}
[metrics]
caption_facts = false
round_trip = false
[trackers]
tensorboard = false
"""


@pytest.fixture
def recipe(site, tmp_path: Path) -> Iterator[Path]:  # type: ignore[no-untyped-def]
    """A recipe, in an environment where the package is installed."""
    site.install("lender", {"lender": "lender.plugin"}, MODULES, version="2.0")
    (tmp_path / "mine.toml").write_text(TEXT, encoding="utf-8")
    plugins._manager.cache_clear()
    yield tmp_path / "mine.toml"
    plugins._manager.cache_clear()


def _built(recipe: Path, *sets: str) -> Any:
    read = load(recipe, sets)
    return build.build_model(read, build.build_tokenizers(read), build.image_shape(read))


def test_a_shared_module_is_built_counted_and_saved_once(recipe: Path) -> None:
    model = _built(recipe)
    mixer, reader, looker = (model.parts[name] for name in ("mixer", "text_encoder", "image_encoder"))
    assert reader.backbone is mixer and looker.backbone is mixer
    names = [name for name in model.state_dict() if name.split(".")[1] in ("mixer", "text_encoder", "image_encoder")]
    assert [name for name in names if "layers" in name] == [f"parts.mixer.layers.{n}.{of}" for n in (0, 3) for of in ("weight", "bias")]
    rows = {row.part: row for row in check(load(recipe)).parts}
    assert rows["mixer"].parameters == 2 * (16 * 16 + 16) and rows["image_encoder"].parameters == 3 * 8 * 8 * 16 + 16
    # One part's keys do not move another's first weights.
    assert torch.equal(
        model.parts["mixer"].layers[0].weight, _built(recipe, "model.image_encoder.tokenizer=text").parts["mixer"].layers[0].weight
    )


def test_a_copy_of_a_model_borrows_from_the_copy(recipe: Path) -> None:
    model = _built(recipe)
    copied = deepcopy(model)
    assert copied.parts["text_encoder"].backbone is copied.parts["mixer"] is not model.parts["mixer"]
    assert copied.to(torch.float64).parts["image_encoder"].backbone.layers[0].weight.dtype == torch.float64


def test_it_is_trained_where_a_stage_names_it_and_lies_in_the_model_folder(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = recipe.parent / "run"
    assert main(["run", str(recipe), "--run-dir", str(run), "--set", "training.ema=0"]) == 0
    info = json.loads((run / "run.json").read_text())
    assert info["provenance"]["model.shared.mixer"]["component"] == "backbone.mixer"
    assert [row["part"] for row in info["parts"]].count("mixer") == 1
    first, kept = (_built(recipe).state_dict(), load_file(run / "model" / "weights.safetensors"))
    after = load_file(max((run / "checkpoints").glob("*000003*")) / "weights.safetensors")
    names = [name for name in first if name.startswith("parts.mixer.")]
    assert all(not torch.equal(first[name], kept[name]) for name in names)
    assert all(torch.equal(after[name], kept[name]) for name in names), "the second stage does not name it"
    again = recipe.parent / "again"
    sets = (f"model.shared.mixer.init={{run='{run}'}}", "stages.text.lr=0", "stages.read.lr=0", "training.ema=0", "evaluation.items=2")
    assert main(["run", str(recipe), "--run-dir", str(again), *(word for key in sets for word in ("--set", key))]) == 0
    taken = load_file(again / "model" / "weights.safetensors")
    assert all(torch.equal(taken[name], kept[name]) for name in names)
    assert not torch.equal(taken["parts.text_encoder.embedding.weight"], kept["parts.text_encoder.embedding.weight"])
    opened = ibllm.open(run)
    assert len(opened.caption(opened.generate(["a red circle"]))) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('backbone = "mixer"', 'backbone = "mixr"'), 'model.image_encoder.backbone: the model has no backbone "mixr"\n    expected: mixer'),
        (('use = "mixer"\n', 'use = "mixer"\nmixes = false\n'), "needs shared.mixer.lender.mixes, which mixer"),
        (('use = "mixer"\n', 'use = "mixr"\n'), 'no backbone is called "mixr"'),
        (('use = "mixer"\n', 'use = "mixer"\nfrozen = true\n'), "stages.text.train: mixer is frozen"),
        (("shared.mixer]", "shared.text_decoder]"), "model.shared.text_decoder: no part can be called so"),
        (('"image_decoder", "mixer"]', '"image_decoder"]'), "image_nll goes through mixer, which neither this stage trains"),
        (('train = ["image_encoder", "text_decoder"]', 'train = ["text_encoder", "mixer"]'), "text_encoder is trained, but no loss"),
    ],
)  # fmt: skip
def test_mistakes_about_shared_modules(recipe: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], said: str) -> None:
    text = recipe.read_text()
    assert change[0] in text
    recipe.write_text(text.replace(*change))
    assert main(["check", str(recipe)]) == 2
    assert said in capsys.readouterr().err


def test_a_critic_borrows_what_is_frozen(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = [
        "model.discriminator={use='mixed', backbone='mixer'}",
        "losses.adversarial={use='hinge'}",
        "stages.text.losses.adversarial=0.1",
        "stages.text.train=['text_encoder', 'image_decoder', 'discriminator', 'mixer']",
    ]
    words = ["check", str(recipe), *(word for key in more for word in ("--set", key))]
    assert main(words) == 2
    assert "stages.text.train: discriminator borrows mixer, which the stage trains with the model" in capsys.readouterr().err
    words[-1] = words[-1].replace(", 'mixer']", "]")
    assert main([*words, "--set", "model.shared.mixer.frozen=true"]) == 0
    assert "mixer: 544 parameters, shared by text_encoder, image_encoder, discriminator" in capsys.readouterr().out


def test_a_study_and_a_comparison_know_of_it(recipe: Path) -> None:
    narrow, wide, deep = (load(recipe, sets) for sets in ((), ["model.shared.mixer.width=24"], ["model.width=16"]))
    assert resolved(narrow)["model"]["shared"]["mixer"]["width"] == 16
    assert differences(narrow, wide) == ["model.shared.mixer.width: 16 → 24"]
    assert run_key(narrow) == run_key(deep) != run_key(wide)
    assert prefixes(narrow)[0].key != prefixes(wide)[0].key


def test_a_graph_has_the_weights_that_its_parts_borrow(recipe: Path) -> None:
    model = _built(recipe, "model.text_decoder={use='lstm', layers=1}").eval()
    read = Reading(model)
    images = torch.rand(2, *model.image_shape)
    with torch.no_grad():
        traced = _traced(read, (images,), ({0: Dim("b", max=64)},))
        more = torch.rand(3, *model.image_shape)
        for found, wanted in zip(traced.module()(more), read(more), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    held = [weight for name, weight in traced.state_dict.items() if "backbone" in name]
    assert len(held) == 4 and not traced.constants
    assert list(read.encoder.named_parameters())[-1][0].startswith("patches"), "it is as it was"


def test_a_recipe_without_shared_modules_has_the_keys_that_it_had() -> None:
    assert "shared" not in resolved(load(TINY))["model"]
