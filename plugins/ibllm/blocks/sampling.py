"""How a text is chosen from what a decoder thinks of the next token: the likeliest, by chance, or by search.

Shapes: b batch, v vocabulary, … any axes before it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from ibllm_core.interfaces.latent import Tokens
from ibllm_core.interfaces.noise import Rng
from ibllm_core.interfaces.tokenizer import BOS, EOS, PAD

from .ends import count_ends


def nucleus(logits: Tensor, uniform: Tensor, temperature: float, top_p: float) -> Tensor:
    """Draws among the likeliest ids that have the probability `top_p` together (Holtzman et al. 2020, eq. 2).

    Args:
        logits: (… v).
        uniform: (…) in [0, 1), what chance decides with.
        temperature: divides the logits; 0 takes the likeliest id.
        top_p: in (0, 1]; 1 leaves none out.

    Returns: ids (…).
    """
    if temperature == 0:
        return logits.argmax(-1)
    p, order = (logits.float() / temperature).softmax(-1), None
    if top_p < 1:
        p, order = p.sort(-1, descending=True)
        cumulated = p.cumsum(-1)
        p = torch.where(cumulated - p < top_p, p, 0.0)
    cumulated = p.cumsum(-1)
    threshold = uniform.unsqueeze(-1).to(p) * cumulated[..., -1:]
    place = (cumulated <= threshold).sum(-1, keepdim=True).clamp(max=p.shape[-1] - 1)
    return (place if order is None else order.gather(-1, place)).squeeze(-1)


def choose(logits: Tensor, rng: Rng | None, temperature: float, top_p: float) -> Tensor:
    """logits (b v) → ids (b). Padding and beginning are never chosen."""
    logits = logits.float().clone()
    logits[:, : BOS + 1] = -torch.inf  # PAD is the one before
    if temperature == 0:
        return logits.argmax(-1)
    assert rng is not None
    return nucleus(logits, rng.uniform(1).squeeze(-1), temperature, top_p)


def beam_search(
    step: Callable[[Tensor, Any], tuple[Tensor, Any]], logits: Tensor, state: Any, *, beams: int, length_exponent: float, max_length: int
) -> Tokens:
    """The best text of each row that beam search finds (`best_texts`)."""
    texts, _ = best_texts(step, logits, state, count=1, beams=beams, length_exponent=length_exponent, max_length=max_length)
    return texts


def best_texts(
    step: Callable[[Tensor, Any], tuple[Tensor, Any]],
    logits: Tensor,
    state: Any,
    *,
    count: int,
    beams: int,
    length_exponent: float,
    max_length: int,
) -> tuple[Tokens, Tensor]:
    """Beam search from logits (b v) of the first token and the state (rows b) before it: for each row the `count` best texts found.

    Best is log p(text) / t^length_exponent over t tokens, the end among them: the likeliest for exponent 0; larger ones make up for
    what every further token costs. A text that ends is kept apart and takes no beam. The search ends when no text that is still
    open can become better than those, since log p only falls.

    Returns: texts (b·count t), a row's one after the other, the best first; log p (b count), −∞ where there are fewer texts.
    """
    b, v = logits.shape
    first, last = torch.arange(b, device=logits.device), max_length - 1
    logits, state = logits.repeat_interleave(beams, 0), _rows(state, first.repeat_interleave(beams))
    total = torch.full((b, beams), -torch.inf, device=logits.device)
    total[:, 0] = 0.0  # all beams are alike, so the others wait until there is something to choose from
    written = first.new_full((b, beams, max_length), PAD)
    written[..., 0] = BOS
    best, best_score = written[:, :1].repeat(1, count, 1), total.new_full((b, count), -torch.inf)
    best_log_p = best_score.clone()
    for place in range(1, max_length):
        scores = total.unsqueeze(-1) + logits.float().log_softmax(-1).view(b, beams, v)
        texts = written.clone()
        texts[..., place] = EOS
        every = torch.cat([best_score, scores[..., EOS] / place**length_exponent], 1)
        best_score, order = (found[:, :count] for found in every.sort(dim=1, descending=True, stable=True))
        best_log_p = torch.cat([best_log_p, scores[..., EOS]], 1).gather(1, order)
        best = torch.cat([best, texts], 1)[first.unsqueeze(-1), order]
        if place == last:
            break
        scores[..., : EOS + 1] = -torch.inf  # PAD and BOS are those before
        total, chosen = scores.flatten(1).topk(beams)
        origin, ids = chosen // v, chosen % v
        if place % 4 == 0 and bool((best_score[:, -1] >= total[:, 0] / last**length_exponent).all()):  # asking synchronises the device
            break
        written = written[first.unsqueeze(-1), origin]
        written[..., place] = ids
        logits, state = step(ids.flatten(), _rows(state, (first.unsqueeze(-1) * beams + origin).flatten()))
    best = best.flatten(0, 1)
    count_ends(best[:, -1] == EOS, max_length, best_log_p.flatten() > -torch.inf)
    return Tokens(best, best != PAD), best_log_p


def _rows(tree: Any, rows: Tensor) -> Any:
    """The rows (b') of every tensor of a tree with the batch as first axis."""
    return tree_map(lambda leaf: leaf.index_select(0, rows) if isinstance(leaf, Tensor) else leaf, tree)
