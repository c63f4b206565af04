"""Figures that compare captions with what was written, by sacrebleu (Post 2018). Torch-free.

Each language is scored by itself, since what a word is differs; the figure is the mean over languages, weighted by their items.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.metric import Metric
from ibllm_metrics.config import BLEUConfig, ChrFConfig

if TYPE_CHECKING:
    from ibllm_core.evaluation import Evaluation

#: Language → sacrebleu's tokenizer; 13a (mteval's) for the others. Japanese by character: its own needs a dictionary to be installed.
TOKENIZERS = {"zh": "zh", "ja": "char"}


class _TextMetric(Metric):
    def __init__(self, config: BLEUConfig | ChrFConfig, context: Context) -> None:
        self.config = config

    @abstractmethod
    def score(self, written: Sequence[str], captions: Sequence[str], language: str) -> float:
        """A corpus score in [0, 1] for texts of one language."""

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        written = evaluation.read if self.config.images == "real" else evaluation.reread
        rows = list(zip(evaluation.languages, written, evaluation.captions, strict=True))
        total = 0.0
        for language in sorted(set(evaluation.languages)):
            own = [(text, caption) for code, text, caption in rows if code == language]
            total += len(own) * self.score([text for text, _ in own], [caption for _, caption in own], language)
        return {self.config.figures()[0]: total / max(1, len(rows))}


class BLEUMetric(_TextMetric):
    """Corpus BLEU with sacrebleu's default (exponential) smoothing."""

    config: BLEUConfig

    def score(self, written: Sequence[str], captions: Sequence[str], language: str) -> float:
        from sacrebleu.metrics.bleu import BLEU

        metric = BLEU(max_ngram_order=self.config.order, tokenize=TOKENIZERS.get(language, "13a"))
        return float(metric.corpus_score(written, [captions]).score) / 100


class ChrFMetric(_TextMetric):
    """Corpus chrF: the F-score (β = 2) of character n-grams, and of word n-grams if asked for."""

    config: ChrFConfig

    def score(self, written: Sequence[str], captions: Sequence[str], language: str) -> float:
        from sacrebleu.metrics.chrf import CHRF

        metric = CHRF(char_order=self.config.order, word_order=self.config.words)
        return float(metric.corpus_score(written, [captions]).score) / 100
