"""By what rules a study decides, fixed before its first run. Torch-free."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from .schema import ALL_PAIRS, BASE, Study


@attrs.frozen(kw_only=True)
class Rules:
    """What is decided, beside the primary figure.

    Attributes:
        further: primary figures after the first.
        modes: primary figure → ``max`` or ``min``; the study's mode where one is missing.
        against: what arms are compared with: ``base``, an arm, or ``all pairs``.
        margin: differences below it, either way, do not matter; None where none was named.
        draw: where seeds are nested in draws of the data, seed → number of its draw.
        looks: seeds that are done whenever the study is looked at; none where it is looked at once.
        spending: how the level is spent over looks.
    """

    further: tuple[str, ...] = ()
    modes: Mapping[str, str] = attrs.field(factory=dict)
    against: str = BASE
    margin: float | None = None
    draw: Mapping[int, int] = attrs.field(factory=dict)
    looks: tuple[int, ...] = ()
    spending: str = ""


def rules_of(study: Study, modes: Mapping[str, str]) -> Rules:
    """The rules of a study file; `modes` say which way is better for each primary figure."""
    table = study.table
    return Rules(
        further=table.primaries[1:],
        modes=modes,
        against=table.against,
        margin=table.margin,
        draw=draws_of(study.seeds, table.draws) if table.draws > 1 else {},
        looks=table.sequential.looks if table.sequential is not None else (),
        spending=table.sequential.spending if table.sequential is not None else "",
    )


def draws_of(seeds: Sequence[int], draws: int) -> dict[int, int]:
    """Seed → its draw of the data: the first seeds have one each, so that few seeds see as many draws as there are."""
    return {seed: number % draws for number, seed in enumerate(seeds)}


def paired(names: Sequence[str], against: str) -> list[tuple[str, str, str]]:
    """(label, control, other) of every comparison, by names of arms."""
    if against == ALL_PAIRS:
        return [(f"{other} − {control}", control, other) for control, other in itertools.combinations(names, 2)]
    control = names[0] if against == BASE else against
    return [(name, control, name) for name in names if name != control]


def rules_from(said: Mapping[str, Any]) -> Rules:
    """Rules that ``plan.json`` holds; those of an empty mapping are the usual ones."""
    kept = {**said}
    for name in ("further", "looks"):
        kept[name] = tuple(said.get(name, ()))
    kept["draw"] = {int(seed): number for seed, number in said.get("draw", {}).items()}
    return Rules(**kept)
