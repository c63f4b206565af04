"""Plausibilities, graph layers and what training makes of them, compared with torch_geometric's (`pip install torch_geometric`)."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from ibllm_graph.backbone import KnowledgeGraph
from ibllm_graph.config import GraphConfig, LinkPredictionConfig
from ibllm_graph.loss import LinkPrediction
from ibllm_graph.network import Edges, RelationalLayer
from ibllm_graph.plausibility import distmult, rotate, transe
from ibllm_tokenizers.config import WordConfig
from ibllm_tokenizers.word import WordTokenizer
from torch import Tensor

from ibllm.plugin import Context, Rng

from .needs import needs

try:
    import torch_geometric.nn as theirs
except ImportError:
    theirs = None


@pytest.fixture(autouse=True)
def _needed() -> None:
    needs("torch_geometric", theirs is not None)


def some(entities: int = 30, relations: int = 4, facts: int = 120) -> Tensor:
    """(3 m) subjects, relations, objects, each fact once."""
    draw = random.Random(0)
    found: dict[tuple[int, int, int], None] = {}
    while len(found) < facts:
        s, r, o = draw.randrange(entities), draw.randrange(relations), draw.randrange(entities)
        if s != o:
            found[s, r, o] = None
    return torch.tensor(list(found)).T


@pytest.mark.parametrize("name", ["TransE", "DistMult", "RotatE"])
def test_scores_are_theirs(name: str):
    torch.manual_seed(0)
    model = getattr(theirs, name)(30, 4, 16, **({"p_norm": 1.0} if name == "TransE" else {"margin": 0.0} if name == "RotatE" else {}))
    s, r, o = some()
    weights, relation = model.node_emb.weight, model.rel_emb.weight[r]
    if name == "RotatE":
        weights = torch.cat([weights, model.node_emb_im.weight], -1)
    ours = {"TransE": transe, "DistMult": distmult, "RotatE": rotate}[name](weights[s], relation, weights[o])
    torch.testing.assert_close(ours, model(s, r, o), rtol=1e-5, atol=1e-6)


def test_a_layer_is_theirs():
    """Theirs sums over the edges that it is handed: facts, and the same turned round as further relations."""
    torch.manual_seed(0)
    s, r, o = some()
    layer = RelationalLayer(16, 4, 3)
    conv = theirs.RGCNConv(16, 16, num_relations=8, num_bases=3, aggr="mean")
    with torch.no_grad():
        conv.weight.copy_(layer.bases)
        conv.comp.copy_(layer.mix)
        conv.root.copy_(layer.own.weight.T)
        conv.bias.copy_(layer.own.bias)
    h = torch.randn(30, 16)
    edges = torch.stack([torch.cat([s, o]), torch.cat([o, s])])
    facts: list[Any] = [tuple(one) for one in torch.stack([s, r, o], 1).tolist()]
    torch.testing.assert_close(layer(h, Edges(facts, 30, 4)), conv(h, edges, torch.cat([r, r + 4])), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("embedding", ["transe", "rotate", "distmult"])
def test_training_ranks_facts_as_theirs_does(embedding: str, tmp_path: Path):
    """A tree of kinds: after as many facts seen, the mean reciprocal rank of the right object among all is at least nine tenths of theirs."""
    draw = random.Random(0)
    lines = [(f"e{n}", "is", f"e{draw.randrange(n)}") for n in range(1, 40)]
    lines += [(f"e{n}", "colour", f"c{n % 4}") for n in range(40)]
    (tmp_path / "facts.tsv").write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")
    tokenizer = WordTokenizer(WordConfig(size=8), Context())
    torch.manual_seed(0)
    config = GraphConfig(path=str(tmp_path / "facts.tsv"), embedding=embedding, width=32)
    ours = KnowledgeGraph(config, Context(tokenizer=tokenizer))
    s, r, o = torch.tensor(ours.graph.facts).T
    count, relations = len(ours.graph.entities), len(ours.graph.relations)
    loss, optimizer = LinkPrediction(LinkPredictionConfig(), Context()), torch.optim.Adam(ours.parameters(), lr=0.02)
    for step in range(600):
        optimizer.zero_grad()
        loss.value(ours, Rng((0, "links"), torch.arange(64).numpy(), step=step)).backward()
        optimizer.step()
    name = {"transe": "TransE", "rotate": "RotatE", "distmult": "DistMult"}[embedding]
    model = getattr(theirs, name)(count, relations, 16 if embedding == "rotate" else 32)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(600):
        chosen = torch.randint(len(s), (64,))
        optimizer.zero_grad()
        model.loss(s[chosen], r[chosen], o[chosen]).backward()
        optimizer.step()

    def reciprocal(score: Any) -> float:
        every = torch.arange(count)
        with torch.no_grad():
            ranks = [
                1 + (score(s[n].expand(count), r[n].expand(count), every) > score(s[n : n + 1], r[n : n + 1], o[n : n + 1])).sum()
                for n in range(len(s))
            ]
        return float((1 / torch.stack(ranks)).mean())

    assert reciprocal(ours.score) >= 0.9 * reciprocal(model)
