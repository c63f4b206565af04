"""Batches that worker processes make are those that a thread makes, and a worker that raises, or is gone, is named."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
from functools import partial
from itertools import islice
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ibllm_cli.main import main
from ibllm_shapes import dataset
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import get_worker_info

from ibllm_core.host.attribution import explained
from ibllm_core.interfaces.batch import Batch, to_images
from ibllm_core.interfaces.latent import Tokens
from ibllm_core.model import build
from ibllm_core.training import feeding
from ibllm_core.training.feeding import Draws, Feeder, copied, worker_count
from ibllm_core.training.job import Job

from .conftest import TINY
from .test_data import Numbers, seen
from .test_resume import interrupted

pytestmark = pytest.mark.usefixtures("plain_runs")

ONE_STAGE = (
    "stages.image.steps=0",
    "stages.joint.steps=0",
    "stages.text.validate.every=0",
    "metrics.scene=false",
    "trackers.tensorboard=false",
)
CPU = ("compute.device=cpu", "compute.threads=1")


def draws() -> Draws:
    return Draws(Numbers(), {}, batch=4, key=(0, "s"), micro=2)


def run(directory: Path, *sets: str, resume: bool = False) -> int:
    given = [f"--set={one}" for one in (*CPU, *ONE_STAGE, *sets)]
    return main(["run", str(directory), "--resume"] if resume else ["run", str(TINY), "--run-dir", str(directory), *given])


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_give_the_batches_of_the_thread_in_their_order(workers: int) -> None:
    generator = torch.get_rng_state()
    assert seen(Feeder(draws(), 2, workers), 7) == seen(Feeder(draws(), 2), 7)
    assert torch.equal(torch.get_rng_state(), generator)
    assert not active_children()


def test_a_run_with_workers_ends_with_the_same_bits(finished: Path, tiny: Any, tmp_path: Path) -> None:
    """Stopped in the midst of a stage, and gone on with another number of them."""
    path = interrupted(tiny(*CPU, "compute.workers=2"), tmp_path / "run", 6)
    assert json.loads((path / "run.json").read_text())["hardware"]["workers"] == 2
    Job(tiny(*CPU, "compute.workers=1"), path).run(resume=True)
    rows = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (path, finished)]
    mine, theirs = ([{k: v for k, v in row.items() if k not in ("time", "samples_per_second")} for row in some] for some in rows)
    assert mine == theirs
    weights, others = (load_file(run / "model" / "weights.safetensors") for run in (path, finished))
    assert all(torch.equal(weights[name], others[name]) for name in others) and weights.keys() == others.keys()
    assert not active_children()


def in_worker(monkeypatch: pytest.MonkeyPatch, call: int, do: Any) -> None:
    """Has the second worker do something else when it draws a batch for the n-th time."""
    made, calls = dataset.render, iter(range(99))

    def render(scenes: Any) -> Any:
        worker = get_worker_info()
        if worker is not None and worker.id == 1 and next(calls) == call:
            do()
        return made(scenes)

    monkeypatch.setattr(dataset, "render", render)


def test_a_worker_that_is_killed_is_named_and_the_run_goes_on(monkeypatch: Any, capsys: Any, tmp_path: Path) -> None:
    with monkeypatch.context() as patched:
        in_worker(patched, 1, lambda: os.kill(os.getpid(), signal.SIGKILL))
        assert run(tmp_path / "run", "compute.workers=2", "training.checkpoint_every=0") == 2
    said = capsys.readouterr().err
    assert re.search(r"a worker process that makes batches is gone: DataLoader worker \(pid\(s\) \d+\)", said)
    assert "want of memory" in said and "compute.workers = 0" in said
    told = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["notices"]
    assert any(re.fullmatch(r"a checkpoint of step [13] is written; the run goes on from it with --resume", notice) for notice in told)
    (checkpoint,) = (tmp_path / "run" / "checkpoints").glob("step-*")
    assert checkpoint.name in ("step-0000001", "step-0000003"), "what it had made before may be lost with it"
    assert not active_children()
    assert run(tmp_path / "run", resume=True) == 0


def test_what_a_worker_raises_names_the_component(monkeypatch: Any, capsys: Any, tmp_path: Path) -> None:
    def fail() -> None:
        raise RuntimeError("the disk is gone")

    in_worker(monkeypatch, 0, fail)
    assert run(tmp_path / "run", "compute.workers=2") == 2
    said = capsys.readouterr().err
    assert "data = shapes (provided by ibllm" in said and "raised RuntimeError: the disk is gone" in said
    assert "in the worker process" in said and "compute.workers = 0" in said
    assert "in fail" in json.loads((tmp_path / "run" / "run.json").read_text())["traceback"]


def test_data_that_no_other_process_can_get_are_made_by_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    class Local(Numbers):
        """Cannot be pickled."""

    monkeypatch.setattr(feeding, "_START", "spawn")
    told: list[str] = []
    some = Draws(Local(), {}, batch=4, key=(0, "s"), micro=2)
    assert seen(Feeder(some, 2, workers=1, tell=told.append), 3) == seen(Feeder(draws(), 2), 3)
    assert len(told) == 1 and "a thread makes the batches, not compute.workers" in told[0]


def test_what_workers_are_given_can_be_pickled(tiny: Any) -> None:
    """Where processes are not forked."""
    assert pickle.loads(pickle.dumps(partial(explained, recipe=tiny())))


def test_captions_are_padded_where_batches_are_made(tiny: Any) -> None:
    recipe = tiny()
    data = build.build_dataset(recipe)
    tokenizers = {"text_encoder": build.build_tokenizers(recipe, [data])["text"]}
    made, as_it_is = (Draws(data, tokenizers, batch=4, key=(0, "s"), padded=padded).make(0)[0] for padded in (True, False))
    assert made.x is not None and as_it_is.x is not None and made.x.ids.shape[1] % 8 == 0
    again = as_it_is.padded(tokenizers).x
    assert again is not None and torch.equal(again.ids, made.x.ids) and torch.equal(again.mask, made.x.mask)


def test_auto_takes_the_cores_that_a_process_has_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    card, cpu = torch.device("cuda:0"), torch.device("cpu")
    monkeypatch.setattr(feeding, "available_cores", lambda: 16)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert (worker_count("auto", cpu), worker_count("auto", card), worker_count(3, cpu)) == (0, 8, 3)
    for ranks, workers in (("4", 3), ("16", 0), ("32", 0)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
        assert worker_count("auto", card) == workers


def batch() -> Batch:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 2, 3, 3), np.uint8))
    text = Tokens(torch.ones(4, 2, dtype=torch.int64), torch.ones(4, 2, dtype=torch.bool))
    return Batch(numbers=np.arange(4), x=text, x_out=text, y=pixels)


def test_pixels_become_images_on_the_device_by_the_same_arithmetic() -> None:
    made = batch()
    assert made.y is not None
    there = made.to(torch.device("cpu"))
    assert there.y is not None and torch.equal(there.y, to_images(made.y.numpy()))
    assert torch.equal(there.y, made.y.permute(0, 3, 1, 2).float() * (1 / 127.5) - 1)
    assert there.to(torch.device("cpu")).y is there.y
    assert there.x is there.x_out


class Device:
    """Stands for an accelerator's module of torch: what is done, in its order."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.on, self.Stream = "main", lambda device: "side"

    def current_stream(self, device: torch.device) -> Any:
        device_, on = self, self.on

        class Current:
            def wait_stream(self, other: str) -> None:
                device_.done.append(f"{on} waits for {other}")

        return Current()

    def stream(self, name: str) -> Any:
        device = self

        class Within:
            def __enter__(self) -> None:
                device.on = name

            def __exit__(self, *_: object) -> None:
                device.on = "main"

        return Within()


def test_a_batch_is_copied_while_the_one_before_it_is_computed_with(monkeypatch: pytest.MonkeyPatch) -> None:
    device, meta = Device(), torch.device("meta")
    monkeypatch.setattr(torch, "get_device_module", lambda _: device)
    monkeypatch.setattr(Tensor, "record_stream", lambda self, stream: device.done.append("keeps"))
    made = Batch.to
    monkeypatch.setattr(Batch, "to", lambda self, there: (device.done.append(f"copy on {device.on}"), made(self, there))[1])

    def source() -> Any:
        yield [batch()]
        yield [batch()]
        raise OSError("the disk is gone")

    batches = copied(source(), meta)
    (first,) = next(batches)
    assert first.y is not None and first.y.device == meta and first.y.shape == (4, 3, 2, 3) and first.x is first.x_out
    assert device.done == ["copy on side", "main waits for side", "keeps", "keeps", "keeps", "copy on side"]
    assert len(next(batches)) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_reach_a_card_as_they_are(workers: int) -> None:
    card = torch.device("cuda", 0)
    feeder, host = Feeder(draws(), 0, workers, card), Feeder(draws())
    try:
        for number, made in enumerate(islice(iter(feeder), 20)):
            for there, here in zip(made, host.make(number), strict=True):
                assert there.y is not None and here.y is not None
                assert torch.equal(there.y.cpu(), to_images(here.y))
    finally:
        feeder.close()
        host.close()
