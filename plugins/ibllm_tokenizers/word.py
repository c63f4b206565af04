"""The tokenizer `word`. Torch-free.

Where two pieces usually stand apart or together is a rule (a space between words, none before a comma, none in Chinese), so a usual
text needs no tokens for its spaces; whatever departs from the rule gets a token of its own, and every text comes back as it was, in NFC.
"""

from __future__ import annotations

import functools
import json
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence

from ibllm.plugin import SPECIAL, UNK, Context, Notice
from ibllm_tokenizers.config import WordConfig
from ibllm_tokenizers.cutting import VERSION, Rules, icu_version
from ibllm_tokenizers.remembering import Remembering

#: Says that no space stands where the rule wants one. No text can give this piece: ``<`` is a piece of its own.
_JOIN = "<join>"
_RULES = Rules()


@functools.lru_cache(maxsize=65536)
def _gap(before: str, after: str, rules: Rules) -> str:
    """What the rule puts between two pieces; `before` is empty at the beginning of a text."""
    return "" if not before or rules.touches(before)[1] or rules.touches(after)[0] else " "


def split(text: str, rules: Rules = _RULES) -> Iterator[str]:
    """The pieces of a text, with tokens for what departs from the rule. Raises `UserError` where it needs ICU, which is not there."""
    last = space = ""
    for piece in rules.pieces(rules.normal(text)):
        if piece.isspace():
            space = piece
            continue
        if space != (rule := _gap(last, piece, rules)):
            yield from space or (_JOIN,) if rule else space
        yield piece
        last, space = piece, ""
    yield from space


def join(pieces: Sequence[str], rules: Rules = _RULES) -> str:
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
                parts.append(_gap(last, piece, rules))
            parts.append(piece)
            last, free = piece, False
    return "".join(parts)


class WordTokenizer(Remembering):
    """One id for every word, mark or sign of the corpus, the most frequent first; others are unknown."""

    def __init__(self, config: WordConfig, context: Context) -> None:
        super().__init__()
        self.config, self.size, self.max_length = config, config.size, config.max_length
        self._take([], Rules(words=config.unspaced == "words"))

    def _take(self, pieces: Sequence[str], rules: Rules) -> None:
        self._pieces, self.rules = (*SPECIAL, *pieces), rules
        self._ids = {piece: place for place, piece in enumerate(self._pieces) if place >= len(SPECIAL)}
        # A vocabulary without such scripts knows none of their words however they are cut, so it needs no ICU.
        cut = rules.words and any(rules.has_unspaced(piece) for piece in pieces)
        #: The rules that texts are read by.
        self.reading = rules if cut else Rules(rules.version, words=False)
        self.icu = icu_version() if cut else ""
        self.forget()

    def _split(self, text: str, rules: Rules) -> Iterator[str]:
        return split(text.lower() if self.config.lowercase else text, rules)

    def train(self, texts: Sequence[str]) -> None:
        rules = Rules(words=self.config.unspaced == "words")
        counts = Counter(piece for text in texts for piece in self._split(text, rules))
        needed = len(counts) + len(SPECIAL)
        if needed > self.size:
            raise ValueError(
                f"the corpus needs size = {needed} ({len(counts)} words, marks and characters and {len(SPECIAL)} special ids), "
                f"not {self.size}"
            )
        self._take(sorted(counts, key=lambda piece: (-counts[piece], piece)), rules)

    def read(self, texts: Sequence[str]) -> list[list[int]]:
        ids = self._ids
        return [[ids.get(piece, UNK) for piece in self._split(text, self.reading)] for text in texts]

    def decode_one(self, ids: Sequence[int]) -> str:
        known = len(self._pieces)
        return join([self._pieces[place] if place < known else SPECIAL[UNK] for place in ids], self.rules)

    def state(self) -> str:
        pieces = self._pieces[len(SPECIAL) :]
        if self.rules.version == 1:
            return json.dumps(pieces, ensure_ascii=False)
        kept = {"version": self.rules.version, "words": self.rules.words, "icu": self.icu, "pieces": pieces}
        return json.dumps(kept, ensure_ascii=False)

    def restore(self, state: str) -> None:
        kept = json.loads(state)
        # A list is a vocabulary of version 1, which had no rules to name.
        kept = {"version": 1, "words": False, "icu": "", "pieces": kept} if isinstance(kept, list) else kept
        if kept["version"] > VERSION:
            raise ValueError(
                f"the saved vocabulary was cut by rules of version {kept['version']}, and this ibllm knows {VERSION}: update it"
            )
        if len(kept["pieces"]) + len(SPECIAL) > self.size:
            raise ValueError(f"the saved vocabulary needs size = {len(kept['pieces']) + len(SPECIAL)}, not {self.size}")
        self._take(kept["pieces"], Rules(kept["version"], kept["words"]))
        if self.icu and self.icu != kept["icu"]:
            warnings.warn(
                Notice(f"the vocabulary was cut by ICU {kept['icu']}, and ICU {self.icu} is installed: words may be cut otherwise"),
                stacklevel=2,
            )
        self.icu = kept["icu"]
