"""CIDEr-D: n-grams that captions share with their references, rare ones counting more (Vedantam et al. 2015, section 8). Torch-free.

With g_n(s) the vector of an n-gram's count in s times its log(N / max(1, documents it occurs in)), N documents, and l(s) the bigrams of s:

    CIDEr-D_n(c, s) = 10 · exp(−(l(c) − l(s))² / 2σ²) · min(g_n(c), g_n(s)) · g_n(s) / (‖g_n(c)‖ ‖g_n(s)‖), σ = 6,

and the mean over n = 1 … 4, and over an image's references. A document is all references of an image. Counts are not divided by a caption's length and
lengths are in bigrams, as in the released code, whose figures are those that papers give; the paper divides and counts words.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import attrs

Gram = tuple[str, ...]
Grams = Counter[Gram]
SIGMA = 6.0


def grams(words: Sequence[str], order: int) -> Grams:
    """Every n-gram with its count, n = 1 … order."""
    return Counter(tuple(words[i : i + n]) for n in range(1, order + 1) for i in range(len(words) - n + 1))


@attrs.frozen
class Frequencies:
    """How common n-grams are in a corpus.

    Attributes:
        counts: n-gram → documents that it occurs in.
        documents: N.
    """

    counts: Mapping[Gram, int]
    documents: int

    @classmethod
    def of(cls, corpus: Iterable[Iterable[Sequence[str]]], order: int) -> Frequencies:
        """Of documents, each some texts as words: the references of one image."""
        counts: Counter[Gram] = Counter()
        documents = 0
        for texts in corpus:
            counts.update({gram for text in texts for gram in grams(text, order)})
            documents += 1
        return cls(counts, documents)

    def weight(self, gram: Gram) -> float:
        return math.log(self.documents / max(1, self.counts.get(gram, 0)))


def cider_d(written: Sequence[str], reference: Sequence[str], frequencies: Frequencies, order: int) -> float:
    """CIDEr-D in [0, 10] of one text as words against one reference; an order that either text is too short for gives 0."""
    found, wanted = grams(written, order), grams(reference, order)
    penalty = math.exp(-((_bigrams(written) - _bigrams(reference)) ** 2) / (2 * SIGMA**2))
    total = 0.0
    for n in range(1, order + 1):
        g = {gram: count * frequencies.weight(gram) for gram, count in found.items() if len(gram) == n}
        h = {gram: count * frequencies.weight(gram) for gram, count in wanted.items() if len(gram) == n}
        norms = math.sqrt(sum(v * v for v in g.values()) * sum(v * v for v in h.values()))
        if norms > 0:
            total += sum(min(value, h[gram]) * h[gram] for gram, value in g.items() if gram in h) / norms
    return 10 * penalty * total / order


def _bigrams(words: Sequence[str]) -> int:
    return max(0, len(words) - 1)
