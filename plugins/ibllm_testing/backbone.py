"""What modules are asked that several parts share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from torch import Tensor

from ibllm_core.interfaces.context import Context

from .checks import has_shape
from .inputs import Inputs
from .parts import PartSuite
from .suite import WIDTH
from .text import leaf


class BackboneSuite(PartSuite):
    """Weights that several parts use. One without the capability ``token_mixing`` is called as its borrowers call it: override `passes` and `check_shapes`."""

    kind = "backbone"
    sees_images = False

    def context(self) -> Context:
        """Latents have the backbone's width."""
        return attrs.evolve(super().context(), latent=getattr(self.config(), "width", None) or WIDTH)

    def passes(self, part: Any, m: Inputs) -> dict[str, Tensor]:
        return {"tokens": part(m.z.tokens, m.z.mask) * m.z.mask.unsqueeze(-1)}

    def check_shapes(self, part: Any, m: Inputs) -> None:
        has_shape("tokens", part(m.z.tokens, m.z.mask), "b n d", (*m.z.mask.shape, part.width))

    def gradient_paths(self, part: Any, m: Inputs) -> Mapping[str, tuple[Tensor, ...]]:
        if "token_mixing" not in self.config().provides():
            return {}
        given = leaf(m)
        part(given.z.tokens, given.z.mask).square().sum().backward()
        return {"the tokens": (given.z.tokens,)}
