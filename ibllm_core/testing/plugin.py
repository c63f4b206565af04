"""A pytest plugin, used by those who ask for it (``pytest_plugins = ["ibllm_core.testing.plugin"]``, or ``-p``): the fixture `device`, the marker `slow`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import torch


@contextmanager
def best_device() -> Iterator[torch.device]:
    """CUDA where there is one: what can run there is tested there, without TF32, whose 10 bits would need other tolerances."""
    import torch

    if not torch.cuda.is_available():
        yield torch.device("cpu")
        return
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield torch.device("cuda")
    finally:
        torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(scope="session")
def device() -> Iterator[torch.device]:
    """CUDA where there is one, else the CPU."""
    with best_device() as found:
        yield found


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes seconds; leave out with -m 'not slow'")
