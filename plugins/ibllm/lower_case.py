"""Texts whose words a model knows in lower case only. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from ibllm_core.interfaces.tokenizer import SPECIAL, UNK, Tokenizer

from .vocabulary import unknown

_CAPITALS = WeakKeyDictionary[Tokenizer, bool]()


def has_capitals(tokenizer: Tokenizer) -> bool:
    """Whether a piece of the vocabulary has a capital letter. Where none has, the texts that it was made of had none."""
    if tokenizer not in _CAPITALS:
        pieces = (tokenizer.decode_one([place]) for place in range(len(SPECIAL), tokenizer.size))
        _CAPITALS[tokenizer] = any(piece != piece.lower() for piece in pieces)
    return _CAPITALS[tokenizer]


def in_lower_case(texts: Sequence[str], tokenizer: Tokenizer) -> tuple[list[str], list[str]]:
    """The texts, those in lower case that are known better so, if the vocabulary has no capitals at all; and the words that become known by it, in order."""
    found, words = list[str](), dict[str, None]()
    for text in texts:
        ids, small = tokenizer.encode_one(text), text.lower()
        folds = UNK in ids and small != text and not has_capitals(tokenizer)
        if folds and list(tokenizer.encode_one(small)).count(UNK) < list(ids).count(UNK):
            words |= dict.fromkeys(word for word in unknown([text], tokenizer) if UNK not in tokenizer.encode_one(word.lower()))
            text = small
        found.append(text)
    return found, sorted(words)
