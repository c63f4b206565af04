"""What parts need that lies on disk: made once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

WORDS = ("red", "green", "blue", "grey", "left", "right", "top", "under", "colour")


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers of width 16, its weights random, and its tokenizer, as `transformers` saves them."""
    pytest.importorskip("transformers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    made = tmp_path_factory.mktemp("bert")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    ids = {word: number for number, word in enumerate([*special, *WORDS])}
    coder = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))  # type: ignore[arg-type]
    coder.pre_tokenizer = pre_tokenizers.Whitespace()
    coder.decoder = decoders.WordPiece()
    coder.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=coder, **names).save_pretrained(str(made))
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(ids), max_position_embeddings=40, **sizes)).save_pretrained(str(made))
    return made
