"""``ibllm ablate --watch``: a page of runs that are under way, for this machine alone."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from ibllm_study import watch
from ibllm_study.directory import DONE, RUNNING
from ibllm_study.runner import Progress
from ibllm_study.watch import LOOPBACK, Board, served

from ibllm_core.errors import UserError

from .conftest import figures, write_run


def get(address: str, **headers: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=60) as answer:
        assert answer.headers["Cache-Control"] == "no-store"
        return str(answer.read().decode())


def test_the_page_follows_the_runs(make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = frozenset((arm, 1) for arm in ("base", "no cycle"))
    plan, directory = make(tmp_path, seeds=2, without=waiting)
    monkeypatch.setattr(watch, "FRESH", 0.0)
    board = Board(plan, directory)
    cell = plan.cell("base", 1)
    with served(board) as address:
        assert address.startswith(f"http://{LOOPBACK}:")
        board.looked({one.id: Progress(status=DONE) for one in plan.cells} | {cell.id: Progress(status=RUNNING, stage="joint", share=0.4)})
        before = json.loads(get(f"{address}state"))
        assert before["line"] == f"{len(plan.cells) - 1} of {len(plan.cells)} runs; now base, seed 1: joint 40 %"
        page = get(address)
        assert "location.reload" in page and f"state.version !== {before['version']}" in page
        write_run(directory.run(cell).path, cell, figures("base", 1))
        board.ended(cell, directory.outcome(cell), 1.0)
        after = json.loads(get(f"{address}state"))
        assert after["version"] != before["version"]
        assert f"state.version !== {after['version']}" in get(address)


def test_nobody_else_reads_along(make, tmp_path: Path) -> None:
    board = Board(*make(tmp_path, seeds=2))
    with served(board) as address:
        for headers, path in (({"Host": "evil.example"}, "state"), ({}, "../etc/passwd")):
            with pytest.raises(urllib.error.HTTPError) as refused:
                get(f"{address}{path}", **headers)
            assert refused.value.code in (403, 404)
        port = int(address.rstrip("/").rpartition(":")[2])
        with pytest.raises(UserError, match=f"--watch-port {port}"), served(board, port):
            pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((LOOPBACK, port), timeout=1).close()
