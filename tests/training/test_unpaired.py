"""Unpaired captions and images are drawn beside the pairs, the same ones whatever the ranks and restarts; data may do without pairs."""

from __future__ import annotations

import json
import os
import subprocess
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from ibllm.contracts import check
from ibllm_core.interfaces.batch import Batch
from ibllm_core.interfaces.dataset import Dataset, Samples
from ibllm_core.interfaces.tokenizer import Tokenizer
from ibllm_core.model import build
from ibllm_core.recipe import Recipe, load
from ibllm_core.training.feeding import Draws, Feeder
from ibllm_core.training.job import Job
from tests.processes import free_port, ibllm

from .conftest import invoke
from .test_resume import interrupted, same_weights

pytestmark = pytest.mark.usefixtures("unrehearsed_runs")

UNPAIRED = Path(__file__).parent / "unpaired.toml"
#: Losses of which an item's share does not depend on the others of its batch.
ALONE = (
    "losses.image_contrast=false",
    "losses.text_contrast=false",
    "losses.matching=false",
    "losses.damsm=false",
    "stages.together=false",
)


class Letters(Tokenizer):
    size, max_length = 300, 4

    def train(self, texts: object) -> None: ...

    def encode_one(self, text: str) -> list[int]:
        return [int(text)]

    def decode_one(self, ids: object) -> str:
        return ""

    def state(self) -> str:
        return ""

    def restore(self, state: str) -> None: ...


class Numbers(Dataset):
    """Items that say their number, `offset` added, in their image and in their caption."""

    image_shape = (3, 1, 1)

    def __init__(self, items: int, offset: int) -> None:
        self.items, self.offset = items, offset

    def sizes(self) -> dict[str, int]:
        return {"train": self.items}

    def samples(self, split: str, indices: npt.NDArray[np.int64]) -> Samples:
        numbers = indices + self.offset
        return Samples(indices, np.repeat(numbers, 3).reshape(-1, 1, 1, 3).astype(np.uint8), [str(n) for n in numbers])


def drawn(draws: int, start: int = 0, **more: int) -> list[list[tuple[int, int, int]]]:
    """The items of each draw: the pair's number, the unpaired text's, the unpaired image's."""
    others = {"text": Numbers(7, 100), "images": Numbers(5, 200)}
    feeder = Feeder(Draws(Numbers(10, 10), {"text_encoder": Letters()}, batch=6, key=(0, "s"), unpaired=others, **more), start)
    try:
        return [[item for micro in draw for item in _numbers(micro)] for draw in islice(iter(feeder), draws)]
    finally:
        feeder.close()


def _numbers(batch: Batch) -> list[tuple[int, int, int]]:
    assert batch.y is not None and batch.unpaired_x is not None and batch.unpaired_y is not None and batch.x is not None
    pairs, images = (y[:, 0, 0, 0].tolist() for y in (batch.y, batch.unpaired_y))
    assert batch.x.ids[:, 1].tolist() == pairs
    return list(zip(pairs, batch.unpaired_x.ids[:, 1].tolist(), images, strict=True))


def test_each_source_has_an_order_of_its_own() -> None:
    items = [item for draw in drawn(6) for item in draw]
    assert sorted({pair for pair, _, _ in items}) == list(range(10, 20))
    assert sorted({text for _, text, _ in items[:7]}) == list(range(100, 107)), "an epoch of texts is over after seven"
    assert sorted({image for _, _, image in items[:5]}) == list(range(200, 205))
    assert [t - 100 for _, t, _ in items[:5]] != [i - 200 for _, _, i in items[:5]]


@pytest.mark.parametrize(("ranks", "micro"), [(1, 2), (2, 1), (2, 3)])
def test_shares_put_together_are_the_whole(ranks: int, micro: int) -> None:
    shares = [drawn(3, rank=rank, ranks=ranks, micro=micro) for rank in range(ranks)]
    assert [[item for part in parts for item in part] for parts in zip(*shares, strict=True)] == drawn(3)


def test_a_restart_goes_on_where_it_was() -> None:
    assert drawn(2, start=3) == drawn(5)[3:]


def recipe(*sets: str) -> Recipe:
    return load(UNPAIRED, ("compute.device=cpu", "compute.threads=1", *sets))


def test_unpaired_items_are_others_than_the_pairs() -> None:
    made = recipe("unpaired.text.languages=['en']")
    own, other = build.build_dataset(made), build.build_dataset(made, "text")
    indices = np.arange(40)
    mine, theirs = own.samples("train", indices).captions, other.samples("train", indices).captions
    assert mine is not None and theirs is not None and list(mine) != list(theirs)


def test_tokenizers_know_the_words_of_unpaired_captions() -> None:
    made = recipe()
    own, others = build.build_dataset(made), {name: build.build_dataset(made, name) for name in made.unpaired}
    tokenizer = build.build_tokenizers(made, [own, others["text"]])["text"]
    captions = others["text"].samples("train", np.arange(30)).captions
    assert captions is not None and any(ord(letter) > 0x3000 for letter in "".join(captions))
    ids, _ = tokenizer.encode(captions)
    assert not (ids == 3).any()


def test_a_check_walks_the_losses_on_what_the_data_give() -> None:
    report = check(recipe())
    assert [stage.losses for stage in report.stages] == [
        ("masked_text", "masked_image", "image_contrast", "text_contrast"),
        ("matching", "damsm"),
    ]


@pytest.mark.slow
def test_weights_are_bit_identical_after_a_restart(tmp_path: Path) -> None:
    Job(recipe(), tmp_path / "whole").run()
    for steps in (1, 3, 5):
        path = interrupted(recipe(), tmp_path / f"after-{steps}", steps)
        Job(recipe(), path).run(resume=True)
        assert same_weights(path, tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    sets = (*ALONE, "compute.device=cpu", "compute.threads=1", "optimizer={use='sgd', lr=0.01}", "stages.alone.validate.every=0")

    def train(run: Path, ranks: int) -> dict[str, torch.Tensor]:
        command = ibllm("run", UNPAIRED, "--run-dir", run, *(part for key in sets for part in ("--set", key)))
        shared = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(ranks)}
        processes = [
            subprocess.Popen(command, env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
            for rank in range(ranks)
        ]
        for process in processes:
            _, err = process.communicate(timeout=300)
            assert process.returncode == 0, err
        return load_file(run / "model" / "weights.safetensors")

    one, two = train(tmp_path / "one", 1), train(tmp_path / "two", 2)
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-5)


def write_images(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        Image.new("RGB", (40, 40), (10 * number, 200 - 9 * number, 60)).save(folder / f"{number}.png")
    return folder


def run_alone(run: Path, data: str, *sets: str) -> list[dict[str, object]]:
    """Checks and trains the stage `alone` from the command line on data without pairs; the samples of the split test."""
    loss_alone = ("losses.matching=false", "losses.damsm=false", "stages.together=false", "stages.alone.validate.split=validation")
    keys = (f"data={data}", 'evaluation.splits=["test"]', "compute.device=cpu", *loss_alone, *sets)
    options = [part for key in keys for part in ("--set", key)]
    assert invoke("check", UNPAIRED, *options).exit_code in (0, None)
    result = invoke("run", UNPAIRED, "--run-dir", run, *options)
    assert result.exception is None, result.output
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "train"] == [2, 4]
    assert [line["step"] for line in lines if line["kind"] == "validation" and np.isfinite(line["loss"])] == [2, 4]
    assert invoke("evaluate", run).exception is None and (run / "report.html").stat().st_size > 1000
    found: list[dict[str, object]] = json.loads((run / "samples" / "test.json").read_text())["items"]
    return found


@pytest.mark.slow
def test_images_alone_train_an_image_encoder(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", 24)
    no_text = (
        "unpaired.text=false",
        "unpaired.images=false",
        "model.text_encoder=false",
        "losses.masked_text=false",
        "losses.text_contrast=false",
    )
    data = f"{{ use = 'files', path = '{images}', holds = 'images', size = 32, validation = 0.3, test = 0.3 }}"
    items = run_alone(tmp_path / "run", data, *no_text)
    assert items and all(item["caption"] is None and item["real"] and item["generated"] is None for item in items)


@pytest.mark.slow
def test_captions_alone_train_a_text_encoder(tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"the {n % 7} and {n}\n" for n in range(60)))
    no_images = ("unpaired.text=false", "unpaired.images=false", "model.image_encoder=false", "losses.masked_image=false")
    data = f"{{ use = 'files', path = '{texts}', holds = 'captions', validation = 0.3, test = 0.3 }}"
    items = run_alone(tmp_path / "run", data, *no_images, "losses.image_contrast=false")
    assert items and all(item["caption"] and item["real"] is None for item in items)


@pytest.mark.slow
def test_images_and_captions_that_do_not_belong_together(tmp_path: Path) -> None:
    data = (
        f"{{ use = 'files', path = '{write_images(tmp_path / 'images', 24)}', holds = 'images', size = 32, validation = 0.3, test = 0.3 }}"
    )
    assert run_alone(tmp_path / "run", data, "unpaired.images=false")
