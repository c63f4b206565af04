"""Figures that compare captions with what was written; words are told apart by sacrebleu (Post 2018). Torch-free.

Each language is scored by itself, since what a word is differs; the figure is the mean over languages, weighted by their images. An image with several
captions in the language is scored once, against all of them that are measured (`ibllm_metrics.belonging.references`); what is read off generated images is
scored item by item, since each of them is drawn from a caption of its own, against the same references.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ibllm.plugin import Context, Metric
from ibllm_metrics import training_split
from ibllm_metrics.belonging import references
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
    def score(
        self, written: Sequence[str], references: Sequence[Sequence[str]], language: str, evaluation: Evaluation
    ) -> tuple[float, str]:
        """A corpus score for texts of one language against the references of each, and how it came about."""

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        scores = self._scores(evaluation)
        total, items = sum(count * value for count, value, _ in scores.values()), sum(count for count, _, _ in scores.values())
        return {self.config.names()[0]: total / max(1, items)}

    def record(self, evaluation: Evaluation) -> Mapping[str, str | int | float]:
        return {**super().record(evaluation), **{f"signature {code}": how for code, (_, _, how) in self._scores(evaluation).items()}}

    def _scores(self, evaluation: Evaluation) -> Mapping[str, tuple[int, float, str]]:
        """Language → texts that are scored, score, how it came about."""
        return evaluation.once(f"metrics.{self.config}", lambda: self._by_language(evaluation))

    def _by_language(self, evaluation: Evaluation) -> Mapping[str, tuple[int, float, str]]:
        real = self.config.images == "real"
        written = evaluation.read if real else evaluation.reread
        known = references(evaluation)
        if not real and evaluation.samples.groups is not None:
            of = {(evaluation.samples.groups[row], evaluation.languages[row]): texts for row, texts in known}
            keys = zip(evaluation.samples.groups.tolist(), evaluation.languages, strict=True)
            known = [(row, of[key]) for row, key in enumerate(keys)]
        found = {}
        for language in sorted(set(evaluation.languages)):
            own = [(written[row], texts) for row, texts in known if evaluation.languages[row] == language]
            found[language] = (len(own), *self.score([text for text, _ in own], [texts for _, texts in own], language, evaluation))
        return found


def streams(references: Sequence[Sequence[str]]) -> Any:
    """The references of each text → as sacrebleu takes them: the first ones of all texts, the second ones, …; None where a text has no more."""
    most = max(map(len, references), default=1)
    return [[some[place] if place < len(some) else None for some in references] for place in range(most)]


class BLEUMetric(_TextMetric):
    """Corpus BLEU with sacrebleu's default (exponential) smoothing, in [0, 1]."""

    config: BLEUConfig

    def score(
        self, written: Sequence[str], references: Sequence[Sequence[str]], language: str, evaluation: Evaluation
    ) -> tuple[float, str]:
        from sacrebleu.metrics.bleu import BLEU

        metric = BLEU(max_ngram_order=self.config.order, tokenize=TOKENIZERS.get(language, "13a"))
        value = float(metric.corpus_score(written, streams(references)).score) / 100
        return value, f"{metric.get_signature()}|order:{self.config.order}"


class ChrFMetric(_TextMetric):
    """Corpus chrF in [0, 1]: the F-score (β = 2) of character n-grams, and of word n-grams if asked for."""

    config: ChrFConfig

    def score(
        self, written: Sequence[str], references: Sequence[Sequence[str]], language: str, evaluation: Evaluation
    ) -> tuple[float, str]:
        from sacrebleu.metrics.chrf import CHRF

        metric = CHRF(char_order=self.config.order, word_order=self.config.words)
        value = float(metric.corpus_score(written, streams(references)).score) / 100
        return value, str(metric.get_signature())


class CIDErMetric(_TextMetric):
    """Mean CIDEr-D (`ibllm_metrics.cider`), in [0, 10]. Words are sacrebleu's, in lower case and without stemming; punctuation counts."""

    config: CIDErConfig

    def record(self, evaluation: Evaluation) -> Mapping[str, str | int | float]:
        found = super().record(evaluation)
        if self.config.frequencies == "split":
            return found
        captions = [caption for _, texts in _training_captions(evaluation, self.config.limit) for caption in texts]
        return {**found, "train": len(captions), "train_captions": training_split.captions_hash(captions)}

    def score(
        self, written: Sequence[str], references: Sequence[Sequence[str]], language: str, evaluation: Evaluation
    ) -> tuple[float, str]:
        import sacrebleu

        words = _splitter(language)
        corpus = references
        if self.config.frequencies == "train":
            corpus = [texts for code, texts in _training_captions(evaluation, self.config.limit) if code == language]
        frequencies = Frequencies.of(([words(text) for text in texts] for texts in corpus), self.config.order)
        scores = [
            np.mean([cider_d(words(text), words(one), frequencies, self.config.order) for one in some])
            for text, some in zip(written, references, strict=True)
        ]
        most = sorted({len(some) for some in references})
        how = (
            f"nrefs:{most[0] if len(most) == 1 else 'var'}|case:lc|tok:{TOKENIZERS.get(language, '13a')}|order:{self.config.order}|sigma:6"
        )
        how += f"|frequencies:{self.config.frequencies}|documents:{frequencies.documents}|sacrebleu:{sacrebleu.__version__}"
        return float(np.mean(scores)), how


def _splitter(language: str) -> Callable[[str], list[str]]:
    """A text's words as BLEU compares them, in lower case."""
    from sacrebleu.metrics.bleu import BLEU

    tokenizer = BLEU(tokenize=TOKENIZERS.get(language, "13a")).tokenizer
    return lambda text: tokenizer(text.lower().strip()).split()


def _training_captions(evaluation: Evaluation, limit: int) -> list[tuple[str, list[str]]]:
    """(language, captions) of every image of the training split's first `limit` items."""

    def read() -> list[tuple[str, list[str]]]:
        found: dict[tuple[int, str], list[str]] = {}
        alone = 0
        for samples in training_split.read(evaluation.dataset, limit):
            assert samples.captions is not None, "the dataset gives no captions"
            codes = samples.languages if samples.languages is not None else ["und"] * len(samples)
            for number, (code, caption) in enumerate(zip(codes, samples.captions, strict=True)):
                alone -= 1
                found.setdefault((alone if samples.groups is None else int(samples.groups[number]), code), []).append(caption)
        return [(code, texts) for (_, code), texts in found.items()]

    return evaluation.once(f"metrics.training_captions.{limit}", read)
