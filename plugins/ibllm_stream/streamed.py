"""Shards that are read one after the other: readers in turn, each with shards of its own, shuffled within a buffer. Shapes: b of a batch, n positions."""

from __future__ import annotations

import io
import random
import tarfile
from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from ibllm.plugin import Fit, Incidents, Samples, UserError, decoded, derive_key
from ibllm_stream.config import WebDatasetConfig
from ibllm_stream.samples import META, Sample, captions_of, image_of, library, shards_of, shown, unsafe

Ints = npt.NDArray[np.int64]
#: Bits of a position; those above them are the number of the key that it is shuffled by, from 1.
_BITS = 44
#: Samples whose captions a vocabulary is made of.
_CORPUS = 100_000


@attrs.frozen
class _Item:
    """An image as it was saved, and one of its captions."""

    name: str
    image: bytes
    caption: str
    language: str
    group: int


class StreamOrder:
    """Positions in the endless sequence of a training → what `Stream.samples` is asked for: the same positions, with the key that they are shuffled by."""

    def __init__(self, number: int) -> None:
        self._key = (number + 1) << _BITS

    def __call__(self, positions: Ints) -> Ints:
        return positions | self._key


class Stream:
    """The training's items out of shards that are streams.

    Position p of the training is an item of reader (p // block) % readers, and its p // (block · readers) · block + p % block-th one. A reader reads
    every readers-th shard of an order that is shuffled anew each epoch, and shuffles samples within its buffer. So the order is a function of the
    shards, the seed and the options alone: not of worker processes or ranks, each of which advances the readers that its positions ask for.

    Attributes:
        incidents: what was met while items were made, by all processes.
    """

    def __init__(self, config: WebDatasetConfig) -> None:
        self._config, self._shards, self.incidents = config, shards_of(config, "train"), Incidents()
        self.readers = min(config.readers, len(self._shards))
        self._keys: list[tuple[int | str, ...]] = []
        self._open: dict[tuple[int, int], _Reader] = {}
        if not self._shards:
            raise UserError("data.train names no shard")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

    def order(self, size: int, key: tuple[int | str, ...]) -> StreamOrder:
        """For `ibllm_core.interfaces.dataset.Dataset`."""
        if key not in self._keys:
            self._keys.append(key)
        return StreamOrder(self._keys.index(key))

    def notes(self) -> list[str]:
        """What is promised of its order, and which commands it runs."""
        config = self._config
        said = [
            f"data: the split train is a stream of {self.readers} readers in turn, {config.block} items each, every one of which shuffles among "
            f"{config.buffer:,} samples: its order depends on neither worker processes nor ranks, and a run that goes on reads it again up to there"
        ]
        commands = [shard for shard in self._shards if shard.startswith("pipe:")]
        if commands:
            said.append(f"data.train runs {len(commands)} commands of the recipe's: {commands[0].removeprefix('pipe:')}")
        return said

    def samples(self, indices: Ints) -> Samples:
        """Items by what `StreamOrder` gave, or, by plain numbers, those that stand so in the shards one after the other, unshuffled."""
        items = [self._item(index >> _BITS, index & ((1 << _BITS) - 1)) for index in indices.tolist()]
        whole, images = list(items), np.empty((len(items), self._config.size, self._config.size, 3), np.uint8)
        broken = [place for place, item in enumerate(items) if not self._decoded(item, images[place : place + 1])]
        if len(broken) == len(items) and items:
            raise UserError(f"none of {len(items)} images in a row can be read: {'; '.join(self.incidents.of('broken')[:20])}")
        for place in broken:
            other = next(p % len(items) for p in range(place + 1, place + len(items)) if p % len(items) not in broken)
            whole[place], images[place] = items[other], images[other]
        paired = self._config.holds == "pairs"
        return Samples(
            indices=indices,
            images=images,
            captions=[item.caption for item in whole] if paired else None,
            languages=[item.language for item in whole] if paired else None,
            groups=np.array([item.group for item in whole], np.int64),
        )

    def corpus(self, limit: int | None) -> list[str]:
        """The captions of the stream's first samples."""
        count = min(self._config.items, _CORPUS, *([] if limit is None else [limit]))
        return (
            [item.caption for item, _ in zip(_Reader(self, None, 0), range(count), strict=False)] if self._config.holds == "pairs" else []
        )

    def _item(self, key: int, position: int) -> _Item:
        """An item; the readers of a process go on from item to item, and begin anew where one before is asked for."""
        block, count = self._config.block, self.readers if key else 1
        reader, ordinal = (position // block) % count, position // (block * count) * block + position % block
        where = self._open.get((key, reader))
        if where is None or where.next > ordinal:
            where = self._open[key, reader] = _Reader(self, self._keys[key - 1] if key else None, reader)
            self._check_share(key)
        return where.at(ordinal)

    def _check_share(self, key: int) -> None:
        """Notes where a worker has to read shards that others read, too."""
        from torch.utils.data import get_worker_info

        workers = getattr(get_worker_info(), "num_workers", 0)
        if workers and len({reader for of, reader in self._open if of == key}) > -(-self.readers // workers):
            best = "block = the items of a process's share of a batch, and readers = a multiple of all workers"
            self.incidents.add(
                "workers", f"data: the {workers} worker processes read the same shards more than once; {best}, would spare that"
            )

    def _decoded(self, item: _Item, out: npt.NDArray[np.uint8]) -> bool:
        config = self._config
        try:
            out[0] = decoded(
                io.BytesIO(item.image), f"the image {item.name}", (config.size,) * 2, Fit(config.fit, config.background), config.most_pixels
            )
        except UserError as error:
            self.problem(error.message)
            return False
        return True

    def problem(self, text: str) -> None:
        """What is wrong with something in a shard: it ends the run, or is noted as long as it is little."""
        if self._config.broken == "stop":
            raise UserError(f'{text}; broken = "skip" leaves out what cannot be read')
        self.incidents.add("broken", text)
        found = self.incidents.of("broken")
        if len(found) > self._config.max_broken * self._config.items:
            more = f"\n  … and {len(found) - 20} more" if len(found) > 20 else ""
            head = f"more is broken than data.max_broken = {self._config.max_broken:g} of {self._config.items:,} items: {len(found)}"
            raise UserError("\n  ".join([head, *found[:20]]) + more)

    def read(self, key: tuple[int | str, ...] | None, reader: int) -> Iterator[_Item]:
        """The items of a reader without end; of all shards as they stand where there is no key."""
        wds, epoch, met = library(), 0, True
        while met:
            shards, met = list(self._shards), False
            chance = random.Random(derive_key(*(key or ()), "stream", epoch))
            if key is not None:
                chance.shuffle(shards)
                shards = shards[reader :: self.readers]
            items: Iterator[_Item] = (item for shard in shards for item in self._items(shard))
            if key is not None:
                chance, most = random.Random(derive_key(*key, "buffer", epoch, reader)), self._config.buffer
                items = wds.filters.shuffle(most, initial=most, rng=chance)(items)
            for item in items:
                met = True
                yield item
            epoch += 1
        raise UserError(f"{', '.join(map(shown, shards[:3]))}: no sample can be read there")

    def _items(self, shard: str) -> Iterator[_Item]:
        """The items of a shard, as the library reads and groups it."""
        iterators, config = library().tariterators, self._config
        for source in iterators.url_opener([{"url": shard}], handler=self._failed):
            for found in iterators.group_by_keys(self._members(shard, source["stream"]), handler=self._failed):
                files = {ending: value for ending, value in found.items() if not ending.startswith("__")}
                sample = Sample(found["__key__"], files)
                ending = image_of(sample, config)
                captions, language, wrong = captions_of(sample, config, bytes) if config.holds == "pairs" else ([""], "", "")
                wrong = wrong if ending else f"has no image: no file ending in {config.image}"
                if wrong:
                    self.problem(shown(f"{shard}: the sample {sample.key} {wrong}"))
                    continue
                group = derive_key("stream", shard, sample.key) >> 1
                for caption in captions:
                    yield _Item(shown(f"{shard}:{sample.key}.{ending}"), files[ending], caption, language, group)

    def _failed(self, error: Exception) -> bool:
        """A handler for the library."""
        if isinstance(error, UserError):
            raise error
        self.problem(shown(f"{error.args[-1] if error.args else 'a shard'}: {error.args[0] if error.args else error}"))
        return True

    def _members(self, shard: str, stream: Any) -> Iterator[dict[str, Any]]:
        """The members of a shard as the library's grouping takes them, in one pass."""
        try:
            with stream, tarfile.open(fileobj=stream, mode="r|*") as tar:
                for member in tar:
                    tar.members = []  # type: ignore[attr-defined]  # they would all be kept
                    if wrong := unsafe(member):
                        self.problem(f"{shown(shard)}: the member {shown(member.name)} {wrong}")
                    elif member.isreg() and not META.match(member.name):
                        data = tar.extractfile(member)
                        assert data is not None
                        yield {"fname": member.name, "data": data.read(), "__url__": shard}
        except (tarfile.TarError, OSError, EOFError) as error:
            self.problem(f"the shard {shown(shard)} cannot be read to its end: {error}")
        yield {}


class _Reader:
    """A reader, and how far it has come: `next` is the number of the item that it will read."""

    def __init__(self, stream: Stream, key: tuple[int | str, ...] | None, reader: int) -> None:
        self._items, self.next = stream.read(key, reader), 0
        self._last: _Item | None = None

    def __iter__(self) -> Iterator[_Item]:
        return self._items

    def at(self, ordinal: int) -> _Item:
        """The item of a number that is not behind it."""
        while self.next <= ordinal:
            self._last, self.next = next(self._items), self.next + 1
        assert self._last is not None
        return self._last
