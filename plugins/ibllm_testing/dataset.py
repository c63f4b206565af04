"""What datasets are asked, and a stand-in for them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ibllm.resolved import options as plain_options
from ibllm_core.host.options import DatasetConfig
from ibllm_core.interfaces.dataset import Dataset, Samples

from .checks import expect
from .suite import Suite

#: Items that are looked at.
_ITEMS = 6
_COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 70, 220), "grey": (128, 128, 128)}
_PLACES = {"left": (8, 4), "right": (8, 20), "top": (2, 12), "under": (18, 12)}


class SquaresDataset(Dataset):
    """A stand-in: one square, in one of four colours and places, on a light ground; captions, questions and answers say so."""

    image_shape = (3, 32, 32)

    def __init__(self, items: int = 64) -> None:
        self.items = items

    def sizes(self) -> Mapping[str, int]:
        return {"train": self.items, "test": self.items}

    def samples(self, split: str, indices: npt.NDArray[np.int64]) -> Samples:
        start = {"train": 0, "test": 5}[split]
        colours = [list(_COLOURS)[int(i + start) % 4] for i in indices]
        places = [list(_PLACES)[int((i + start) // 4) % 4] for i in indices]
        images = np.full((len(indices), 32, 32, 3), 230, np.uint8)
        for image, colour, place, number in zip(images, colours, places, indices, strict=True):
            top, left = _PLACES[place]
            image[top : top + 8 + int(number) % 3, left : left + 8] = _COLOURS[colour]
        return Samples(
            indices=indices,
            images=images,
            captions=[f"{colour} {place}" for colour, place in zip(colours, places, strict=True)],
            languages=["en"] * len(indices),
            questions=[f"colour {place}" for place in places],
            answers=colours,
        )


class DatasetSuite(Suite):
    """Where captions and images come from."""

    kind = "dataset"

    def _split(self, dataset: Dataset) -> str:
        return next(name for name in ("test", *dataset.sizes()) if dataset.sizes().get(name, 0) > 0)

    def test_sizes_are_declared(self) -> None:
        """The config, a DatasetConfig, says splits and image shape before any data is made; the data keep to it."""
        config, dataset = self.config(), self.make()
        expect(isinstance(config, DatasetConfig), f"{self._name}: its config derives from no ibllm_core.host.options.DatasetConfig")
        assert isinstance(config, DatasetConfig)
        expect(isinstance(dataset, Dataset), f"{self._name}: its factory gives a {type(dataset).__name__}, no Dataset")
        expect(
            set(config.splits()) == set(dataset.sizes()),
            f"{self._name}: the config has splits {tuple(config.splits())}, the data {tuple(dataset.sizes())}",
        )
        undescribed = [split for split, text in config.splits().items() if not text]
        expect(not undescribed, f"{self._name}: splits() says nothing of what {', '.join(undescribed)} holds: expected a few words")
        expect(dataset.sizes().get("train", 0) > 0, f'{self._name}: the split "train" is missing or empty: {dict(dataset.sizes())}')
        expect(
            config.image_shape == dataset.image_shape, f"{self._name}: the config says {config.image_shape}, the data {dataset.image_shape}"
        )

    def test_samples_are_as_declared(self) -> None:
        """Images (b h w c) uint8, b captions, languages, questions and answers that are not empty, in every split, for one item too."""
        dataset = self.make()
        c, h, w = dataset.image_shape
        for split, size in dataset.sizes().items():
            for count in {min(size, _ITEMS), min(size, 1)}:
                found = dataset.samples(split, np.arange(count, dtype=np.int64))
                expect(
                    list(found.indices) == list(range(count)),
                    f"{self._name}: asked for items 0…{count - 1} of {split}, got {list(found.indices)}",
                )
                if found.images is not None:
                    well = found.images.dtype == np.uint8 and found.images.shape == (count, h, w, c)
                    expect(
                        well,
                        f"{self._name}: images are {found.images.dtype} {found.images.shape}: the interface says uint8 (b h w c) = {(count, h, w, c)}",
                    )
                for what in ("captions", "languages", "questions", "answers"):
                    texts = getattr(found, what)
                    if texts is not None:
                        well = len(texts) == count and all(isinstance(text, str) and text for text in texts)
                        expect(well, f"{self._name}: {what} of {split} must be {count} strings that are not empty, got {list(texts)[:3]}…")
        both = found.questions is None, found.answers is None
        expect(both[0] == both[1], f"{self._name}: questions and answers come together")

    def test_it_gives_what_it_provides(self) -> None:
        """The capabilities ``captions``, ``images``, ``pairs``, ``questions`` are declared where samples have them, and only there."""
        dataset, provided = self.make(), self.config().provides()
        found = dataset.samples(self._split(dataset), np.arange(1, dtype=np.int64))
        there = {"captions": found.captions is not None, "images": found.images is not None, "questions": found.questions is not None}
        for word, is_there in there.items():
            expect(
                (word in provided) == is_there,
                f"{self._name}: provides() {'has' if word in provided else 'lacks'} {word}, samples {'have' if is_there else 'lack'} them",
            )
        expect(not ("pairs" in provided and not (there["captions"] and there["images"])), f"{self._name}: pairs need captions and images")

    def test_an_item_is_a_function_of_its_number(self) -> None:
        """(seed, split, index) says everything: in any order, alone or among others, in a second dataset object."""
        dataset, again = self.make(), self.make()
        split = self._split(dataset)
        numbers = np.arange(min(dataset.sizes()[split], _ITEMS), dtype=np.int64)
        wanted = digests(dataset, split, numbers)
        expect(
            digests(dataset, split, numbers[::-1].copy())[::-1] == wanted,
            f"{self._name}: the order in which items are asked for must not matter",
        )
        alone = [digests(again, split, numbers[i : i + 1])[0] for i in reversed(range(len(numbers)))]
        expect(alone[::-1] == wanted, f"{self._name}: an item alone must be what it is among others, in any dataset object")

    def test_it_is_the_same_in_another_process(self) -> None:
        """A fresh process, which resolves it by name, gives the same items: nothing hangs on hash seeds, time or what was asked before."""
        dataset = self.make()
        split = self._split(dataset)
        numbers = np.arange(min(dataset.sizes()[split], 2), dtype=np.int64)
        options = {key: value for key, value in plain_options(self.config()).items() if value is not None}
        task = json.dumps([self.component, options, split, numbers.tolist()])
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONHASHSEED": "77"}
        code = "from ibllm_testing.dataset import answer; answer()"
        done = subprocess.run([sys.executable, "-c", code], input=task, capture_output=True, text=True, check=False, env=environment)
        expect(done.returncode == 0, f"{self._name}: in another process it fails: {done.stderr.strip()[-500:]}")
        expect(json.loads(done.stdout) == digests(dataset, split, numbers), f"{self._name}: in another process its items differ")

    def test_an_unknown_split_is_refused(self) -> None:
        """`KeyError`."""
        try:
            self.make().samples("no such split", np.arange(1, dtype=np.int64))
        except KeyError:
            return
        raise AssertionError(f"{self._name}: samples of an unknown split must raise KeyError")

    def test_what_is_asked_is_not_changed(self) -> None:
        """The array of numbers stays as it was, and changing what came back changes nothing that comes later."""
        dataset = self.make()
        split, numbers = self._split(dataset), np.zeros(2, dtype=np.int64)
        wanted = digests(dataset, split, numbers)
        found = dataset.samples(split, numbers)
        if found.images is not None and found.images.flags.writeable:
            found.images[:] = 0
        expect(not numbers.any(), f"{self._name}: it changes the numbers that it is asked for")
        expect(
            digests(dataset, split, numbers) == wanted, f"{self._name}: it hands out its own memory: images changed by a user stay changed"
        )

    def test_its_corpus_is_texts(self) -> None:
        """Texts to train a tokenizer on: strings that are not empty, captions among them."""
        dataset = self.make()
        if dataset.samples("train", np.arange(1, dtype=np.int64)).captions is None:
            return
        corpus = dataset.corpus(limit=_ITEMS)
        expect(
            len(corpus) > 0 and all(isinstance(text, str) and text for text in corpus), f"{self._name}: its corpus is {list(corpus)[:3]}…"
        )
        credit = dataset.attribution()
        expect(credit is None or bool(credit), f"{self._name}: attribution is an empty string: expected a credit, or None")


def digests(dataset: Dataset, split: str, indices: npt.NDArray[np.int64]) -> list[str]:
    """A hash of all that each item shows."""
    found = dataset.samples(split, indices)
    columns = [found.captions, found.languages, found.questions, found.answers, found.images, found.groups]
    return [
        hashlib.sha256(b"|".join(_bytes(column[row]) for column in columns if column is not None)).hexdigest()
        for row in range(len(indices))
    ]


def _bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else np.ascontiguousarray(value).tobytes()


def answer() -> None:
    """What the other process does: reads a task off stdin, writes the items' hashes."""
    component, options, split, numbers = json.loads(sys.stdin.read())
    suite = type("Asked", (DatasetSuite,), {"component": component, "options": options})()
    print(json.dumps(digests(suite.make(), split, np.array(numbers, dtype=np.int64))))
