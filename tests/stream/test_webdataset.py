"""The dataset `webdataset`: shards on a disk, addressed by an index, and what it says about mistakes."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ibllm_stream.config import WebDatasetConfig
from ibllm_stream.dataset import WebDatasetDataset
from ibllm_stream.samples import shards_of
from PIL import ImageColor

from ibllm_core.errors import UserError

from .conftest import COLOURS, picture, sample, shard, shards


def data(folder: Path, **more: Any) -> WebDatasetDataset:
    return WebDatasetDataset(WebDatasetConfig(**{"path": str(folder), "train": "train-*.tar", "size": 8, **more}), None)


def all_of(dataset: WebDatasetDataset, split: str = "train") -> list[str]:
    return list(dataset.samples(split, np.arange(dataset.sizes()[split])).captions or ())


def test_samples_stand_in_the_order_of_their_shards(tmp_path: Path) -> None:
    shards(tmp_path)
    shards(tmp_path, 1, 2, "val")
    dataset = data(tmp_path, train="train-{000..002}.tar", validation="val-000.tar")
    assert dict(dataset.sizes()) == {"train": 12, "validation": 2, "test": 0}
    assert all_of(dataset) == [f"{COLOURS[n % 6]} {n}" for n in range(12)]
    found = dataset.samples("train", np.array([7, 0, 7]))
    assert found.captions == ["green 7", "red 0", "green 7"] and found.images is not None and found.languages == ["en"] * 3
    assert [tuple(image[4, 4]) for image in found.images] == [ImageColor.getrgb(colour) for colour in ("green", "red", "green")]
    assert all_of(dataset, "validation") == ["red 0", "green 1"]
    assert dataset.corpus() == all_of(dataset) and dataset.corpus(limit=2) == ["red 0", "green 1"]
    with pytest.raises(KeyError, match="expected one of train, validation, test"):
        dataset.samples("tests", np.array([0]))


def test_shards_are_named_by_braces_wildcards_and_lists(tmp_path: Path) -> None:
    shards(tmp_path)
    names = [str(tmp_path / f"train-00{n}.tar") for n in range(3)]
    for pattern in ("train-{000..002}.tar", "train-*.tar", "train-00[0-2].tar", "train-000.tar::train-{001,002}.tar", f"{tmp_path}/*.tar"):
        assert shards_of(WebDatasetConfig(path=str(tmp_path), train=pattern), "train") == names
    with pytest.raises(UserError, match=r"data.train: no shard fits .*/none-\*.tar"):
        data(tmp_path, train="none-*.tar")
    with pytest.raises(UserError, match=r"data.train: 2 of 5 shards cannot be used\n  there is no shard .*/train-003.tar"):
        data(tmp_path, train="train-{000..004}.tar")
    with pytest.raises(UserError, match="is named twice"):
        data(tmp_path, train="train-000.tar::train-*.tar")
    with pytest.raises(UserError, match=r"https://x.org/a.tar is no file, so it cannot be indexed: indexed = false reads it as a stream"):
        data(tmp_path, train="https://x.org/a.tar")


def test_several_captions_come_from_lines_and_from_json(tmp_path: Path) -> None:
    shard(
        tmp_path / "train-0.tar",
        [*sample("a", "red"), ("b.jpeg", picture("blue", "jpeg")), ("b.txt", b"one\r\n\ntwo\xc3\xa9\n"), *sample("c", "green")],
    )
    dataset = data(tmp_path, holds="pairs")
    found = dataset.samples("train", np.arange(4))
    assert found.captions == ["a red card", "one", "twoé", "a green card"]
    assert found.groups is not None and found.groups.tolist() == [0, 1, 1, 2]
    shard(
        tmp_path / "train-0.tar",
        [*sample("a", "red"), ("b.png", picture("blue")), ("b.json", json.dumps({"text": "eins", "lang": "de"}).encode())],
    )
    told = data(tmp_path, caption="json", language_key="lang", broken="skip", max_broken=1.0)
    assert all_of(told) == ["a red card", "a red card again"]
    assert told.left_out() == [f"{tmp_path}/train-0.tar: the sample b has no text, nor an array of texts, under 'caption' in its JSON"]
    other = data(tmp_path, caption="json", caption_key="text", language_key="lang", broken="skip", max_broken=1.0)
    assert (all_of(other), other.samples("train", np.array([0])).languages) == (["eins"], ["de"])
    assert other.notes()[0] == "data.train: samples or members left out: 1"


def test_images_alone(tmp_path: Path) -> None:
    shard(tmp_path / "train-0.tar", [("a.png", picture("red")), ("b.webp", picture("blue", "webp"))])
    dataset = data(tmp_path, holds="images")
    found = dataset.samples("train", np.arange(2))
    assert found.captions is None and dataset.corpus() == [] and found.images is not None
    assert dataset.config.provides() == {"images"}


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_names_of_any_length_and_folder_are_whole(tmp_path: Path, format: int) -> None:
    deep = "folder/" * 12 + "x" * 70
    shard(tmp_path / "train-0.tar", [*sample(f"{deep}1", "red"), *sample(f"{deep}2", "blue"), *sample("v1/a", "green")], format=format)
    assert all_of(data(tmp_path)) == ["a red card", "a blue card", "a green card"]


def test_an_index_is_made_once_and_again_when_a_shard_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    shards(tmp_path)
    before = all_of(data(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr("ibllm_stream.index._write", lambda *_: pytest.fail("it is there already"))
        assert all_of(data(tmp_path)) == before
    shard(tmp_path / "train-001.tar", sample("z", "white"))
    assert all_of(data(tmp_path)) == [*before[:4], "a white card", *before[8:]]
    for file in own_cache.rglob("about.json"):
        file.write_text("{")
    assert len(all_of(data(tmp_path))) == 9, "a damaged one is made anew"
    monkeypatch.setenv("IBLLM_CACHE", str(tmp_path / "train-000.tar"))
    with pytest.warns(UserWarning, match="the index of the shards cannot be kept in .* IBLLM_CACHE names another place"):
        assert len(all_of(data(tmp_path))) == 9


def test_what_would_leave_the_shard_is_named_and_never_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(picture("red"))
    path = shard(
        tmp_path / "train-0.tar", [*sample("a", "red"), ("../up.png", picture("red")), ("/etc/b.png", picture("red")), ("w.dat", b"")]
    )
    with tarfile.open(path, "a") as tar:
        for kind, name in ((tarfile.SYMTYPE, "link.png"), (tarfile.LNKTYPE, "hard.png"), (tarfile.FIFOTYPE, "pipe.png")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(tmp_path / "secret.png")
            tar.addfile(info)
    with pytest.raises(UserError) as caught:
        data(tmp_path, holds="images")
    told = str(caught.value)
    for words in (
        "../up.png leaves its folder by ..",
        "/etc/b.png has an absolute path",
        "link.png is a link",
        "hard.png is a link",
        "pipe.png is no file",
    ):
        assert f"train-0.tar: the member {words}" in told
    assert "the sample w has no image" in told and 'broken = "skip" leaves such records out' in told
    dataset = data(tmp_path, broken="skip", max_broken=1.0)
    assert all_of(dataset) == ["a red card"] and len(dataset.left_out()) == 6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"\xe2\x80\x8b \n", "has an empty caption"),
        (b"", "has an empty caption"),
        (b"\xff\xfe\xff", "has a caption that is not UTF-8 (.txt)"),
        (None, "has no caption: there is no file ending in .txt"),
    ],
)
def test_captions_that_are_none(tmp_path: Path, text: bytes | None, words: str) -> None:
    shard(tmp_path / "train-0.tar", [*sample("a", "red"), ("b.png", picture("red")), *([("b.txt", text)] if text is not None else [])])
    with pytest.raises(UserError, match=r"train-0.tar: the sample b ") as caught:
        data(tmp_path)
    assert words in str(caught.value)


def test_half_a_surrogate_pair_is_found_when_the_shard_is_read(tmp_path: Path) -> None:
    shard(tmp_path / "train-0.tar", [("b.png", picture("red")), ("b.json", b'{"caption": "a smile \\ud83d"}')])
    with pytest.raises(UserError, match="the sample b has a caption with half of a surrogate pair"):
        data(tmp_path, caption="json")


def test_shards_that_are_damaged_are_named(tmp_path: Path) -> None:
    shards(tmp_path, 5)
    whole = (tmp_path / "train-000.tar").read_bytes()
    (tmp_path / "train-000.tar").write_bytes(whole[:550])
    (tmp_path / "train-004.tar").write_bytes(whole[:2500])
    (tmp_path / "train-001.tar").write_bytes(b"no tar" * 300)
    (tmp_path / "train-002.tar").write_bytes(whole[:2048] + b"x" * 512 + whole[2560:])
    with tarfile.open(tmp_path / "train-003.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.png"))
    with pytest.raises(UserError) as caught:
        data(tmp_path)
    told = str(caught.value)
    assert "train-000.tar cannot be read: unexpected end of data" in told and "train-001.tar cannot be read" in told
    assert "train-002.tar: what follows its byte" in told and "train-004.tar: what follows its byte" in told
    assert "train-003.tar cannot be read: unpack it" in told


def test_an_image_that_is_broken_is_met_when_it_is_decoded(tmp_path: Path) -> None:
    cut = picture("red", "jpg", (400, 300))[:-700]
    shard(tmp_path / "train-0.tar", [*sample("a", "red"), ("b.jpg", cut), ("b.txt", b"cut"), *sample("c", "blue"), *sample("d", "green")])
    with pytest.raises(UserError, match=r"the image .*train-0.tar:b.jpg cannot be read \(image file is truncated"):
        data(tmp_path).samples("train", np.arange(4))
    dataset = data(tmp_path, broken="skip", max_broken=0.3)
    found = dataset.samples("train", np.arange(4))
    assert found.captions is not None and found.images is not None and "cut" not in found.captions
    wanted = {"a red card": "red", "a blue card": "blue", "a green card": "green"}
    assert all(
        np.abs(image[4, 4].astype(int) - ImageColor.getrgb(wanted[text])).max() < 3
        for image, text in zip(found.images, found.captions, strict=True)
    )
    (said,) = dataset.incidents()
    assert said.startswith("data: images broken in the midst, whose places other items take: 1 (the image ")
    assert all_of(data(tmp_path, broken="skip", max_broken=0.3)) == found.captions, "which item takes its place follows from its number"


def test_its_fingerprint_is_of_the_shards_content(tmp_path: Path) -> None:
    shards(tmp_path)
    config = WebDatasetConfig(path=str(tmp_path), train="train-*.tar")
    before = config.contents()
    assert [name for name, _ in before] == ["train/train-000.tar", "train/train-001.tar", "train/train-002.tar"]
    os.utime(tmp_path / "train-000.tar", (1, 1))
    assert config.contents() == before
    shard(tmp_path / "train-001.tar", sample("z", "white"))
    assert [now == then for now, then in zip(config.contents(), before, strict=True)] == [True, False, True]
