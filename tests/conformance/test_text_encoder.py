"""Every text_encoder keeps its contract."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from pathlib import Path

import attrs
import tokenizers
import torch

from ibllm_core.interfaces.context import Context
from ibllm_core.testing import TextEncoderSuite, cover


@functools.cache
def folder() -> Path:
    """A Hugging Face model of two small layers with letters for tokens."""
    import transformers

    made = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefg"]
    coder = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: place for place, word in enumerate(words)}, "[UNK]"))
    coder.save(str(made / "tokenizer.json"))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    (made / "special_tokens_map.json").write_text(json.dumps(names), encoding="utf-8")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.BertConfig(
            vocab_size=len(words),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=16,
        )
        transformers.BertModel(config).save_pretrained(made)
    return made


def surroundings(suite: TextEncoderSuite) -> Context:
    """The tokenizer says where the model is."""
    from ibllm_pretrained.config import PretrainedTokenizerConfig
    from ibllm_pretrained.tokenizer import PretrainedTokenizer

    tokenizer = PretrainedTokenizer(PretrainedTokenizerConfig(folder=str(folder()), max_length=10), Context())
    return attrs.evolve(TextEncoderSuite.context(suite), tokenizer=tokenizer)


PRETRAINED: dict[str, object] = {"requires": ("transformers", "peft"), "context": surroundings}

#: Component (or component/variant) → what its class says; sizes small enough to be quick.
PRESETS: dict[str, dict[str, object]] = {
    "cnn/gelu": {"options": {"activation": "gelu", "pool": "max", "kernel": 5, "embed": 6, "dropout": 0.1}},
    "bag/dropout": {"options": {"word_dropout": 0.3}},
    "pretrained": PRETRAINED,
    "pretrained/tuned": PRETRAINED | {"options": {"mode": "tuned"}},
    "pretrained/lora": PRETRAINED | {"options": {"mode": "lora", "rank": 2}},
    "lstm/left": {"options": {"bidirectional": False, "pool": "mean", "embed": 6}},
}

globals().update(cover(TextEncoderSuite, "ibllm", PRESETS, but=("pretrained",)))
