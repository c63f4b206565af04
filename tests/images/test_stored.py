"""Images by their numbers: looked at once, decoded when asked for, kept in memory or on disk, and what becomes of broken ones."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ibllm.hashes import KeyedFile, content_hashes
from ibllm.images import cache
from ibllm.images.facts import look
from ibllm.images.stored import StoredImages, Unreadable, costly
from ibllm.pictures import Fit
from ibllm_core.errors import UserError

SIZE = (16, 16)


class Source(KeyedFile):
    """A file that counts how often it is opened."""

    opened = 0

    @property
    def name(self) -> str:
        return self.path.name

    def open(self) -> Any:
        self.opened += 1
        return super().open()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IBLLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def sources(tmp_path: Path) -> list[Source]:
    """Twelve images of several kinds."""
    rng = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    made = []
    for number, ending in enumerate(("jpg", "png", "webp", "gif", "bmp", "tif") * 2):
        path = tmp_path / "data" / f"{number:02}.{ending}"
        Image.fromarray(rng.integers(0, 255, (12, 15, 3), dtype=np.uint8)).resize((75, 60)).save(path)
        os.utime(path, (1, 1))  # a hash of a file that has just changed is not kept
        made.append(Source(path))
    return made


def damaged(sources: Sequence[Source]) -> None:
    """Damage in the midst of the first JPEG, of which its header and end say nothing."""
    whole = bytearray(sources[0].path.read_bytes())
    start = whole.index(b"\xff\xda")
    whole[start + 20 : -2] = b"\xff\xc4\x00\x03" * 8
    sources[0].path.write_bytes(whole)


def stored(sources: Sequence[Source], **how: Any) -> StoredImages:
    return StoredImages(sources, SIZE, Fit(), facts=look(sources, content_hashes(sources)), **how)


def test_what_is_kept_and_in_which_order_it_is_asked_for_change_no_pixel(sources: list[Source]) -> None:
    numbers = np.arange(len(sources))
    plain = stored(sources, cache=False).take(numbers)
    assert plain.shape == (12, 16, 16, 3) and len(np.unique(plain.reshape(12, -1), axis=0)) == 12
    for how in ("auto", True):
        images = stored(sources, cache=how)
        for order in (numbers[::-1], numbers, np.array([3, 3, 0])):
            assert (images.take(order) == plain[order]).all()


@pytest.mark.parametrize("how", ["auto", True])
def test_an_image_is_decoded_when_it_is_asked_for_and_once(sources: list[Source], how: Any) -> None:
    images = stored(sources, cache=how)
    before = [source.opened for source in sources]
    for _ in range(2):
        images.take(np.array([2, 5]))
    assert [now.opened - then for now, then in zip(sources, before, strict=True)] == [0, 0, 1, 0, 0, 1] + [0] * 6


def test_a_second_start_reads_no_file(sources: list[Source]) -> None:
    stored(sources, cache=True).take(np.arange(12))
    for source in sources:
        source.opened = 0
    again = stored([Source(source.path) for source in sources], cache=True)
    again.take(np.arange(12))
    assert sum(source.opened for source in again._sources) == 0  # type: ignore[attr-defined]


def test_a_cache_is_of_content_and_options(sources: list[Source], tmp_path: Path, own_cache: Path) -> None:
    def files() -> int:
        return len(list((own_cache / "images").glob("*.pixels")))

    stored(sources, cache=True)
    moved = [Source(source.path.rename(tmp_path / source.path.name)) for source in sources]
    stored(moved[::-1], cache=True)
    assert files() == 1, "moved, renamed, in another order: the same content"
    StoredImages(moved, SIZE, Fit("pad"), facts=look(moved, content_hashes(moved)), cache=True)
    assert files() == 2
    Image.new("RGB", (9, 9)).save(moved[0].path.with_suffix(".jpg"))
    stored(moved, cache=True)
    assert files() == 3


def test_processes_and_threads_fill_one_cache_together(sources: list[Source]) -> None:
    plain = stored(sources, cache=False).take(np.arange(12))
    images = stored(sources, cache=True)
    others: list[StoredImages] = [images, pickle.loads(pickle.dumps(images)), stored(sources, cache=True)]
    found: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda one=one: found.append(one.take(np.arange(12)))) for one in others * 2]
    if hasattr(os, "fork"):
        child = os.fork()
        if not child:
            os._exit(0 if (images.take(np.arange(12)[::-1])[::-1] == plain).all() else 1)
        assert os.waitpid(child, 0)[1] == 0
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6 and all((one == plain).all() for one in found)


def test_what_is_half_written_is_decoded_again(sources: list[Source], own_cache: Path) -> None:
    plain = stored(sources, cache=True).take(np.arange(12))
    (file,) = (own_cache / "images").glob("*.pixels")
    whole = bytearray(file.read_bytes())
    slot = cache.SUM + 16 * 16 * 3
    whole[cache.HEADER + 3 * slot + 100] ^= 1
    whole[cache.HEADER + 5 * slot + 300 : cache.HEADER + 6 * slot] = bytes(slot - 300)
    file.write_bytes(whole)
    assert (stored(sources, cache=True).take(np.arange(12)) == plain).all()
    file.write_bytes(whole[:5000])
    assert (stored(sources, cache=True).take(np.arange(12)) == plain).all(), "one that is cut off is made anew"


def test_a_full_disk_is_named_and_ends_nothing(sources: list[Source], monkeypatch: pytest.MonkeyPatch) -> None:
    images, plain = stored(sources, cache=True), stored(sources, cache=False).take(np.arange(12))

    def full(self: object, slot: int, pixels: object) -> None:
        raise OSError(28, "No space left on device", "/somewhere")

    monkeypatch.setattr(cache.PixelCache, "put", full)
    assert (images.take(np.arange(12)) == plain).all()
    (said,) = images.incidents.of("cache")
    assert "/somewhere: No space left on device" in said and "decoded images are not kept any more" in said


def test_a_cache_that_cannot_be_made_is_told(sources: list[Source], own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cache_limit = 1e-09 gigabytes are too few" in stored(sources, cache=True, cache_limit=1e-9).told[0]
    monkeypatch.setattr(cache, "SPARE", 1 << 60)
    assert "has room for 0.0 GB" in stored(sources, cache=True).told[0]
    monkeypatch.undo()
    monkeypatch.setenv("IBLLM_CACHE", str(sources[0].path))
    (said,) = stored(sources, cache=True).told
    assert "decoded images are not kept" in said and "IBLLM_CACHE names another place" in said


def test_caches_stay_within_their_bound(sources: list[Source], own_cache: Path) -> None:
    weight = cache.HEADER + 12 * (cache.SUM + 16 * 16 * 3)
    limit = 2.5 * weight / cache.GIGA
    for background in [(0, 0, 0), (1, 0, 0), (2, 0, 0)]:
        found = StoredImages(
            sources, SIZE, Fit("crop", background), facts=look(sources, content_hashes(sources)), cache=True, cache_limit=limit
        )
        for file in (own_cache / "images").glob("*.pixels"):
            os.utime(file, (file.stat().st_mtime - 100,) * 2)
    assert any("1 caches of other images are removed" in said for said in found.told)
    assert cache.held().files == 2
    assert cache.clean().files == 2 and cache.held() == cache.Held(0, 0)


def test_what_cannot_be_read_is_found_before_anything_is_decoded(sources: list[Source]) -> None:
    folder = sources[0].path.parent
    for number in range(6):
        sources[number].path.write_bytes(sources[number].path.read_bytes()[:-40])
    (folder / "text.png").write_text("no image")
    more = [Source(folder / name) for name in ("text.png", "none.png", "nu\0l.png")]
    broken = look([*sources, *more], content_hashes([*sources, *more])).broken
    assert set(broken) >= {0, 1, 2, 4, 12, 13, 14} and not set(broken) & set(range(6, 12))
    assert broken[12] == "the image text.png is no image of a kind that Pillow reads"
    assert broken[13] == "there is no image none.png"
    assert "cannot be opened (embedded null" in broken[14]


def test_too_many_pixels_are_refused_by_their_header(sources: list[Source]) -> None:
    found = look(sources, content_hashes(sources), most=1000, raised_by="data.most_pixels")
    assert len(found.broken) == 12
    assert found.broken[0].endswith("is 75 × 60 pixels: expected at most 1,000 of them; make it smaller, or raise data.most_pixels")


def test_an_image_broken_in_its_midst_stops_the_run_or_another_takes_its_place(sources: list[Source]) -> None:
    damaged(sources)
    split = np.arange(12)
    with pytest.raises(Unreadable, match=r"the image 00.jpg cannot be read"):
        stored(sources).take_items(split, np.array([0, 1]))
    images = stored(sources, skip=True, max_broken=0.1)
    chosen, pixels = images.take_items(split, np.array([1, 0, 2]))
    assert chosen[0] == 1 and chosen[2] == 2 and chosen[1] not in (0,)
    assert (pixels == images.take(chosen)).all()
    again = stored(sources, skip=True, max_broken=0.1).take_items(split, np.array([0]))[0]
    assert again[0] == chosen[1], "which one follows from the index alone"
    (said,) = images.incidents.of("broken")
    assert said.startswith("the image 00.jpg cannot be read")


def test_too_many_broken_images_stop_the_run_all_the_same(sources: list[Source]) -> None:
    damaged(sources)
    with pytest.raises(UserError, match=r"more images are broken than data.max_broken = 0.01 of 12 images: 1\n  the image 00.jpg"):
        stored(sources, skip=True).take_items(np.arange(12), np.array([0]))


def test_auto_keeps_on_disk_what_costs_more_to_decode_than_to_read(sources: list[Source], monkeypatch: pytest.MonkeyPatch) -> None:
    facts = look(sources, content_hashes(sources))
    assert costly(facts.kinds, facts.sizes, (16, 16)) and not costly(facts.kinds, facts.sizes, (400, 400))
    monkeypatch.setattr("ibllm.images.stored.LITTLE", 0)
    assert any("decoded images are kept in" in said for said in stored(sources).told)
    assert StoredImages(sources, (400, 400), Fit(), facts=facts).told == []


def test_animations_are_known_and_give_their_first_frame(tmp_path: Path) -> None:
    frames: Iterator[Image.Image] = (Image.new("RGB", (20, 20), colour) for colour in ("red", "blue"))
    first = next(frames)
    for ending in ("gif", "webp", "png"):
        first.save(tmp_path / f"a.{ending}", save_all=True, append_images=[Image.new("RGB", (20, 20), "blue")], lossless=True)
    sources = [Source(path) for path in sorted(tmp_path.glob("a.*"))]
    facts = look(sources, content_hashes(sources))
    assert facts.animated.all() and not facts.broken
    assert (stored(sources).take(np.arange(3)) == (255, 0, 0)).all()
