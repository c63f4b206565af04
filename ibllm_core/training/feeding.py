"""Which items an iteration sees, and the thread or the worker processes that make its batches."""

from __future__ import annotations

import math
import os
import pickle
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from traceback import format_exc
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..errors import UserError
from ..host.attribution import cause
from ..interfaces.batch import Batch, collate, take
from ..interfaces.dataset import Dataset
from ..interfaces.randomness import GOLDEN, derive_key, mix
from ..interfaces.tokenizer import Tokenizer
from ..model.compute import available_cores

#: Draws that the thread makes before they are asked for; each worker makes two.
_AHEAD = 3
#: A worker of a forked process shares the data's memory with it. Elsewhere than on Linux libraries do not survive a fork.
_START = "fork" if sys.platform == "linux" else None
_HELPS = """usually the system ended it for want of memory (dmesg tells), or shared memory ran out (docker run --shm-size): take fewer \
compute.workers, or none: with compute.workers = 0 the run's own process makes the batches"""
#: Rounds of the network. From eight on pairs of items are where chance would have them, in the smallest splits too; fewer are not enough there.
_ROUNDS = 10


def worker_count(wanted: int | str, device: torch.device) -> int:
    """Processes that make batches: as many as are wanted; with ``auto`` none for a CPU, else one a core that this process has to itself, up to 8."""
    here = os.environ.get("LOCAL_WORLD_SIZE", "")
    cores = available_cores() // max(1, int(here) if here.isdecimal() else 1)
    return wanted if isinstance(wanted, int) else 0 if device.type == "cpu" else max(0, min(8, cores - 1))


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


class Draws:
    """The batches of one stage by their numbers; what one holds depends on the seed and its number alone.

    A *draw* is one batch taken from the sequence; an iteration takes as many as its players need.

    Args:
        batch: items a draw, over all ranks and micro-batches.
        unpaired: ``text`` and ``images`` → further datasets, of which each draw takes as many captions and images, in an order of their own.
        micro: micro-batches that this process's share is cut into.
        rank, ranks: which contiguous share of each draw is this process's.
        padded: captions are padded here (`Batch.padded`), which costs a training on CUDA nothing.
        explain: an error as a user should see it.
        at: a dataset as the iteration of a draw sees it, by the recipe's key of it (``data``, ``unpaired.NAME``).
    """

    def __init__(
        self,
        dataset: Dataset,
        tokenizers: Mapping[str, Tokenizer],
        *,
        batch: int,
        key: tuple[int | str, ...],
        micro: int = 1,
        rank: int = 0,
        ranks: int = 1,
        unpaired: Mapping[str, Dataset] | None = None,
        padded: bool = False,
        explain: Callable[[BaseException], BaseException] = lambda error: error,
        at: Callable[[Dataset, int, str], Dataset] = lambda dataset, draw, key: dataset,
    ) -> None:
        self._dataset, self._tokenizers, self._unpaired, self._explain, self._at = dataset, tokenizers, unpaired or {}, explain, at
        self._order = getattr(dataset, "order", Order)(dataset.sizes()["train"], key)
        others = ((name, other, getattr(other, "order", Order)) for name, other in self._unpaired.items())
        self._orders = {name: order(other.sizes()["train"], (*key, "unpaired", name)) for name, other, order in others}
        self._batch, self._padded = batch, padded
        self._shares = np.array_split(np.arange(batch), ranks * micro)[rank * micro : (rank + 1) * micro]

    def __getitem__(self, draw: int) -> list[Batch] | UserError:
        """A draw for who asks in a worker; what making it raises is given back, named as it can be named there alone."""
        try:
            return self.make(draw)
        except (Exception, SystemExit) as error:
            found = UserError(f"{cause(self._explain(error))} (in the worker process {os.getpid()}; compute.workers = 0 shows where)")
            found.add_note(format_exc())
            return found

    def make(self, draw: int) -> list[Batch]:
        """The micro-batches of a draw."""
        return [self._collate(draw, share) for share in self._shares]

    def _collate(self, draw: int, share: npt.NDArray[np.int64]) -> Batch:
        positions, others = draw * self._batch + share, {name: f"unpaired.{name}" for name in self._unpaired}
        found = {
            name: take(self._at(self._unpaired[name], draw, key), "train", self._orders[name](positions), key)
            for name, key in others.items()
        }
        made = collate(take(self._at(self._dataset, draw, "data"), "train", self._order(positions)), self._tokenizers, share, found)
        return made.padded(self._tokenizers) if self._padded else made


class Feeder:
    """The draws of a stage one after the other, made ahead by a thread or by worker processes; they are the same for any number of these.

    Args:
        start: the first draw.
        workers: processes that make draws in turns; 0 for a thread of this one.
        device: where the batches are going: to an accelerator they are copied ahead (`copied`), to a CPU not.
        tell: says what a user should know.

    Attributes:
        make: the micro-batches of a draw, made at once.
    """

    def __init__(
        self,
        draws: Draws,
        start: int = 0,
        workers: int = 0,
        device: torch.device | None = None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._draws, self._start, self._workers, self._tell, self.make = draws, start, workers, tell, draws.make
        streams = device is not None and device.type != "cpu" and hasattr(getattr(torch, device.type, None), "Stream")
        self._device = device if streams else None
        self._thread = ThreadPoolExecutor(1, "ibllm-feeder")
        self._loaded: Any = None

    def __iter__(self) -> Iterator[list[Batch]]:
        """Draw after draw, without end; raises what the thread raised, and `UserError` for what a worker raised or where one is gone."""
        made = self._by_workers() if self._workers else self._by_thread()
        return copied(made, self._device) if self._device is not None else made

    def _by_thread(self) -> Iterator[list[Batch]]:
        def make(draw: int) -> list[Batch]:
            return [batch if self._device is None else batch.pin_memory() for batch in self.make(draw)]

        draws = count(self._start)
        coming = deque(self._thread.submit(make, next(draws)) for _ in range(_AHEAD))
        while True:
            made = coming.popleft().result()
            coming.append(self._thread.submit(make, next(draws)))
            yield made

    def _by_workers(self) -> Iterator[list[Batch]]:
        # Its own generator, so that it draws nothing from torch's.
        how: dict[str, Any] = {"pin_memory": self._device is not None, "multiprocessing_context": _START, "generator": torch.Generator()}
        draws: Any = self._draws
        loader = DataLoader(draws, None, sampler=count(self._start), num_workers=self._workers, worker_init_fn=_begin, **how)
        # Hugging Face's tokenizers, forked after they have used threads, warn unless this is said.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        try:
            # Begun in another thread than the main one, the loader raises in `next` alone, not wherever the run is when a worker ends.
            self._loaded = self._thread.submit(iter, loader).result()
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            self._tell(f"a thread makes the batches, not compute.workers: the data cannot be given to other processes: {error}")
            yield from self._by_thread()
        while True:
            try:
                made = next(self._loaded)
            except RuntimeError as error:
                raise UserError(f"a worker process that makes batches is gone: {error}; {_HELPS}") from error
            if isinstance(made, UserError):
                raise made
            yield made

    def close(self) -> None:
        """Ends the thread and the workers."""
        if self._loaded is not None:
            self._loaded._shutdown_workers()  # as at its deletion, which an error that is still looked at puts off
        self._thread.shutdown(cancel_futures=True)


def _begin(worker: int) -> None:
    """Ctrl-C reaches all processes of a terminal; it is the run that ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def copied(source: Iterator[list[Batch]], device: torch.device) -> Iterator[list[Batch]]:
    """Draws on an accelerator, each copied from pinned memory, on a stream of its own, while the one before it is computed with."""
    module, error = torch.get_device_module(device), None
    stream = module.Stream(device)

    def copy() -> list[Batch]:
        made = next(source)
        with module.stream(stream):
            return [batch.to(device) for batch in made]

    def used(values: Tensor) -> Tensor:
        values.record_stream(module.current_stream(device))  # whose queue has to be through before the memory is used again
        return values

    coming = copy()
    while error is None:
        module.current_stream(device).wait_stream(stream)
        ready = [batch.mapped(used) for batch in coming]
        try:
            coming = copy()
        except Exception as found:
            error = found
        yield ready
    raise error
