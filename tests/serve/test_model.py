"""The server with a model of ours: company, load, its end."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from ibllm_serve.app import application
from ibllm_serve.engine import Engine, Job
from ibllm_serve.settings import Settings

import ibllm
from tests import processes
from tests.serve.load import load_app, mixed

TEXTS = ["a small red circle at the top left", "a large blue ring at the bottom right", "a small green square at the top right"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IBLLM_BLOCK", "rehearsal,report,contracts,vocabulary,divergence,passes,capture")
        return ibllm.recipe(Path(__file__).parents[1] / "use" / "tiny.toml").run(tmp_path_factory.mktemp("serve") / "tiny").path


@pytest.fixture(scope="module")
def engine(run: Path) -> Engine:
    return Engine(ibllm.open(run))


def test_an_answer_depends_on_its_seed_and_not_on_its_company(engine):
    draw, read = Job.of("generate", n=2), Job.of("caption", n=1, temperature=1.0)
    items = [(text, seed) for text in TEXTS for seed in (0, 3)]
    together = engine.compute(draw, items)
    for item, pictures in zip(items, together, strict=True):
        alone = engine.compute(draw, [item])[0]
        assert np.abs(np.int16(pictures) - alone).max() <= 1  # products of other shapes round otherwise
        assert np.abs(np.int16(pictures) - engine.model.generate(item[0], n=2, seed=item[1], output="numpy")).max() <= 1
    assert np.abs(np.int16(together[0]) - together[1]).max() > 1
    images = [(pictures[0], seed) for pictures, (_, seed) in zip(together, items, strict=True)]
    written = engine.compute(read, images)
    assert written == [engine.compute(read, [each])[0] for each in images]
    given = {seed: engine.compute(read, [(images[0][0], seed)])[0] for seed in range(4)}
    assert len({str(each) for each in given.values()}) > 1


def test_clients_at_once_are_all_answered_and_go_together(engine):
    app = application(engine, Settings(queue=16, rows=16), "tiny", [])
    told = asyncio.run(load_app(app, 16, mixed(), 80))
    assert set(told.statuses) <= {200, 409} and told.statuses[200] >= 48  # a model that has learnt nothing may write nothing
    assert len(told.seconds) == 80
    assert told.quantile(0.99) < 30


def ask(address: str, path: str, body: object = None) -> tuple[int, dict]:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(
            urllib.request.Request(address + path, data, {"Content-Type": "application/json"}), timeout=60
        ) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_the_command_serves_and_answers_what_it_took_before_it_ends(run):
    command = processes.ibllm("serve", run, "--port", 0, "--max-wait", 300)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        said = ""
        while (found := re.search(r"at (http://127.0.0.1:\d+)/", said)) is None:
            line = process.stderr.readline()
            assert line, said
            said += line
        address, answers = found[1], []
        assert ask(address, "/health")[1]["status"] == "ok"
        asking = threading.Thread(target=lambda: answers.append(ask(address, "/v1/generate", {"text": TEXTS[0]})))
        asking.start()
        while ask(address, "/health")[1]["waiting"] == 0 and not answers:
            pass
        process.send_signal(signal.SIGTERM)
        asking.join(60)
        assert answers[0][0] == 200
        assert process.wait(60) == 0
        assert process.stderr.read() == "all that was asked is answered; stopped\n"
