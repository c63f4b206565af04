"""A relational graph network (Schlichtkrull et al. 2018). Shapes: n entities, r relations, k width, m edges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Edges(nn.Module):
    """Facts and their inverses, by the entity that they tell something of: what is summed for it, and how it weighs (1 over the entity's facts of the kind).

    Relation number r of a fact is r, its inverse's r + number of relations.
    """

    rows: Tensor
    weights: Tensor
    starts: Tensor

    def __init__(self, facts: Sequence[tuple[int, int, int]], entities: int, relations: int) -> None:
        super().__init__()
        every = [(thing, relation, subject) for subject, relation, thing in facts]
        every += [(subject, relation + relations, thing) for subject, relation, thing in facts]
        every.sort()
        kinds = Counter((target, relation) for target, relation, _ in every)
        counts = Counter(target for target, *_ in every)
        starts, total = [], 0
        for entity in range(entities):
            starts.append(total)
            total += counts[entity]
        self.register_buffer("rows", torch.tensor([relation * entities + source for _, relation, source in every]), persistent=False)
        weights = torch.tensor([1 / kinds[target, relation] for target, relation, _ in every])
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("starts", torch.tensor(starts), persistent=False)


class RelationalLayer(nn.Module):
    """h_i ← W₀ h_i + Σ_r Σ_{j ∈ N_r(i)} W_r h_j / |N_r(i)| + b (eq. 2), W_r = Σ_b a_rb V_b (eq. 3)."""

    def __init__(self, width: int, relations: int, bases: int) -> None:
        super().__init__()
        self.own = nn.Linear(width, width)
        self.bases = nn.Parameter(torch.randn(bases, width, width) / width**0.5)
        self.mix = nn.Parameter(torch.randn(2 * relations, bases) / bases**0.5)

    def forward(self, h: Tensor, edges: Edges) -> Tensor:
        """(n k) → (n k)."""
        based = torch.einsum("nk,bkl->bnl", h, self.bases)
        messages = torch.einsum("rb,bnl->rnl", self.mix, based).flatten(0, 1)
        # A bag an entity: sums without additions in an order that changes from run to run.
        summed = F.embedding_bag(edges.rows, messages, edges.starts, mode="sum", per_sample_weights=edges.weights.to(messages.dtype))
        out: Tensor = self.own(h) + summed
        return out
