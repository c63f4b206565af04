"""How fast scenes are drawn and read, in CPU time of one thread, and how fast they reach a training."""

from __future__ import annotations

import time

import numpy as np
import pytest
from ibllm_shapes.config import ShapesConfig
from ibllm_shapes.dataset import ShapesDataset
from ibllm_shapes.reader import read
from ibllm_tokenizers.config import WordConfig
from ibllm_tokenizers.word import WordTokenizer

from ibllm_core.interfaces.context import Context
from ibllm_core.model.compute import available_cores
from ibllm_core.training.feeding import Draws, Feeder

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


def fed(workers: int, batch: int, draws: int) -> float:
    """Items that reach the training a second: made, described, tokenised, collated; the workers' start is left out."""
    data = ShapesDataset(ShapesConfig(), Context())
    tokenizer = WordTokenizer(WordConfig(size=96), Context())
    tokenizer.train(data.corpus())
    parts = {"text_encoder": tokenizer, "text_decoder": tokenizer}
    feeder = Feeder(Draws(data, parts, batch=batch, key=(0, "b")), workers=workers)
    try:
        made = iter(feeder)
        next(made)
        started = time.perf_counter()
        for _ in range(draws):
            next(made)
        return batch * draws / (time.perf_counter() - started)
    finally:
        feeder.close()


@both
def test_workers_feed_faster_than_the_thread(measured: bool) -> None:
    """Beside a training, which is not there, the thread would share one lock with it; eight workers on a card's machine give 60,000 items a second."""
    batch, draws, cores = (256, 100, available_cores()) if measured else (4, 2, 1)
    rates = {workers: fed(workers, batch, draws) for workers in ((0, 1, 2, 8) if cores > 8 else (0, 1, 2))}
    print("; ".join(f"{workers} workers: {rate:,.0f} items/s ({rate / rates[0]:.2f} of the thread)" for workers, rate in rates.items()))
    assert rates[2] >= 1.5 * rates[1] or cores < 3
    assert cores <= 8 or rates[8] >= 60_000
