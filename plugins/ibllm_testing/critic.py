"""What discriminators are asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from .checks import expect, has_shape, same
from .inputs import Inputs
from .parts import PartSuite
from .text import leaf

#: Half of a finite difference: small, since ‖∇C‖² of a network of leaky rectifiers jumps wherever one of them changes sides.
STEP = 3e-9


class DiscriminatorSuite(PartSuite):
    """C: image and latent → score."""

    kind = "discriminator"

    def passes(self, part: Any, m: Inputs) -> dict[str, Tensor]:
        found = {"scores": part(m.y, m.z)}
        if "features" in self.config().provides():
            found |= {f"features {n}": tensor for n, tensor in enumerate(part.features(m.y, m.z))}
        return found

    def check_shapes(self, part: Any, m: Inputs) -> None:
        scores = part(m.y, m.z)
        by_patch = isinstance(scores, Tensor) and scores.dim() == 2
        has_shape("scores", scores, "b p" if by_patch else "b", (len(m), None) if by_patch else (len(m),))

    def objective(self, part: Any, m: Inputs) -> Tensor:
        scores = part(m.y, m.z)
        weights = torch.sin(1 + torch.arange(len(scores), device=scores.device, dtype=torch.float32))
        total: Tensor = (scores.float().flatten(1).mean(1) if scores.dim() > 1 else scores.float()).mul(weights).sum()
        return total

    def gradient_paths(self, part: Any, m: Inputs) -> Mapping[str, tuple[Tensor, ...]]:
        seen = leaf(m)
        self.objective(part, seen).backward()  # type: ignore[no-untyped-call]
        return {"the image": (seen.y,)}

    def test_looks_once(self, device: torch.device) -> None:
        """`judge` on what `look` saw gives the scores of `forward`, so that a second text costs no second look."""
        part, m = self._ready(device)
        found = {"scores": part.judge(part.look(m.y), m.z)}
        same(found, {"scores": part(m.y, m.z)}, f"{self._name}: judge(look(y), z) and forward(y, z) must agree")

    def test_features(self, device: torch.device) -> None:
        """Capability ``features``: what it sees on its way to the score, (b …) each; without it `features` raises."""
        part, m = self._ready(device)
        if "features" in self.config().provides():
            found = part.features(m.y, m.z)
            expect(
                isinstance(found, tuple) and len(found) > 0,
                f"{self._name}: features gives {type(found).__name__}, expected a tuple of tensors",
            )
            for number, tensor in enumerate(found):
                expect(tensor.shape[0] == len(m), f"{self._name}: features {number} has shape {tuple(tensor.shape)}, expected (b …)")
            return
        if not hasattr(part, "features"):
            return
        try:
            part.features(m.y, m.z)
        except NotImplementedError:
            return
        raise AssertionError(f"{self._name}: features works, but the capability features is not declared, so nobody will ask for it")

    def test_second_order(self, device: torch.device) -> None:
        """Capability ``second_order``: the gradient of ‖∇C‖² (by image and latent) is what finite differences give, in double precision."""
        if "second_order" not in self.config().provides():
            return
        part, m = self._ready(device)
        part.double()
        parameters = [p for p in part.parameters() if p.requires_grad]
        directions = [torch.cos(3 + torch.arange(p.numel(), device=device, dtype=torch.float64)).view_as(p) for p in parameters]
        with sdpa_kernel(SDPBackend.MATH):
            penalty = self._penalty(part, m)
            gradients = torch.autograd.grad(penalty, parameters, allow_unused=True)
            found = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True) if g is not None)
            ends = []
            for sign in (1, -1):
                _move(parameters, directions, sign * STEP)
                ends.append(float(self._penalty(part, m).detach()))
                _move(parameters, directions, -sign * STEP)
        wanted, rounding = (ends[0] - ends[1]) / (2 * STEP), 1e-13 * float(penalty.detach()) / STEP
        known = abs(found - wanted) <= 1e-3 * max(abs(found), abs(wanted)) + rounding + 1e-9
        expect(known, f"{self._name}: the derivative of ‖∇C‖² along a direction is {found:.6g}, finite differences give {wanted:.6g}")

    def _penalty(self, part: Any, m: Inputs) -> Tensor:
        """() Σ ‖∇C‖² by image and latent."""
        given = leaf(m)
        y, tokens, pooled = (tensor.detach().double().requires_grad_(True) for tensor in (given.y, given.z.tokens, given.z.pooled))
        scores = part(y, type(given.z)(tokens, given.z.mask, pooled))
        found = torch.autograd.grad(scores.sum(), [y, tokens, pooled], create_graph=True, allow_unused=True)
        expect(found[0] is not None, f"{self._name}: its scores have no gradient by the image")
        return torch.stack([g.square().sum() for g in found if g is not None]).sum()


@torch.no_grad()
def _move(parameters: list[Tensor], directions: list[Tensor], by: float) -> None:
    for parameter, direction in zip(parameters, directions, strict=True):
        parameter.add_(direction, alpha=by)
