"""How fast scenes are drawn and read, in CPU time of one thread."""

from __future__ import annotations

import time

import numpy as np
import pytest
from ibllm_shapes.config import ShapesConfig
from ibllm_shapes.dataset import ShapesDataset
from ibllm_shapes.reader import read

from ibllm_core.interfaces.context import Context

from .rounds import both


def best_rate(work: object, items: int, rounds: int = 5) -> float:
    """The best of some rounds in items a CPU-second."""
    assert callable(work)
    rates = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        rates.append(items / (time.process_time() - start))
    return max(rates)


@both
@pytest.mark.parametrize("placement", ["cells", "free"])
@pytest.mark.parametrize("batch", [64, 256])
@pytest.mark.parametrize("varied", [False, True])
def test_ten_thousand_samples_a_second(placement: str, batch: int, varied: bool, measured: bool) -> None:
    options = {"languages": ("en", "zh"), "templates": "varied", "questions": True} if varied else {}
    data = ShapesDataset(ShapesConfig(placement=placement, **options), Context())

    items = 2048 if measured else batch

    def work() -> None:
        for start in range(0, items, batch):
            data.samples("train", np.arange(start, start + batch))

    rate = best_rate(work, items, 5 if measured else 1)
    print(f"{placement}, batches of {batch}, varied {varied}: {rate:,.0f} samples/s")
    assert rate >= 10_000 or not measured


@both
@pytest.mark.parametrize("placement", ["cells", "free"])
def test_the_reader_keeps_up(placement: str, measured: bool) -> None:
    images = ShapesDataset(ShapesConfig(placement=placement), Context()).samples("test", np.arange(512 if measured else 8)).images
    read(images[:1], placement)
    rate = best_rate(lambda: read(images, placement), len(images), 5 if measured else 1)
    print(f"{placement}: {rate:,.0f} images read/s")
    assert rate >= 500 or not measured
