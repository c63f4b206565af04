"""Which items an iteration sees does not depend on ranks, micro-batches or restarts."""

from __future__ import annotations

from itertools import islice

import numpy as np
import numpy.typing as npt
import pytest

from ibllm_core.interfaces.dataset import Dataset, Samples
from ibllm_core.training.feeding import Feeder, Order


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
    return [[round(float((y[0, 0, 0] + 1) * 127.5)) for micro in draw if micro.y is not None for y in micro.y] for draw in batches]


def test_an_epoch_sees_every_item_once() -> None:
    order = Order(10, (0, "stage"))
    first, second = order(np.arange(10)), order(np.arange(10, 20))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first.tolist() != second.tolist()
    assert first.tolist() == Order(10, (0, "stage"))(np.arange(10)).tolist()


@pytest.mark.parametrize(("ranks", "micro"), [(1, 2), (2, 1), (2, 3), (3, 1)])
def test_shares_put_together_are_the_whole(ranks: int, micro: int) -> None:
    whole = seen(Feeder(Numbers(), {}, batch=6, key=(0, "s")), 4)
    shares = [seen(Feeder(Numbers(), {}, batch=6, key=(0, "s"), rank=rank, ranks=ranks, micro=micro), 4) for rank in range(ranks)]
    assert [[item for part in parts for item in part] for parts in zip(*shares, strict=True)] == whole


def test_a_restart_goes_on_where_it_was() -> None:
    whole = seen(Feeder(Numbers(), {}, batch=4, key=(0, "s")), 5)
    assert seen(Feeder(Numbers(), {}, batch=4, key=(0, "s"), start=3), 2) == whole[3:]


def test_an_error_of_the_dataset_reaches_the_loop() -> None:
    class Broken(Numbers):
        def samples(self, split: str, indices: npt.NDArray[np.int64]) -> Samples:
            raise OSError("the disk is gone")

    feeder = Feeder(Broken(), {}, batch=2, key=(0,))
    with pytest.raises(OSError, match="the disk is gone"):
        next(iter(feeder))
    feeder.close()
