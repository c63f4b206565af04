"""Images by their numbers, decoded when they are asked for. Torch-free. Shapes: n images of the data, b of a batch, h w c."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from ibllm_core.errors import UserError, system_error
from ibllm_core.interfaces.randomness import derive_key

from ..pictures import MOST_PIXELS, Fit, explained, fitted, is_animated, loaded, opened
from .cache import reserve
from .facts import Facts, absent
from .incidents import Incidents
from .sources import ImageSource

Pixels = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]
#: Decoded images of so many bytes are simply kept in memory.
LITTLE = 64 << 20
#: Formats whose pixels are stored as they are, or nearly.
_PLAIN = ("BMP", "PPM", "TGA")
#: Broken images that are named at once.
SHOWN = 20
#: Images of unknown data that tell what decoding costs.
_HEADERS = 16
#: Items that are tried in a broken one's place.
_TRIES = 100


class Unreadable(UserError):
    """Images that turned out to be broken when they were decoded; `broken` is number → why."""

    def __init__(self, broken: Mapping[int, str]) -> None:
        super().__init__("; ".join(broken.values()))
        self.broken = dict(broken)


class _Kept(Protocol):
    def get(self, slot: int, out: Pixels) -> bool: ...

    def put(self, slot: int, pixels: Pixels) -> None: ...


class _InMemory:
    """Decoded images of one process."""

    def __init__(self, slots: int, shape: tuple[int, int, int]) -> None:
        self._pixels, self._there = np.zeros((slots, *shape), np.uint8), np.zeros(slots, np.bool_)

    def get(self, slot: int, out: Pixels) -> bool:
        if self._there[slot]:
            out[...] = self._pixels[slot]
        return bool(self._there[slot])

    def put(self, slot: int, pixels: Pixels) -> None:
        self._pixels[slot] = pixels
        self._there[slot] = True


class StoredImages:
    """A data set's images as pixels of one size, decoded by whoever asks for them: the result does not depend on who that is, on order, or on what is kept.

    Args:
        sources: where each image lies.
        size: (w, h).
        fit: how each is made to fit.
        facts: what is known of them (`look`); content that comes twice is then decoded once, and what is kept does not depend on where it lies.
            Without them animations are counted as they are met.
        named: stands for the content of all of them, where there are no facts; else the place, size and time of each.
        cache: ``true``, decoded images are kept on disk (`PixelCache`); ``false``, nothing is kept; ``auto``, in memory where they are few
            (`LITTLE`), else on disk where decoding costs more than reading (`costly`), else not.
        cache_limit: of all caches on disk, in gigabytes.
        most: of an image's pixels. What has more is broken.
        skip: other images of the split take the place of those that turn out to be broken; else that ends the run.
        max_broken: the largest fraction of them for which this holds.
        key: the data's path in the recipe, for messages.

    Attributes:
        shape: (h w 3).
        incidents: what was met while images were decoded, by all processes.
        told: what was decided about keeping them, for `notes` of a dataset.
    """

    def __init__(
        self,
        sources: Sequence[ImageSource],
        size: tuple[int, int],
        fit: Fit,
        *,
        facts: Facts | None = None,
        named: str = "",
        cache: bool | str = "auto",
        cache_limit: float = 20.0,
        most: int = MOST_PIXELS,
        skip: bool = False,
        max_broken: float = 0.01,
        key: str = "data",
    ) -> None:
        self._sources, self._size, self._fit, self._most, self._key = sources, size, fit, most, key
        self._skip, self._max_broken = skip, max_broken
        self.shape, self.told, self.incidents = (size[1], size[0], 3), list[str](), Incidents()
        self._slots, name = _slots(sources, facts, named, size, fit)
        self._counted = facts is not None
        self._broken: dict[int, str] = dict(facts.broken) if facts is not None else {}
        self._kept = self._keep(cache, cache_limit, name, facts)

    def __len__(self) -> int:
        return len(self._sources)

    def _keep(self, cache: bool | str, limit: float, name: str, facts: Facts | None) -> _Kept | None:
        count, weight = int(self._slots.max(initial=-1)) + 1, int(np.prod(self.shape))
        if cache is False or not count:
            return None
        if cache == "auto" and count * weight <= LITTLE:
            return _InMemory(count, self.shape)
        if cache == "auto" and not costly(*(_some(self._sources) if facts is None else (facts.kinds, facts.sizes)), self._size):
            return None
        found = reserve(name, count, weight, limit, lambda text: self.told.append(f"{self._key}: {text}"))
        if found is not None:
            room = f"{count * weight / 1e9:.1f} GB once all are"
            self.told.append(f"{self._key}: decoded images are kept in {found.path.parent} ({room}); ibllm data clean removes them")
        return found

    def take(self, numbers: Numbers) -> Pixels:
        """(b) numbers → (b h w 3).

        Raises:
            Unreadable: some of them are broken.
            UserError: the system refuses to read.
        """
        made, broken = np.empty((len(numbers), *self.shape), np.uint8), dict[int, str]()
        for place, number in enumerate(numbers.tolist()):
            if number in self._broken:
                broken[number] = self._broken[number]
                continue
            slot = int(self._slots[number])
            if self._kept is not None and self._kept.get(slot, made[place]):
                continue
            try:
                made[place] = self.decode(number)
            except Unreadable as error:
                self._broken |= error.broken
                broken |= error.broken
                continue
            self._put(slot, made[place])
        if broken:
            raise Unreadable(broken)
        return made

    def _put(self, slot: int, pixels: Pixels) -> None:
        try:
            if self._kept is not None:
                self._kept.put(slot, pixels)
        except OSError as error:
            self.incidents.add("cache", f"{self._key}: decoded images are not kept any more: {system_error(error) or error}")
            self._kept = None

    def decode(self, number: int) -> Pixels:
        """The pixels (h w 3) of an image, decoded now. Raises as `take` does."""
        source, name = self._sources[number], f"the image {self._sources[number].name}"
        try:
            file = source.open()
        except (OSError, ValueError) as error:
            known = None if isinstance(error, FileNotFoundError | PermissionError) else system_error(error)
            raise known or Unreadable({number: absent(source, error)}) from error
        with file:
            moving = None if self._counted else lambda: self.incidents.add("animated", source.name)
            try:
                return decoded(file, name, self._size, self._fit, self._most, f"{self._key}.most_pixels", moving)
            except UserError as error:
                raise Unreadable({number: error.message}) from error

    def take_items(self, split: Numbers, indices: Numbers) -> tuple[Numbers, Pixels]:
        """Items of a split: their indices, and pixels (b h w 3). With `skip` a broken one's place is taken by another item, which follows from its index.

        Args:
            split: (m) the number of each item's image.
            indices: (b) items of the split.

        Raises:
            UserError: an image is broken, and not to be skipped, or more are than `max_broken` allows.
        """
        chosen = indices.copy()
        for attempt in range(_TRIES):
            try:
                return chosen, self.take(split[chosen])
            except Unreadable as error:
                if not self._skip:
                    raise
                self._record(error)
                for place in np.flatnonzero(np.isin(split[chosen], list(error.broken))).tolist():
                    chosen[place] = derive_key("replacement", int(indices[place]), attempt) % len(split)
        raise UserError(f"{self._key}: none of {_TRIES} images in a row can be read; expected a split whose images are whole")

    def met(self) -> list[str]:
        """What was met so far, by all processes, a sentence each."""
        broken, moving = self.incidents.of("broken"), self.incidents.of("animated")
        more = f", and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
        said = [*self.incidents.of("cache")]
        if broken:
            what = "images broken in the midst, whose places other items take"
            said.append(f"{self._key}: {what}: {len(broken):,} ({'; '.join(broken[:SHOWN])}{more})")
        if moving:
            said.append(
                f"{self._key}: {len(moving):,} of the images seen so far are animated, and their first frames are taken ({moving[0]}, …)"
            )
        return said

    def _record(self, error: Unreadable) -> None:
        """Notes broken images, once each; raises where they are too many."""
        for number, why in error.broken.items():
            self.incidents.add("broken", why, once=self._sources[number].name)
        found = self.incidents.of("broken")
        if len(found) > self._max_broken * len(self._sources):
            more = f"\n  … and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            share = f"{self._key}.max_broken = {self._max_broken:g} of {len(self._sources):,} images"
            raise UserError("\n  ".join([f"more images are broken than {share}: {len(found)}", *found[:SHOWN]]) + more) from error


def decoded(
    file: BinaryIO,
    name: str,
    size: tuple[int, int],
    fit: Fit,
    most: int = MOST_PIXELS,
    raised_by: str = "data.most_pixels",
    animated: Callable[[], None] | None = None,
) -> Pixels:
    """An image's pixels (h w 3), as a data set has them: of an animation the first frame, and a JPEG decoded at the size that is needed.

    Args:
        animated: called for an animation.

    Raises:
        UserError: it is broken.
    """
    how: dict[str, Any] = {"size": size, "fit": fit, "raised_by": raised_by, "animated": True}
    # `opened` changes the process's warnings for a while, which others may do in another thread.
    image = (opened if most > MOST_PIXELS else loaded)(file, name, most, **how)
    if animated is not None and is_animated(image):
        animated()
    with explained(name):
        return fitted(image, size, fit)


def costly(kinds: Sequence[str], sizes: Numbers, size: tuple[int, int]) -> bool:
    """Whether decoding images costs more than reading back what it gave; a rule, so that it is the same everywhere.

    A pixel of a compressed format takes some ten times as long to decode as one of a cache to read and check, one that is stored as it is about as long.

    Args:
        kinds: what they are (`Facts.kinds`); empty for those that cannot be read.
        sizes: (n 2) width and height.
    """
    seen = np.array([bool(kind) for kind in kinds], np.bool_)
    work = np.array([1 if kind.split(" ")[0] in _PLAIN else 10 for kind in kinds]) * sizes.prod(1)
    return bool(seen.any() and work[seen].mean() > size[0] * size[1])


def _some(sources: Sequence[ImageSource]) -> tuple[list[str], Numbers]:
    """Kinds and sizes (n 2) of a few images, taken evenly, by their headers."""
    from PIL import Image

    found = []
    for number in np.linspace(0, len(sources) - 1, _HEADERS).astype(int).tolist():
        try:
            with sources[number].open() as file, explained(""), Image.open(file) as image:
                found.append((f"{image.format}", image.size))
        except (OSError, ValueError):  # one that is broken is met again
            continue
    return [kind for kind, _ in found], np.array([size for _, size in found], np.int64).reshape(-1, 2)


def _slots(sources: Sequence[ImageSource], facts: Facts | None, named: str, size: tuple[int, int], fit: Fit) -> tuple[Numbers, str]:
    """Which slot of a cache each image has, and the cache's name, which follows from content and options."""
    from PIL import __version__, features

    how = json.dumps([1, size, fit.how, fit.background, __version__, features.version("jpg")])
    found = hashlib.sha256(how.encode())
    if facts is None:
        slots = np.arange(len(sources), dtype=np.int64)
        found.update(named.encode())
        for source in () if named else sources:
            try:
                found.update(source.key.encode("utf-8", "surrogateescape") + b"\n")
            except (OSError, ValueError):
                found.update(b"\n")
        return slots, found.hexdigest()[:40]
    contents, places = np.unique(np.array(facts.contents, dtype="S32"), return_inverse=True)
    found.update(contents.tobytes())
    return places.reshape(-1).astype(np.int64), found.hexdigest()[:40]
