"""Numbers that move while a run trains: what follows a schedule has its value at each step.

``losses.cycle.weight = { use = "cosine", value = 0.2 }``: at each of a stage's steps the number is `value` times the factor that the schedule gives
(`Schedule.factor`), or of the run's steps where the schedule's config has `of_run`. A config says which of its options may move (``option(live=…)``).
A pure function of the step, so that a restart, micro-batches, processes and workers that make batches ahead all have the value of their own step.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from ibllm_core.errors import UserError
from ibllm_core.host.options import Config
from ibllm_core.interfaces.context import Context
from ibllm_core.recipe.locate import Component, Scheduled, dotted
from ibllm_core.recipe.schema import Recipe, Stage

if TYPE_CHECKING:
    from ibllm_core.interfaces.dataset import Dataset
    from ibllm_core.interfaces.optimisation import Schedule
    from ibllm_core.model.players import Player
    from ibllm_core.model.stage import StageTrainer
    from ibllm_core.training.session import Session

#: Names of fields, and of entries of tables, that lead to a number in a recipe.
Place = tuple[str, ...]


def unfit(recipe: Recipe) -> UserError | None:
    """What a component has against one of the values that its options have while they move."""
    for stage in recipe.running() if recipe.scheduled else ():
        course = Course(recipe, stage)
        for step in (*range(0, stage.steps, max(1, stage.steps // 50)), stage.steps - 1):
            try:
                course.at(step)
            except ValueError as error:
                names = ", ".join(dotted(number.path) for number in course.numbers.values())
                first = next(iter(course.numbers.values()))
                return UserError(f"{names} at step {step} of stage {stage.name}: {error}", first.schedule.place)
    return None


def feed(session: Session, recipe: Recipe) -> None:
    """From now on batches are made by a recipe, of which nothing differs from the session's own but what may move."""
    session.moved = lambda stage: Course(recipe, stage).dataset


def arrange(session: Session, trainer: StageTrainer, recipe: Recipe, shown: Mapping[str, Place] | None = None) -> None:
    """A stage goes, from the trainer's present step on, by a recipe, of which nothing differs from the session's own but what may move.

    Args:
        shown: key → place of further numbers that are logged.
    """
    course = Course(recipe, trainer.stage, trainer.course if isinstance(trainer.course, Course) else None, shown)
    held = [dotted(number.path) for place, number in course.numbers.items() if holds_fast(recipe, place)]
    if held and trainer.replays is not None:
        session.tell(
            f"compute.graphs: {', '.join(held)} follow schedules, and captured iterations hold them fast: they are captured anew after each change"
        )
    trainer.course = course
    trainer.go_to(trainer.step, trainer.played())


class Course:
    """The recipe at each step of a stage.

    Args:
        before: of the same stage, in whose place this one comes.
        shown: as for `arrange`.

    Attributes:
        numbers: those that follow schedules, but for other stages' own.
        constants: how often something has changed that captured iterations hold fast.
    """

    def __init__(self, recipe: Recipe, stage: Stage, before: Course | None = None, shown: Mapping[str, Place] | None = None) -> None:
        self.recipe, self._name, self._steps, self._shown = recipe, stage.name, stage.steps, shown or {}
        self.numbers = {place: number for place, number in moving(recipe) if place[0] != "stages" or place[1] == stage.name}
        running = recipe.running()
        earlier = running[: next((k for k, one in enumerate(running) if one.name == stage.name), 0)]
        self._before, self._of_run = sum(one.steps for one in earlier), sum(one.steps for one in running)
        self._schedules = {place: self._built(number) for place, number in self.numbers.items()}
        self.constants: int = before.constants if before is not None else 0
        self._now: Recipe | None = before._now if before is not None else None
        self._multiples: dict[str, list[float]] = before._multiples if before is not None else {}

    def _counts(self, number: Scheduled) -> tuple[int, int]:
        """How many steps a number's schedule has before the stage's first one, and in all."""
        of_run = bool(getattr(number.schedule.config, "of_run", False))
        return (self._before, self._of_run) if of_run else (0, self._steps)

    def _built(self, number: Scheduled) -> Schedule:
        from ibllm_core.interfaces.optimisation import Schedule
        from ibllm_core.model.build import make

        kind: Any = Schedule  # an abstract class is no type to mypy
        built: Schedule = make(self.recipe, number.schedule, Context(steps=self._counts(number)[1]), kind, dotted(number.path))
        return built

    def values(self, step: int) -> dict[Place, float]:
        """Each number at a step; from the stage's end on what it has at the last one."""
        found: dict[Place, float] = {}
        for place, number in self.numbers.items():
            start, steps = self._counts(number)
            value = number.value * self._schedules[place].factor(start + min(step, self._steps - 1), steps)
            found[place] = round(value) if isinstance(number, int) else value
        return found

    def at(self, step: int) -> Recipe:
        """The recipe at a step."""
        found: Recipe = with_numbers(self.recipe, self.values(step)) if self.numbers else self.recipe
        return found

    def described(self, step: int) -> dict[str, float]:
        """Figures for the log: ``number/KEY``."""
        found = {f"number/{key}": value for key, place in self._shown.items() if is_number(value := value_at(self.recipe, place))}
        return found | {f"number/{dotted(self.numbers[place].path)}": float(value) for place, value in self.values(step).items()}

    def dataset(self, dataset: Dataset, step: int, key: str) -> Dataset:
        """A dataset as a step is trained on; as it is where none of its options moves."""
        recipe = self.at(step)
        config = (recipe.data if key == "data" else recipe.unpaired[key.partition(".")[2]]).config
        own = getattr(dataset, "config", None)
        if not isinstance(own, type(config)) or not (moved := _moved(own, config)):
            return dataset
        turned = copy.copy(dataset)
        turned.__dict__["config"] = attrs.evolve(own, **moved)
        return turned

    def turn(self, trainer: StageTrainer) -> None:
        """Whatever moves is as it is at the trainer's present step."""
        recipe, before = self.at(trainer.step), self._now
        if recipe is before:
            return
        self._now, clip = recipe, trainer.stage.training.clip
        trainer.stage = stage = recipe.stages[self._name]
        for player in trainer.players:
            self._weigh(trainer, player, recipe)
        changed = clip != stage.training.clip
        for name, part in trainer.model.parts.items():
            if before is None or recipe.parts[name] is not before.parts[name]:
                changed |= turn(part, recipe.parts[name])
        for name, loss in trainer.losses.items():
            if before is None or recipe.losses[name] is not before.losses[name]:
                changed |= turn(loss, recipe.losses[name].component)
        if trainer.perturbation is not None and stage.perturb is not None:
            changed |= turn(trainer.perturbation, stage.perturb)
        self.constants += changed

    def _weigh(self, trainer: StageTrainer, player: Player, recipe: Recipe) -> None:
        """A player's losses weigh, and its parameters move, as a recipe says."""
        from ibllm_core.interfaces.loss import AdversarialLoss
        from ibllm_core.model.players import CRITIC

        stage = recipe.stages[self._name]
        for term in player.terms:
            if not (
                player.name == CRITIC and isinstance(trainer.losses[term.name], AdversarialLoss)
            ):  # which the critic minimises as it is
                term.weight, term.factor = recipe.losses[term.name].weight, stage.losses[term.name]
        player.scale = stage.lr
        built, now = (one.players[player.name].optimizer.config for one in (trainer.recipe, recipe))
        if "lr" in _live(type(now)):
            of_one = [rate / getattr(built, "lr") for rate in player.rates]  # noqa: B009  # an option of this optimizer's
            player.rates = [multiple * getattr(now, "lr") for multiple in self._multiples.setdefault(player.name, of_one)]  # noqa: B009


def turn(owner: Any, component: Component) -> bool:
    """What holds a component's options, of a module all modules in it, reads live ones as `component` has them. True where captured iterations held one
    of them fast."""
    config, changed, modules = component.config, False, getattr(owner, "modules", None)
    for inside in modules() if modules is not None else (owner,):
        own = getattr(inside, "config", None)
        if isinstance(own, type(config)) and (moved := _moved(own, config)):
            inside.config = attrs.evolve(own, **moved)
            changed = changed or not _weighing(type(config)).issuperset(moved)
    return changed


def _live(config: type[Config]) -> dict[str, str]:
    """The live options of a config: field → argument."""
    return {field.name: field.alias or field.name for field in attrs.fields(config) if field.metadata.get("live")}


def _weighing(config: type[Config]) -> set[str]:
    return {field.alias or field.name for field in attrs.fields(config) if field.metadata.get("weighs")}


def _moved(own: Config, other: Config) -> dict[str, Any]:
    """The live options that have other values in `other`, of the same class: argument → value there."""
    return {argument: getattr(other, name) for name, argument in _live(type(other)).items() if getattr(own, name) != getattr(other, name)}


def holds_fast(recipe: Recipe, place: Place) -> bool:
    """Whether a captured iteration holds a number fast, which is then captured anew."""
    if (place[0] in ("model", "losses") and place[2:] != ("weight",)) or place[2:3] == ("perturb",):
        held = value_at(recipe, place[:-1])
        config = held.config if isinstance(held, Component) else held
        return place[-1] not in _weighing(type(config))
    return place[-1] == "clip"


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def value_at(recipe: Recipe, place: Place) -> Any:
    """What stands at a place of a recipe."""
    found: Any = recipe
    for name in place:
        found = _inside(found, name)
    return found


def _inside(tree: Any, name: str) -> Any:
    tree = tree.config if isinstance(tree, Component) else tree
    return tree[name] if isinstance(tree, Mapping) else getattr(tree, name)


def moving(tree: Any, place: Place = ()) -> Iterator[tuple[Place, Scheduled]]:
    """The scheduled numbers in a recipe, or in a part of it, and where they stand."""
    if isinstance(tree, Scheduled):
        yield place, tree
    elif isinstance(tree, Component):
        yield from moving(tree.config, place)
    elif isinstance(tree, Config | Mapping):
        names = tree if isinstance(tree, Mapping) else [field.name for field in attrs.fields(type(tree))]
        for name in names:
            yield from moving(_inside(tree, name), (*place, name))


def with_numbers(tree: Any, numbers: Mapping[Place, float]) -> Any:
    """A recipe, or a part of it, with other numbers at some of its places; what they do not touch is the same object."""
    if () in numbers:
        return numbers[()]
    if isinstance(tree, Component):
        return attrs.evolve(tree, config=with_numbers(tree.config, numbers))
    inside: dict[str, dict[Place, float]] = {}
    for place, number in numbers.items():
        inside.setdefault(place[0], {})[place[1:]] = number
    changed = {name: with_numbers(_inside(tree, name), those) for name, those in inside.items()}
    if isinstance(tree, Mapping):
        return {**tree, **changed}
    arguments = {field.name: field.alias or field.name for field in attrs.fields(type(tree))}
    return attrs.evolve(tree, **{arguments[name]: value for name, value in changed.items()})
