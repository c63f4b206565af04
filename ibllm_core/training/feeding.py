"""Which items an iteration sees, and the thread that prepares them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import numpy as np
import numpy.typing as npt

from ..interfaces.batch import Batch, collate, take
from ..interfaces.dataset import Dataset
from ..interfaces.randomness import GOLDEN, derive_key, mix
from ..interfaces.tokenizer import Tokenizer

#: Draws that are prepared before they are asked for.
_AHEAD = 3


#: Rounds of the network. From eight on pairs of items are where chance would have them, in the smallest splits too; fewer are not enough there.
_ROUNDS = 10


class Order:
    """The order of a split's items: a fresh permutation an epoch, a pure function of (key, epoch), whose places are computed one by one.

    A Feistel network permutes the places of a square that is at least as large as the split, with sums in place of exclusive ors; a place that
    leaves the split goes through it again until it is back (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002). No memory.

    Args:
        size: items of the split.
        key: words that key the order (seed, stage).
    """

    def __init__(self, size: int, key: tuple[int | str, ...]) -> None:
        self._size, self._side = size, math.isqrt(size - 1) + 1
        self._keys = [derive_key(*key, "order", turn) for turn in range(_ROUNDS)]

    def __call__(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Positions in the endless sequence of epochs → item numbers."""
        epochs, places = divmod(positions.astype(np.uint64), self._size)
        outside = np.arange(len(places))
        while len(outside):
            places[outside] = self._permuted(places[outside], epochs[outside])
            outside = outside[places[outside] >= self._size]
        return places.astype(np.int64)

    def _permuted(self, places: npt.NDArray[np.uint64], epochs: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        """Places in the square, each in an epoch's permutation of it."""
        left, right = divmod(places, self._side)
        for key in self._keys:
            left, right = right, (left + (mix(mix(epochs + key) + right * GOLDEN) >> 11) % self._side) % self._side
        return left * self._side + right


class Feeder:
    """Batches of one stage, prepared ahead by a thread; what they hold depends on the seed and the draw's number alone.

    A *draw* is one batch taken from the sequence; an iteration takes as many as its players need.

    Args:
        batch: items a draw, over all ranks and micro-batches.
        unpaired: ``text`` and ``images`` → further datasets, of which each draw takes as many captions and images, in an order of their own.
        start: the first draw.
        micro: micro-batches that this process's share is cut into.
        rank, ranks: which contiguous share of each draw is this process's.
    """

    def __init__(
        self,
        dataset: Dataset,
        tokenizers: Mapping[str, Tokenizer],
        *,
        batch: int,
        key: tuple[int | str, ...],
        start: int = 0,
        micro: int = 1,
        rank: int = 0,
        ranks: int = 1,
        unpaired: Mapping[str, Dataset] | None = None,
    ) -> None:
        self._dataset, self._tokenizers, self._unpaired = dataset, tokenizers, unpaired or {}
        self._order = Order(dataset.sizes()["train"], key)
        self._orders = {name: Order(other.sizes()["train"], (*key, "unpaired", name)) for name, other in self._unpaired.items()}
        self._batch, self._start = batch, start
        self._shares = np.array_split(np.arange(batch), ranks * micro)[rank * micro : (rank + 1) * micro]
        self._thread = ThreadPoolExecutor(1, "ibllm-feeder")

    def make(self, draw: int) -> list[Batch]:
        """The micro-batches of a draw."""
        return [self._collate(draw, share) for share in self._shares]

    def _collate(self, draw: int, share: npt.NDArray[np.int64]) -> Batch:
        positions = draw * self._batch + share
        found = {name: take(other, "train", self._orders[name](positions), f"unpaired.{name}") for name, other in self._unpaired.items()}
        return collate(take(self._dataset, "train", self._order(positions)), self._tokenizers, share, found)

    def __iter__(self) -> Iterator[list[Batch]]:
        """Draw after draw, without end; raises what making one raised."""
        draws = count(self._start)
        coming = deque(self._thread.submit(self.make, next(draws)) for _ in range(_AHEAD))
        while True:
            made = coming.popleft().result()
            coming.append(self._thread.submit(self.make, next(draws)))
            yield made

    def close(self) -> None:
        """Stops the thread."""
        self._thread.shutdown(cancel_futures=True)
