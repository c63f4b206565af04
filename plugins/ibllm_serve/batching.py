"""Dynamic batching: requests that wait for the model at the same time go through it together.

The libraries for this on the package index poll an idle queue, have no bound, or let a request that was given up break its batch.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs

__all__ = ["Batcher", "Closed", "Full", "Late"]

#: (key, items) → a result for each item, or the exception that its request ends with.
Compute = Callable[[Any, Sequence[Any]], Sequence[Any]]


class Full(Exception):
    """As many requests wait as may."""


class Closed(Exception):
    """The server stops and takes no more."""


class Late(Exception):
    """No result in time.

    Args:
        begun: whether it was being computed; otherwise it never had its turn.
    """

    def __init__(self, begun: bool) -> None:
        super().__init__("computed for too long" if begun else "waited for too long")
        self.begun = begun


@attrs.define(eq=False)
class _Entry:
    key: Hashable
    item: Any
    rows: int
    future: asyncio.Future[Any]
    since: float
    begun: bool = False


class Batcher:
    """Gathers requests and computes those of one key together, in a thread of its own, the longest waiting first.

    Args:
        compute: what is called in that thread, never twice at once. Where it raises, each request is tried by itself, so that none fails for another.
        rows: at most so many rows go through the model at once; a request of more goes alone.
        wait: seconds that the first request of a batch waits for company while the model is idle.
        limit: requests that may wait or be computed at once.
        seen: told of each batch: key, requests, rows, seconds.
    """

    def __init__(
        self,
        compute: Compute,
        *,
        rows: int = 32,
        wait: float = 0.005,
        limit: int = 128,
        seen: Callable[[Any, int, int, float], None] = lambda key, requests, rows, seconds: None,
    ) -> None:
        self._compute, self._rows, self._wait, self._limit, self._seen = compute, rows, wait, limit, seen
        self._waiting: list[_Entry] = []
        self._computed = 0
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ibllm-model")
        self._arrived = asyncio.Event()
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        return len(self._waiting) + self._computed >= self._limit

    async def submit(self, key: Hashable, item: Any, *, rows: int = 1, timeout: float | None = None) -> Any:
        """The item's result.

        Args:
            key: items of equal keys may go together.
            rows: how many the item counts for.
            timeout: seconds until `Late` is raised; None waits.

        Raises:
            Full, Closed, Late: as they say.
        """
        if self._closed:
            raise Closed
        if self.full:
            raise Full
        loop = asyncio.get_running_loop()
        if self._task is None:
            self._task = loop.create_task(self._serve())
        entry = _Entry(key, item, rows, loop.create_future(), time.monotonic())
        self._waiting.append(entry)
        self._arrived.set()
        try:
            async with asyncio.timeout(timeout):
                return await entry.future
        except TimeoutError:
            if not entry.future.cancelled():  # a TimeoutError of the model's own
                raise
            raise Late(entry.begun) from None
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)

    async def close(self) -> None:
        """Takes no more, and comes back when all that was taken is computed."""
        self._closed = True
        self._arrived.set()
        if self._task is not None:
            await self._task
        self._pool.shutdown()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting or not self._closed:
            self._arrived.clear()
            if not self._waiting:
                await self._arrived.wait()
                continue
            await self._company()
            if batch := self._take():
                start = time.monotonic()
                results = await loop.run_in_executor(self._pool, self._results, batch[0].key, [entry.item for entry in batch])
                self._computed = 0
                self._seen(batch[0].key, len(batch), sum(entry.rows for entry in batch), time.monotonic() - start)
                _hand_out(batch, results)

    def _results(self, key: Any, items: Sequence[Any]) -> list[Any]:
        """A result or an exception for each item."""
        try:
            results = list(self._compute(key, items))
            assert len(results) == len(items), "a result for each request"
            return results
        except Exception as error:
            return [error] if len(items) == 1 else [result for item in items for result in self._results(key, [item])]

    async def _company(self) -> None:
        """Waits until the oldest request has waited long enough or has enough company."""
        while self._waiting and not self._closed:
            oldest = self._waiting[0]
            remaining = oldest.since + self._wait - time.monotonic()
            if remaining <= 0 or sum(entry.rows for entry in self._waiting if entry.key == oldest.key) >= self._rows:
                return
            self._arrived.clear()
            try:
                async with asyncio.timeout(remaining):
                    await self._arrived.wait()
            except TimeoutError:
                return

    def _take(self) -> list[_Entry]:
        """The oldest request and those that may go with it."""
        taken: list[_Entry] = []
        rows = 0
        for entry in self._waiting:
            if not taken or (entry.key == taken[0].key and rows + entry.rows <= self._rows):
                entry.begun = True
                taken.append(entry)
                rows += entry.rows
        self._waiting = [entry for entry in self._waiting if not entry.begun]
        self._computed = len(taken)
        return taken


def _hand_out(batch: Sequence[_Entry], results: Sequence[Any]) -> None:
    for entry, result in zip(batch, results, strict=True):
        if entry.future.done():  # nobody waits any more
            continue
        if isinstance(result, BaseException):
            entry.future.set_exception(result)
        else:
            entry.future.set_result(result)
