"""Where phrases stand in texts of tokens, found on the device. Shapes: b batch, t tokens."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ibllm_core.interfaces.noise import on_device
from ibllm_core.interfaces.tokenizer import BOS, UNK, Tokenizer


def spellings(phrase: str, tokenizer: Tokenizer) -> list[tuple[int, ...]]:
    """The tokens of a phrase at a text's beginning and within it, as it is written and in lower case; none where a piece of it is unknown."""
    found = []
    for text in dict.fromkeys((phrase, phrase.lower())):
        found.append(tuple(tokenizer.encode_one(text)))
        before, within = tuple(tokenizer.encode_one("a")), tuple(tokenizer.encode_one(f"a {text}"))
        if within[: len(before)] == before:
            found.append(within[len(before) :])
    return [ids for ids in dict.fromkeys(found) if ids and UNK not in ids]


class Phrases(nn.Module):
    """Finds phrases, each with a number: the longest that begins at a token, unless that token is within another one that began before it.

    Phrases of several tokens are found in whole texts (which begin with BOS); a token by itself, as of a vocabulary or of a text of mixtures, has the
    number of the phrase that it is alone. They are a tree whose edges, (node, token) → node, are searched by bisection, so that neither the vocabulary's
    size nor the number of phrases is the size of a table.
    """

    edges: Tensor
    targets: Tensor
    accepts: Tensor

    def __init__(self, phrases: Mapping[str, int], tokenizer: Tokenizer) -> None:
        super().__init__()
        self.size, tree, accepts = tokenizer.size, dict[tuple[int, int], int](), {0: -1}
        #: Numbers of phrases that can stand in a text of these tokens.
        self.known = set[int]()
        self.depth = 1
        for phrase, number in phrases.items():
            for ids in spellings(phrase, tokenizer):
                node = 0
                for token in ids:
                    node = tree.setdefault((node, token), len(tree) + 1)
                    accepts.setdefault(node, -1)
                if accepts[node] < 0:
                    accepts[node] = number
                    self.known.add(number)
                self.depth = max(self.depth, len(ids))
        self.nowhere = len(accepts)
        # One edge that is never asked for, so that there is something to search.
        ordered = sorted([*((node * self.size + token, target) for (node, token), target in tree.items()), (-1, self.nowhere)])
        self.register_buffer("edges", torch.tensor([edge for edge, _ in ordered]), persistent=False)
        self.register_buffer("targets", torch.tensor([target for _, target in ordered]), persistent=False)
        self.register_buffer("accepts", torch.tensor([accepts[node] for node in range(self.nowhere)] + [-1]), persistent=False)

    def onto(self, device: torch.device) -> Phrases:
        """Itself on a device, which is not waited for."""
        for name, buffer in self.named_buffers():
            setattr(self, name, on_device(buffer, device))
        return self

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """ids (b t) → the number of the phrase that begins at each token, −1 where none does, and its length in tokens (b t)."""
        node, found, length = torch.zeros_like(ids), torch.full_like(ids, -1), torch.zeros_like(ids)
        whole = ids[:, :1] == BOS
        for step in range(self.depth):
            token = ids if not step else torch.cat([ids[:, step:], torch.zeros_like(ids[:, :step])], 1)
            edge = node * self.size + token
            place = torch.searchsorted(self.edges, edge).clamp(max=len(self.edges) - 1)
            there = (self.edges[place] == edge) & (whole if step else torch.ones_like(whole))
            node = torch.where(there, self.targets[place], self.nowhere)
            named = self.accepts[node]
            found, length = torch.where(named >= 0, named, found), torch.where(named >= 0, step + 1, length)
        places = torch.arange(ids.shape[1], device=ids.device)
        ends = torch.nn.functional.pad((places + length).cummax(1).values[:, :-1], (1, 0))
        inside = ends > places
        return found.masked_fill(inside, -1), length.masked_fill(inside, 0)
