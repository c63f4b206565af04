"""The pretrained parts keep their contracts, on a model of their kind that is made here: small, its weights random."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest

from ibllm_core.interfaces.context import Context
from ibllm_core.testing import TextEncoderSuite, TokenizerSuite

pytest.importorskip("transformers")

WORDS = ("red", "green", "blue", "grey", "left", "right", "top", "under", "colour")


@functools.cache
def folder() -> Path:
    """A BERT of two layers of width 16 and its tokenizer, as `transformers` saves them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    made = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    ids = {word: number for number, word in enumerate([*special, *WORDS])}
    coder = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))  # type: ignore[arg-type]
    coder.pre_tokenizer = pre_tokenizers.Whitespace()
    coder.decoder = decoders.WordPiece()
    coder.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    PreTrainedTokenizerFast(
        tokenizer_object=coder, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(str(made))
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(ids), max_position_embeddings=24, **sizes)).save_pretrained(str(made))
    return made


class TestTokenizer(TokenizerSuite):
    component = "pretrained"
    options = property(lambda suite: {"model": str(folder()), "max_length": 12})  # type: ignore[assignment]


class TestFrozen(TextEncoderSuite):
    component = "pretrained"

    def context(self) -> Context:
        suite = TestTokenizer()
        tokenizer = suite.make()
        tokenizer.train(suite.corpus)
        return attrs.evolve(super().context(), tokenizer=tokenizer)


class TestTuned(TestFrozen):
    options: ClassVar = {"mode": "tuned"}


class TestAdapted(TestFrozen):
    options: ClassVar = {"mode": "lora", "rank": 2}
    requires = ("peft",)
