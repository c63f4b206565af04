"""The pretrained parts keep their contracts, on a model of their kind that is made here: small, its weights random."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs
import pytest
from ibllm_testing import TextEncoderSuite, TokenizerSuite

from ibllm_core.interfaces.context import Context

LIBRARY = MappingProxyType({"test_training_draws_from_no_global_generator": "the dropout of a model of transformers is its library's"})


class TestTokenizer(TokenizerSuite):
    component = "pretrained"

    @pytest.fixture(autouse=True)
    def _model(self, bert: Path) -> None:
        self.options = {"model": str(bert), "max_length": 12}


class TestFrozen(TextEncoderSuite):
    component = "pretrained"
    mode = "frozen"

    @pytest.fixture(autouse=True)
    def _model(self, bert: Path) -> None:
        self.options = {"mode": self.mode, "rank": 2}
        own: Any = TokenizerSuite()
        own.component, own.options = "pretrained", {"model": str(bert), "max_length": 12}
        self.tokenizer = own.trained()

    def context(self) -> Context:
        return attrs.evolve(super().context(), tokenizer=self.tokenizer)


class TestTuned(TestFrozen):
    mode = "tuned"
    excuses = LIBRARY


class TestAdapted(TestFrozen):
    mode = "lora"
    excuses = LIBRARY
    requires = ("peft",)
