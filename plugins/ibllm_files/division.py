"""Which split each item is in, and what is told of a division. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from ibllm.plugin import derive_key
from ibllm_files.config import FilesConfig
from ibllm_files.records import Record


def unit(what: str, seed: int) -> float:
    """Where something lies in [0, 1), by its content alone: its name, its folder and what else there is make no difference."""
    return derive_key("files", seed, what) / 2.0**64


def drawn(place: float, config: FilesConfig) -> str:
    """The split of what lies there: first comes test, then validation, then train."""
    return "test" if place < config.test else "validation" if place < config.test + config.validation else "train"


def remedy(split: str, places: Iterable[float], config: FilesConfig) -> str:
    """The option with which a drawn split would have an item, or more for train.

    Args:
        places: of all that is divided (`unit`).
    """
    found = sorted(places)
    if split == "train":
        return (
            f"test = {config.test:g} and validation = {config.validation:g} leave nothing of {len(found)}: make them smaller, or give more"
        )
    base = 0.0 if split == "test" else config.test
    after = [place for place in found if place >= base]
    value = math.floor((after[0] - base) * 100 + 1) / 100 if after else 1.0
    if base + value >= 1 or value + config.test + config.validation >= 1 + getattr(config, split):
        return f"{len(found)} are too few to be divided by chance: give the table a column split"
    return f"of {len(found)} none fell into it; {split} = {value:g} would give it one, and a column split says which they are"


def leaks(records: Sequence[Record], digests: Sequence[str]) -> list[tuple[Record, Record]]:
    """Pairs of records with one picture under two names, of which the first is in train and the second in another split.

    Args:
        digests: of each record's image; empty where it has none.
    """
    seen: dict[str, Record] = {}
    for record, digest in zip(records, digests, strict=True):
        if digest and record.split == "train":
            seen.setdefault(digest, record)
    other: Mapping[str, Record] = {
        digest: record for record, digest in zip(records, digests, strict=True) if digest in seen and record.split not in ("", "train")
    }
    return [(seen[digest], record) for digest, record in other.items()]
