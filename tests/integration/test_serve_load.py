"""64 clients for a minute: no error, what the slowest hundredth waits, and memory that stays where it is. ``-s`` shows the figures."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.serve.load import load, mixed

from .serving import served, trained

CLIENTS, SECONDS = 64, 60
#: What memory may grow by between the tenth second and the last: allocators keep some.
GROWTH = 24 * 2**20


def resident(address: str) -> int:
    """Bytes of the server's memory, as it says itself."""
    with urllib.request.urlopen(f"{address}/metrics") as answer:
        found = re.search(r"^process_resident_memory_bytes (\S+)", answer.read().decode(), re.MULTILINE)
    assert found
    return int(float(found[1]))


def test_many_clients_for_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IBLLM_BLOCK", "rehearsal,report")
    run = trained(tmp_path)
    with served(run, "--queue", str(2 * CLIENTS)) as (address, _):
        memory = []

        async def watched() -> None:
            for _ in range(SECONDS // 10):
                await asyncio.sleep(10)
                memory.append(await asyncio.to_thread(resident, address))

        async def play():
            limits = httpx.Limits(max_connections=CLIENTS, max_keepalive_connections=CLIENTS)
            async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as client:
                watching = asyncio.create_task(watched())
                told = await load(client, CLIENTS, mixed(), lambda _, seconds: seconds < SECONDS)
                await watching
                return told

        told = asyncio.run(play())
    print(f"{told}; memory {', '.join(f'{each / 2**20:.0f}' for each in memory)} MiB")
    assert told.quantile(0.99) < 30
    # A model that has learnt little may write nothing (409); any other answer is a drawing, a caption, a score.
    assert set(told.statuses) <= {200, 409} and told.statuses[200] > 0.5 * len(told.seconds)
    assert memory[-1] - memory[0] < GROWTH
