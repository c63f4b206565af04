"""What waits for a device is told, on a machine without one too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from ibllm_testing.waiting import Waited, nothing_waits
from torch import Tensor

META = torch.device("meta")

WAITS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "item": (lambda y: y.sum().item(), "waits for the device"),
    "float": (lambda y: float(y.sum()), "waits for the device"),
    "truth": (lambda y: 1 if (y > 0).any() else 0, "waits for the device"),
    "tolist": (lambda y: y.tolist(), "copy to the host"),
    "numpy": (lambda y: y.cpu().numpy(), "copy to the host"),
    "equal": (lambda y: torch.equal(y, y + 1), "waits for the device"),
    "nonzero": (lambda y: y.nonzero(), "waits for the device"),
    "unique": (lambda y: y.unique(), "waits for the device"),
    "masked_select": (lambda y: y.masked_select(y > 0), "waits for the device"),
    "repeats": (lambda y: y.repeat_interleave(y[:, 0].long(), 0), "output_size"),
    "mask": (lambda y: y[y > 0], "true and false"),
    "mask set": (lambda y: y.__setitem__(y > 0, 1.0), "true and false"),
    "list": (lambda y: y[[0, 1]], "Python's numbers"),
    "list among others": (lambda y: y[..., [0, 2]], "Python's numbers"),
    "list set": (lambda y: y.__setitem__(([0, 1], 0), 1.0), "Python's numbers"),
    "array": (lambda y: y[np.array([0, 1])], "Python's numbers"),
    "index on the host": (lambda y: y[torch.tensor([0, 1])], "on the host"),
    "index put on the host": (lambda y: y.index_put_((torch.tensor([0, 1]),), y[0]), "on the host"),
    "tensor": (lambda y: y * torch.tensor([1.0, 2.0, 3.0], device=y.device), "Python's numbers"),
    "new tensor": (lambda y: y * y.new_tensor([1.0, 2.0, 3.0]), "Python's numbers"),
    "pageable": (lambda y: y + torch.ones(4, 3).to(y.device, non_blocking=True), "pinned"),
    "pinned but blocking": (lambda y: y + torch.ones(4, 3).pin_memory().to(y.device), "pinned"),
    "copied into": (lambda y: y.copy_(torch.ones(4, 3)), "pinned"),
}


@pytest.mark.parametrize("kind", ["meta", *(["cuda"] if torch.cuda.is_available() else [])])
@pytest.mark.parametrize("name", WAITS)
def test_what_waits_is_told(name: str, kind: str) -> None:
    play, words = WAITS[name]
    y = torch.ones(4, 3, device=kind)
    with pytest.raises(Waited, match=words), nothing_waits(torch.device(kind)):
        play(y)


def test_what_does_not_wait_is_not() -> None:
    y = torch.ones(4, 3, device=META, requires_grad=True)
    with nothing_waits(META):
        picked = y[:, 0] + y[1, None, :2].sum() + y[torch.arange(4, device=META)].sum(1)
        moved = torch.ones(4).pin_memory().to(META, non_blocking=True)
        total = (picked * moved * torch.tensor(2.0) + torch.full((4,), 3.0, device=META)).where(picked > 0, 0.0).sum()
        total.backward()  # type: ignore[no-untyped-call]
        assert torch.tensor([1.0, 2.0])[[1]].item() == 2.0, "what is on the host may be read there"


def test_a_backward_pass_is_looked_at_too() -> None:
    y = torch.ones(4, 3, device=META, requires_grad=True)
    y.register_hook(lambda gradient: gradient * float(gradient.sum()))
    with pytest.raises(Waited), nothing_waits(META):
        y.sum().backward()  # type: ignore[no-untyped-call]
