"""How fast images become batches, beside torchvision's and webdataset's pipelines, and what 118,000 of them cost at the start and in memory."""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from ibllm_files.config import FilesConfig
from ibllm_files.dataset import FilesDataset
from ibllm_stream.config import WebDatasetConfig
from ibllm_stream.dataset import WebDatasetDataset

from ibllm_core.interfaces.batch import to_images
from ibllm_core.interfaces.dataset import Dataset

from . import photographs
from .rounds import both

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"
SIZE, BATCH = 128, 64
#: Images a CPU-second that are decoded at least, and how many times as many as by torchvision's pipeline.
RATE, RATIO = 300, 1.2
#: Seconds to the first step of a warm start, and gigabytes of memory of a process.
START, MEMORY = 10, 1.5


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IBLLM_CACHE", str(tmp_path / "cache"))


def rate(batches: Callable[[], Iterable[object]], items: int) -> float:
    """Items a CPU-second of this process, all its threads together."""
    start = time.process_time()
    for _ in batches():
        pass
    return items / (time.process_time() - start)


def ours(dataset: Dataset, items: int) -> Callable[[], Iterable[object]]:
    """Batches of a dataset in a shuffled order, as floats (b c h w)."""
    order = np.random.default_rng(0).permutation(items)

    def batches() -> Iterable[object]:
        for start in range(0, items, BATCH):
            found = dataset.samples("train", order[start : start + BATCH])
            assert found.images is not None
            yield to_images(found.images)

    return batches


def paired(
    mine: Callable[[], Iterable[object]], others: Callable[[], Iterable[object]], items: int, rounds: int
) -> tuple[float, float, float]:
    """(median rate, the other's, median of the ratios of rounds in turn)."""
    pairs = [(rate(mine, items), rate(others, items)) for _ in range(rounds)]
    a, b = (statistics.median(column) for column in zip(*pairs, strict=True))
    return a, b, statistics.median(one / other for one, other in pairs)


@both
def test_decoding_beside_torchvisions_pipeline(tmp_path: Path, own_cache: None, measured: bool) -> None:
    items, rounds = (512, 7) if measured else (4, 1)
    path = photographs.table(tmp_path, [photographs.photograph(number) for number in range(items)], items)
    data = FilesDataset(FilesConfig(path=str(path), size=SIZE, validation=0.0, test=0.0, cache=False), None)
    files = sorted(tmp_path.rglob("*.jpg"))
    found = paired(ours(data, items), lambda: photographs.image_folder(files, SIZE, BATCH), items, rounds)
    print(f"decoded: {found[0]:,.0f} images/CPU-s, torchvision's pipeline {found[1]:,.0f}, ratio {found[2]:.2f} (bars {RATE}, {RATIO})")
    kept = FilesDataset(FilesConfig(path=str(path), size=SIZE, validation=0.0, test=0.0, cache=True), None)
    rate(ours(kept, items), items)
    print(f"from the cache: {statistics.median(rate(ours(kept, items), items) for _ in range(rounds)):,.0f} images/CPU-s")
    assert (found[0] >= RATE and found[2] >= RATIO) or not measured


@both
def test_shards_beside_webdatasets_own_loader(tmp_path: Path, own_cache: None, measured: bool) -> None:
    items, rounds = (300, 7) if measured else (4, 1)
    distinct = [photographs.photograph(number) for number in range(items)]
    urls = photographs.shards(tmp_path / "shards", distinct, items)
    where = {"path": str(tmp_path / "shards"), "train": "*.tar", "size": SIZE}
    theirs = lambda: photographs.by_webdataset(urls, SIZE, BATCH)  # noqa: E731
    indexed = WebDatasetDataset(WebDatasetConfig(**where, cache=False), None)
    stream = WebDatasetDataset(WebDatasetConfig(**where, indexed=False, items=items, buffer=100, readers=2), None)
    for name, batches in (("indexed", ours(indexed, items)), ("a stream", in_order(stream, items))):
        found = paired(batches, theirs, items, rounds)
        print(f"shards, {name}: {found[0]:,.0f} images/CPU-s, webdataset's loader {found[1]:,.0f}, ratio {found[2]:.2f} (bar 1)")
        assert found[2] >= 1 or not measured


def in_order(dataset: WebDatasetDataset, items: int) -> Callable[[], Iterable[object]]:
    """As `ours` in the dataset's own order, epoch after epoch."""
    epochs, order = itertools.count(), dataset.order(items, (0,))

    def batches() -> Iterable[object]:
        first = next(epochs) * items
        for start in range(0, items, BATCH):
            found = dataset.samples("train", order(first + np.arange(start, min(start + BATCH, items))))
            assert found.images is not None
            yield to_images(found.images)

    return batches


#: Trains until some steps are made, and says when the first was and how much memory its processes have used at most.
TRAINS = """
import json, os, sys, time
from pathlib import Path
from ibllm_core.recipe import load
from ibllm_core.training.events import Listener
from ibllm_core.training.job import Job

def most(pid):
    return int(next(line for line in open(f"/proc/{pid}/status") if line.startswith("VmHWM")).split()[1]) / 1e6

class First(Listener):
    first = busy = 0.0
    def on_stepped(self, event):
        self.busy = self.busy or time.process_time()
        self.first = self.first or time.time() - float(sys.argv[2])
        if event.step >= 20:
            forked = [f"/proc/{os.getpid()}/task/{t}/children" for t in os.listdir("/proc/self/task")]
            children = {pid for file in forked for pid in open(file).read().split()}
            print(json.dumps([self.first, self.busy, max(map(most, [os.getpid(), *children]))]), flush=True)
            os.killpg(0, 9)

Job(load(Path(sys.argv[1])), Path(sys.argv[3]), [First()]).run()
"""
RECIPE = """
format = 1
extends = "{tiny}"
name = "many"

[data]
use = "files"
path = "{path}"
size = 128
validation = {share}
test = {share}

[tokenizers.text]
size = 1200

[model.image_decoder]
patch = 32

[metrics]
scene = false
caption_facts = false
round_trip = false
chrf = {{ use = "chrf" }}

[stages.text]
steps = 24
[stages.image]
steps = 0
validate.figure = "chrf"
[stages.joint]
steps = 0

[compute]
workers = {workers}
"""


@both
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_hundred_thousand_images_start_soon_and_stay_on_the_disk(tmp_path: Path, measured: bool) -> None:
    count = 118_000 if measured else 12
    # For start and memory their pixels make no difference: without noise they take a tenth of the disk.
    path = photographs.table(tmp_path / "data", [photographs.photograph(number, 0.0, 75) for number in range(min(500, count))], count)
    environment = os.environ | {"IBLLM_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    for name, workers in (("first", 0), ("warm", 0), ("warm, a worker", 1)) if measured else (("first", 0),):
        recipe = tmp_path / "many.toml"
        recipe.write_text(RECIPE.format(tiny=TINY, path=path, workers=workers, share=0.01 if measured else 0.3))
        command = [sys.executable, "-c", TRAINS, str(recipe), str(time.time()), str(tmp_path / f"run-{name}")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, start_new_session=True)
        assert done.stdout, done.stderr[-2000:]
        seconds, busy, gigabytes = json.loads(done.stdout.strip().splitlines()[-1])
        print(
            f"{count:,} images, {name} start: first step after {seconds:.1f} s ({busy:.1f} CPU-s), {gigabytes:.2f} GB (bars {START}, {MEMORY})"
        )
        assert gigabytes <= MEMORY
        assert seconds <= START or name == "first" or not measured
