"""Study → every run, resolved, before the first one starts. Torch-free until `Plan.check`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import attrs

from ibllm.data_prints import of_files, remembered
from ibllm.figures import Figure
from ibllm.glossary import Glossary
from ibllm.sources import sources
from ibllm_core.errors import UserError, nearest
from ibllm_core.host.options import MetricConfig
from ibllm_core.recipe import load
from ibllm_core.recipe.document import Document
from ibllm_core.recipe.locate import Mistakes, RecipeErrors, key_path
from ibllm_core.recipe.schema import Recipe
from ibllm_core.recipe.words import listing
from ibllm_inspect.differences import differences

from .budget import meet
from .rules import draws_of, rules_of
from .scale import scaled
from .schema import BASE, Arm, Study
from .sharing import Prefix, prefixes, run_key
from .study_file import arms


@attrs.frozen(kw_only=True)
class Cell:
    """One run: an arm at a seed.

    Attributes:
        key: equal only for runs that are the same (`run_key`).
        prefixes: the stages it may share with other cells.
        data: what its data that lie in files are, which its key is made with (`ibllm.data_prints.of_files`).
    """

    arm: Arm
    seed: int
    recipe: Recipe
    key: str
    prefixes: tuple[Prefix, ...]
    data: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def id(self) -> str:
        """Its name as a folder: for people first, and another one where the recipe is another."""
        return f"{self.arm.slug}-{self.seed}-{self.key[:8]}"


@attrs.frozen(kw_only=True)
class Plan:
    """All cells, by seed and then by arm, so that every seed can be compared as soon as it is done; a search's points come after them.

    Attributes:
        knobs: arm → the value at which the knob holds the budget, and what it costs then.
    """

    study: Study
    arms: tuple[Arm, ...]
    cells: tuple[Cell, ...]
    knobs: Mapping[str, tuple[int, float]]

    @cached_property
    def _by_place(self) -> Mapping[tuple[str, int], Cell]:
        return {(cell.arm.name, cell.seed): cell for cell in self.cells}

    def cell(self, arm: str, seed: int) -> Cell:
        return self._by_place[arm, seed]

    @property
    def base(self) -> Recipe:
        """The base arm's recipe at the first seed."""
        return self.cell(BASE, self.study.seeds[0]).recipe

    def differs(self, arm: Arm) -> list[str]:
        """What the arm's recipe has otherwise than the base's."""
        return differences(self.base, self.cell(arm.name, self.study.seeds[0]).recipe)

    @cached_property
    def sources(self) -> dict[str, str] | None:
        """The source and the runs to start from that the keys are made with, package or run → hash; None for keys that do without."""
        accepted, here = self.study.accepted, self.here
        return None if accepted is None else {name: accepted.get(name, here[name]) for name in sorted(here)}

    @cached_property
    def here(self) -> dict[str, str]:
        """The same as they are here now."""
        return {name: value for cell in self.cells for name, value in sources(cell.recipe).items()}

    @cached_property
    def primary(self) -> Figure:
        """What the figure is by which the study decides."""
        return Glossary.of(self.base).figure(self.study.table.decides.partition("/")[2])

    @property
    def mode(self) -> str:
        """Whether more of that figure is better, ``max``, or less, ``min``."""
        return self.modes[self.study.table.decides]

    @cached_property
    def modes(self) -> Mapping[str, str]:
        """The same of every primary figure."""
        said, known = self.study.table.mode, Glossary.of(self.base)
        better = {name: known.figure(name.partition("/")[2]).better for name in self.study.table.primaries}
        return {name: said if said != "auto" else "min" if way == "lower" else "max" for name, way in better.items()}

    def base_alone(self) -> Plan:
        """The plan without any arm but the base."""
        cells = tuple(cell for cell in self.cells if cell.arm.name == BASE)
        return Plan(study=self.study, arms=self.arms[:1], cells=cells, knobs=self.knobs)

    def grown(self, arm: Arm, cells: Sequence[Cell], knob: tuple[int, float] | None) -> Plan:
        """The plan with one more arm (`arm_cells`), its runs after all others."""
        knobs = self.knobs if knob is None else {**self.knobs, arm.name: knob}
        return Plan(study=self.study, arms=(*self.arms, arm), cells=(*self.cells, *cells), knobs=knobs)

    @cached_property
    def leaders(self) -> Mapping[str, Cell]:
        """Prefix key → the first cell that has it: it trains the stage, the others start from it."""
        found: dict[str, Cell] = {}
        for cell in self.cells:
            for prefix in cell.prefixes:
                found.setdefault(prefix.key, cell)
        return found

    def steps(self) -> tuple[int, int]:
        """Iterations that are trained, and that would be if nothing were shared."""
        whole = sum(stage.steps for cell in self.cells for stage in cell.recipe.running())
        return whole - sum(self.saved(cell) for cell in self.cells), whole

    def saved(self, cell: Cell) -> int:
        """Iterations that the cell need not train."""
        return max((prefix.step for prefix in cell.prefixes if self.leaders[prefix.key] is not cell), default=0)


def make_plan(study: Study) -> Plan:
    """Resolves every run.

    Raises:
        RecipeErrors: with all mistakes of all arms, and where an arm changes nothing or two are the same.
    """
    return extend_plan(study, arms(study))


def extend_plan(study: Study, chosen: Sequence[Arm]) -> Plan:
    """The plan of some arms, the base first."""
    with remembered():
        return _extended(study, chosen)


def _extended(study: Study, chosen: Sequence[Arm]) -> Plan:
    mistakes = Mistakes(study.document.file)
    first, knobs = _first_seed(study, chosen, mistakes)
    chosen = [arm for arm in chosen if arm.name in first]
    if study.table.design == "grid":
        # The point of the grid at which every axis has the base's value is the base; a second one would be a mistake.
        same = run_key(first[BASE], study.accepted)
        point = next((arm for arm in chosen if arm.name != BASE and run_key(first[arm.name], study.accepted) == same), None)
        chosen = [arm for arm in chosen if arm is not point]
    _check_primary(study, chosen, first, mistakes)
    _check_same(study, chosen, first, mistakes)
    mistakes.throw()
    cells = []
    for seed in study.seeds:
        for arm in chosen:
            recipe = first[arm.name] if seed == study.seeds[0] else _recipe(study, arm, seed, knobs.get(arm.name))
            cells.append(_cell(study, arm, seed, recipe))
    return Plan(study=study, arms=tuple(chosen), cells=tuple(cells), knobs=knobs)


def look_further(study: Study, mistakes: Mistakes) -> None:
    """Adds what the recipes of a study show whose file has mistakes already: the keys that its changes name, and the figure it decides by."""
    chosen = arms(study)
    recipes, _ = _first_seed(study, chosen, mistakes)
    if study.table.primary:
        _check_primary(study, [arm for arm in chosen if arm.name in recipes], recipes, mistakes)


def arm_cells(study: Study, arm: Arm, knob: tuple[int, float] | None = None) -> tuple[tuple[Cell, ...], tuple[int, float] | None]:
    """A single arm at every seed, and where its knob stands.

    Args:
        knob: where it is known to stand; found otherwise.

    Raises:
        UserError: the arm's recipe is none, or cannot hold the budget.
    """
    if knob is None and study.table.budget is not None:
        knob = _turn(study, arm)
    with remembered():
        return tuple(_cell(study, arm, seed, _recipe(study, arm, seed, knob)) for seed in study.seeds), knob


def _cell(study: Study, arm: Arm, seed: int, recipe: Recipe) -> Cell:
    key, chain = run_key(recipe, study.accepted), prefixes(recipe, study.accepted)
    return Cell(arm=arm, seed=seed, recipe=recipe, key=key, prefixes=chain, data=of_files(recipe))


def _first_seed(study: Study, chosen: Iterable[Arm], mistakes: Mistakes) -> tuple[dict[str, Recipe], dict[str, tuple[int, float]]]:
    """Every arm's recipe at the first seed, and where the knob stands."""
    recipes: dict[str, Recipe] = {}
    knobs: dict[str, tuple[int, float]] = {}
    for arm in chosen:
        try:
            if study.table.budget is not None:
                knobs[arm.name] = _turn(study, arm)
            recipes[arm.name] = _recipe(study, arm, study.seeds[0], knobs.get(arm.name))
        except RecipeErrors as error:
            for mistake in error.mistakes:
                mistakes.add(
                    mistake.place,
                    mistake.what,
                    expected=mistake.expected,
                    nearest=mistake.nearest,
                    hint="; ".join(part for part in (mistake.hint, f"in the arm {arm.name!r}" if arm.changes else "") if part),
                    provider=mistake.provider,
                )
            if not arm.changes:
                # What is wrong with the base is wrong with every arm.
                mistakes.throw()
    return recipes, knobs


def _turn(study: Study, arm: Arm) -> tuple[int, float]:
    budget = study.table.held
    assert budget is not None
    try:
        return meet(budget, lambda value: _recipe(study, arm, study.seeds[0], (value, 0.0)))
    except RecipeErrors:
        raise
    except UserError as error:
        raise UserError(f"{study.place('budget')}: budget: arm {arm.name!r}: {error}") from error


def _recipe(study: Study, arm: Arm, seed: int, knob: tuple[int, float] | None) -> Recipe:
    """An arm's recipe: the base, what all arms have, what the arm changes, the scale, the knob, the seed."""
    over: list[Document] = [study.common, arm.layer]
    name = Document(file=study.document.file)
    name.put(("name",), f"{study.name}: {arm.name}", study.place("name"))
    over.append(name)
    if study.table.scale != 1:
        over.append(scaled(load(study.base, over=over), study.table.scale, study.place("scale")))
    if knob is not None and study.table.budget is not None:
        turned = Document(file=study.document.file)
        turned.put(key_path(study.table.budget.knob) or (), knob[0], study.place("budget", "knob"))
        over.append(turned)
    if study.table.draws == 1:
        return load(study.base, seed=seed, over=over)
    seeds = Document(file=study.document.file)
    seeds.put(("seed",), {"init": seed, "data": draws_of(study.seeds, study.table.draws)[seed], "evaluation": seed}, study.place("draws"))
    return load(study.base, over=[*over, seeds])


def _check_primary(study: Study, chosen: Iterable[Arm], recipes: Mapping[str, Recipe], mistakes: Mistakes) -> None:
    """Every arm has to give the figures that decide."""
    for primary in study.table.primaries:
        _check_figure(study, primary, chosen, recipes, mistakes)


def _check_figure(study: Study, primary: str, chosen: Iterable[Arm], recipes: Mapping[str, Recipe], mistakes: Mistakes) -> None:
    split, _, figure = primary.partition("/")
    base, place = recipes[BASE], study.place("primary")
    for arm in chosen:
        recipe = recipes[arm.name]
        if arm.name != BASE and (split not in recipe.evaluation.splits or figure not in _figures(recipe)) and figure in _figures(base):
            mistakes.add(arm.place, f"{arm.name!r} does not give {primary}, by which the study decides", expected="an arm that does")
    if split not in base.evaluation.splits or not figure:
        mistakes.add(
            place, f'"{primary}" names no split that the base reports', expected=f"{'|'.join(base.evaluation.splits)}/FIGURE",
            nearest=nearest(split, base.evaluation.splits),
        )  # fmt: skip
        return
    known = _figures(base)
    if figure not in known:
        mistakes.add(place, f'no metric of the base gives "{figure}"', expected=listing(known), nearest=nearest(figure, known))
    elif study.table.mode == "auto" and not Glossary.of(base).figure(figure).better:
        what = f'its metric does not say whether more of "{figure}" is better'
        mistakes.add(place, what, expected='mode = "max" or "min" beside it, or another figure')


def _figures(recipe: Recipe) -> list[str]:
    return sorted({name for metric in recipe.metrics.values() if isinstance(metric.config, MetricConfig) for name in metric.config.names()})


def _check_same(study: Study, chosen: Iterable[Arm], recipes: Mapping[str, Recipe], mistakes: Mistakes) -> None:
    """Two runs that are the same would be counted as two."""
    seen: dict[str, str] = {}
    for arm in chosen:
        other = seen.setdefault(run_key(recipes[arm.name], study.accepted), arm.name)
        if other == BASE and arm.name != BASE:
            mistakes.add(arm.place, f"{arm.name!r} changes nothing: it is the base, once resolved", expected="something else than the base")
        elif other != arm.name:
            mistakes.add(arm.place, f"{arm.name!r} and {other!r} are the same, once resolved", expected="one of them")
    names = [arm.name for arm in chosen]
    for arm in chosen:
        if names.count(arm.name) > 1:
            mistakes.add(arm.place, f"two arms are called {arm.name!r}", expected="another name")


def plain(plan: Plan) -> dict[str, Any]:
    """The plan as JSON, for the study directory."""
    return {
        "name": plan.study.name,
        "base": plan.study.base,
        "design": plan.study.table.design,
        "primary": plan.study.table.decides,
        "mode": plan.mode,
        "confidence": plan.study.table.confidence,
        "rules": attrs.asdict(rules_of(plan.study, plan.modes)),
        "seeds": list(plan.study.seeds),
        "scale": plan.study.table.scale,
        "threads": plan.study.table.threads,
        "options": list(plan.study.options),
        "sources": plan.sources,
        "factorial": None if plan.study.factorial is None else attrs.asdict(plan.study.factorial),
        "arms": [
            {
                "name": arm.name,
                "changes": json.loads(json.dumps(arm.changes)),
                "differs": plan.differs(arm),
                **({"high": list(arm.high)} if plan.study.factorial is not None else {}),
            }
            for arm in plan.arms
        ],
        "cells": [{"id": cell.id, "arm": cell.arm.name, "seed": cell.seed, "key": cell.key} for cell in plan.cells],
        "stages": sorted({prefix.key for cell in plan.cells for prefix in cell.prefixes}),
        "knobs": {name: {"value": value, "cost": cost} for name, (value, cost) in plan.knobs.items()},
    }
