"""How far a rule is satisfied where its atoms are probabilities. Shapes: … any."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce

import torch
from torch import Tensor

from ibllm.plugin import at_least_float32
from ibllm_logic.diagrams import Diagram
from ibllm_logic.formulas import And, Atom, Formula, Implies, Not, Or

#: The least satisfaction whose logarithm is taken: what is below it is rounding, and has no gradient.
LEAST = 1e-9


def product(formula: Formula, p: Mapping[Atom, Tensor]) -> Tensor:
    """(…) by the product t-norm: a ∧ b = ab, a ∨ b = a + b − ab, a → b = 1 − a + ab (Reichenbach's; van Krieken et al. 2022, table 1)."""
    match formula:
        case Not(inner):
            return 1 - product(inner, p)
        case And(parts):
            return reduce(torch.mul, (product(part, p) for part in parts))
        case Or(parts):
            return 1 - reduce(torch.mul, (1 - product(part, p) for part in parts))
        case Implies(one, other):
            premise = product(one, p)
            return 1 - premise + premise * product(other, p)
    assert isinstance(formula, Atom)
    return p[formula]


def lukasiewicz(formula: Formula, p: Mapping[Atom, Tensor]) -> Tensor:
    """(…) a ∧ b = max(0, a + b − 1), a ∨ b = min(1, a + b), a → b = min(1, 1 − a + b)."""
    match formula:
        case Not(inner):
            return 1 - lukasiewicz(inner, p)
        case And(parts):
            return (sum(lukasiewicz(part, p) for part in parts) - (len(parts) - 1)).clamp(min=0)  # type: ignore[union-attr]
        case Or(parts):
            return sum(lukasiewicz(part, p) for part in parts).clamp(max=1)  # type: ignore[union-attr]
        case Implies(one, other):
            return (1 - lukasiewicz(one, p) + lukasiewicz(other, p)).clamp(max=1)
    assert isinstance(formula, Atom)
    return p[formula]


def weight(diagram: Diagram, p: Mapping[Atom, Tensor]) -> Tensor:
    """(…) the probability that the formula holds where atoms are independent: Σ over all that satisfies it of Π p or 1 − p (Xu et al. 2018, definition 1)."""
    like = p[diagram.atoms[0]]
    values = [torch.zeros_like(like), torch.ones_like(like)]
    for atom, yes, no in diagram.nodes:
        so = p[diagram.atoms[atom]]
        values.append(so * values[yes] + (1 - so) * values[no])
    return values[diagram.root]


Satisfaction = Callable[[Mapping[Atom, Tensor]], Tensor]


def loss_of(satisfied: Tensor, semantics: str) -> Tensor:
    """(…) −log of how far it is satisfied, or with Łukasiewicz's, whose values are no probabilities, 1 − it."""
    satisfied = at_least_float32(satisfied)
    return 1 - satisfied if semantics == "lukasiewicz" else -satisfied.clamp(min=LEAST).log()
