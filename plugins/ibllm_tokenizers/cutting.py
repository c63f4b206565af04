"""How the tokenizer `word` cuts a text into pieces, and where it puts spaces between them. Torch-free.

A vocabulary keeps the rules that it was made by (`Rules.version`): those of version 1 cut off combining marks and every Chinese or Japanese character.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cached_property, lru_cache

import attrs

from ibllm.plugin import UserError

#: The rules of new vocabularies.
VERSION = 2
#: Written without spaces: CJK punctuation, kana and ideographs, full-width forms.
_CJK = "\u2e80-\u312f\u3190-\ua4cf\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\U00020000-\U0003ffff"
#: And Thai, Lao, Burmese and Khmer.
_SOUTH_EAST = "\u0e01-\u0e4e\u0e80-\u0ece\u1000-\u109f\u1780-\u17d3\ua9e0-\ua9ff\uaa60-\uaa7f"
#: What joins a sign to the one before it: zero width (non-)joiner, skin tones, tags of flags.
_JOINERS = "\u200c\u200d\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f"
_OPENING, _CLOSING = frozenset("([{“‘«"), frozenset(",.;:!?)]}”’»…%")
_EXTRA = 'pip install "ibllm[languages]"'


@lru_cache(maxsize=1)
def marks() -> str:
    """Unicode's combining marks as the inside of a character class."""
    found = [place for place in (*range(0x300, 0x20000), *range(0xE0100, 0xE01F0)) if unicodedata.category(chr(place))[0] == "M"]
    ends = [(place, found[n + 1] if n + 1 < len(found) else -1) for n, place in enumerate(found)]
    firsts = [found[0], *(after for place, after in ends if after != place + 1 and after >= 0)]
    lasts = [place for place, after in ends if after != place + 1]
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in zip(firsts, lasts, strict=True))


def pattern(unspaced: str, joined: str) -> str:
    """The regular expression whose matches are a text's pieces.

    Args:
        unspaced: characters of scripts without spaces, each a piece; the inside of a character class.
        joined: characters that belong to the one before them.
    """
    tail = f"[{joined}]*" if joined else ""
    letter = rf"(?:(?![{unspaced}])[^\W_]{tail})"
    # What follows a zero width joiner belongs to the sign before it, as in the emoji of an astronaut; two regional indicators are a flag.
    flag, sign = (r"[\U0001f1e6-\U0001f1ff]{2}|", rf".(?:[{joined}]|(?<=\u200d)[^\w\s])*") if joined else ("", ".")
    return rf"\s+|[{unspaced}]{tail}|{letter}+(?:['’-]{letter}+)*|{flag}{sign}"


@attrs.frozen
class Rules:
    """One way to cut.

    Attributes:
        version: 1, or 2, which keeps marks and joined signs with their letter.
        words: scripts without spaces are cut into words by ICU (Unicode Standard Annex 29, with its dictionaries), not into characters.
    """

    version: int = VERSION
    words: bool = True

    @property
    def unspaced(self) -> str:
        """Characters of scripts without spaces, as the inside of a character class."""
        return _CJK if self.version == 1 else _CJK + _SOUTH_EAST

    @property
    def joined(self) -> str:
        """Characters that belong to the one before them, as the inside of a character class."""
        return "" if self.version == 1 else marks() + _JOINERS

    @cached_property
    def _piece(self) -> re.Pattern[str]:
        return re.compile(pattern(self.unspaced, self.joined), re.DOTALL)

    @cached_property
    def _run(self) -> re.Pattern[str]:
        """A run of scripts without spaces."""
        return re.compile(f"[{self.unspaced}][{self.unspaced}{self.joined}]*")

    def normal(self, text: str) -> str:
        """A text as it is cut: in NFC."""
        return text if self.version == 1 or text.isascii() else unicodedata.normalize("NFC", text)

    def has_unspaced(self, text: str) -> bool:
        """Whether some of it is in a script without spaces."""
        return not text.isascii() and self._run.search(text) is not None

    def pieces(self, text: str) -> list[str]:
        """The pieces of a text, runs of white space among them; together they are the text.

        Raises:
            UserError: it takes words of a script without spaces, and ICU is not there.
        """
        if not self.words or text.isascii():
            return self._piece.findall(text)
        found, end = list[str](), 0
        for run in self._run.finditer(text):
            found += self._piece.findall(text[end : run.start()])
            found += icu_words(run.group())
            end = run.end()
        return found + self._piece.findall(text[end:])

    def touches(self, piece: str) -> tuple[bool, bool]:
        """Whether a piece wants no space before it, and none after it."""
        unspaced = not piece.isascii() and self._run.match(piece) is not None
        return unspaced or piece in _CLOSING, unspaced or piece in _OPENING


def icu_words(text: str) -> list[str]:
    """A text cut at ICU's word boundaries. Raises `UserError` where ICU is not there."""
    try:
        from icu4py.breakers import WordBreaker
    except ImportError:
        raise UserError(
            f"the tokenizer word cuts Chinese, Japanese, Thai and the like into words by ICU, and the package icu4py is not there: {_EXTRA}, "
            'or unspaced = "characters" in its table'
        ) from None
    return list(WordBreaker(text, ""))


def icu_version() -> str:
    """ICU's version; empty where it is not there."""
    try:
        import icu4py
    except ImportError:
        return ""
    version: str = icu4py.icu_version
    return version
