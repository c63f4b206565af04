"""Which split each item is in, and what is told of a division. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from ibllm.plugin import derive_key
from ibllm_files.records import Record


def unit(what: str, seed: int) -> float:
    """Where something lies in [0, 1), by its content alone: its name, its folder and what else there is make no difference."""
    return derive_key("files", seed, what) / 2.0**64


def drawn(place: float, shares: Mapping[str, float]) -> str:
    """The split of what lies there: first come those of `shares`, in their order, then train."""
    end = 0.0
    for split, share in shares.items():
        end += share
        if place < end:
            return split
    return "train"


def remedy(split: str, places: Iterable[float], shares: Mapping[str, float]) -> str:
    """What would give items to a split that has none.

    Args:
        places: of all that is divided (`unit`); nothing where splits are given.
        shares: split → its fraction.
    """
    found = sorted(places)
    if split == "train":
        said = ", ".join(f"{name} = {share:g}" for name, share in shares.items() if share)
        return f"{said} leave nothing of {len(found)}: make them smaller, or give more" if found else "the column split names no row for it"
    if not found:
        return f"data.{split} = 0.1 would draw it from train, and a column split says which they are"
    begin = sum(share for name, share in shares.items() if list(shares).index(name) < list(shares).index(split))
    after = [place for place in found if place >= begin]
    value = math.floor((after[0] - begin) * 100 + 1) / 100 if after else 1.0
    if sum(shares.values()) - shares[split] + value >= 1 or len(after) < 2:
        return f"there are too few to be divided by chance ({len(found)}): give the table a column split"
    return f"of {len(found)} none fell into it; data.{split} = {value:g} would give it one, and a column split says which they are"


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
