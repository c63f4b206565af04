"""Texts come back as they were; sizes are kept; state survives."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ibllm_tokenizers import remembering
from ibllm_tokenizers.bpe import BPETokenizer
from ibllm_tokenizers.config import BPEConfig, WordConfig
from ibllm_tokenizers.cutting import Rules
from ibllm_tokenizers.word import WordTokenizer, join, split

from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.tokenizer import BOS, EOS, PAD, UNK, Tokenizer

CORPUS = [
    "a large red circle at the top left",
    "a large purple cross at the top left, a small white ring at the top right and a small white circle at the bottom left",
    "how many circles are there?",
    "is there a red-haired person's bag (or two)?",
    "左上角有一个红色的大圆形，右上角有一个蓝色的小正方形。",
    "一个红色的大圆形在左上角。",
    "有几个圆形？",
    "OK 手势",
    "keycap: 10, or 7th…",
    "femme : peau légèrement mate, cheveux roux",
    "女の人・ハート",
]

#: The rules of new vocabularies without ICU, and those of vocabularies made before there were versions.
CHARACTERS, FIRST = Rules(words=False), Rules(version=1, words=False)

Make = Callable[[], Tokenizer]


def word(**options: object) -> Tokenizer:
    return WordTokenizer(WordConfig(**{"size": 200, "unspaced": "characters", **options}), Context())  # type: ignore[arg-type]


def bpe(**options: object) -> Tokenizer:
    return BPETokenizer(BPEConfig(**{"size": 400, **options}), Context())  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [word, bpe])
def test_the_corpus_comes_back(make: Callable[..., Tokenizer]) -> None:
    tokenizer = make(max_length=256)
    tokenizer.train(CORPUS)
    ids, mask = tokenizer.encode(CORPUS)
    assert tokenizer.decode(ids) == CORPUS
    assert ids.max() < tokenizer.size
    assert np.array_equal(mask, ids != PAD)


@pytest.mark.parametrize("make", [word, bpe])
def test_state_survives(make: Make) -> None:
    tokenizer, other = make(), make()
    tokenizer.train(CORPUS)
    other.restore(tokenizer.state())
    assert np.array_equal(tokenizer.encode(CORPUS)[0], other.encode(CORPUS)[0])
    assert other.state() == tokenizer.state()


@pytest.mark.parametrize("make", [word, bpe])
def test_training_twice_gives_the_same(make: Make) -> None:
    first, second = make(), make()
    first.train(CORPUS)
    second.train(CORPUS)
    assert first.state() == second.state()


@pytest.mark.parametrize("make", [word, bpe])
def test_a_text_that_spells_a_special_token_is_text(make: Make) -> None:
    tokenizer = make()
    tokenizer.train([*CORPUS, "<pad> <bos> <eos> <unk> <join>"])
    ids = tokenizer.encode_one("<pad> <bos> <eos> <unk> <join>")
    assert min(ids) > UNK
    assert tokenizer.decode_one(ids) == "<pad> <bos> <eos> <unk> <join>"


@pytest.mark.parametrize("make", [word, bpe])
def test_long_texts_are_cut_and_keep_their_end(make: Callable[..., Tokenizer]) -> None:
    tokenizer = make(max_length=6)
    tokenizer.train(CORPUS)
    ids, _ = tokenizer.encode(CORPUS[:2])
    assert ids.shape == (2, 6)
    assert (ids[:, 0] == BOS).all()
    assert (ids[:, -1] == EOS).all()


@given(st.text(alphabet=st.sampled_from("ab9Ω大圆，。ー,.()'-_ \n\té😀<>‘”"), max_size=24))
def test_any_text_can_be_split_and_joined(text: str) -> None:
    assert join(list(split(text, CHARACTERS)), CHARACTERS) == unicodedata.normalize("NFC", text)


@given(st.text(max_size=24))
def test_any_unicode_text_can_be_split_and_joined(text: str) -> None:
    assert join(list(split(text, CHARACTERS)), CHARACTERS) == unicodedata.normalize("NFC", text)
    assert join(list(split(text, FIRST)), FIRST) == text


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=24))
def test_bytes_write_any_text(text: str) -> None:
    assert TRAINED.decode_one(TRAINED.encode_one(text)) == unicodedata.normalize("NFC", text)


TRAINED = bpe()
TRAINED.train(CORPUS)


def test_usual_spaces_cost_no_tokens() -> None:
    assert list(split("a red ring, a blue one (or two)?")) == ["a", "red", "ring", ",", "a", "blue", "one", "(", "or", "two", ")", "?"]
    assert list(split("左上角有一个圆。", CHARACTERS)) == list("左上角有一个圆。")
    assert list(split("it's a t-shirt")) == ["it's", "a", "t-shirt"]


def test_a_corpus_that_needs_more_ids_is_refused_with_the_count() -> None:
    with pytest.raises(ValueError, match=r"the corpus needs size = 7 \(3 words, marks and characters and 4 special ids\), not 6"):
        word(size=6).train(["a red ring", "a ring"])
    word(size=7).train(["a red ring"])


def test_unseen_words_are_unknown() -> None:
    tokenizer = word()
    tokenizer.train(["a red ring"])
    ids = tokenizer.encode_one("a mauve ring")
    assert ids[1] == UNK
    assert tokenizer.decode_one(ids) == "a <unk> ring"
    assert tokenizer.decode_one([199]) == "<unk>"


def test_frequent_words_come_first() -> None:
    tokenizer = word()
    tokenizer.train(["ring a", "a red", "a red"])
    assert list(tokenizer.encode_one("a red ring")) == [4, 5, 6]


def test_lower_case_on_request() -> None:
    tokenizer = word(lowercase=True)
    tokenizer.train(["A Red ring"])
    assert tokenizer.decode_one(tokenizer.encode_one("a RED ring")) == "a red ring"


def test_a_saved_vocabulary_that_is_too_large_is_refused() -> None:
    tokenizer = word()
    tokenizer.train(CORPUS)
    with pytest.raises(ValueError, match="the saved vocabulary needs size"):
        word(size=10).restore(tokenizer.state())
    with pytest.raises(ValueError, match="the saved vocabulary needs size"):
        bpe(size=260).restore(TRAINED.state())


def test_one_row_more_or_less_changes_nothing() -> None:
    assert TRAINED.encode(CORPUS[:1])[0].tolist()[0] == TRAINED.encode(CORPUS)[0][0][TRAINED.encode(CORPUS)[1][0]].tolist()


@pytest.mark.parametrize("make", [word, bpe])
def test_a_text_that_comes_again_is_read_once(make: Callable[..., Tokenizer]) -> None:
    tokenizer = make(max_length=256)
    tokenizer.train(CORPUS)
    read, asked = tokenizer.read, list[str]()  # type: ignore[attr-defined]
    tokenizer.read = lambda texts: (asked.extend(texts), read(texts))[1]  # type: ignore[attr-defined]
    for _ in range(2):
        ids, _mask = tokenizer.encode([*CORPUS, *CORPUS])
        assert tokenizer.decode(ids) == [*CORPUS, *CORPUS]
    assert asked == CORPUS


@pytest.mark.parametrize("make", [word, bpe])
def test_what_is_remembered_is_of_one_vocabulary(make: Callable[..., Tokenizer]) -> None:
    """Also of one length: a text that was cut is whole where it is asked for alone."""
    tokenizer, other = make(max_length=5), make(max_length=5)
    tokenizer.train(CORPUS[:3])
    other.train(CORPUS[3:])
    mine, theirs = (one.encode(CORPUS)[0] for one in (tokenizer, other))
    assert not np.array_equal(mine, theirs)
    assert len(tokenizer.encode_one(CORPUS[0])) > 3
    tokenizer.restore(other.state())
    assert np.array_equal(tokenizer.encode(CORPUS)[0], theirs)
    tokenizer.train(CORPUS[:3])
    assert np.array_equal(tokenizer.encode(CORPUS)[0], mine)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembering, "TEXTS", 10)
    tokenizer = word()
    tokenizer.train([str(n) for n in range(100)])
    for start in range(0, 90, 7):
        texts = [str(n) for n in range(start, start + 7)]
        assert tokenizer.decode(tokenizer.encode(texts)[0]) == texts
        assert len(tokenizer._remembered) <= 10  # type: ignore[attr-defined]
    tokenizer.encode(["0 " * 400])
    assert all(len(text) <= remembering.CHARACTERS for text in tokenizer._remembered)  # type: ignore[attr-defined]
