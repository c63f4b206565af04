"""Masking of words. Shapes: b batch, t tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from ibllm.plugin import SPECIAL, UNK, Tokens


def word_mask(tokens: Tokens) -> Tensor:
    """(b t) bool, True where a known word stands: no padding, beginning or end, and nothing unknown already."""
    return tokens.mask & (tokens.ids >= len(SPECIAL))


def replace_words(tokens: Tokens, hidden: Tensor) -> Tokens:
    """The tokens with <unk> where `hidden` (b t) says so."""
    return Tokens(torch.where(hidden, UNK, tokens.ids), tokens.mask)
