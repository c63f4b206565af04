"""What a study file says of its design and of its rules: the factorial design that it means, or what is wrong. Torch-free."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from ibllm_core.errors import nearest
from ibllm_core.recipe.document import Document
from ibllm_core.recipe.locate import Mistakes, Path, dotted
from ibllm_core.recipe.words import listing

from .schema import ALL_PAIRS, BASE, Arm, Factorial, StudyTable
from .statistics.factorial import MOST_FACTORS, Design, Effect, make_design


def check_rules(document: Document, mistakes: Mistakes, table: StudyTable, variants: Sequence[str]) -> None:
    """What the keys that say how is decided must not contradict among themselves."""
    count = table.seeds if isinstance(table.seeds, int) else len(table.seeds)
    if not table.primaries or len(set(table.primaries)) < len(table.primaries):
        mistakes.add(document.place("primary"), "no figure, or one twice", expected="SPLIT/FIGURE, or several different ones")
    if table.design != "one-at-a-time":
        if table.against != BASE:
            mistakes.add(document.place("against"), f"a {table.design} design has no other control", expected='design = "one-at-a-time"')
    elif table.against not in (BASE, ALL_PAIRS, *variants):
        known = [BASE, ALL_PAIRS, *variants]
        mistakes.add(
            document.place("against"), f'"{table.against}" is no variant', expected=listing(known), nearest=nearest(table.against, known)
        )
    if table.design == "search":
        for key in ("margin", "sequential", "draws"):
            if key in document.data:
                mistakes.add(document.place(key), "a search tests nothing", expected='design = "one-at-a-time" or "factorial"')
    if table.sequential is not None:
        if table.sequential.looks[-1] != count:
            hint = "the last look is at all seeds"
            mistakes.add(
                document.place("sequential"), f"looks end at {table.sequential.looks[-1]}, of {count} seeds", expected=f"{count}", hint=hint
            )
        for key in ("margin", "draws"):
            if key in document.data:
                mistakes.add(document.place(key), "is not read by a sequential study", expected="one of the two")
    if table.draws > 1 and count < 2 * table.draws:
        mistakes.add(document.place("draws"), f"{table.draws} draws of {count} seeds", expected="two seeds a draw or more")


def read_factorial(document: Document, mistakes: Mistakes, table: StudyTable, factors: Sequence[Arm]) -> Design | None:
    """The design of a study with ``design = "factorial"``; None for any other, and where its mistakes are noted."""
    if table.design != "factorial":
        for key in ("factors", "factorial"):
            if key in document.data:
                mistakes.add(document.place(key), "is read by a factorial design only", expected='design = "factorial"')
        return None
    others = [key for key in ("variants", "axes") if document.data.get(key)]
    for key in others:
        mistakes.add(document.place(key), "a factorial design has factors only", expected="[factors], each a table of changes")
    clashes = [(other, one.name, key) for one, other in itertools.combinations(factors, 2) for key in _both(one, other)]
    for factor, name, key in clashes:
        mistakes.add(factor.place, f'"{key}" is changed by {name!r}, too', expected="factors that change different keys")
    if not 2 <= len(factors) <= MOST_FACTORS:
        mistakes.add(document.place("factors"), f"{len(factors)} factors", expected=f"2 to {MOST_FACTORS}, each a table of changes")
    elif not others and not clashes:
        return _design(document, mistakes, table, [factor.name for factor in factors])
    return None


def _design(document: Document, mistakes: Mistakes, table: StudyTable, names: Sequence[str]) -> Design | None:
    asked = table.factorial or Factorial()
    try:
        full = make_design(names, asked.fraction, len(names) if asked.effects else asked.order)
    except ValueError as error:
        mistakes.add(document.place("factorial", "fraction"), f"fraction = {asked.fraction}: {error}")
        return None
    return _chosen(document, mistakes, full, asked.effects) if asked.effects else full


def _both(one: Arm, other: Arm) -> Iterable[str]:
    """The keys that two factors change, each in its own way."""
    leaves = dict(_leaves(other.layer.data))
    for path, value in _leaves(one.layer.data):
        for at, theirs in leaves.items():
            shared = path[: len(at)] == at or at[: len(path)] == path
            if shared and (path, value) != (at, theirs):
                yield dotted(min(path, at, key=len))


def _leaves(value: Any, path: Path = ()) -> Iterable[tuple[Path, Any]]:
    if isinstance(value, dict) and value and "use" not in value:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    else:
        yield path, value


def _chosen(document: Document, mistakes: Mistakes, full: Design, asked: Sequence[Sequence[str]]) -> Design | None:
    """The design with the effects that were asked for."""
    place, found = document.place("factorial", "effects"), dict[str, Effect]()
    for names in asked:
        unknown = [name for name in names if name not in full.factors]
        effect = None if unknown or len(set(names)) < len(names) else full.effect(names)
        if unknown:
            mistakes.add(place, f'"{unknown[0]}" is no factor', expected=listing(full.factors), nearest=nearest(unknown[0], full.factors))
        elif effect is None:
            mistakes.add(
                place, f"{list(names)}: the cells that are run do not show this effect", expected="each factor once, or a larger fraction"
            )
        elif any(effect.factors in {known.factors, *(other for other, _ in known.aliases)} for known in found.values()):
            mistakes.add(place, f"{list(names)}: {effect.name} is there already, or cannot be told from it", expected="one of them")
        else:
            found[effect.name] = effect
    return attrs.evolve(full, effects=tuple(found.values())) if len(found) == len(asked) else None
