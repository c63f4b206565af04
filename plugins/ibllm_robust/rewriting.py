"""Texts, changed a word at a time: what may stand in a word's place, and which of it is worst for a model. Torch-free but for chance.

A word is a run of letters and digits; of Chinese, Japanese and Korean each character is one.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ibllm.plugin import Rng

#: Texts and which item each is of → how bad each is for the model (b), more being worse.
Damage = Callable[[Sequence[str], Sequence[int]], npt.NDArray[np.float64]]
#: A text and its item → the texts that one change of it gives.
Proposals = Callable[[str, int], Sequence[str]]
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")
#: The letters beside each on a keyboard (QWERTY).
_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def worst_texts(texts: Sequence[str], proposals: Proposals, damage: Damage, rng: Rng, changes: int, candidates: int) -> list[str]:
    """For each text the worst that greedy search finds with at most `changes` changes: of every change's proposals so many are tried as `candidates` says.

    A text that nothing makes worse stays as it is. An item's result depends on its text and its number (`Rng`) alone.
    """
    found, everything = list(texts), list(range(len(texts)))
    worst = damage(found, everything) if texts and changes else np.zeros(len(texts))
    for change in range(changes):
        tried, rows = list[str](), list[int]()
        several = [list(dict.fromkeys(one for one in proposals(text, row) if one != text)) for row, text in enumerate(found)]
        chance = rng.fold("candidates", change).uniform(max(map(len, several), default=0)).cpu().numpy() if any(several) else None
        for row, ways in enumerate(several):
            order = [] if chance is None else np.argsort(chance[row, : len(ways)], kind="stable")[:candidates].tolist()
            tried += [ways[k] for k in order]
            rows += [row] * len(order)
        if not tried:
            break
        values = damage(tried, rows)
        for text, row, value in zip(tried, rows, values.tolist(), strict=True):
            if value > worst[row]:
                found[row], worst[row] = text, value
    return found


def misspelt(text: str) -> list[str]:
    """What one slip of a finger makes of a text: two letters swapped, one left out, doubled, or taken from the key beside; the first of a word stays.

    Words of less than three letters, and those with other characters than letters, stay.
    """
    found = list[str]()
    for match in _WORD.finditer(text):
        word, start, end = match[0], match.start(), match.end()
        if len(word) < 3 or not word.isalpha():
            continue
        slips = []
        for k in range(1, len(word)):
            slips += [word[:k] + word[k + 1 :], word[:k] + word[k] + word[k:]]
            slips += [word[:k] + word[k + 1] + word[k] + word[k + 2 :]] if k + 1 < len(word) else []
            slips += [word[:k] + other + word[k + 1 :] for other in _adjacent_keys(word[k])]
        found += [text[:start] + slip + text[end:] for slip in slips if slip != word]
    return found


def _adjacent_keys(letter: str) -> str:
    """The letters left and right of one on a keyboard; empty for what is none of its letters."""
    row = next((row for row in _KEYS if letter in row), "")
    place = row.find(letter)
    return (row[max(place - 1, 0) : place] + row[place + 1 : place + 2]) if row else ""


class Grammar:
    """Which words may stand in which others' places.

    Args:
        classes: words that may stand for each other, each a class.
        fits: whether a text is a sentence of the data; by default every one is.
    """

    def __init__(self, classes: Iterable[Sequence[str]] = (), fits: Callable[[str], bool] = lambda text: True) -> None:
        self.fits = fits
        self._classes: dict[str, list[str]] = defaultdict(list)
        for words in classes:
            for word in words:
                self._classes[word] += [other for other in words if other != word]
        self._frames: Mapping[tuple[str, str], list[str]] = {}

    @classmethod
    def of_texts(cls, texts: Iterable[str], fits: Callable[[str], bool] = lambda text: True) -> Grammar:
        """Words may stand for each other between two words that both were seen between."""
        found: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
        for text in texts:
            words = ["", *_WORD.findall(text), ""]
            for left, word, right in zip(words, words[1:], words[2:], strict=False):
                found[left, right][word] = None
        grammar = cls(fits=fits)
        grammar._frames = {frame: sorted(words) for frame, words in found.items() if len(words) > 1}
        return grammar

    def proposals(self, text: str) -> list[str]:
        """The sentences that one word's change gives, in the order of the words."""
        matches = list(_WORD.finditer(text))
        words, found = ["", *(match[0] for match in matches), ""], list[str]()
        for place, match in enumerate(matches):
            others = [*self._classes.get(match[0], ()), *self._frames.get((words[place], words[place + 2]), ())]
            found += [text[: match.start()] + word + text[match.end() :] for word in dict.fromkeys(others) if word != match[0]]
        return [text for text in found if self.fits(text)]
