"""The pretrained parts keep their contracts, on a model of their kind that is made here: small, its weights random."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs
import pytest
from ibllm_testing import ImageEncoderSuite, TextDecoderSuite, TextEncoderSuite, TokenizerSuite

from ibllm_core.interfaces.context import Context

LIBRARY = MappingProxyType({"test_training_draws_from_no_global_generator": "the dropout of a model of transformers is its library's"})


class TestTokenizer(TokenizerSuite):
    component = "pretrained"

    @pytest.fixture(autouse=True)
    def _model(self, bert: Path) -> None:
        self.options = {"model": str(bert), "max_length": 12}


def tokenizer(folder: Path) -> Any:
    own: Any = TokenizerSuite()
    own.component, own.options = "pretrained", {"model": str(folder), "max_length": 12}
    return own.trained()


class TestFrozen(TextEncoderSuite):
    component = "pretrained"
    own: Mapping[str, Any] = MappingProxyType({"mode": "frozen"})
    excuses: Mapping[str, str] = MappingProxyType(
        {"test_recomputed_it_gives_the_same": "a frozen model keeps nothing for words, whose embeddings want no gradient"}
    )

    @pytest.fixture(autouse=True)
    def _model(self, bert: Path) -> None:
        self.options, self.tokenizer = dict(self.own), tokenizer(bert)

    def context(self) -> Context:
        return attrs.evolve(super().context(), tokenizer=self.tokenizer)


class TestTuned(TestFrozen):
    """What other options cannot change is asked once."""

    own = MappingProxyType({"mode": "tuned"})
    excuses = LIBRARY
    test_compiled_it_gives_the_same = test_it_is_listed_without_torch = None


class TestAdapted(TestTuned):
    own = MappingProxyType({"mode": "lora", "rank": 2, "layer": 1})
    requires = ("peft",)


class TestWriter(TextDecoderSuite):
    """A causal language model; tests/pretrained holds its likelihood against the library's loss, tests/integration compiles it."""

    component = "pretrained"
    own: Mapping[str, Any] = MappingProxyType({"prompts": "plain", "projector": "linear"})
    excuses: Mapping[str, str] = MappingProxyType(
        {"test_probabilities_sum_to_one": "its ids are its model's, which has no vocabulary of six letters"}
    )
    test_compiled_it_gives_the_same = None

    @pytest.fixture(autouse=True)
    def _model(self, llama: Path) -> None:
        self.options, self.tokenizer = dict(self.own), tokenizer(llama)

    def context(self) -> Context:
        return attrs.evolve(super().context(), tokenizer=self.tokenizer)


class TestTunedWriter(TestWriter):
    own = MappingProxyType({"prompts": "plain", "projector": "perceiver", "queries": 3, "heads": 2, "mode": "tuned"})
    test_it_is_listed_without_torch = test_recomputed_it_gives_the_same = None


class TestAdaptedWriter(TestWriter):
    """With a chat template: p(answer | question) is that of another sequence than of question and answer in a row."""

    own = MappingProxyType({"prompts": "chat", "mode": "lora", "rank": 2, "caption_prompt": "red left"})
    requires = ("peft",)
    excuses = MappingProxyType({**TestWriter.excuses, "test_a_prefix_conditions_and_is_not_counted": "a question stands in a template"})
    test_it_is_listed_without_torch = test_recomputed_it_gives_the_same = None


class TestSeer(ImageEncoderSuite):
    component = "pretrained"
    own: Mapping[str, Any] = MappingProxyType({"mode": "lora", "rank": 2, "class_token": True})
    requires = ("peft",)
    test_compiled_it_gives_the_same = None

    @pytest.fixture(autouse=True)
    def _model(self, vit: Path) -> None:
        self.options = {"model": str(vit), **self.own}


class TestFrozenSeer(TestSeer):
    """Without adapters only the image wants a gradient through the model."""

    own = MappingProxyType({"layer": -2})
    requires = ()
    excuses = MappingProxyType({"test_recomputed_it_gives_the_same": "a frozen model keeps nothing for images that want no gradient"})
    test_it_is_listed_without_torch = None
