"""The loss by which a graph's vectors are learned. Shapes: b batch, f facts an item, n wrong entities a fact."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from ibllm.plugin import Context, Cycle, Loss, Rng
from ibllm_graph.backbone import KnowledgeGraph
from ibllm_graph.config import LinkPredictionConfig
from ibllm_graph.plausibility import self_adversarial


class LinkPrediction(Loss):
    """−log σ(γ + s(fact)) − Σ p log σ(−γ − s(wrong fact)), s the graph's score (`ibllm_graph.plausibility`); DistMult's has no γ.

    Each item of the batch draws facts of its own, and for each wrong subjects or objects, so that shares of a batch draw what the whole draws. Wrong
    facts that the graph has are not counted.
    """

    def __init__(self, config: LinkPredictionConfig, context: Context) -> None:
        super().__init__()
        self.config = config

    def forward(self, cycle: Cycle) -> Tensor:
        graph = cast(KnowledgeGraph, cycle.model.part(self.config.graph))
        rng = cycle.rng("link_prediction")
        return cycle.through(self.config.graph, "link_prediction", lambda: self.value(graph, rng))

    def value(self, graph: KnowledgeGraph, rng: Rng) -> Tensor:
        """()."""
        config, facts = self.config, cast(Tensor, graph.facts_held)
        chosen = facts[rng.integers(len(facts), config.facts)]
        subject, relation, thing = (chosen[..., place].unsqueeze(-1) for place in range(3))
        entity = rng.integers(len(graph.graph.entities), config.facts, config.negatives)
        wrong_subject = rng.uniform(config.facts, config.negatives) < 0.5
        subjects, things = torch.where(wrong_subject, entity, subject), torch.where(wrong_subject, thing, entity)
        relations = relation.expand_as(subjects)
        shift = 0.0 if graph.config.embedding == "distmult" else config.margin
        right, wrong = graph.score(subject, relation, thing).squeeze(-1) + shift, graph.score(subjects, relations, things) + shift
        value = self_adversarial(right, wrong, graph.is_fact(subjects, relations, things), config.temperature)
        return value.mean()
