"""Drawing tokens from logits. Shapes: v vocabulary, … any axes before it."""

from __future__ import annotations

import torch
from torch import Tensor


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
