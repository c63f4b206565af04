"""How the suites say that something is not so: what was found, and what the interface says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from ibllm_core.interfaces.latent import Latent

Tensors = Mapping[str, Tensor]


def expect(true: bool, problem: str) -> None:
    """Raises `AssertionError`, whatever Python is told about assertions, with a message for who wrote the part."""
    __tracebackhide__ = True
    if not true:
        raise AssertionError(problem)


def has_shape(what: str, tensor: object, axes: str, wanted: Iterable[int | None]) -> None:
    """The axes' names in einops notation and their sizes, None for any size."""
    __tracebackhide__ = True
    sizes = tuple(wanted)
    expect(isinstance(tensor, Tensor), f"{what} is a {type(tensor).__name__}: the interface says a tensor ({axes})")
    assert isinstance(tensor, Tensor)
    found = tuple(tensor.shape)
    fits = len(found) == len(sizes) and all(w is None or w == f for w, f in zip(sizes, found, strict=True))
    said = " ".join(f"{axis}={'any' if size is None else size}" for axis, size in zip(axes.split(), sizes, strict=True))
    expect(fits, f"{what} has shape {found}: the interface says ({axes}){' with ' + said if said else ''}")


def is_latent(z: object, items: int, width: int) -> None:
    """tokens (b n d), mask (b n), pooled (b d)."""
    __tracebackhide__ = True
    expect(isinstance(z, Latent), f"forward gave a {type(z).__name__}: the interface says a Latent")
    assert isinstance(z, Latent)
    has_shape("tokens", z.tokens, "b n d", (items, None, width))
    has_shape("mask", z.mask, "b n", (items, z.tokens.shape[1]))
    has_shape("pooled", z.pooled, "b d", (items, width))
    expect(z.mask.dtype == torch.bool, f"mask has dtype {z.mask.dtype}: the interface says bool, True where there is something")


def same(found: Tensors, wanted: Tensors, because: str, atol: float = 1e-5, rtol: float = 1e-5) -> None:
    """Tensors of equal names agree; `because` says what must not matter."""
    __tracebackhide__ = True
    for name, want in wanted.items():
        have = found[name]
        if have.shape != want.shape:
            raise AssertionError(f"{name} has shape {tuple(have.shape)}, and {tuple(want.shape)} otherwise: {because}")
        have, want = have.detach(), want.detach()
        if not torch.allclose(have.double(), want.double(), atol=atol, rtol=rtol, equal_nan=True):
            off = (have.double() - want.double()).abs()
            place = tuple(int(i) for i in torch.unravel_index(off.argmax(), off.shape)) if off.dim() else ()
            raise AssertionError(f"{name} differs by {off.max():.3g} at {place}: {because}")


def finite(found: Tensors, when: str) -> None:
    """No infinity, no nan."""
    __tracebackhide__ = True
    for name, tensor in found.items():
        expect(bool(torch.isfinite(tensor).all()), f"{name} holds numbers that are not finite {when}")


def floats(found: Tensors) -> dict[str, Tensor]:
    """Those that are no ids and no masks."""
    return {name: tensor for name, tensor in found.items() if tensor.is_floating_point()}


def near(found: Tensors, wanted: Tensors, tolerance: float, because: str) -> None:
    """‖found − wanted‖ ≤ tolerance·(‖wanted‖ + √count / 2): within a fraction of the numbers' size, or of one half."""
    __tracebackhide__ = True
    for name, want in wanted.items():
        have, want = found[name].detach().double(), want.detach().double()
        off, size = float((have - want).norm()), float(want.norm()) + want.numel() ** 0.5 / 2
        expect(off <= tolerance * size, f"{name} is off by {off / size:.3g} of its size, more than {tolerance}: {because}")


def round_trip(module: nn.Module, into: nn.Module) -> None:
    """The state of `module` through safetensors into `into`, strictly."""
    __tracebackhide__ = True
    data = save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in module.state_dict().items()})
    missing, unexpected = into.load_state_dict(load(data), strict=False)
    expect(not missing and not unexpected, f"the state dict of one does not fit another: missing {missing}, unexpected {unexpected}")


def unreached(module: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that train and got no gradient, or one of nothing but zeros."""
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    return {name: p for name, p in trained.items() if p.grad is None or not bool(p.grad.any())}


def at_rest(module: nn.Module) -> nn.Module:
    """In evaluation mode, but for recurrent layers (dropout off all the same): cuDNN has no backward pass for them in it."""
    module.eval()
    for layer in module.modules():
        if isinstance(layer, nn.RNNBase):
            layer.dropout = 0.0
            layer.train()
    return module
