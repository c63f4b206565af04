"""What was found: every run of a study, or loose runs sorted into arms. Nothing that failed or is missing is dropped. Torch-free."""

from __future__ import annotations

import itertools
import json
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from ibllm.glossary import Glossary
from ibllm_core.errors import UserError, suggestion
from ibllm_core.runs.directory import RunDirectory
from ibllm_report.files import glossary_of, records_of
from ibllm_report.results import ITEMS, is_number, split_of

from .directory import DONE, StudyDirectory
from .rules import Rules, rules_of
from .statistics.factorial import Design
from .statistics.samples import level
from .sweeps import place_in_grid

if TYPE_CHECKING:
    from ibllm_core.recipe.schema import Recipe

    from .plan import Plan


@attrs.frozen(kw_only=True)
class FoundRun:
    """One run.

    Attributes:
        status: ``done``, ``failed``, ``waiting``, ``pruned``, or what run.json says of a loose run.
        reason: why there are no figures, one line.
        results: ``split/figure`` → finite number; empty unless done.
        info: run.json.
        log: the file with its output, where there is one.
    """

    path: Path
    seed: int
    status: str
    reason: str = ""
    results: Mapping[str, float] = attrs.field(factory=dict)
    info: Mapping[str, Any] = attrs.field(factory=dict)
    log: Path | None = None

    @property
    def done(self) -> bool:
        return self.status == DONE


@attrs.frozen(kw_only=True)
class FoundArm:
    """One condition: its name, what its recipe has otherwise than the base's, and its runs by seed.

    Attributes:
        family, point: in a grid, the variant that it is and its value on each axis.
        high: in a factorial design, the factors that are at their high level.
    """

    name: str
    differs: Sequence[str]
    runs: Mapping[int, FoundRun]
    family: str = ""
    point: Mapping[str, Any] = attrs.field(factory=dict)
    high: tuple[str, ...] = ()

    @property
    def done(self) -> list[FoundRun]:
        return [run for run in self.runs.values() if run.done]

    def values(self, figure: str) -> dict[int, float | None]:
        """Seed → the figure; None where the run has not got it."""
        return {seed: run.results.get(figure) for seed, run in self.runs.items()}


@attrs.frozen(kw_only=True)
class Findings:
    """Arms with their runs, the base first.

    Attributes:
        question: what it asks, in its author's words; empty where there are none.
        primary: the figure that decides, ``SPLIT/FIGURE``.
        chosen: whether somebody named it before the figures were looked at.
        searched: whether the arms are points of a search, chosen by the figures themselves: then nothing is tested.
        factorial: cells and effects, where the arms are those of a factorial design.
        rules: by what else is decided.
        mode: ``max`` or ``min``: whether more of it is better.
        confidence: of all intervals.
        seeds: those that were meant, in order.
        recipe: the base's recipe as TOML.
        command: what makes these outputs again.
        root: what paths are written relative to.
        glossary: what the runs' figures and splits mean.
        foreign: whether somebody else made the runs, of which a table of figures is all that is known.
    """

    name: str
    question: str = ""
    primary: str
    chosen: bool = True
    searched: bool = False
    factorial: Design | None = None
    rules: Rules = attrs.field(factory=Rules)
    mode: str = "max"
    confidence: float = 0.95
    seeds: tuple[int, ...]
    arms: tuple[FoundArm, ...]
    recipe: str = ""
    command: str = ""
    root: Path
    glossary: Glossary = attrs.field(factory=Glossary)
    foreign: bool = False

    @property
    def base(self) -> FoundArm:
        return self.arms[0]

    @property
    def control(self) -> FoundArm:
        """What arms are compared with: the base, or the arm that the rules name."""
        return next((arm for arm in self.arms if arm.name == self.rules.against), self.base)

    @property
    def primaries(self) -> tuple[str, ...]:
        """The figures that decide."""
        return (self.primary, *self.rules.further)

    @property
    def level(self) -> float:
        """Of all tests."""
        return level(self.confidence)

    def direction(self, figure: str) -> str:
        """``max`` or ``min``, of a figure that decides."""
        return self.rules.modes.get(figure, self.mode)

    @property
    def runs(self) -> list[tuple[FoundArm, FoundRun]]:
        return [(arm, run) for arm in self.arms for run in arm.runs.values()]

    @property
    def figures(self) -> list[str]:
        """Every figure that a run has, the primary one first, then its split, each split in the order of the recipes' metrics."""
        found = dict.fromkeys(key for _, run in self.runs for key in run.results if split_of(key)[1] != ITEMS)
        first = split_of(self.primary)[0]
        splits = list(dict.fromkeys(split_of(key)[0] for key in found))

        def rank(key: str) -> tuple[bool, bool, int, int]:
            split, figure = split_of(key)
            return key != self.primary, split != first, splits.index(split), self.glossary.rank(figure)

        return [*self.primaries, *(key for key in sorted(found, key=rank) if key not in self.primaries)]

    def shown(self, path: Path) -> str:
        """A path relative to the study's, where it lies in it."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


def from_plan(plan: Plan, directory: StudyDirectory) -> Findings:
    """The runs of a study, as far as its directory has them."""
    table = plan.study.table
    found = []
    for arm in plan.arms:
        runs = {seed: found_run(directory.path, plan.cell(arm.name, seed).id, seed) for seed in plan.study.seeds}
        family, point = place_in_grid(plan, arm)
        found.append(
            FoundArm(name=arm.name, differs=_but_for_the_name(plan.differs(arm)), runs=runs, family=family, point=point, high=arm.high)
        )
    records = [record for arm in found for run in arm.runs.values() for record in records_of(run.info)]
    own = [Glossary.of(plan.base), *(Glossary.of(plan.cell(arm.name, plan.study.seeds[0]).recipe) for arm in plan.arms)]
    return Findings(
        name=plan.study.name,
        question=_question(plan.study.source),
        primary=table.decides,
        searched=table.design == "search",
        factorial=plan.study.factorial,
        rules=rules_of(plan.study, plan.modes),
        mode=plan.mode,
        confidence=table.confidence,
        seeds=plan.study.seeds,
        arms=tuple(found),
        recipe=plan.base.source,
        command=shlex.join(
            ["ibllm", "ablate", plan.study.document.file, *" ".join(plan.study.options).split(), "--study-dir", str(directory.path)]
        ),
        root=directory.path,
        glossary=merged(own).cautioned(records),
    )


def found_run(folder: Path, cell: str, seed: int) -> FoundRun:
    """A cell of a study's directory, by its name."""
    directory = StudyDirectory(folder)
    outcome, log = directory.outcome_of(cell), directory / "logs" / f"{cell}.txt"
    return FoundRun(
        path=folder / "runs" / cell,
        seed=seed,
        status=outcome.status,
        reason=outcome.reason,
        results=_numbers(outcome.results),
        info=outcome.info,
        log=log if log.is_file() else None,
    )


def merged(glossaries: Iterable[Glossary]) -> Glossary:
    """Several in one; the first word on a name counts."""
    tables: dict[str, dict[str, Any]] = {"figures": {}, "splits": {}, "marks": {}}
    primary = ""
    for one in glossaries:
        primary = primary or one.primary
        for name, table in tables.items():
            table.update((key, value) for key, value in getattr(one, name).items() if key not in table)
    return Glossary(**tables, primary=primary)


def _question(source: str) -> str:
    """The comment that a study file begins with."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), source.lstrip().splitlines())
    return " ".join(line.lstrip("#").strip() for line in lines).strip()


def from_runs(paths: Sequence[Path], primary: str = "", mode: str = "", accept_code: bool = False) -> Findings:
    """Loose run directories, those of one recipe but for seed, name and trackers being one arm; the first one's is the base.

    Args:
        primary: ``SPLIT/FIGURE``; by default the first known figure of the split to look at first.
        mode: whether more of it is better (``max``) or less (``min``); by default as its metric says.
        accept_code: whether runs are compared though they were made with other source, or those of one arm with other data.

    Raises:
        UserError: a path is no run directory, two runs are the same, nothing is to be compared, or no run has the figure.
    """
    from ibllm.opening import load_run
    from ibllm.resolved import resolved
    from ibllm_inspect.differences import differences

    directories = [RunDirectory(path) for path in paths]
    for directory in directories:
        if not directory.recipe.is_file():
            raise UserError(f"{directory.path} is no run directory: it holds no recipe.toml")
    recipes = [load_run(directory) for directory in directories]
    seeds = _seeds(paths, recipes)
    groups: dict[str, list[int]] = {}
    for number, recipe in enumerate(recipes):
        tables = resolved(recipe)
        del tables["seed"], tables["name"], tables["trackers"]
        groups.setdefault(json.dumps(tables, sort_keys=True), []).append(number)
    base = recipes[0]
    differs = [_but_for_the_name(differences(base, attrs.evolve(recipes[numbers[0]], seed=base.seed))) for numbers in groups.values()]
    names = _names([recipes[numbers[0]].name for numbers in groups.values()], differs, [paths[numbers[0]] for numbers in groups.values()])
    arms = [
        FoundArm(name=name, differs=lines, runs=_by_seed([(seeds[number], directories[number]) for number in numbers]))
        for name, lines, numbers in zip(names, differs, groups.values(), strict=True)
    ]
    if len(arms) < 2:
        raise UserError(f"nothing to compare: all {len(paths)} runs have the same recipe but for the seed")
    glossary = merged(glossary_of(directory, directory.info()) for directory in directories)
    decides = primary or _first_figure(arms, glossary)
    known = dict.fromkeys(key for arm in arms for run in arm.runs.values() for key in run.results)
    if decides not in known:
        raise UserError(f"--primary {decides}: no run has this figure; {suggestion(decides, known)}")
    options = [*(["--primary", primary] if primary else []), *(["--mode", mode] if mode else [])]
    options += ["--accept-code"] if accept_code else []
    found = Findings(
        name=f"{_enumerated([arm.name for arm in arms[1:]])} against {arms[0].name}",
        primary=decides,
        chosen=bool(primary),
        mode=mode or direction(decides, glossary),
        seeds=tuple(sorted(set(seeds))),
        arms=tuple(arms),
        recipe=base.source,
        command=shlex.join(["ibllm", "compare", *map(str, paths), *options]),
        root=Path(os.path.commonpath([path.absolute().parent for path in paths])),
        glossary=glossary,
    )
    if not accept_code:
        from .fingerprints import refuse_mixed

        refuse_mixed(found)
    return found


def _numbers(results: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in results.items() if is_number(value)}


def _by_seed(runs: Sequence[tuple[int, RunDirectory]]) -> dict[int, FoundRun]:
    """Raises `UserError` where one seed is there twice: the run would be counted as two."""
    found: dict[int, FoundRun] = {}
    for seed, directory in sorted(runs, key=lambda entry: entry[0]):
        if seed in found:
            raise UserError(f"{found[seed].path} and {directory.path} are the same recipe with the same seed; compare one of them")
        found[seed] = _loose(seed, directory)
    return found


def _loose(seed: int, directory: RunDirectory) -> FoundRun:
    info = directory.info()
    status = str(info.get("status") or "unknown")
    results: Any = {}
    try:
        results = json.loads(directory.results.read_text(encoding="utf-8")) if status == DONE else {}
    except (OSError, ValueError) as error:
        status, info = "damaged", {**info, "error": f"results.json cannot be read: {error}"}
    known = _numbers(results) if isinstance(results, Mapping) else {}
    return FoundRun(path=directory.path, seed=seed, status=status, reason=str(info.get("error") or ""), results=known, info=info)


def _seeds(paths: Sequence[Path], recipes: Sequence[Recipe]) -> list[int]:
    """The number by which runs are paired: of the seeds (init, data, evaluation), the first whose value determines all the others'.

    Raises:
        UserError: no single number does.
    """
    triples = [(recipe.seed.init, recipe.seed.data, recipe.seed.evaluation) for recipe in recipes]
    for which in range(3):
        if len({triple[which] for triple in triples}) == len(set(triples)):
            return [triple[which] for triple in triples]
    found = ", ".join(f"{path} has init {t[0]}, data {t[1]}, evaluation {t[2]}" for path, t in zip(paths, triples, strict=True))
    raise UserError(f"these runs cannot be paired by seed: {found}; expected runs of which one seed determines the others")


def _but_for_the_name(lines: Sequence[str]) -> list[str]:
    return [line for line in lines if not line.startswith(("name:", "trackers."))]


def direction(primary: str, glossary: Glossary) -> str:
    """``max`` or ``min``, as the figure's metric says. Raises `UserError` where it says neither."""
    better = glossary.figure(split_of(primary)[1]).better
    if not better:
        raise UserError(f"{primary}: its metric does not say whether more of it is better: expected --mode max or --mode min")
    return "min" if better == "lower" else "max"


#: What differs is a name for itself up to so many characters.
_SHORT = 60


def _names(names: Sequence[str], differs: Sequence[Sequence[str]], paths: Sequence[Path]) -> list[str]:
    """Recipes' names where they distinguish the arms, else what differs where that is short, else the names of the runs' folders."""
    found: list[str] = []
    for number, name in enumerate(names):
        words = "; ".join(differs[number])
        if names.count(name) > 1 and words:
            name = words if len(words) <= _SHORT else paths[number].resolve().name
        while name in found:
            name += "'"
        found.append(name)
    return found


def _enumerated(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{len(names)} arms"


def _first_figure(arms: Sequence[FoundArm], glossary: Glossary) -> str:
    """The first known figure of the split to look at first, that the base has. Raises `UserError` where it has none."""
    for arm in arms:
        keys = dict.fromkeys(key for run in arm.done for key in run.results if split_of(key)[1] != ITEMS)
        first = glossary.first_split(split_of(key)[0] for key in keys)
        own = [key for key in keys if split_of(key)[0] == first]
        own.sort(key=lambda key: (bool(glossary.figure(split_of(key)[1]).caution), glossary.rank(split_of(key)[1])))
        if own:
            return own[0]
    raise UserError("no run has results yet: nothing to compare")
