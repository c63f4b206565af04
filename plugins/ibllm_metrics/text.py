"""Figures that compare captions with what was written; words are told apart by sacrebleu (Post 2018). Torch-free.

Each language is scored by itself, since what a word is differs; the figure is the mean over languages, weighted by their items.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ibllm.plugin import Context, Metric
from ibllm_metrics import training_split
from ibllm_metrics.cider import Frequencies, cider_d
from ibllm_metrics.config import BLEUConfig, ChrFConfig, CIDErConfig

if TYPE_CHECKING:
    from ibllm.plugin import Evaluation

#: Language → sacrebleu's tokenizer; 13a (mteval's) for the others. Japanese by character: its own needs a dictionary to be installed.
TOKENIZERS = {"zh": "zh", "ja": "char"}


class _TextMetric(Metric):
    def __init__(self, config: BLEUConfig | ChrFConfig | CIDErConfig, context: Context) -> None:
        self.config = config

    @abstractmethod
    def score(self, written: Sequence[str], captions: Sequence[str], language: str, evaluation: Evaluation) -> tuple[float, str]:
        """A corpus score for texts of one language, and how it came about."""

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        scores = self._scores(evaluation)
        total = sum(count * value for count, value, _ in scores.values())
        return {self.config.names()[0]: total / max(1, len(evaluation.captions))}

    def record(self, evaluation: Evaluation) -> Mapping[str, str | int | float]:
        return {**super().record(evaluation), **{f"signature {code}": how for code, (_, _, how) in self._scores(evaluation).items()}}

    def _scores(self, evaluation: Evaluation) -> Mapping[str, tuple[int, float, str]]:
        """Language → items, score, how it came about."""
        return evaluation.once(f"metrics.{self.config}", lambda: self._by_language(evaluation))

    def _by_language(self, evaluation: Evaluation) -> Mapping[str, tuple[int, float, str]]:
        written = evaluation.read if self.config.images == "real" else evaluation.reread
        rows = list(zip(evaluation.languages, written, evaluation.captions, strict=True))
        found = {}
        for language in sorted(set(evaluation.languages)):
            own = [(text, caption) for code, text, caption in rows if code == language]
            found[language] = (len(own), *self.score([text for text, _ in own], [caption for _, caption in own], language, evaluation))
        return found


class BLEUMetric(_TextMetric):
    """Corpus BLEU with sacrebleu's default (exponential) smoothing, in [0, 1]."""

    config: BLEUConfig

    def score(self, written: Sequence[str], captions: Sequence[str], language: str, evaluation: Evaluation) -> tuple[float, str]:
        from sacrebleu.metrics.bleu import BLEU

        metric = BLEU(max_ngram_order=self.config.order, tokenize=TOKENIZERS.get(language, "13a"))
        value = float(metric.corpus_score(written, [captions]).score) / 100
        return value, f"{metric.get_signature()}|order:{self.config.order}"


class ChrFMetric(_TextMetric):
    """Corpus chrF in [0, 1]: the F-score (β = 2) of character n-grams, and of word n-grams if asked for."""

    config: ChrFConfig

    def score(self, written: Sequence[str], captions: Sequence[str], language: str, evaluation: Evaluation) -> tuple[float, str]:
        from sacrebleu.metrics.chrf import CHRF

        metric = CHRF(char_order=self.config.order, word_order=self.config.words)
        value = float(metric.corpus_score(written, [captions]).score) / 100
        return value, str(metric.get_signature())


class CIDErMetric(_TextMetric):
    """Mean CIDEr-D (`ibllm_metrics.cider`), in [0, 10]. Words are sacrebleu's, in lower case and without stemming; punctuation counts."""

    config: CIDErConfig

    def record(self, evaluation: Evaluation) -> Mapping[str, str | int | float]:
        found = super().record(evaluation)
        if self.config.frequencies == "split":
            return found
        captions = [caption for _, caption in _training_captions(evaluation, self.config.limit)]
        return {**found, "train": len(captions), "train_captions": training_split.captions_hash(captions)}

    def score(self, written: Sequence[str], captions: Sequence[str], language: str, evaluation: Evaluation) -> tuple[float, str]:
        import sacrebleu

        words = _splitter(language)
        corpus = captions
        if self.config.frequencies == "train":
            corpus = [caption for code, caption in _training_captions(evaluation, self.config.limit) if code == language]
        frequencies = Frequencies.of(map(words, corpus), self.config.order)
        scores = [cider_d(words(a), words(b), frequencies, self.config.order) for a, b in zip(written, captions, strict=True)]
        how = f"nrefs:1|case:lc|tok:{TOKENIZERS.get(language, '13a')}|order:{self.config.order}|sigma:6"
        how += f"|frequencies:{self.config.frequencies}|documents:{frequencies.documents}|sacrebleu:{sacrebleu.__version__}"
        return float(np.mean(scores)), how


def _splitter(language: str) -> Callable[[str], list[str]]:
    """A text's words as BLEU compares them, in lower case."""
    from sacrebleu.metrics.bleu import BLEU

    tokenizer = BLEU(tokenize=TOKENIZERS.get(language, "13a")).tokenizer
    return lambda text: tokenizer(text.lower().strip()).split()


def _training_captions(evaluation: Evaluation, limit: int) -> list[tuple[str, str]]:
    """(language, caption) of the training split's first `limit` items."""

    def read() -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        for samples in training_split.read(evaluation.dataset, limit):
            assert samples.captions is not None, "the dataset gives no captions"
            codes = samples.languages if samples.languages is not None else ["und"] * len(samples)
            found += zip(codes, samples.captions, strict=True)
        return found

    return evaluation.once(f"metrics.training_captions.{limit}", read)
