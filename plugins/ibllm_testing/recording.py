"""A stand-in for CUDA graphs on a machine without a card: what a device does is recorded operation by operation, and done again on the same memory.

As there, whatever Python computed between the operations is a constant of the recording, and nothing may wait for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from ibllm.capture import Captures, CudaGraphs
from ibllm_core.model.stage import StageTrainer
from ibllm_testing.waiting import READS, Waited


def rates_on_the_device(trainer: StageTrainer) -> None:
    """Learning rates as tensors, which optimizers have on a card without being asked; on the CPU their bits are those of numbers."""
    for group in (group for player in trainer.players for group in player.optimizer.param_groups):
        group["lr"] = torch.tensor(float(group["lr"]), dtype=torch.float64)


def captured(trainer: StageTrainer, tell: Callable[[str], None]) -> Captures:
    """The captures of a stage, by a card's graphs where it is on one, else by operations."""
    if trainer.model.device.type == "cuda":
        return Captures(trainer, CudaGraphs(), tell)
    recorder = Operations()
    captures = Captures(trainer, recorder, tell)
    recorder.state = captures.state
    return captures


class Operations:
    """A recorder (`ibllm.capture.Recorder`) for the CPU. Unlike a card's, it computes what it records, and puts back what was changed.

    Attributes:
        state: gives all tensors that an iteration changes in place.
    """

    def __init__(self, state: Callable[[], list[Tensor]] = list) -> None:
        self.state = state

    def record(self, play: Callable[[], None]) -> Callable[[], object]:
        held = [(tensor, tensor.detach().clone()) for tensor in self.state()]
        tape = _Tape()
        with tape:
            play()
        with torch.no_grad():
            for tensor, value in held:
                tensor.copy_(value)
        return tape.replay


class _Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[bool, Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        states = all(t.dtype == torch.uint8 for t in tree_leaves(args) if isinstance(t, Tensor))  # of generators, which are the host's
        if func.overloadpacket in READS and not states:
            raise Waited(f"{func.overloadpacket} waits for the device")
        result = func(*args, **(kwargs or {}))
        # Without their graphs, but on the memory of their own.
        called, given, got = tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, (args, kwargs or {}, result))
        self.calls.append((torch.is_grad_enabled(), func, called, given, got))
        return result

    def replay(self) -> None:
        for graph, func, args, kwargs, before in self.calls:
            given = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
            with torch.set_grad_enabled(graph):  # recurrent layers keep what their backward pass needs only where there may be one
                result = func(*args, **kwargs)
            for old, new in zip(tree_leaves(before), tree_leaves(result), strict=True):
                # A view of what the operation was given has changed with it.
                if isinstance(old, Tensor) and old.untyped_storage().data_ptr() not in given:
                    old.copy_(new)
