"""Which items an iteration sees does not depend on ranks, micro-batches or restarts."""

from __future__ import annotations

import math
import tracemalloc
from itertools import islice

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import chisquare, kstest

from ibllm_core.interfaces.dataset import Dataset, Samples
from ibllm_core.training.feeding import Draws, Feeder, Order


class Numbers(Dataset):
    image_shape = (3, 1, 1)

    def sizes(self) -> dict[str, int]:
        return {"train": 10}

    def samples(self, split: str, indices: npt.NDArray[np.int64]) -> Samples:
        return Samples(indices=indices, images=np.repeat(indices, 3).reshape(-1, 1, 1, 3).astype(np.uint8))


def seen(feeder: Feeder, draws: int) -> list[list[int]]:
    try:
        batches = list(islice(iter(feeder), draws))
    finally:
        feeder.close()
    return [[int(y[0, 0, 0]) for micro in draw if micro.y is not None for y in micro.y] for draw in batches]


def test_an_epoch_sees_every_item_once() -> None:
    order = Order(10, (0, "stage"))
    first, second = order(np.arange(10)), order(np.arange(10, 20))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first.tolist() != second.tolist()
    assert first.tolist() == Order(10, (0, "stage"))(np.arange(10)).tolist()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 97, 255, 256, 257, 1009, 4095, 4097, 65_537])
def test_every_epoch_is_a_permutation(size: int) -> None:
    epochs = Order(size, (0, "stage"))(np.arange(3 * size)).reshape(3, size)
    assert (np.sort(epochs, axis=1) == np.arange(size)).all()
    assert size < 5 or len({tuple(epoch) for epoch in epochs.tolist()}) == 3


@pytest.mark.parametrize("size", [2, 3, 4, 5, 8, 9, 17])
def test_pairs_of_items_are_where_chance_would_have_them(size: int) -> None:
    """Of any two places, first and last and neighbours among them, every pair of different items is equally likely."""
    count = 20_000
    epochs = Order(size, (7, "stage"))(np.arange(count * size)).reshape(count, size)
    for one, other in {(0, size - 1), (0, 1), (size // 2 - 1, size // 2)}:
        seen = np.zeros((size, size))
        np.add.at(seen, (epochs[:, one], epochs[:, other]), 1)
        assert chisquare(seen[~np.eye(size, dtype=bool)]).pvalue > 1e-4
    kept = (epochs[:, :-1] + 1 == epochs[:, 1:]).sum(axis=1)  # items that still follow each other; one in `size` by chance
    assert kept.mean() == pytest.approx((size - 1) / size, abs=5 / math.sqrt(count))


def test_epochs_and_keys_are_independent() -> None:
    epochs = Order(16, (0, "stage"))(np.arange(16 * 20_000)).reshape(-1, 16)
    other = Order(16, (1, "stage"))(np.arange(16 * 20_000)).reshape(-1, 16)
    for one, two in ((epochs[:-1, 3], epochs[1:, 3]), (epochs[:, 3], other[:, 3])):
        seen = np.zeros((16, 16))
        np.add.at(seen, (one, two), 1)
        assert chisquare(seen.ravel()).pvalue > 1e-4


def test_a_thousand_million_items_take_no_memory() -> None:
    order = Order(10**9, (0, "stage"))
    positions = np.concatenate([np.arange(4096), np.arange(10**9 - 4096, 10**9 + 4096)])
    tracemalloc.start()
    items = order(positions)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6
    assert len(set(items[:8192].tolist())) == 8192
    assert items.min() >= 0 and items.max() < 10**9
    assert kstest(items / 1e9, "uniform").pvalue > 1e-4
    assert np.array_equal(order(positions[::-1])[::-1], items)


@pytest.mark.parametrize(("ranks", "micro"), [(1, 2), (2, 1), (2, 3), (3, 1)])
def test_shares_put_together_are_the_whole(ranks: int, micro: int) -> None:
    whole = seen(Feeder(Draws(Numbers(), {}, batch=6, key=(0, "s"))), 4)
    shares = [seen(Feeder(Draws(Numbers(), {}, batch=6, key=(0, "s"), rank=rank, ranks=ranks, micro=micro)), 4) for rank in range(ranks)]
    assert [[item for part in parts for item in part] for parts in zip(*shares, strict=True)] == whole


def test_a_restart_goes_on_where_it_was() -> None:
    whole = seen(Feeder(Draws(Numbers(), {}, batch=4, key=(0, "s"))), 5)
    assert seen(Feeder(Draws(Numbers(), {}, batch=4, key=(0, "s")), 3), 2) == whole[3:]


def test_an_error_of_the_dataset_reaches_the_loop() -> None:
    class Broken(Numbers):
        def samples(self, split: str, indices: npt.NDArray[np.int64]) -> Samples:
            raise OSError("the disk is gone")

    feeder = Feeder(Draws(Broken(), {}, batch=2, key=(0,)))
    with pytest.raises(OSError, match="the disk is gone"):
        next(iter(feeder))
    feeder.close()
