"""A knowledge graph as a module that the model has. Shapes: b batch, t tokens, m what is handed over of an entity, k width, n entities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ibllm.plugin import Context, Phrases, UserError
from ibllm_graph.audit import Audit
from ibllm_graph.config import GraphConfig
from ibllm_graph.network import Edges, RelationalLayer
from ibllm_graph.plausibility import SCORES
from ibllm_graph.statements import spoken
from ibllm_graph.triples import Graph

#: Facts, or words, that are named.
SHOWN = 8


class KnowledgeGraph(nn.Module):
    """Vectors of entities and relations, and what a text's words have to do with them (capability ``knowledge``).

    Of a token from which on an entity is named `facts` hands over m = 1 + `neighbours` vectors: the entity's, and those of what its first facts are with.
    """

    about: Tensor
    kinds_about: Tensor
    there: Tensor
    known: Tensor
    digest: Tensor

    def __init__(self, config: GraphConfig, context: Context) -> None:
        super().__init__()
        assert context.tokenizer is not None
        self.config, self.tokenizer, self.graph = config, context.tokenizer, config.graph()
        entities, relations = len(self.graph.entities), len(self.graph.relations)
        self.width = config.width or context.width
        rotations = config.embedding == "rotate"
        if rotations and self.width % 2:
            raise ValueError(f"width = {self.width}: expected an even number, for RotatE's are complex")
        self.score_of, self.slots = SCORES[config.embedding], 1 + config.neighbours
        self.entities = nn.Parameter(torch.randn(entities, self.width) / self.width**0.5)
        self.relations = nn.Parameter(torch.randn(relations, self.width // 2 if rotations else self.width) / self.width**0.5)
        #: Kinds of facts: each relation from either side, and being the entity itself.
        self.kinds = 2 * relations + 1
        self.edges = Edges(self.graph.facts, entities, relations) if config.layers else None
        self.layers = nn.ModuleList(RelationalLayer(self.width, relations, config.bases) for _ in range(config.layers))
        self.links = Phrases(self.graph.names, self.tokenizer)
        self._hold_facts(self.graph, config.neighbours)

    def _hold_facts(self, graph: Graph, neighbours: int) -> None:
        """What is handed over of each entity: the other entity (n m), the kind of fact (n m), whether there is one (n m)."""
        entities, relations = len(graph.entities), len(graph.relations)
        told: list[list[tuple[int, int]]] = [[(entity, 2 * relations)] for entity in range(entities)]
        for subject, relation, thing in graph.facts:
            told[subject].append((thing, relation))
            told[thing].append((subject, relation + relations))
        self.beyond = sum(max(0, len(one) - self.slots) for one in told)
        self.crowded = sum(len(one) > self.slots for one in told)
        rows = [[*one[: self.slots], *[(0, 0)] * (self.slots - len(one))] for one in told]
        table = torch.tensor(rows)
        self.register_buffer("about", table[..., 0], persistent=False)
        self.register_buffer("kinds_about", table[..., 1], persistent=False)
        held = [[slot < len(one) for slot in range(self.slots)] for one in told]
        self.register_buffer("there", torch.tensor(held), persistent=False)
        self.register_buffer("facts_held", torch.tensor([*graph.facts]), persistent=False)
        known = torch.tensor(sorted(self._key(*fact) for fact in graph.facts))
        self.register_buffer("known", known, persistent=False)
        self.register_buffer("digest", torch.tensor([int(graph.digest[n : n + 12], 16) for n in range(0, 48, 12)]))
        self.register_load_state_dict_pre_hook(_expect_the_same_graph)  # type: ignore[no-untyped-call]

    def _key(self, subject: Any, relation: Any, thing: Any) -> Any:
        return (subject * len(self.graph.relations) + relation) * len(self.graph.entities) + thing

    def vectors(self) -> Tensor:
        """(n k) the entities', through the graph network where there is one."""
        h: Tensor = self.entities
        for layer in self.layers:
            h = h + torch.relu(layer(h, self.edges))
        return h

    def facts(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """ids (b t) → of the entity that is named from each token on: vectors (b t m k), kinds of facts (b t m) and whether there is one (b t m); zeros
        where there is none."""
        entity, _ = self.links(ids)
        named = entity >= 0
        row = entity.clamp(min=0)
        there = self.there[row] & named.unsqueeze(-1)
        return self.vectors()[self.about[row]] * there.unsqueeze(-1), self.kinds_about[row] * there, there

    def score(self, subject: Tensor, relation: Tensor, thing: Tensor) -> Tensor:
        """Numbers (…) of entities and relations → (…) how plausible the facts are, whatever else is known."""
        vectors = self.vectors()
        return self.score_of(vectors[subject], self.relations[relation], vectors[thing])

    def is_fact(self, subject: Tensor, relation: Tensor, thing: Tensor) -> Tensor:
        """(…) whether the graph says so."""
        key = self._key(subject, relation, thing)
        place = torch.searchsorted(self.known, key).clamp(max=len(self.known) - 1)
        found: Tensor = self.known[place] == key
        return found

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.facts(ids)

    def notes(self) -> Sequence[str]:
        """What the file does not give, and what is not handed over."""
        graph, found = self.graph, list(self.graph.notes)
        unnamed = len(graph.entities) - len(self.links.known)
        if unnamed:
            named = [spoken(one) for entity, one in enumerate(graph.entities) if entity not in self.links.known]
            shown = ", ".join(named[:SHOWN]) + (f" and {len(named) - SHOWN} more" if len(named) > SHOWN else "")
            found.append(f"{unnamed:,} of the graph's {len(graph.entities):,} entities have no name in the vocabulary: {shown}")
        if self.beyond:
            what = f"{self.beyond:,} facts about {self.crowded:,} entities are beyond neighbours = {self.config.neighbours}"
            found.append(f"{what} and are not handed over with them")
        return found

    def audit(self, training: Iterable[str], held_out: Mapping[str, Iterable[str]]) -> Audit:
        """What of the texts is linked, and what the graph tells that no training text does."""
        words = {split: self._named(texts) for split, texts in {"": training, **held_out}.items()}
        return Audit.of(self.graph, words.pop(""), words, self.config.held_out == "allow")

    def _named(self, texts: Iterable[str]) -> tuple[list[frozenset[int]], dict[str, bool]]:
        """The entities that each text names, and each piece of the texts with whether it is ever part of a name."""
        entities, pieces, different = list[frozenset[int]](), dict[int, bool](), list(dict.fromkeys(texts))
        with torch.device(self.entities.device), torch.no_grad():
            for start in range(0, len(different), 4096):
                ids, mask = self.tokenizer.encode(different[start : start + 4096])
                entity, length = (found.cpu().numpy() for found in self.links(torch.from_numpy(ids).to(self.entities.device)))
                entities += [frozenset(row[row >= 0].tolist()) for row in entity]
                ends = np.maximum.accumulate(np.arange(ids.shape[1]) + length, 1)
                covered = ends > np.arange(ids.shape[1])
                for token in np.unique(ids[mask & covered]).tolist():
                    pieces[token] = True
                for token in np.unique(ids[mask & ~covered]).tolist():
                    pieces.setdefault(token, False)
        return entities, {self.tokenizer.decode_one([token]).strip(): linked for token, linked in pieces.items() if token > 3}


def _expect_the_same_graph(module: nn.Module, state: Mapping[str, Tensor], prefix: str, *rest: Any) -> None:
    """Weights are of the very facts that they were trained with."""
    assert isinstance(module, KnowledgeGraph)
    kept, own = state.get(f"{prefix}digest"), module.digest
    if kept is not None and not own.is_meta and not kept.is_meta and not torch.equal(kept.cpu(), own.cpu()):
        path = module.config.path or f"the ontology {module.config.ontology}"
        raise UserError(f"{path} is not the graph that these weights were trained with: put the former file there, or train anew")
