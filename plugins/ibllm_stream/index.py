"""Which samples shards hold and where: found once, kept on disk, read by mapping. Torch-free. Shapes: m samples, n items of a split."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import io
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import attrs
import numpy as np
import numpy.typing as npt
from filelock import FileLock

from ibllm.plugin import Notice, UserError, cache_folder
from ibllm_stream.config import WebDatasetConfig
from ibllm_stream.samples import Region, Sample, captions_of, image_of, indexed_samples, shown

Ints = npt.NDArray[np.int64]
#: What an index begins with; another version is made anew.
VERSION = 1
#: Of a sample: shard, where its image lies (offset, bytes), where its name and its captions' language begin among the texts.
_SAMPLE = np.dtype([("shard", "<i4"), ("offset", "<i8"), ("bytes", "<i8"), ("name", "<i8"), ("name_end", "<i8")])
#: Of an item: its sample, where its caption and the caption's language stand among the texts.
_ITEM = np.dtype([("sample", "<i8"), ("caption", "<i8"), ("caption_end", "<i8"), ("language_end", "<i8")])


@attrs.frozen
class ShardSource:
    """An image in a shard."""

    shard: str
    member: str
    offset: int
    length: int

    @property
    def name(self) -> str:
        return f"{self.shard}:{shown(self.member)}"

    @property
    def key(self) -> str:
        """Place, size and time of the shard, and where in it the image lies. Raises `OSError` where there is none."""
        found = os.stat(self.shard)
        return f"{os.path.abspath(self.shard)}|{self.offset}|{self.length}|{found.st_size}|{found.st_mtime_ns}"

    def open(self) -> BinaryIO:
        with open(self.shard, "rb", buffering=0) as file:
            file.seek(self.offset)
            return io.BytesIO(file.read(self.length))


class Index:
    """The samples and items of a split.

    Attributes:
        key: of what it was made of: shards as they are, and options.
        shards: the files.
        left_out: what is wrong with samples and members that are left out, a line each.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.key, self._folder = key, folder
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        self.shards: Sequence[str] = about["shards"]
        self.left_out: Sequence[str] = about["left_out"]
        self._samples, self._items = _mapped(folder / "samples", _SAMPLE), _mapped(folder / "items", _ITEM)
        self._texts = _mapped(folder / "texts", np.dtype("u1"))

    def __getstate__(self) -> tuple[Path, str]:
        return self._folder, self.key

    def __setstate__(self, state: tuple[Path, str]) -> None:
        Index.__init__(self, *state)

    def __len__(self) -> int:
        """The number of items."""
        return len(self._items)

    @property
    def samples(self) -> Ints:
        """(n) the number of each item's sample."""
        return self._items["sample"]

    @property
    def images(self) -> int:
        """The number of samples."""
        return len(self._samples)

    def _text(self, start: int, end: int) -> str:
        return self._texts[start:end].tobytes().decode("utf-8")

    def texts(self, items: Ints) -> Iterator[tuple[str, str]]:
        """(caption, its language) of each item."""
        for row in self._items[items].tolist():
            yield self._text(row[1], row[2]), self._text(row[2], row[3])

    def source(self, sample: int) -> ShardSource:
        """Where a sample's image lies."""
        shard, offset, length, start, end = self._samples[sample].item()
        return ShardSource(self.shards[shard], self._text(start, end), offset, length)


def _mapped(path: Path, of: np.dtype[Any]) -> npt.NDArray[Any]:
    return np.memmap(path, of, "r") if path.stat().st_size else np.empty(0, of)


def index_of(shards: Sequence[Path], config: WebDatasetConfig, split: str) -> Index:
    """The index of a split's shards, made where there is none yet. Raises `UserError` where they cannot be used."""
    told = [VERSION, config.holds, config.image, config.caption, config.caption_key, config.language, config.language_key]
    told += [[str(shard.absolute()), (stat := shard.stat()).st_size, stat.st_mtime_ns] for shard in shards]
    key = hashlib.sha256(json.dumps(told).encode("utf-8", "surrogateescape")).hexdigest()[:40]
    folder = cache_folder() / "shards" / key
    found = _kept(folder, key)
    if found is None:
        with _locked(folder):
            found = _kept(folder, key)
            found = _made(folder, key, shards, config) if found is None else found
    config.refuse_broken(f"data.{split}", len(found.left_out), found.images, found.left_out)
    return found


def _kept(folder: Path, key: str) -> Index | None:
    """An index that is there; None where there is none, or it is damaged."""
    try:
        return Index(folder, key)
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Within, no other process makes the same index; where nothing can be locked, one may."""
    lock = FileLock(folder.with_suffix(".lock"))
    with contextlib.suppress(OSError):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _made(folder: Path, key: str, shards: Sequence[Path], config: WebDatasetConfig) -> Index:
    """A new index, put in its place whole; where nothing can be kept, one for this process alone."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".", dir=folder.parent))
    except OSError as error:
        said = f"the index of the shards cannot be kept in {folder.parent} ({error.strerror or error}), so every start makes it"
        warnings.warn(Notice(f"{said}; IBLLM_CACHE names another place"), stacklevel=4)
        partial = Path(tempfile.mkdtemp(prefix="ibllm-shards-"))
        atexit.register(shutil.rmtree, partial, ignore_errors=True)
        _write(partial, shards, config)
        return Index(partial, key)
    try:
        _write(partial, shards, config)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
        return Index(folder, key)
    except OSError as error:
        raise UserError(f"the index of the shards cannot be written to {folder} ({error.strerror or error}); make room there") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(folder: Path, shards: Sequence[Path], config: WebDatasetConfig) -> None:
    left_out, names = list[str](), ("samples", "items", "texts")
    files = {name: (folder / name).open("wb") for name in names}
    count = end = 0

    def put(text: str) -> int:
        nonlocal end
        end += files["texts"].write(text.encode("utf-8"))
        return end

    for number, shard in enumerate(shards):
        try:
            for sample, image, captions, language in _checked(shard, config, left_out):
                start = end
                row = (number, *image, start, put(f"{sample.key}"))
                files["samples"].write(np.array(row, _SAMPLE).tobytes())
                for caption in captions:
                    start = end
                    files["items"].write(np.array((count, start, put(caption), put(language)), _ITEM).tobytes())
                count += 1
        except UserError as error:
            left_out.append(str(error))
    for file in files.values():
        file.close()
    about = {"shards": [str(shard.absolute()) for shard in shards], "left_out": [shown(line) for line in left_out]}
    (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")


def _checked(shard: Path, config: WebDatasetConfig, left_out: list[str]) -> Iterator[tuple[Sample, Region, list[str], str]]:
    """The samples of a shard that can be used, each with its image's region, its captions (one empty one without) and their language."""
    with shard.open("rb") as file:

        def read(region: Region) -> bytes:
            file.seek(region[0])
            return file.read(region[1])

        for sample in indexed_samples(shard, left_out.append):
            ending = image_of(sample, config)
            captions, language, wrong = captions_of(sample, config, read) if config.holds == "pairs" else ([""], "", "")
            wrong = wrong if ending else f"has no image: no file ending in {config.image}"
            if wrong:
                left_out.append(f"{shard}: the sample {sample.key} {wrong}")
            else:
                yield attrs.evolve(sample, key=f"{sample.key}.{ending}"), sample.files[ending], captions, language
