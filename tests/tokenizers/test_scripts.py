"""Every script: normal form, marks and joined signs, scripts without spaces; and vocabularies from before."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ibllm_tokenizers import word as words_module
from ibllm_tokenizers.bpe import BPETokenizer
from ibllm_tokenizers.config import BPEConfig, WordConfig
from ibllm_tokenizers.cutting import Rules, marks
from ibllm_tokenizers.word import WordTokenizer, join, split
from tokenizers import Tokenizer as Coder
from tokenizers import normalizers

from ibllm_core.errors import Notice, UserError
from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.tokenizer import UNK

#: As the tokenizer cut before its rules had versions, written down once more.
_CJK = "\u2e80-\u312f\u3190-\ua4cf\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\U00020000-\U0003ffff"
_LETTER = rf"(?:(?![{_CJK}])[^\W_])"
BEFORE = re.compile(rf"\s+|[{_CJK}]|{_LETTER}+(?:['’-]{_LETTER}+)*|.", re.DOTALL)
ENGLISH = (
    "a large red circle at the top left, and (perhaps) a 2nd one; isn't it well-known?",
    "it's “quoted” — naïve café, 12.5 % of $3… <unk> [x]",
    "UPPER lower_snake\tTab\nline  two spaces ",
)
SCRIPTS = (
    "हिन्दी में लाल सेब",
    "วันนี้อากาศดี",
    "Noto 风格的红苹果",
    "Noto風の赤リンゴ",
    "빨간 사과",
    "красное яблоко",
    "تفاحة حمراء",
    "👩‍🚀 lands",
    "ខ្ញុំ",
    "ລາວ",
)


def word(**options: object) -> WordTokenizer:
    return WordTokenizer(WordConfig(**{"size": 200, **options}), Context())  # type: ignore[arg-type]


def bpe() -> BPETokenizer:
    return BPETokenizer(BPEConfig(size=400), Context())


@pytest.mark.parametrize("text", ENGLISH)
@pytest.mark.parametrize("rules", [Rules(), Rules(words=False), Rules(version=1, words=False)], ids=["words", "characters", "before"])
def test_english_is_cut_as_ever(text: str, rules: Rules) -> None:
    assert rules.pieces(text) == BEFORE.findall(text)


@given(st.text(alphabet=st.characters(max_codepoint=0x2FF), max_size=30))
def test_latin_is_cut_as_ever(text: str) -> None:
    assert Rules().pieces(text) == BEFORE.findall(text)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("हिन्दी", ["हिन्दी"]),
        ("café", ["café"]),
        ("cafe\u0301", ["café"]),
        ("👩‍🚀", ["👩‍🚀"]),
        ("👩🏽‍🚀 👨‍👩‍👧‍👦", ["👩🏽‍🚀", "👨‍👩‍👧‍👦"]),
        ("❤️‍🔥", ["❤️‍🔥"]),
        ("1️⃣", ["1️⃣"]),
        ("🇩🇪 🇫🇷", ["🇩🇪", "🇫🇷"]),
        ("می‌خواهم", ["می‌خواهم"]),
        ("q̃uux", ["q̃uux"]),
        ("দিল্লি শহর", ["দিল্লি", "শহর"]),
        ("빨간 사과", ["빨간", "사과"]),
    ],
)
def test_marks_and_joined_signs_stay_with_their_letter(text: str, pieces: list[str]) -> None:
    assert list(split(text)) == [unicodedata.normalize("NFC", piece) for piece in pieces]
    assert list(split(text, Rules(words=False))) == list(split(text))


def test_characters_of_scripts_without_spaces_keep_their_marks() -> None:
    characters = Rules(words=False)
    assert list(split("红苹果", characters)) == ["红", "苹", "果"]
    assert list(split("ที่นี่", characters)) == ["ที่", "นี่"]
    assert list(split("赤いリンゴ", characters)) == list("赤いリンゴ")


def test_scripts_without_spaces_are_cut_into_words_by_icu() -> None:
    pytest.importorskip("icu4py")
    assert list(split("左上角有一个红色的圆。")) == ["左上角", "有", "一个", "红色", "的", "圆", "。"]
    assert list(split("赤いリンゴ")) == ["赤い", "リンゴ"]
    assert list(split("แอปเปิ้ลแดง")) == ["แอป", "เปิ้ล", "แดง"]
    assert list(split("a 红苹果!")) == ["a", " ", "红", "苹果", "!"], "what stands around is cut as ever"


@pytest.mark.parametrize("text", SCRIPTS)
def test_every_script_comes_back(text: str) -> None:
    pytest.importorskip("icu4py")
    tokenizer, merged = word(), bpe()
    tokenizer.train(SCRIPTS)
    merged.train(SCRIPTS)
    for form in ("NFC", "NFD"):
        given_text = unicodedata.normalize(form, text)
        for one in (tokenizer, merged):
            assert one.decode_one(one.encode_one(given_text)) == unicodedata.normalize("NFC", text)
            assert UNK not in one.encode_one(given_text)


@given(st.text(max_size=16))
def test_any_text_cut_by_icu_can_be_joined(text: str) -> None:
    pytest.importorskip("icu4py")
    assert join(list(split(text))) == unicodedata.normalize("NFC", text)


def test_marks_are_unicodes() -> None:
    pattern = re.compile(f"[{marks()}]")
    for place in (*range(0x250, 0x3100), *range(0xA600, 0xAC00), *range(0xFE00, 0xFE30), *range(0x1F1E0, 0x1F680), 0xE0100):
        assert bool(pattern.match(chr(place))) == (unicodedata.category(chr(place))[0] == "M"), hex(place)


def test_without_icu_the_extra_is_named_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("icu4py")
    trained = word()
    trained.train(["红苹果", "a red apple"])
    monkeypatch.setitem(sys.modules, "icu4py", None)
    monkeypatch.setitem(sys.modules, "icu4py.breakers", None)
    with pytest.raises(UserError, match=r'pip install "ibllm\[languages\]", or unspaced = "characters"'):
        word().train(["红苹果"])
    other = word()
    other.restore(trained.state())
    assert other.decode_one(other.encode_one("a red apple")) == "a red apple", "English needs none"
    with pytest.raises(UserError, match="icu4py"):
        other.encode_one("红苹果")
    characters = word(unspaced="characters")
    characters.train(["红苹果"])
    assert len(characters.encode_one("红苹果")) == 3
    english = word()
    english.train(["a red apple"])
    assert set(english.encode_one("红苹果")) == {UNK}, "nothing of it is known, however it is cut"


def test_a_vocabulary_keeps_its_rules() -> None:
    trained = word(unspaced="characters")
    trained.train(["红苹果", "a red apple"])
    other = word()
    other.restore(trained.state())
    assert list(other.encode_one("红苹果")) == list(trained.encode_one("红苹果")) and other.state() == trained.state()
    assert json.loads(trained.state())["version"] == 2


def test_a_vocabulary_from_before_is_as_it_was() -> None:
    """Its state was a list of pieces, cut without a normal form, marks apart and Chinese by character."""
    pieces = ["a", "cafe", "\u0301", "苹", "果", "ह", "ि"]
    tokenizer = word()
    tokenizer.restore(json.dumps(pieces, ensure_ascii=False))
    for text in ("a cafe\u0301 苹果", "हि", "café"):
        cut = [piece for piece in BEFORE.findall(text) if not piece.isspace()]
        assert [tokenizer._pieces[i] for i in tokenizer.encode_one(text) if i != UNK and i < 11] == [p for p in cut if p in pieces]
        assert "<join>" not in tokenizer._pieces
    assert json.loads(tokenizer.state()) == pieces
    merged = bpe()
    merged.train(["cafe\u0301 red"])
    before = Coder.from_str(merged.state())
    assert isinstance(before.normalizer, normalizers.NFC)
    state = json.loads(merged.state()) | {"normalizer": None}
    old = bpe()
    old.restore(json.dumps(state))
    assert old.decode_one(old.encode_one("cafe\u0301")) == "cafe\u0301", "a state without a normal form goes on without"


def test_rules_of_a_later_version_are_refused() -> None:
    with pytest.raises(ValueError, match="rules of version 3, and this ibllm knows 2"):
        word().restore(json.dumps({"version": 3, "words": True, "icu": "", "pieces": []}))


def test_another_icu_than_the_vocabularys_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("icu4py")
    trained = word()
    trained.train(["红苹果"])
    monkeypatch.setattr(words_module, "icu_version", lambda: "99.1")
    with pytest.warns(Notice, match=r"ICU 99\.1 is installed: words may be cut otherwise"):
        word().restore(trained.state())
    english = word()
    english.train(["a red apple"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        word().restore(english.state())
