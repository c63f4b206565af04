"""Words of a reported split that no vocabulary has are told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from ibllm_cli.main import main
from ibllm_shapes.config import ShapesConfig
from ibllm_shapes.dataset import ShapesDataset
from ibllm_tokenizers.config import WordConfig
from ibllm_tokenizers.word import WordTokenizer

from ibllm.vocabulary import read, told
from ibllm_core.errors import Notice
from ibllm_core.interfaces.context import Context

TINY = Path(__file__).with_name("tiny.toml")
SAID = (
    "split open: 5 words are not in the vocabulary of text_encoder, text_decoder, so nothing can be known of them (18.7 % of the tokens): "
    "above, below, is, of, which"
)


def words(texts: Sequence[str]) -> WordTokenizer:
    tokenizer = WordTokenizer(WordConfig(size=64), Context())
    tokenizer.train(texts)
    return tokenizer


def test_a_word_is_told_once_for_all_parts_that_lack_it() -> None:
    data = ShapesDataset(ShapesConfig(), Context())
    trained = words(data.corpus())
    assert told(data, {"text_encoder": trained, "text_decoder": trained}, dict.fromkeys(("test", "novel", "open"), 64)) == [SAID]
    other = words(data.corpus("open"))
    assert [text.split(":")[0] for text in told(data, {"text_encoder": trained, "text_decoder": other}, {"open": 64})] == ["split open"]
    assert told(data, {"text_encoder": words(data.corpus("open") + data.corpus())}, dict.fromkeys(("test", "open"), 64)) == []
    assert told(data, {}, {"open": 64}) == []


def test_many_words_are_counted_and_some_named() -> None:
    data = ShapesDataset(ShapesConfig(), Context())
    (text,) = told(data, {"text_encoder": words(["a"])}, {"test": 64})
    assert " words are not in the vocabulary of text_encoder" in text
    assert text.endswith(" more")
    assert text.count(",") == 8


def test_texts_that_are_cut_are_counted_and_the_longest_is_told() -> None:
    class Long(ShapesDataset):
        def corpus(self, split: str = "train", limit: int | None = None) -> Sequence[str]:
            return ["a red card", "a red card", "a red " * 12 + "card", "a red card " * 30]

    data = Long(ShapesConfig(), Context())
    tokenizer = WordTokenizer(WordConfig(size=64, max_length=20), Context())
    tokenizer.train(data.corpus())
    (said,) = told(data, {"text_encoder": tokenizer, "text_decoder": tokenizer}, {"train": None})
    shown = ("a red card " * 30)[:59]
    assert said == (
        "split train: 2 of 3 different texts are cut to max_length = 20 tokens for text_encoder, text_decoder; "
        f"the longest has {len(tokenizer.encode_one('a red card ' * 30)) + 2}: '{shown}…'"
    )
    other = WordTokenizer(WordConfig(size=64, max_length=400), Context())
    other.train(data.corpus())
    assert told(data, {"text_encoder": other}, {"train": None}) == []
    found = read(data.corpus(), tokenizer)
    assert (found.texts, found.cut, found.lengths[0], found.unknowns) == (3, 2, 5, 0)


@pytest.mark.slow
@pytest.mark.usefixtures("unrehearsed_runs")
def test_a_run_and_an_evaluation_say_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    plan = ("stages.text.steps=1", "stages.text.validate.every=0", "stages.image.steps=0", "stages.joint.steps=0")
    measured = ("evaluation.items=32", "evaluation.after_stage=0", "evaluation.splits=['test','open']")
    sets = [word for one in (*plan, *measured) for word in ("--set", one)]
    with pytest.warns(Notice) as heard:
        assert main(["run", str(TINY), "--run-dir", str(run), *sets]) == 0
    said = [str(one.message) for one in heard if "vocabulary" in str(one.message)]
    assert len(said) == 1
    assert said[0].startswith("split open: ")
    assert said[0] in json.loads((run / "run.json").read_text())["notices"]
    capfd.readouterr()
    assert main(["evaluate", str(run), "--split", "open", "--items", "32"]) == 0
    assert said[0] in capfd.readouterr().err
    assert main(["evaluate", str(run), "--split", "test", "--items", "32"]) == 0
    assert "vocabulary" not in capfd.readouterr().err
