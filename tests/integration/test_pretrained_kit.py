"""What takes too long for the suite: pretrained parts compiled, T5 by the whole conformance kit, codecs in a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs
import pytest
from ibllm_cli.main import main
from ibllm_testing import ImageEncoderSuite, ImageTokenizerSuite, TextDecoderSuite, TokenizerSuite

import ibllm
from ibllm_core.interfaces.context import Context
from tests.pretrained.conftest import codec_folder, model_folder

__all__ = ["codec_folder", "model_folder"]
LIBRARY = {"test_training_draws_from_no_global_generator": "the dropout of a model of transformers is its library's"}


class TestPair(TextDecoderSuite):
    """T5, whose dropout is off: it is frozen."""

    component, kind_of = "pretrained", "t5"
    bf16 = 0.2  # its random weights are four times as large as those that training begins with
    own: Mapping[str, Any] = MappingProxyType({"projector": "linear"})
    excuses: Mapping[str, str] = MappingProxyType(
        {
            "test_probabilities_sum_to_one": "its ids are its model's, which has no vocabulary of six letters",
            "test_a_prefix_conditions_and_is_not_counted": "the encoder reads what is asked, the decoder writes",
        }
    )

    @pytest.fixture(autouse=True)
    def _model(self, model_folder: Callable[[str], Path]) -> None:
        made: Any = TokenizerSuite()
        made.component, made.options = "pretrained", {"model": str(model_folder(self.kind_of)), "max_length": 12}
        self.options, self.tokenizer = dict(self.own), made.trained()

    def context(self) -> Context:
        return attrs.evolve(super().context(), tokenizer=self.tokenizer)


class TestCompiledLanguageModel(TestPair):
    kind_of, own = "qwen3", MappingProxyType({"projector": "linear", "prompts": "plain"})
    excuses = MappingProxyType({"test_probabilities_sum_to_one": TestPair.excuses["test_probabilities_sum_to_one"]})


class TestCompiledVision(ImageEncoderSuite):
    component = "pretrained"
    excuses = MappingProxyType({"test_recomputed_it_gives_the_same": "a frozen model keeps nothing for images that want no gradient"})

    @pytest.fixture(autouse=True)
    def _model(self, model_folder: Callable[[str], Path]) -> None:
        self.options = {"model": str(model_folder("siglip"))}


class TestCompiledCodec(ImageTokenizerSuite):
    component = "pretrained"

    @pytest.fixture(autouse=True)
    def _model(self, codec_folder: Callable[[str], Path]) -> None:
        self.options = {"model": str(codec_folder("dc")), "mode": "tuned"}


RECIPE = """
format = 1
name = "codec"
order = ["text"]
data = { use = "shapes" }
tokenizers.text = { use = "word", size = 96, max_length = 32 }
losses.image_nll = { use = "image_nll" }
optimizer = { use = "adamw", lr = 1e-3 }
training = { batch = 4 }
evaluation = { items = 2, samples = 1 }
compute = { threads = 1 }

[model]
width = 16
text_encoder = { use = "bag" }
"""
DECODERS = {
    "vq": ("tokens", '{ use = "vq_transformer", depth = 1, heads = 2 }'),
    "kl": ("latents", '{ use = "flow", works_on = "latents", patch = 2, depth = 1, heads = 2, steps = 2 }'),
    "dc": ("latents", '{ use = "flow", works_on = "latents", patch = 2, depth = 1, heads = 2, steps = 2 }'),
}


@pytest.mark.parametrize("kind", DECODERS)
def test_a_decoder_is_trained_over_a_codec(
    kind: str, codec_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frozen codec is in no stage, and the trained model brings its weights."""
    monkeypatch.chdir(tmp_path)
    gives, decoder = DECODERS[kind]
    codec = f'image_tokenizer = {{ use = "pretrained", model = "{codec_folder(kind)}", gives = "{gives}" }}\nimage_decoder = {decoder}\n'
    stage = '\n[stages.text]\nsteps = 2\ntrain = ["text_encoder", "image_decoder"]\nlosses = { image_nll = 1.0 }\n'
    Path("r.toml").write_text(RECIPE + codec + stage, encoding="utf-8")
    assert main(["run", "r.toml", "--run-dir", "run"]) == 0
    assert ibllm.open("run").generate("a red circle").size == (32, 32)
