"""How likely a text is to a decoder, and how it writes one: token by token, by chance or by search.

Shapes: b batch, t tokens of a text, v vocabulary.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_map

from ibllm_core.interfaces import text
from ibllm_core.interfaces.latent import Latent, Tokens, at_least_float32
from ibllm_core.interfaces.noise import Rng
from ibllm_core.interfaces.tokenizer import BOS, EOS, PAD

from .ends import count_ends
from .layers import word_dropout
from .sampling import beam_search, choose


class TextDecoder(text.TextDecoder):
    """The interface, with `nll` and `sample`: subclasses give `logits`, `begin` and `step`."""

    #: Probability that a token of the text read is replaced by <unk> in training (Bowman et al. 2016, section 3.2); a prefix is read whole.
    word_dropout: float = 0.0

    def nll(self, tokens: Tokens, z: Latent, prefix: Tokens | None = None) -> Tensor:
        """As the interface says."""
        ids, mask, counted = tokens.ids, tokens.mask, tokens.mask[:, 1:]
        if prefix is not None:
            ids, mask, counted = _join(prefix, tokens)
        read = ids[:, :-1]
        if self.training and self.word_dropout:
            # Place 0 is the beginning. A question without some of its words would have no answer.
            of_text = F.pad(counted[:, :-1], (1, 0))
            read = torch.where(of_text, word_dropout(read, self.word_dropout), read)
        logits = self.logits(read, mask[:, :-1], z)
        losses = F.cross_entropy(at_least_float32(logits.transpose(1, 2)), ids[:, 1:], reduction="none")
        return (losses * counted).sum(1)

    @torch.no_grad()
    def sample(
        self,
        z: Latent,
        rng: Rng | None = None,
        *,
        prefix: Tokens | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        beams: int = 1,
        length_exponent: float = 0.0,
    ) -> Tokens:
        """As the interface says."""
        assert temperature == 0 or rng is not None, "drawing needs a generator"
        assert beams == 1 or temperature == 0, "either drawing or searching"
        logits, state = self.opened(z, prefix)
        if beams > 1:
            return beam_search(self.step, logits, state, beams=beams, length_exponent=length_exponent, max_length=self.max_length)
        # Asking synchronises a device, so not at every token, and not while it trains; on the meta device nobody knows.
        asks = z.tokens.device.type == "cpu" or not (self.training or z.tokens.is_meta)
        written = [torch.full((len(z),), BOS, device=z.tokens.device)]
        ended = torch.zeros(len(z), dtype=torch.bool, device=z.tokens.device)
        cut = ended
        for place in range(1, self.max_length):
            ids = choose(logits, rng, temperature, top_p)
            cut = ~ended & (ids != EOS) if place == self.max_length - 1 else cut
            ids = torch.where(ended, PAD, EOS if place == self.max_length - 1 else ids)
            written.append(ids)
            ended = ended | (ids == EOS)
            if place % 4 == 0 and asks and bool(ended.all()):
                break
            logits, state = self.step(ids, state)
        count_ends(cut, self.max_length)
        out = torch.stack(written, 1)
        return Tokens(out, out != PAD)

    def opened(self, z: Latent, prefix: Tokens | None) -> tuple[Tensor, Any]:
        """Logits (b v) of the first token after the beginning and the prefix, and the state then."""
        logits, state = self.step(torch.full((len(z),), BOS, device=z.tokens.device), self.begin(z))
        return (logits, state) if prefix is None else self._read_prefix(prefix, logits, state)

    def _read_prefix(self, prefix: Tokens, logits: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Feeds a prefix whose rows differ in length: rows that ended keep what they have."""
        ids, mask = _without_ends(prefix)
        for place in range(ids.shape[1]):
            keep, new = mask[:, place], tuple(self.step(ids[:, place], state))
            logits, state = tree_map(functools.partial(_where, keep), new, (logits, state))
        return logits, state


def _where(keep: Tensor, new: Any, old: Any) -> Any:
    """`new` where `keep` (b), else `old`, each (b …) or no tensor."""
    return torch.where(keep.view(-1, *[1] * (new.dim() - 1)), new, old) if isinstance(new, Tensor) and new is not old else new


def _without_ends(prefix: Tokens) -> tuple[Tensor, Tensor]:
    """A prefix without its beginning and end tokens: ids (b t), mask (b t)."""
    ids = prefix.ids[:, 1:]
    return ids, prefix.mask[:, 1:] & (ids != EOS)


def _join(prefix: Tokens, tokens: Tokens) -> tuple[Tensor, Tensor, Tensor]:
    """Beginning, prefix, text, end, packed to the left: ids (b t), mask (b t); and which of the places 1… are counted, (b t−1)."""
    body, body_mask = _without_ends(prefix)
    ids = torch.cat([tokens.ids[:, :1], body, tokens.ids[:, 1:]], 1)
    mask = torch.cat([tokens.mask[:, :1], body_mask, tokens.mask[:, 1:]], 1)
    counted = mask.clone()
    counted[:, : 1 + body.shape[1]] = False
    order = (~mask).to(torch.int8).argsort(dim=1, stable=True)
    ids = torch.where(mask, ids, PAD).gather(1, order)
    return ids, mask.gather(1, order), counted.gather(1, order)[:, 1:]
