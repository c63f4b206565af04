"""What a graph has to do with the texts of a run: which words are linked, and what it tells that training hides. Torch-free."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

import attrs

from ibllm_graph.triples import Graph

#: Words and facts that are named.
SHOWN = 8
#: Entities that each text names, and piece → whether it is ever part of a name.
Named = tuple[Sequence[frozenset[int]], Mapping[str, bool]]


@attrs.frozen
class Audit:
    """`told`: sentences for a user. `against`: what speaks against the run, or nothing."""

    told: Sequence[str]
    against: str

    @classmethod
    def of(cls, graph: Graph, training: Named, held_out: Mapping[str, Named], allowed: bool) -> Audit:
        """Args:
        training: of the training texts.
        held_out: split → of its texts.
        allowed: the recipe says that the graph may tell what the splits hide.
        """
        told = [_linked(training[1])]
        leaks = {split: found for split, (texts, _) in held_out.items() if (found := leaked(graph, training[0], texts))}
        if not leaks:
            return cls(told, "")
        what = "; ".join(f"split {split}: {_shown([graph.said(fact) for fact in found], 'facts')}" for split, found in leaks.items())
        if allowed:
            return cls([*told, f"the graph tells what held-out splits hide, as held_out = 'allow' says it may: {what}"], "")
        remedy = "take these facts out of the file, or say held_out = 'allow' where that is what is asked"
        return cls(told, f"the graph tells what held-out splits hide: {what}: {remedy}")


def leaked(graph: Graph, training: Iterable[frozenset[int]], texts: Iterable[frozenset[int]]) -> list[tuple[int, int, int]]:
    """Facts that a held-out text is about and no training text: both entities are named together in some held-out text and in no training text; or
    one of them is named in a held-out text and nowhere in training."""
    pairs = {frozenset((subject, thing)) for subject, _, thing in graph.facts}

    def of(some: Iterable[frozenset[int]]) -> tuple[set[int], set[frozenset[int]]]:
        single, double = set[int](), set[frozenset[int]]()
        for named in set(some):
            single |= named
            double |= {pair for two in itertools.combinations(named, 2) if (pair := frozenset(two)) in pairs}
        return single, double

    (seen, together), (new, new_pairs) = of(training), of(texts)
    hidden, hidden_pairs = new - seen, new_pairs - together
    return [fact for fact in graph.facts if {fact[0], fact[2]} & hidden or frozenset((fact[0], fact[2])) in hidden_pairs]


def _linked(pieces: Mapping[str, bool]) -> str:
    words = {piece: linked for piece, linked in pieces.items() if any(map(str.isalnum, piece))}
    unlinked = sorted(word for word, linked in words.items() if not linked)
    said = f"the graph is linked to {len(words) - len(unlinked)} of the {len(words)} words of the training texts"
    return f"{said}; not to {_shown(unlinked, 'words')}" if unlinked else said


def _shown(found: Sequence[str], what: str) -> str:
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f"{len(found)} {what if len(found) > 1 else what.removesuffix('s')}: {', '.join(found[:SHOWN])}{more}"
