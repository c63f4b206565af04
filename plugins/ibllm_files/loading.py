"""Everything that is read before the first step: records, what their images are, and which split they are in. Torch-free."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast

import attrs
import numpy as np
import numpy.typing as npt

from ibllm.plugin import NAMED, Facts, Fit, StoredImages, UserError, content_hashes, look
from ibllm_files.config import FilesConfig
from ibllm_files.division import drawn, leaks, remedy, unit
from ibllm_files.formats import read_records
from ibllm_files.records import Passed, Problems, Reading, Record
from ibllm_files.sources import FileSource, Source, file_key
from ibllm_files.trees import DiskTree


@attrs.frozen(eq=False)
class Loaded:
    """A config's files once read.

    Attributes:
        images: by their numbers, each content once.
        facts: what is known of each of them.
        items: split → (record, its image's number; −1 where there are none).
        numbers: split → the items' images' numbers.
        left_out: the records that are left out, a line each.
        notes: what a user should know, a sentence each.
        remedies: a split without items → what would give it some.
    """

    images: StoredImages
    facts: Facts
    items: Mapping[str, Sequence[tuple[Record, int]]]
    numbers: Mapping[str, npt.NDArray[np.int64]]
    left_out: Sequence[str]
    notes: Sequence[str]
    remedies: Mapping[str, str]


def load(config: FilesConfig) -> Loaded:
    """Reads, checks and divides everything; once for a config and process, as long as its files are the same. Raises `UserError` that names all problems."""
    root = Path(config.path).expanduser()
    return load_folder(config, root, _state(root))


def _state(root: Path) -> str:
    """What changes whenever the file, or a file in the folder, does."""
    if not root.is_dir():
        return file_key(root) if root.exists() else ""
    found = hashlib.sha256()
    for _, source in DiskTree(root).files(Passed()):
        found.update(os.fsencode(source.key))
    return found.hexdigest()


@lru_cache(maxsize=2)
def load_folder(config: FilesConfig, root: Path, key: str) -> Loaded:
    """What `load` gives, kept for the last two."""
    reading = Reading(config=config, problems=Problems(root))
    records = _consistent(read_records(root, reading), reading)
    sources = list(dict.fromkeys(record.image for record in records if record.image is not None))
    found = dict(zip(sources, content_hashes(sources), strict=True))
    first = {found[source]: source for source in reversed(sources) if found[source]}
    first = dict(reversed(first.items()))
    numbers = {content: number for number, content in enumerate(first)}
    facts = look(tuple(first.values()), tuple(first), config.most_pixels, "most_pixels")
    usable = []
    for record in records:
        number = -1 if record.image is None else numbers.get(found[record.image], -2)
        if record.image is not None and number == -2:
            reading.problems.add(record.place, partial(_unread, record.image))
        elif number in facts.broken:
            reading.problems.add(record.place, partial(_damaged, facts.broken[number], record.image))
        else:
            usable.append((record, number))
    config.refuse_broken(str(reading.problems.path), len(reading.problems), len(usable), reading.problems.lines(NAMED))
    if not usable:
        raise UserError(f"{root}: no record can be used")
    notes = _notes(root, [record for record, _ in usable], found, facts, reading)
    how = {"cache": config.cache, "cache_limit": config.cache_limit, "most": config.most_pixels}
    how |= {"skip": config.broken == "skip", "max_broken": config.max_broken}
    images = StoredImages(
        tuple(first.values()), (config.size, config.size), Fit(config.fit, config.background), facts=facts, **cast(dict[str, Any], how)
    )
    return _divided(config, root, images, facts, usable, reading.problems.lines(), [*notes, *images.told])


def _damaged(why: str, source: Source | None) -> str:
    """Why an image is none, with what its first bytes say that it is instead."""
    assert source is not None
    try:
        with source.open() as file:
            first = file.read(100).lstrip()
    except (OSError, ValueError):
        return why
    if not first:
        return f"{why}; there is nothing in it"
    if first.startswith(b"version https://git-lfs"):
        return f"{why}; it is a pointer of Git LFS, and git lfs pull fetches the image"
    return f"{why}; it is a page of HTML or XML" if first.startswith((b"<!", b"<html", b"<?xml", b"<svg")) else why


def _unread(source: Source) -> str:
    """Why a source cannot be opened, with the likely cause."""
    why = ""
    try:
        source.open().close()
    except (FileNotFoundError, NotADirectoryError):
        if isinstance(source, FileSource):
            root = next((parent for parent in source.path.parents if parent.is_dir()), source.path.parent)
            why = DiskTree(root).why_missing(source.path.relative_to(root).as_posix())
    except (OSError, ValueError) as error:
        return f"the image {source.name} cannot be opened ({getattr(error, 'strerror', None) or error})"
    return f"there is no image {source.name}{why}"


def _consistent(records: Sequence[Record], reading: Reading) -> list[Record]:
    """The records that go with the others. Problems are: columns filled in some only, an image in two splits, no questions where there should be."""
    wrong: dict[int, str] = {}
    for column in ("split", "question"):
        bare, why = [record for record in records if not getattr(record, column)], ""
        if 0 < len(bare) < len(records):
            why = f"{column} is empty, but other rows give it: expected all or none"
        elif bare and reading.config.questions and column == "question":
            why = "there is no question: expected one in every row with questions = true"
        if why:  # one says it all, where it stops everything
            wrong |= {id(record): why for record in (bare if reading.config.broken == "skip" else bare[:1])}
    seen: dict[Source, Record] = {}
    for record in records:
        other = seen.setdefault(record.image, record) if record.image is not None else record
        if other.split != record.split and record.split and other.split:
            assert record.image is not None
            said = f"the image {record.image.name} is in the split {record.split} here and in {other.split} at {other.place}"
            wrong.setdefault(id(record), said)
    for record in records:
        if id(record) in wrong:
            reading.problems.add(record.place, wrong[id(record)])
    return [record for record in records if id(record) not in wrong]


def _notes(root: Path, records: Sequence[Record], found: Mapping[Source, str], facts: Facts, reading: Reading) -> list[str]:
    """What was left out and passed over, and pictures that stand in train and in another split."""
    said, count = [f"{root} has {one}" for one in reading.passed.sentences()], len(reading.problems)
    if count:
        said.insert(0, f"{root}: {count} of {len(records) + count} records are broken and left out")
    if animated := int(facts.animated.sum()):
        said.append(f"{root} has {animated} animated image{', whose' if animated == 1 else 's, of which the'} first frame is taken")
    hashes = [found[record.image] if record.image is not None else "" for record in records]
    if pairs := leaks(records, hashes):
        first = [
            f"{a.image.name} (train) = {b.image.name} ({b.split})" for a, b in pairs[:3] if a.image is not None and b.image is not None
        ]
        many = "1 picture of train is" if len(pairs) == 1 else f"{len(pairs):,} pictures of train are"
        said.append(
            f"{root}: {many} in other splits, too, so their figures are too good: {', '.join(first)}{', …' if len(pairs) > 3 else ''}"
        )
    return said


def _divided(
    config: FilesConfig,
    root: Path,
    images: StoredImages,
    facts: Facts,
    usable: Sequence[tuple[Record, int]],
    left_out: Sequence[str],
    notes: list[str],
) -> Loaded:
    """The items of every split: those that a table or folders give, or by where a picture's content, or a caption without a picture, is drawn.

    A split that is given nowhere while others are is drawn from train.
    """
    items: dict[str, list[tuple[Record, int]]] = {split: [] for split in config.splits()}
    places: dict[str, float] = {}
    given = {record.split for record, _ in usable}
    shares = {split: 0.0 if split in given else getattr(config, split) for split in ("test", "validation")}
    for record, number in usable:
        what, split = facts.contents[number] if number >= 0 else record.caption, record.split
        if split in ("", "train") and any(shares.values()):
            if what not in places:
                places[what] = unit(what, config.split_seed)
            split = drawn(places[what], shares)
        items[split or "train"].append((record, number))
    if given != {""} and (taken := [split for split, share in shares.items() if share and items[split]]):
        notes.append(
            f"{root}: the split{'s' if len(taken) > 1 else ''} {' and '.join(taken)} {'are' if len(taken) > 1 else 'is'} drawn from train"
        )
    remedies = {split: remedy(split, places.values(), shares) for split, some in items.items() if not some}
    if not items["train"]:
        raise UserError(f"{root}: no row is left for the split train; {remedies['train']}")
    numbers = {split: np.array([number for _, number in some], dtype=np.int64) for split, some in items.items()}
    return Loaded(images, facts, items, numbers, left_out, notes, remedies)
