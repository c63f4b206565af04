"""How plausible a fact is, given the vectors of subject, relation and object. Shapes: … any, k width of a vector."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

Score = Callable[[Tensor, Tensor, Tensor], Tensor]


def transe(subject: Tensor, relation: Tensor, thing: Tensor) -> Tensor:
    """(… k) thrice → (…) −|s + r − o|₁, entities of length 1 (Bordes et al. 2013)."""
    return -(F.normalize(subject, p=1, dim=-1) + relation - F.normalize(thing, p=1, dim=-1)).abs().sum(-1)


def rotate(subject: Tensor, relation: Tensor, thing: Tensor) -> Tensor:
    """(… k), (… k/2), (… k) → (…) −|s · e^{ir} − o|₂, an entity's real parts before its imaginary ones (Sun et al. 2019, eq. 2)."""
    (re, im), (o_re, o_im) = subject.chunk(2, -1), thing.chunk(2, -1)
    cos, sin = relation.cos(), relation.sin()
    difference = torch.cat([re * cos - im * sin - o_re, re * sin + im * cos - o_im], -1)
    # Where they are equal a root has no gradient.
    return -(difference.square().sum(-1) + 1e-12).sqrt()


def distmult(subject: Tensor, relation: Tensor, thing: Tensor) -> Tensor:
    """(… k) thrice → (…) Σ s r o (Yang et al. 2015)."""
    return (subject * relation * thing).sum(-1)


SCORES: Mapping[str, Score] = {"transe": transe, "rotate": rotate, "distmult": distmult}


def self_adversarial(right: Tensor, wrong: Tensor, known: Tensor, temperature: float) -> Tensor:
    """(…) facts' and (… n) wrong ones' scores → (…) −log σ(right) − Σ p log σ(−wrong), p = softmax(α wrong) without a gradient (Sun et al. 2019, eq. 5).

    Args:
        known: (… n) which of the wrong ones are facts as well: they do not count.
    """
    weights = (temperature * wrong).detach().masked_fill(known, -torch.inf)
    # Where all are facts none counts.
    weights = weights.masked_fill(known.all(-1, keepdim=True), 0.0).softmax(-1) * ~known
    return -F.logsigmoid(right) - (weights * F.logsigmoid(-wrong)).sum(-1)
