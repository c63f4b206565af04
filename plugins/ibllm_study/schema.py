"""A study once read: its base recipe, its arms, its seeds. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import attrs

from ibllm_core.host.options import Config, option
from ibllm_core.recipe.document import Document
from ibllm_core.recipe.locate import Place
from ibllm_core.recipe.words import written

from .budget import Budget
from .statistics.factorial import Design
from .statistics.sequential import SPENDING

#: The study format this core reads.
FORMAT = 1
#: How arms are made of variants and axes.
DESIGNS = ("one-at-a-time", "grid", "factorial", "search")
#: The arm that is the base recipe itself.
BASE = "base"
#: In the place of a control: every arm with every other.
ALL_PAIRS = "all pairs"


@attrs.frozen(kw_only=True)
class Search(Config):
    """``search = { trials = 40 }``: how the axes of ``design = "search"`` are explored (by Optuna)."""

    trials: int = option(help="points that are tried, each with every seed", ge=1)
    sampler: str = option(
        "tpe", help="how the next point is chosen: tree-structured Parzen estimators, or at random", choices=("tpe", "random")
    )
    pruner: str = option(
        "median",
        help="when a point is given up: while its validation is worse than the median of the others' at that step, or never",
        choices=("median", "none"),
    )
    startup: int = option(5, help="points before the sampler learns and the pruner prunes", ge=1)
    seed: int = option(0, help="of the sampler", ge=0)


@attrs.frozen(kw_only=True)
class Factorial(Config):
    """``factorial = { fraction = 1 }``: which cells of ``design = "factorial"`` are run, and which effects of its ``[factors]`` are tested."""

    fraction: int = option(
        0, help="1 for half of the cells, 2 for a quarter, …: those that confound the least; the base is among them", ge=0
    )
    order: int = option(2, help="interactions of up to so many factors are tested; 1 for main effects alone", ge=1)
    effects: tuple[tuple[str, ...], ...] = option(
        (), help='instead: the effects that are tested, [["critic"], ["critic", "cycle"]]; Holm\'s correction is over them alone'
    )


@attrs.frozen(kw_only=True)
class Sequential(Config):
    """``sequential = { looks = [4, 6, 8] }``: a study that is looked at before its end, and stops where its question is decided."""

    looks: tuple[int, ...] = option(help="seeds that are done whenever it is looked at, rising; the last is all of them")
    spending: str = option(
        "obrien-fleming",
        help="how the level is spent over the looks (Lan & DeMets 1983): hardly any of it at first, or evenly",
        choices=SPENDING,
    )

    def __attrs_post_init__(self) -> None:
        if len(self.looks) < 2 or self.looks[0] < 3 or sorted(set(self.looks)) != list(self.looks):
            raise ValueError(f"looks = {list(self.looks)}: expected two or more rising numbers of seeds, the first at least 3")


@attrs.frozen(kw_only=True)
class StudyTable(Config):
    """The keys of a study beside ``[set]``, ``[variants]``, ``[axes]`` and ``[factors]``."""

    format: int = option(help="version of the study format", ge=1)
    base: str = option(help="the base recipe, relative to this file; or PACKAGE:RECIPE")
    name: str = option("", help="name of the study; the file's name when left out")
    seeds: int | tuple[int, ...] = option(help="how many seeds (0, 1, …), or which", ge=0)
    design: str = option(
        "one-at-a-time",
        help="each variant and each axis value against the base; their product; factors, each on or off; a search",
        choices=DESIGNS,
    )
    primary: str | tuple[str, ...] = option(
        help="the figure the study decides by, SPLIT/FIGURE, chosen beforehand, or several; all others are secondary"
    )
    against: str = option(BASE, help='what arms are compared with: "base", the name of an arm, or "all pairs"')
    margin: float | None = option(
        None,
        help="in the figure's own units (0.02 is 2 points of a share): differences below it do not matter, and sameness is tested",
        gt=0,
    )
    sequential: Sequential | None = option(None, help="looks before the end, by an alpha-spending plan")
    draws: int = option(1, help="draws of the training data that seeds are spread over; 1: every seed has its own", ge=1)
    mode: str = option(
        "auto", help="whether more of the primary figure is better; auto: as its metric says", choices=("auto", "max", "min")
    )
    scale: float = option(
        1.0, help="factor on every stage's steps, on what is counted in them (validation, warm-up, ramps), and on a budget of FLOPs", gt=0
    )
    budget: Budget | None = option(None, help="hold parameters or training FLOPs equal over the arms by a knob")
    factorial: Factorial | None = option(None, help="which cells and effects of a factorial design")
    threads: int = option(
        1, help="CPU threads of a run; where left out, OMP_NUM_THREADS as the study began, else 1: sums of floats depend on it", ge=1
    )
    confidence: float = option(0.95, help="of all intervals; tests are at one minus it", gt=0.5, lt=1)
    silence: float = option(1800.0, help="seconds without a sign of life after which a run counts as hung and is ended", gt=0)
    search: Search | None = option(None, help="how the axes are searched")

    @property
    def primaries(self) -> tuple[str, ...]:
        """The figures the study decides by."""
        return (self.primary,) if isinstance(self.primary, str) else self.primary

    @property
    def decides(self) -> str:
        """The first of them, which orders tables."""
        return self.primaries[0]

    @property
    def held(self) -> Budget | None:
        """The budget at the study's scale."""
        budget = self.budget
        return attrs.evolve(budget, flops=budget.flops * self.scale) if budget is not None and budget.flops is not None else budget


@attrs.frozen(kw_only=True)
class Range(Config):
    """``{ low = 1e-4, high = 1e-2, log = true }``: an axis of a search."""

    # int first: what may be an integer stays one.
    low: int | float = option(help="smallest value")
    high: int | float = option(help="largest value")
    log: bool = option(False, help="search in the logarithm")
    step: int | float | None = option(None, help="distance of the values; none for any")

    def __attrs_post_init__(self) -> None:
        if self.low >= self.high:
            raise ValueError(f"low = {self.low}: expected less than high = {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log = true: expected low > 0 and no step")
        if self.step is not None and (self.step <= 0 or (Decimal(str(self.high)) - Decimal(str(self.low))) % Decimal(str(self.step))):
            raise ValueError(f"step = {self.step}: expected more than 0, and to lead from low = {self.low} to high = {self.high}")

    @property
    def whole(self) -> bool:
        """Whether only integers are meant."""
        return all(isinstance(number, int) for number in (self.low, self.high, self.step or 1))

    def __str__(self) -> str:
        how = ", in the logarithm" if self.log else f", in steps of {self.step}" if self.step is not None else ""
        return f"{self.low} … {self.high}{how}"


@attrs.frozen(kw_only=True)
class Arm:
    """One condition of a study: the base recipe with some keys changed.

    Attributes:
        changes: dotted key → value, as the study wrote them; empty for the base.
        layer: the same as a document to be laid over the base.
        high: in a factorial design, the factors that are at their high level; none elsewhere.
    """

    name: str
    changes: Mapping[str, Any]
    layer: Document = attrs.field(eq=False)
    place: Place = attrs.field(eq=False)
    high: tuple[str, ...] = ()

    @property
    def slug(self) -> str:
        """The name as part of a file name."""
        return re.sub(r"[^a-z0-9.]+", "-", self.name.lower().replace("λ", "lambda")).strip("-.")[:40] or "arm"


@attrs.frozen(kw_only=True)
class Axis:
    """A key and the values it takes: those of a list, or a range of a search."""

    key: str
    values: tuple[Any, ...]
    range: Range | None
    place: Place = attrs.field(eq=False)

    def __str__(self) -> str:
        return str(self.range) if self.range is not None else " | ".join(map(written, self.values))


@attrs.frozen(kw_only=True)
class Study:
    """A study as it was read.

    Attributes:
        base: path of the base recipe (or PACKAGE:RECIPE).
        source: the file's text.
        table: its own keys.
        common: what every arm has: the study's threads and its ``[set]``.
        variants, axes, factors: what arms are made of (`ibllm_study.study_file.arms`).
        factorial: the cells and effects of a factorial design; None for any other.
        options: what the command line said instead of the file: ``--scale 0.1``.
        accepted: source and runs that the keys are made with, in place of what is here (`ibllm_study.sharing.Accepted`).
        document: the file, for the places of its keys.
    """

    name: str
    base: str
    source: str
    table: StudyTable
    seeds: tuple[int, ...]
    common: Document
    variants: tuple[Arm, ...]
    axes: tuple[Axis, ...]
    factors: tuple[Arm, ...] = ()
    factorial: Design | None = None
    options: tuple[str, ...] = ()
    accepted: Mapping[str, str] | None = attrs.field(factory=dict)
    document: Document = attrs.field(eq=False)

    def place(self, *path: str) -> Place:
        return self.document.place(*path)
