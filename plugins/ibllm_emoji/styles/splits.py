"""What is trained and what is held out of concept × style × language. Torch-free."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import attrs
import numpy as np
import numpy.typing as npt

from ibllm_emoji.config import EmojiStylesConfig
from ibllm_emoji.styles.archives import PACKAGES
from ibllm_emoji.styles.concepts import Concept
from ibllm_emoji.styles.wording import words

#: An item: the concept's number, the style's, and the language of its caption.
Item = tuple[int, int, str]
Key = Callable[..., int]
_SPLITS = ("", "-validation")


@attrs.frozen
class Held:
    """What is held out: of whole concepts, of their styles, and of their languages. A concept is held out in one way at most."""

    concepts: Mapping[int, str]
    styles: Mapping[int, tuple[int, str]]
    languages: Mapping[int, tuple[str, str]]


def _share(value: int) -> float:
    """A 64-bit key as a number in [0, 1)."""
    return value / 2.0**64


def hold_out(concepts: Sequence[Concept], alike: npt.NDArray[np.int64], config: EmojiStylesConfig, key: Key) -> Held:
    """What the options hold out; `key` draws a number for some words, so that a concept's lot is its own.

    Args:
        alike: (s n) of `render.looks`: a drawing that looks like another concept's is never held out, since it would be seen under another name.
    """
    unlike = np.stack([np.bincount(row, minlength=len(concepts))[row] == 1 for row in alike])
    whole = _concepts(concepts, np.all(unlike, axis=0), config, key)
    styles: dict[int, tuple[int, str]] = {}
    languages: dict[int, tuple[str, str]] = {}
    lots = (config.crossing, config.crossing_validation, config.language, config.language_validation)
    edges = np.cumsum(lots if len(config.languages) > 1 else (*lots[:2], 0, 0))
    for number, concept in enumerate(concepts):
        if number in whole:
            continue
        lot = int(np.searchsorted(edges, _share(key("lot", concept.code)), side="right"))
        if lot < 2 and (free := np.flatnonzero(unlike[:, number])).size:
            styles[number] = int(free[key("style", concept.code) % free.size]), f"crossing{_SPLITS[lot]}"
        elif lot in (2, 3):
            code = config.languages[key("language", concept.code) % len(config.languages)]
            languages[number] = code, f"language{_SPLITS[lot - 2]}"
    return Held(whole, styles, languages)


def _concepts(concepts: Sequence[Concept], unlike: npt.NDArray[np.bool_], config: EmojiStylesConfig, key: Key) -> dict[int, str]:
    """The concepts of which every word of every language is left elsewhere, in drawn order as long as that stays so."""
    uses = [Counter((code, word) for code in config.languages for word in set(words(concept.names[code]))) for concept in concepts]
    left: Counter[tuple[str, str]] = Counter()
    for counts in uses:
        left.update(counts)
    eligible = [n for n, counts in enumerate(uses) if unlike[n] and all(left[word] > many for word, many in counts.items())]
    queue = sorted(eligible, key=lambda n: key("concept", concepts[n].code))
    held: dict[int, str] = {}
    for split, share in (("concept", config.concept), ("concept-validation", config.concept_validation)):
        room = math.ceil(share * len(eligible))
        for number in list(queue):
            if room and all(left[word] > many for word, many in uses[number].items()):
                room -= 1
                left.subtract(uses[number])
                queue.remove(number)
                held[number] = split
    return held


def divide(concepts: Sequence[Concept], held: Held, config: EmojiStylesConfig, key: Key) -> tuple[dict[str, list[Item]], dict[str, int]]:
    """Split → its items, drawing by drawing with the languages taking turns, then again with the next language; and split → how many were left out.

    Left out of the held-out splits is a name with a word that no training caption of its language has.
    """
    found: dict[str, list[Item]] = {split: [] for split in config.splits()}
    cells = [(n, s) for n in range(len(concepts)) for s in range(len(PACKAGES))]
    cells.sort(key=lambda cell: key("order", concepts[cell[0]].code, cell[1]))
    for turn in range(len(config.languages)):
        for place, (number, style) in enumerate(cells):
            code = config.languages[(place + turn) % len(config.languages)]
            found[_split(held, number, style, code)].append((number, style, code))
    known: dict[str, set[str]] = {code: set() for code in config.languages}
    for number, _, code in found["train"]:
        known[code].update(words(concepts[number].names[code]))
    kept = {
        split: items if split == "train" else [item for item in items if known[item[2]].issuperset(words(concepts[item[0]].names[item[2]]))]
        for split, items in found.items()
    }
    return kept, {split: out for split, items in found.items() if (out := len(items) - len(kept[split]))}


def _split(held: Held, number: int, style: int, language: str) -> str:
    if number in held.concepts:
        return held.concepts[number]
    out, split = held.styles.get(number, (-1, ""))
    if out == style:
        return split
    tongue, split = held.languages.get(number, ("", ""))
    return split if tongue == language else "train"
