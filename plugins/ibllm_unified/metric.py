"""What the backbone knows of texts by themselves. Shapes: b batch, t tokens."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from ibllm.plugin import Context, Metric, Notice, Tokenizer, Tokens, UserError, to_tokens, token_losses
from ibllm_unified.backbone import SequenceBackbone
from ibllm_unified.config import TextPerplexityConfig
from ibllm_unified.pretrained import PretrainedBackbone
from ibllm_unified.sequence import Order, Piece, text_coordinates

if TYPE_CHECKING:
    from ibllm.plugin import Evaluation


class TextPerplexity(Metric):
    """exp(Σ −log p(token) / Σ tokens) of texts, a text alone in its sequence."""

    def __init__(self, config: TextPerplexityConfig, context: Context) -> None:
        self.config = config

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        backbone = cast(SequenceBackbone, evaluation.model.part(self.config.backbone))
        texts = self._texts(evaluation)
        _tell_of_cuts(texts, _tokenizer(backbone))
        found = {"text_perplexity": self._perplexity(backbone, texts, evaluation, lambda tokens: nll(backbone, tokens))}
        if self.config.before:
            if not isinstance(backbone, PretrainedBackbone):
                raise UserError(
                    f"before = true: expected the backbone unified_pretrained, which has a folder to go back to; {self.config.backbone} has none"
                )
            found["text_perplexity_before"] = self._perplexity(backbone, texts, evaluation, backbone.before)
        return found

    def _texts(self, evaluation: Evaluation) -> Sequence[str]:
        if not self.config.texts:
            return evaluation.captions
        lines = Path(self.config.texts).read_text(encoding="utf-8").splitlines()
        texts = [line for line in lines if line.strip()]
        if not texts:
            raise UserError(f"{self.config.texts}: expected a text a line; it has none")
        return texts

    def _perplexity(
        self, backbone: SequenceBackbone, texts: Sequence[str], evaluation: Evaluation, measure: Callable[[Tokens], Tensor]
    ) -> float:
        tokenizer = _tokenizer(backbone)
        total, count = 0.0, 0
        with evaluation.model.inference():
            for start in range(0, len(texts), evaluation.batch):
                tokens = to_tokens(tokenizer, texts[start : start + evaluation.batch]).to(evaluation.model.device)
                total += float(measure(tokens).double().sum())
                count += int(tokens.mask[:, 1:].sum())
        return math.exp(total / count)


def _tokenizer(backbone: SequenceBackbone) -> Tokenizer:
    assert backbone.tokenizer is not None, "a part that reads or writes words told it"
    return backbone.tokenizer


def _tell_of_cuts(texts: Sequence[str], tokenizer: Tokenizer) -> None:
    cut = sum(len(tokenizer.encode_one(text)) + 2 > tokenizer.max_length for text in texts)
    if cut:
        what = f"{cut} of {len(texts)} texts are longer than max_length = {tokenizer.max_length} tokens"
        warnings.warn(Notice(f"text_perplexity: {what}; it is that of their beginnings"), stacklevel=2)


def nll(backbone: SequenceBackbone, tokens: Tokens) -> Tensor:
    """(b) −log p of texts in nats, as the backbone has it without anything before them."""
    ids, there = tokens.ids[:, :-1], tokens.mask[:, :-1]
    piece = Piece(backbone.embed(ids), there, text_coordinates(ids.shape[1], ids.device))
    logits = backbone.words(backbone.hidden([Order([piece], -1)])[0])
    losses: Tensor = token_losses(logits, tokens.ids[:, 1:]) * tokens.mask[:, 1:]
    return torch.sum(losses, 1)
