"""Requests that wait together go through the model together, and none depends on its company."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from ibllm_serve.batching import Batcher, Closed, Full, Late


class Doubled:
    """Doubles numbers, and holds until it is told to go on."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, list[int]]] = []
        self.go = threading.Event()

    def __call__(self, key, items):
        self.seen.append((key, list(items)))
        assert self.go.wait(10)
        if 13 in items:
            raise ValueError("thirteen")
        return [2 * item for item in items]


async def held(batcher, doubled):
    """Starts a request that keeps the model busy."""
    first = asyncio.ensure_future(batcher.submit("a", 0))
    while not doubled.seen:
        await asyncio.sleep(0.001)
    return first


def run(play, **how):
    """Plays with a batcher, and closes it."""
    doubled = Doubled()

    async def whole():
        batcher = Batcher(doubled, **{"wait": 0.0, **how})
        try:
            async with asyncio.timeout(10):
                return await play(batcher, doubled)
        finally:
            doubled.go.set()
            await batcher.close()

    return asyncio.run(whole()), doubled.seen


def test_those_of_one_kind_go_together_the_longest_waiting_first():
    async def play(batcher, doubled):
        first = await held(batcher, doubled)
        rest = [asyncio.ensure_future(batcher.submit(key, number)) for key, number in [("b", 1), ("a", 2), ("b", 3), ("a", 4)]]
        await asyncio.sleep(0.01)
        doubled.go.set()
        return await asyncio.gather(first, *rest)

    results, seen = run(play)
    assert results == [0, 2, 4, 6, 8]
    assert seen == [("a", [0]), ("b", [1, 3]), ("a", [2, 4])]


def test_a_batch_has_so_many_rows_and_a_larger_request_goes_alone():
    async def play(batcher, doubled):
        first = await held(batcher, doubled)
        rest = [asyncio.ensure_future(batcher.submit("a", number, rows=rows)) for number, rows in [(1, 3), (2, 2), (3, 1), (4, 9)]]
        await asyncio.sleep(0.01)
        doubled.go.set()
        await asyncio.gather(first, *rest)

    assert run(play, rows=4)[1] == [("a", [0]), ("a", [1, 3]), ("a", [2]), ("a", [4])]


def test_while_the_model_is_idle_the_first_waits_a_little_for_company():
    async def play(batcher, doubled):
        doubled.go.set()

        async def late():
            await asyncio.sleep(0.02)
            return await batcher.submit("a", 2)

        start = time.monotonic()
        await asyncio.gather(batcher.submit("a", 1), late())
        return time.monotonic() - start

    seconds, seen = run(play, wait=0.2)
    assert seen == [("a", [1, 2])] and seconds >= 0.19
    seconds, seen = run(play, wait=5.0, rows=2)
    assert seen == [("a", [1, 2])] and seconds < 4  # full: it waits no longer


def test_a_request_that_fails_takes_none_with_it():
    async def play(batcher, doubled):
        first = await held(batcher, doubled)
        rest = [asyncio.ensure_future(batcher.submit("a", number)) for number in (1, 13, 2)]
        await asyncio.sleep(0.01)
        doubled.go.set()
        return await asyncio.gather(first, *rest, return_exceptions=True)

    results = run(play)[0]
    assert results[:2] + results[3:] == [0, 2, 4] and isinstance(results[2], ValueError)


def test_there_is_a_bound():
    async def play(batcher, doubled):
        first = await held(batcher, doubled)
        rest = [asyncio.ensure_future(batcher.submit("a", number)) for number in (1, 2)]
        await asyncio.sleep(0)
        with pytest.raises(Full):
            await batcher.submit("a", 3)
        doubled.go.set()
        await asyncio.gather(first, *rest)
        return await batcher.submit("a", 4)

    assert run(play, limit=3)[0] == 8


def test_a_request_whose_turn_does_not_come_in_time_is_not_computed():
    async def play(batcher, doubled):
        first = await held(batcher, doubled)
        with pytest.raises(Late) as late:
            await batcher.submit("a", 1, timeout=0.01)
        assert not late.value.begun and batcher.waiting == 0
        given_up = asyncio.ensure_future(batcher.submit("a", 2))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.sleep(0)
        assert batcher.waiting == 0
        doubled.go.set()
        await first

    assert run(play)[1] == [("a", [0])]


def test_one_that_is_computed_for_too_long_is_told_so_and_the_model_goes_on():
    async def play(batcher, doubled):
        with pytest.raises(Late) as late:
            await batcher.submit("a", 1, timeout=0.05)
        assert late.value.begun
        doubled.go.set()
        return await batcher.submit("a", 2)

    assert run(play)[0] == 4


def test_what_was_taken_is_computed_before_the_end_and_nothing_is_taken_afterwards():
    async def play(batcher, doubled):
        first = await held(batcher, doubled)
        second = asyncio.ensure_future(batcher.submit("a", 1))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(batcher.close())
        await asyncio.sleep(0.01)
        with pytest.raises(Closed):
            await batcher.submit("a", 2)
        doubled.go.set()
        await closing
        return first.done(), second.done(), await first, await second

    assert run(play)[0] == (True, True, 0, 2)


def test_an_idle_one_can_be_closed():
    async def play(batcher, doubled):
        pass

    assert run(play)[1] == []
