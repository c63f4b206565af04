"""Clients that ask at once, each the next as soon as it has its answer."""

from __future__ import annotations

import asyncio
import base64
import io
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import httpx2 as httpx
import numpy as np
from PIL import Image

#: (path, body) of one request.
Request = tuple[str, dict[str, Any]]
COLOURS = ("red", "blue", "green", "white")


@attrs.define
class Told:
    """What clients met."""

    statuses: Counter[int] = attrs.field(factory=Counter)
    seconds: list[float] = attrs.field(factory=list)
    whole: float = 0.0

    def quantile(self, share: float) -> float:
        return float(np.quantile(self.seconds, share))

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.seconds) / self.whole

    def __str__(self) -> str:
        return (
            f"{len(self.seconds)} requests, {self.rate:.0f} a second, p50 {1e3 * self.quantile(0.5):.0f} ms, "
            f"p99 {1e3 * self.quantile(0.99):.0f} ms, {dict(self.statuses)}"
        )


def draws() -> Iterator[Request]:
    """Requests for drawings, each of another seed."""
    for number in itertools.count():
        yield "/v1/generate", {"text": f"a small {COLOURS[number % 4]} circle at the top left", "seed": number}


def mixed() -> Iterator[Request]:
    """Requests of every kind, images of every size."""
    images = [picture(size, number) for number, size in enumerate([(32, 32), (300, 200), (64, 640), (5, 9)])]
    for number, drawing in enumerate(draws()):
        image = images[number % 4]
        yield from (drawing, ("/v1/caption", {"image": image}), ("/v1/roundtrip", {"text": drawing[1]["text"], "seed": number}))
        yield from (("/v1/roundtrip", {"image": image, "seed": number}), ("/v1/score", {"image": image, "text": drawing[1]["text"]}))


def picture(size: tuple[int, int], seed: int) -> str:
    """Noise of a size as a PNG file in base64."""
    width, height = size
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


async def load(client: httpx.AsyncClient, clients: int, requests: Iterator[Request], on: Callable[[int, float], bool]) -> Told:
    """Lets clients ask at once.

    Args:
        on: whether to go on, of the requests begun and the seconds passed.
    """
    told, start, begun = Told(), time.monotonic(), 0

    async def ask() -> None:
        nonlocal begun
        while on(begun, time.monotonic() - start):
            begun += 1
            path, body = next(requests)
            sent = time.monotonic()
            answer = await client.post(path, json=body)
            told.seconds.append(time.monotonic() - sent)
            told.statuses[answer.status_code] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(ask())
    told.whole = time.monotonic() - start
    return told


async def load_app(app: Any, clients: int, requests: Iterator[Request], count: int) -> Told:
    """The same without a socket: `count` requests to an application."""
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost", timeout=60) as client,
    ):
        return await load(client, clients, requests, lambda begun, _: begun < count)
