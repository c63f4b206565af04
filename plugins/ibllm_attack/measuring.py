"""Figures of a model under attack, strength by strength.

Shapes: b items, h w c image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import numpy.typing as npt

from ibllm.figures import OTHER, ROUND_TRIP, TEXT_TO_IMAGE, Figure
from ibllm_core.interfaces.dataset import Samples
from ibllm_core.interfaces.tokenizer import UNK
from ibllm_core.model.evaluation import Evaluation

from .attacking import BATCH, Attack, Attacked, draw_texts, generation_seed
from .strengths import Strength

if TYPE_CHECKING:
    from ibllm.trained import Trained
    from ibllm_core.interfaces.reporting import Metric
    from ibllm_core.recipe.schema import Recipe

Pixels = npt.NDArray[np.uint8]

#: What every attack is measured by, whatever the run's own metrics.
CHANGED = Figure(
    "reading_changed",
    "reads otherwise",
    OTHER,
    "The share of items in which the model now reads something else than it does in the item as it was.",
    better="lower",
    percent=True,
    counted=True,
)
RETURNED = Figure.share(
    "text_returned",
    "reads the text",
    OTHER,
    "The share of texts that the model reads, word for word, in what it draws of them: a text as it was, or, where it says something of its own, as it now is.",
)
UNKNOWN = Figure(
    "unknown_words",
    "texts with words that are not known",
    OTHER,
    "To the text encoder's tokenizer.",
    better="lower",
    percent=True,
    counted=True,
)
LARGEST = Figure("largest_change", "largest change of a number", OTHER, "Of an image, in levels of 255; of all items.")


class UnderAttack(Evaluation):
    """An evaluation whose images, or drawings, are those of an attack; all else is the split's."""

    def __init__(self, of: Evaluation, attacked: Attacked) -> None:
        super().__init__(of.model, of.dataset, of.split, items=len(of), seed=of.seed, batch=of.batch)
        if attacked.images is not None:
            self.__dict__["samples"] = attrs.evolve(of.samples, images=_fixed(attacked.images))
        else:
            self.__dict__["samples"] = of.samples
            self.__dict__["generated"] = _fixed(attacked.drawn)


def _fixed(pixels: Any) -> Any:
    view = pixels.view()
    view.flags.writeable = False
    return view


@attrs.define(eq=False)
class Curve:
    """What one model makes of the items under attack, strength by strength: figure → values, and what it read of each item."""

    figures: dict[str, list[float]] = attrs.field(factory=dict)
    readings: list[list[str]] = attrs.field(factory=list)

    def add(self, values: Mapping[str, float], readings: Sequence[str]) -> None:
        for name, value in values.items():
            self.figures.setdefault(name, []).append(float(value))
        self.readings.append(list(readings))


@attrs.frozen(eq=False)
class Measured:
    """An attack's curve, that of a second model for the same perturbed items, and the perturbed items by strength."""

    samples: Samples
    attacked: list[Attacked]
    curve: Curve
    transfer: Curve | None


def relevant(recipe: Recipe, of: str) -> list[str]:
    """The metrics of a recipe that say something of what is perturbed: of images those of captions and answers, of captions those of drawings."""
    wanted = {TEXT_TO_IMAGE, ROUND_TRIP}

    def about(name: str) -> bool:
        directions = {figure.direction for figure in recipe.metrics[name].config.figures()}  # type: ignore[attr-defined]
        return bool(directions - wanted - {OTHER}) if of == "image" else bool(directions & wanted)

    return [name for name in recipe.metrics if about(name)]


def figures_of(recipe: Recipe, of: str, own: bool) -> list[Figure]:
    """The figures of an attack in their order: those of every attack, then those of the run's metrics, but where a text says something of its own."""
    wanted = {TEXT_TO_IMAGE, ROUND_TRIP}
    found = [figure for name in relevant(recipe, of) for figure in recipe.metrics[name].config.figures()] if not own else []  # type: ignore[attr-defined]
    kept = [figure for figure in found if (figure.direction not in {*wanted, OTHER} if of == "image" else figure.direction in wanted)]
    general = [*([] if own else [CHANGED]), *([RETURNED, UNKNOWN] if of == "text" else [LARGEST] if of == "image" else [])]
    return [*kept, *general]


class Subject:
    """A model that is measured: its clean evaluation, and its metrics."""

    def __init__(self, opened: Trained, clean: Evaluation, of: str, own: bool) -> None:
        from ibllm_core.model.build import build_metrics

        recipe = opened.recipe
        recipe = attrs.evolve(recipe, metrics={name: recipe.metrics[name] for name in ([] if own else relevant(recipe, of))})
        self.opened, self.of, self.clean, self.own = opened, of, clean, own
        self.metrics: dict[str, Metric] = build_metrics(recipe)
        self.kept = {figure.name for figure in figures_of(opened.recipe, of, own)}

    def measure(self, attacked: Attacked) -> tuple[dict[str, float], Sequence[str]]:
        """The figures of attacked items, and what is read of each: in its image, or in its drawing."""
        evaluation = UnderAttack(self.clean, attacked)
        found: dict[str, float] = {}
        for metric in self.metrics.values():
            found |= {name: value for name, value in metric.evaluate(evaluation).items() if name.split("/")[0] in self.kept}
        read = evaluation.read if self.of == "image" else evaluation.reread
        before = self.clean.read if self.of == "image" else self.clean.reread
        found[CHANGED.name] = float(np.mean([a != b for a, b in zip(read, before, strict=True)]))
        if attacked.images is not None:
            found[LARGEST.name] = float(np.abs(attacked.images.astype(int) - self.clean.real).max())
        if attacked.texts is not None:
            meant = attacked.texts if self.own else self.clean.captions
            found[RETURNED.name] = float(np.mean([a.casefold() == b.casefold() for a, b in zip(read, meant, strict=True)]))
            tokenizer = self.opened.model.tokenizers["text_encoder"]
            found[UNKNOWN.name] = float(np.mean([UNK in tokenizer.encode_one(text) for text in attacked.texts]))
        return found, read


def measure(
    attack: Attack,
    levels: Sequence[Strength],
    split: str,
    items: int,
    evaluation_seed: int,
    own: bool,
    other: Trained | None = None,
    play: Callable[[Strength, Samples], Attacked] | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Measured:
    """Attacks the first items of a split with each strength, and measures what becomes of them.

    Args:
        own: a changed text says something of its own, which the data's metrics know nothing of.
        other: a second model, which is shown the same perturbed items.
        play: instead of the attack's perturbation.
        advance: told how many items more are done.
    """
    opened = attack.opened
    clean = Evaluation(opened.model, opened.dataset, split, items=items, seed=evaluation_seed, batch=opened.recipe.evaluation.batch)
    subject = Subject(opened, clean, attack.of, own)
    generation = generation_seed(evaluation_seed, split)
    second = None
    if other is not None:
        its = Evaluation(other.model, opened.dataset, split, items=items, seed=evaluation_seed, batch=other.recipe.evaluation.batch)
        second = Subject(other, its, attack.of, own)
    curve, transfer, kept = Curve(), Curve(), []
    for level in levels:
        attacked = _attacked(attack, level, clean, generation, play, advance)
        kept.append(attacked)
        curve.add(*subject.measure(attacked))
        if second is not None and other is not None:
            shown = attacked
            if attacked.texts is not None:
                shown = attrs.evolve(attacked, drawn=draw_texts(other.model, attacked.texts, generation, clean.indices))
            transfer.add(*second.measure(shown))
    return Measured(clean.samples, kept, curve, transfer if second is not None else None)


def _attacked(
    attack: Attack,
    level: Strength,
    clean: Evaluation,
    generation: int,
    play: Callable[[Strength, Samples], Attacked] | None,
    advance: Callable[[int], None],
) -> Attacked:
    """All items under one strength of the attack."""
    if not level.value:
        advance(len(clean))
        if attack.of == "image":
            return Attacked(images=np.array(clean.real))
        return Attacked(texts=list(clean.captions) if attack.of == "text" else None, drawn=np.array(clean.generated))
    if play is not None:
        found = play(level, clean.samples)
        advance(len(clean))
        return found
    perturbation = attack.at(level)
    attack.prepare(perturbation)
    parts = []
    for start in range(0, len(clean), BATCH):
        rows = slice(start, start + BATCH)
        some = rows_of(clean.samples, rows)
        parts.append(attack.attack(perturbation, some, clean.indices[rows], generation))
        advance(len(some))
    return Attacked(
        images=_together([part.images for part in parts]),
        texts=[text for part in parts for text in part.texts or ()] if parts[0].texts is not None else None,
        drawn=_together([part.drawn for part in parts]),
    )


def _together(parts: Sequence[Any]) -> Any:
    return None if parts[0] is None else np.concatenate(parts)


def rows_of(samples: Samples, rows: slice) -> Samples:
    """Some of the items, without what the data know of them."""
    fields = attrs.asdict(samples, recurse=False)
    some: dict[str, Any] = {name: None if value is None else value[rows] for name, value in fields.items() if name != "truth"}
    return Samples(**some)
