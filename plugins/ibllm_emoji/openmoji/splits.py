"""What is trained and what is held out, so that no drawing, and no base of one, leaks from one side to the other."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from ibllm_emoji.config import OpenmojiConfig
from ibllm_emoji.openmoji.catalogue import TONES, Drawing

Family = Sequence[int]


def components(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """For each of `count` things the smallest number of those it is connected with."""
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j in pairs:
        a, b = root(i), root(j)
        parent[max(a, b)] = min(a, b)
    return [root(i) for i in range(count)]


def families(drawings: Sequence[Drawing], near_duplicates: Iterable[tuple[int, int]]) -> list[Family]:
    """Drawings of one base, and of bases that share a drawing, belong together."""
    first: dict[str, int] = {}
    same_base = [(first.setdefault(d.base, i), i) for i, d in enumerate(drawings)]
    found: dict[int, list[int]] = {}
    for i, root in enumerate(components(len(drawings), [*same_base, *near_duplicates])):
        found.setdefault(root, []).append(i)
    return list(found.values())


def hold_out_concepts(
    drawings: Sequence[Drawing], groups: Sequence[Family], config: OpenmojiConfig, key: Callable[[str], int]
) -> dict[int, str]:
    """Drawing → split, for the bases held out as concepts.

    Whole families are taken in drawn order as long as every word of their names stays in a base that is trained. The share is of
    the bases whose every word occurs in another family.
    """
    names = [sorted({drawings[i].base for i in group}) for group in groups]
    uses = [Counter(word for name in group for word in set(name.split())) for group in names]
    left = sum(uses, Counter())
    eligible = [g for g, counts in enumerate(uses) if all(left[word] > n for word, n in counts.items())]
    total = sum(len(names[g]) for g in eligible)
    held: dict[int, str] = {}
    queue = sorted(eligible, key=lambda g: key(names[g][0]))
    for split, share in (("concept", config.concept), ("concept-validation", config.concept_validation)):
        room = math.ceil(share * total)
        for g in list(queue):
            if len(names[g]) <= room and all(left[word] > n for word, n in uses[g].items()):
                room -= len(names[g])
                left -= uses[g]
                queue.remove(g)
                held |= dict.fromkeys(groups[g], split)
    return held


def hold_out_tones(
    drawings: Sequence[Drawing], groups: Sequence[Family], same: Sequence[int], config: OpenmojiConfig, key: Callable[[str], int]
) -> dict[int, str]:
    """Drawing → split, for the persons and hands that are trained in some tones and held out in one.

    The tone is drawn among those in which the family looks different from what stays (under a diver's mask, no tone shows); `same`
    gives drawings that look alike the same number.
    """
    held: dict[int, str] = {}
    toned = sorted((g for g in groups if any(drawings[i].tones for i in g)), key=lambda g: key(drawings[g[0]].base))
    first, second = round(config.tone * len(toned)), round((config.tone + config.tone_validation) * len(toned))
    for place, group in enumerate(toned[:second]):
        base = drawings[group[0]].base
        for tone in sorted(range(len(TONES)), key=lambda tone: key(f"{base}/{TONES[tone]}")):
            out = [i for i in group if tone in drawings[i].tones]
            rest = {i for i in group if i not in out}
            known = {drawings[i].base for i in rest if drawings[i].tones}
            if out and all(drawings[i].base in known for i in out) and not {same[i] for i in out} & {same[i] for i in rest}:
                held |= dict.fromkeys(out, "tone" if place < first else "tone-validation")
                break
    return held


def assign_splits(
    drawings: Sequence[Drawing], near_duplicates: Sequence[tuple[int, int]], config: OpenmojiConfig, key: Callable[[str], int]
) -> Mapping[str, Sequence[int]]:
    """Split → the drawings in it; `key` draws a number for a text."""
    groups = families(drawings, near_duplicates)
    held = hold_out_concepts(drawings, groups, config, key)
    same = components(len(drawings), near_duplicates)
    held |= hold_out_tones(drawings, [g for g in groups if g[0] not in held], same, config, key)
    found: dict[str, list[int]] = {split: [] for split in config.splits()}
    for i in range(len(drawings)):
        found[held.get(i, "train")].append(i)
    return found
