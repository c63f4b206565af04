"""The stand-alone program reads and writes texts as the tokenizers of the package do."""

from __future__ import annotations

import json
import unicodedata

import attrs
import pytest
from ibllm_export.run_onnx import Bytes, Words
from ibllm_export.tokenizer_files import plain
from ibllm_tokenizers.bpe import BPETokenizer
from ibllm_tokenizers.config import BPEConfig, WordConfig
from ibllm_tokenizers.word import WordTokenizer

from ibllm.plugin import Context

TEXTS = (
    "a small red circle at the top left",
    "A big, blue square (on the right); it's 12.5 cm — “quite” well-known!",
    "左上角有一个红色的小圆，右边 two  spaces\tand\na line",
    "naïve façade ½ ² 🙂 don't they'll ",
    "हिन्दी में लाल सेब, cafe\u0301 👩‍🚀 🇩🇪",
    "",
)


@attrs.frozen
class Held:
    """What of a recipe's table is read."""

    use: str
    config: object


@pytest.mark.parametrize("unspaced", ["words", "characters"])
@pytest.mark.parametrize("text", TEXTS)
def test_words_are_read_and_written_as_the_tokenizer_does(text: str, unspaced: str) -> None:
    if unspaced == "words":
        pytest.importorskip("icu4py")
    config = WordConfig(size=112, max_length=32, unspaced=unspaced)
    tokenizer = WordTokenizer(config, Context(seed=0))
    tokenizer.train(TEXTS)
    alone = Words(plain(Held("word", config), tokenizer))  # type: ignore[arg-type]
    assert alone.read(text) == list(tokenizer.encode_one(text))
    assert alone.write(alone.read(text)) == unicodedata.normalize("NFC", text)
    assert 3 in alone.read("zebra") and alone.write(alone.read("zebra")) == tokenizer.decode_one(tokenizer.encode_one("zebra"))


@pytest.mark.parametrize("text", [*TEXTS, "words that it never saw: ζ"])
def test_bytes_are_merged_as_the_tokenizer_does(text: str) -> None:
    config = BPEConfig(size=300, max_length=64, min_count=1)
    tokenizer = BPETokenizer(config, Context(seed=0))
    tokenizer.train(TEXTS)
    alone = Bytes(plain(Held("bpe", config), tokenizer))  # type: ignore[arg-type]
    assert alone.read(text) == list(tokenizer.encode_one(text))
    assert alone.write(alone.read(text)) == unicodedata.normalize("NFC", text)


def test_a_vocabulary_from_before_is_handed_on_with_its_rules() -> None:
    config = WordConfig(size=96, max_length=32)
    tokenizer = WordTokenizer(config, Context(seed=0))
    tokenizer.restore(json.dumps(["a", "cafe", "\u0301", "苹", "果"]))
    alone = Words(plain(Held("word", config), tokenizer))  # type: ignore[arg-type]
    for text in ("a cafe\u0301", "苹果", "हि"):
        assert alone.read(text) == list(tokenizer.encode_one(text))
