"""What parts need that lies on disk: made once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

WORDS = ("red", "green", "blue", "grey", "left", "right", "top", "under", "colour")


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers of width 16, its weights random, and its tokenizer, as `transformers` saves them."""
    pytest.importorskip("transformers")
    from transformers import BertConfig, BertModel

    made = tmp_path_factory.mktemp("bert")
    ids = _tokenizer(made)
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(ids), max_position_embeddings=40, **sizes)).save_pretrained(str(made))
    return made


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers of width 16, its weights random, and its tokenizer with a chat template."""
    pytest.importorskip("transformers")
    from transformers import LlamaConfig, LlamaForCausalLM

    made = tmp_path_factory.mktemp("llama")
    ids = _tokenizer(made, "{% for m in messages %}[CLS] red {{ m['content'] }} [SEP]{% endfor %} blue")
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(LlamaConfig(vocab_size=len(ids), max_position_embeddings=256, **sizes)).save_pretrained(str(made))
    return made


@pytest.fixture(scope="session")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vision transformer of two layers of width 16 for images of 32 × 32, its weights random."""
    pytest.importorskip("transformers")
    from transformers import ViTConfig, ViTModel

    made = tmp_path_factory.mktemp("vit")
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ViTModel(ViTConfig(image_size=32, patch_size=8, **sizes)).save_pretrained(str(made))
    (made / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}', encoding="utf-8")
    return made


def _tokenizer(made: Path, chat: str | None = None) -> dict[str, int]:
    """Writes a tokenizer of a few words; gives its ids."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    ids = {word: number for number, word in enumerate([*special, *WORDS])}
    coder = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))  # type: ignore[arg-type]
    coder.pre_tokenizer = pre_tokenizers.Whitespace()
    coder.decoder = decoders.WordPiece()
    coder.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    saved = PreTrainedTokenizerFast(tokenizer_object=coder, **names)
    saved.chat_template = chat
    saved.save_pretrained(str(made))
    return ids
