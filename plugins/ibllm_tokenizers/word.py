"""The tokenizer `word`. Torch-free.

Where two pieces usually stand apart or together is a rule (a space between words, none before a comma, none in Chinese), so a usual
text needs no tokens for its spaces; whatever departs from the rule gets a token of its own, and every text comes back as it was.
"""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from ibllm.plugin import SPECIAL, UNK, Context
from ibllm_tokenizers.config import WordConfig
from ibllm_tokenizers.remembering import Remembering

#: Written without spaces: CJK punctuation, kana and ideographs, full-width forms.
_CJK = "\u2e80-\u312f\u3190-\ua4cf\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\U00020000-\U0003ffff"
_LETTER = rf"(?:(?![{_CJK}])[^\W_])"
_PIECE = re.compile(rf"\s+|[{_CJK}]|{_LETTER}+(?:['’-]{_LETTER}+)*|.", re.DOTALL)
#: Says that no space stands where the rule wants one. No text can give this piece: ``<`` is a piece of its own.
_JOIN = "<join>"
_OPENING, _CLOSING = frozenset("([{“‘«"), frozenset(",.;:!?)]}”’»…%")


def _touches(piece: str) -> tuple[bool, bool]:
    """Whether a piece wants no space before it, and none after it."""
    cjk = re.match(f"[{_CJK}]", piece) is not None
    return cjk or piece in _CLOSING, cjk or piece in _OPENING


@functools.lru_cache(maxsize=65536)
def _gap(before: str, after: str) -> str:
    """What the rule puts between two pieces; `before` is empty at the beginning of a text."""
    return "" if not before or _touches(before)[1] or _touches(after)[0] else " "


def split(text: str) -> Iterator[str]:
    """The pieces of a text, with tokens for what departs from the rule."""
    last = space = ""
    for piece in _PIECE.findall(text):
        if piece.isspace():
            space = piece
            continue
        if space != (rule := _gap(last, piece)):
            yield from space or (_JOIN,) if rule else space
        yield piece
        last, space = piece, ""
    yield from space


def join(pieces: Sequence[str]) -> str:
    """The text of pieces; undoes `split`."""
    parts: list[str] = []
    last, free = "", True
    for piece in pieces:
        if piece == _JOIN:
            free = True
        elif piece.isspace():
            parts.append(piece)
            free = True
        else:
            if not free:
                parts.append(_gap(last, piece))
            parts.append(piece)
            last, free = piece, False
    return "".join(parts)


class WordTokenizer(Remembering):
    """One id for every word, mark or Chinese character of the corpus, the most frequent first; others are unknown."""

    def __init__(self, config: WordConfig, context: Context) -> None:
        super().__init__()
        self.config, self.size, self.max_length = config, config.size, config.max_length
        self._take([])

    def _take(self, pieces: Sequence[str]) -> None:
        self._pieces = (*SPECIAL, *pieces)
        self._ids = {piece: place for place, piece in enumerate(self._pieces) if place >= len(SPECIAL)}
        self.forget()

    def _split(self, text: str) -> Iterator[str]:
        return split(text.lower() if self.config.lowercase else text)

    def train(self, texts: Sequence[str]) -> None:
        counts = Counter(piece for text in texts for piece in self._split(text))
        needed = len(counts) + len(SPECIAL)
        if needed > self.size:
            raise ValueError(
                f"the corpus needs size = {needed} ({len(counts)} words, marks and characters and {len(SPECIAL)} special ids), "
                f"not {self.size}"
            )
        self._take(sorted(counts, key=lambda piece: (-counts[piece], piece)))

    def read(self, texts: Sequence[str]) -> list[list[int]]:
        ids = self._ids
        return [[ids.get(piece, UNK) for piece in self._split(text)] for text in texts]

    def decode_one(self, ids: Sequence[int]) -> str:
        known = len(self._pieces)
        return join([self._pieces[place] if place < known else SPECIAL[UNK] for place in ids])

    def state(self) -> str:
        return json.dumps(self._pieces[len(SPECIAL) :], ensure_ascii=False)

    def restore(self, state: str) -> None:
        pieces = json.loads(state)
        if len(pieces) + len(SPECIAL) > self.size:
            raise ValueError(f"the saved vocabulary needs size = {len(pieces) + len(SPECIAL)}, not {self.size}")
        self._take(pieces)
