"""Shards that are read one after the other: what is promised of their order, whoever reads them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ibllm_stream.config import WebDatasetConfig
from ibllm_stream.dataset import WebDatasetDataset

from ibllm_core.errors import UserError
from ibllm_core.training.feeding import Draws, Feeder

from .conftest import picture, sample, shard, shards


def stream(folder: Path, **more: Any) -> WebDatasetDataset:
    how = {"path": str(folder), "train": "train-*.tar", "size": 8, "indexed": False, "items": 48, "readers": 4, "block": 2, "buffer": 8}
    return WebDatasetDataset(WebDatasetConfig(**{**how, **more}), None)


class Words:
    """Stands for a tokenizer: remembers the texts that it is given."""

    max_length = 8

    def __init__(self) -> None:
        self.seen: list[str] = []

    def encode(self, texts: Any) -> Any:
        self.seen += texts
        return np.zeros((len(texts), 1), np.int64), np.ones((len(texts), 1), np.bool_)


def draws(dataset: WebDatasetDataset, wanted: Any = range(6), key: tuple[int | str, ...] = (0, "s"), **more: Any) -> list[list[str]]:
    """The captions of some draws."""
    words, found = Words(), []
    made = Draws(dataset, {"text_encoder": words}, batch=8, key=key, **more)  # type: ignore[dict-item]
    for draw in wanted:
        words.seen = []
        made.make(draw)
        found.append(list(words.seen))
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight shards of six samples."""
    return shards(tmp_path, 8, 6)


def test_an_epoch_has_every_item_and_the_next_one_another_order(folder: Path) -> None:
    found = [text for draw in draws(stream(folder), range(12)) for text in draw]
    assert sorted(found[:48]) == sorted(found[48:]) == sorted(stream(folder, indexed=True).corpus())
    assert found[:48] != found[48:]
    assert stream(folder).sizes() == {"train": 48, "validation": 0, "test": 0}
    other = [text for draw in draws(stream(folder), key=(1, "s")) for text in draw]
    assert other != found[:48], "the seed shuffles"


def test_the_order_is_shuffled_and_depends_on_neither_resuming_nor_ranks_nor_workers(folder: Path) -> None:
    whole = draws(stream(folder))
    assert whole[0] != sorted(whole[0])
    assert draws(stream(folder), range(3, 6)) == whole[3:], "a run that goes on"
    assert draws(stream(folder), [4, 1]) == [whole[4], whole[1]]
    shares = [draws(stream(folder), rank=rank, ranks=2, micro=2) for rank in range(2)]
    assert [a + b for a, b in zip(*shares, strict=True)] == whole
    # A worker of two gets every second draw, in a copy of the data.
    dataset = stream(folder)
    draws(dataset, range(1))
    workers = [draws(pickle.loads(pickle.dumps(dataset)), range(worker, 6, 2)) for worker in range(2)]
    assert [workers[draw % 2][draw // 2] for draw in range(6)] == whole


def test_worker_processes_feed_a_training(folder: Path) -> None:
    def numbers(workers: int) -> list[Any]:
        feeder = Feeder(Draws(stream(folder), {}, batch=8, key=(0, "s")), 0, workers)
        try:
            made = iter(feeder)
            return [next(made)[0].y for _ in range(4)]
        finally:
            feeder.close()

    for one, other in zip(numbers(0), numbers(2), strict=True):
        assert (one == other).all()


def test_a_stage_is_shuffled_by_its_own_key_and_leaves_others_as_they_are(folder: Path) -> None:
    dataset = stream(folder)
    first, second = draws(dataset, range(2)), draws(dataset, range(2), (0, "another"))
    assert first != second and draws(dataset, range(2)) == first


def test_plain_numbers_are_items_as_the_shards_have_them(folder: Path) -> None:
    dataset = stream(folder)
    found = dataset.samples("train", np.arange(3))
    assert found.captions == ["red 0", "green 1", "blue 2"] == dataset.corpus(limit=3)
    assert len(dataset.corpus()) == 48


def test_commands_are_streams_and_are_told(folder: Path) -> None:
    dataset = stream(folder, train=f"pipe:cat {folder}/train-{{000..003}}.tar", items=24, readers=2)
    assert sorted(text for draw in draws(dataset, range(3)) for text in draw) == sorted(
        stream(folder, train="train-{000..003}.tar", indexed=True).corpus()
    )
    told = dataset.notes()
    assert (
        "a stream of 2 readers in turn, 2 items each" in told[0]
        and told[1] == f"data.train runs 4 commands of the recipe's: cat {folder}/train-000.tar"
    )
    with pytest.raises(UserError, match="cat nothing"):
        draws(stream(folder, train="pipe:cat nothing 2>/dev/null"))


def test_several_captions_are_items_of_one_group(tmp_path: Path) -> None:
    shard(tmp_path / "train-0.tar", [*sample("a", "red", "one\ntwo"), *sample("b", "blue")])
    found = stream(tmp_path, items=3).samples("train", np.arange(3))
    assert found.captions == ["one", "two", "a blue card"]
    assert found.groups is not None and found.groups[0] == found.groups[1] != found.groups[2]


def test_what_is_broken_ends_the_run_or_is_left_out(tmp_path: Path) -> None:
    cut = picture("red", "jpg", (400, 300))[:-700]
    members = [*sample("a", "red"), ("b.jpg", cut), ("b.txt", b"cut"), ("../c.png", b""), ("d.txt", b"no image"), *sample("e", "blue")]
    shard(tmp_path / "train-0.tar", members)
    with pytest.raises(UserError, match=r'train-0.tar: the member ../c.png leaves its folder by ..; broken = "skip" leaves out'):
        stream(tmp_path).corpus()
    with pytest.raises(UserError, match=r"more is broken than data.max_broken = 0.01 of 48 items: 1\n"):
        stream(tmp_path, broken="skip").corpus()
    dataset = stream(tmp_path, broken="skip", max_broken=0.5, items=6, buffer=1)
    found = [text for draw in draws(dataset, range(2)) for text in draw]
    assert set(found) == {"a red card", "a blue card"}, "an image of the same draw takes the place of one that is cut"
    assert draws(stream(tmp_path, broken="skip", max_broken=0.5, items=6, buffer=1), [1])[0] == found[8:]
    assert len(dataset.left_out()) == 3
    assert dataset.incidents()[0].startswith("data.train: samples, images or members left out: 3 (")


def test_shards_that_end_early_and_streams_of_nothing(tmp_path: Path, folder: Path) -> None:
    (folder / "train-000.tar").write_bytes((folder / "train-001.tar").read_bytes()[:600])
    with pytest.raises(UserError, match=r"train-000.tar cannot be read to its end"):
        stream(folder).corpus()
    shard(tmp_path / "empty" / "train-0.tar", [])
    with pytest.raises(UserError, match=r"train-0.tar: no sample can be read there"):
        stream(tmp_path / "empty").corpus()
    with pytest.raises(ValueError, match="items = 0: expected the number of items of an epoch"):
        stream(folder, items=0)


def test_shards_that_are_streams_are_for_training_alone(folder: Path) -> None:
    with pytest.raises(UserError, match="a stream is for training alone; download its shards"):
        stream(folder, validation="pipe:cat a.tar")
