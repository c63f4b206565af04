"""Where two captions differ, word by word."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

import attrs

#: Ideographs and kana stand for themselves (no spaces between words); elsewhere a word is what lies between spaces and punctuation.
_UNSPACED = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_PUNCTUATION = r",.;:!?()，。；：！？、（）"
_WORD = re.compile(rf"[{_UNSPACED}]|[{_PUNCTUATION}]|[^\s{_UNSPACED}{_PUNCTUATION}]+")


@attrs.frozen
class Segment:
    """A stretch of a caption; `differs` if the other caption has something else there."""

    text: str
    differs: bool


def compare(reference: str, text: str) -> tuple[list[Segment], list[Segment]]:
    """Both captions in stretches that agree or differ. Case is ignored; joined, the stretches give each caption back."""
    left, right = list(_WORD.finditer(reference)), list(_WORD.finditer(text))
    matcher = SequenceMatcher(None, [word[0].casefold() for word in left], [word[0].casefold() for word in right], autojunk=False)
    same_left: set[int] = set()
    same_right: set[int] = set()
    for a, b, size in matcher.get_matching_blocks():
        same_left.update(range(a, a + size))
        same_right.update(range(b, b + size))
    return _segments(reference, left, same_left), _segments(text, right, same_right)


def plain(text: str) -> list[Segment]:
    """A caption without marks."""
    return [Segment(text, differs=False)] if text else []


def _segments(text: str, words: list[re.Match[str]], same: set[int]) -> list[Segment]:
    out: list[Segment] = []

    def add(piece: str, differs: bool) -> None:
        if piece and out and out[-1].differs == differs:
            out[-1] = Segment(out[-1].text + piece, differs)
        elif piece:
            out.append(Segment(piece, differs))

    end = 0
    for k, word in enumerate(words):
        between_two_marked = k > 0 and k not in same and k - 1 not in same
        add(text[end : word.start()], between_two_marked)
        add(word[0], k not in same)
        end = word.end()
    add(text[end:], differs=False)
    return out
