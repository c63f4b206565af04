"""Figures of captions language by language, and translation through the picture: a caption in one language, its drawing, a caption in another."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from ibllm_core.errors import UserError, suggestion
from ibllm_core.host.options import MetricConfig
from ibllm_core.interfaces.batch import frozen
from ibllm_core.interfaces.dataset import Samples
from ibllm_core.interfaces.reporting import Metric, Panel
from ibllm_core.model.evaluation import Evaluation
from ibllm_core.recipe.schema import Recipe
from ibllm_core.training.events import Listener, Prepared

from .figures import IMAGE_TO_TEXT

Pixels = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]
#: Translations that the report shows.
SHOWN = 8
#: The name of the metric that `evaluation.translate` adds, and of its own figure.
TRANSLATION, SCRIPT = "translation", "script_right"
#: What Unicode's names of letters begin with → what readers call the script.
_SCRIPTS = {"CJK": "Han", "FULLWIDTH": "Latin", "KATAKANA-HIRAGANA": "Katakana"}


def scripts(text: str) -> set[str]:
    """The scripts of a text's letters, by their names in Unicode: ``Latin``, ``Han``, ``Hiragana``, ``Devanagari``."""
    found = (unicodedata.name(character, "").partition(" ")[0] for character in set(text) if character.isalpha())
    return {_SCRIPTS.get(word, word.capitalize()) for word in found if word}


class NoReferences(UserError):
    """A metric asks for captions that there are none of."""


class Part(Evaluation):
    """Some items of an evaluation, which draws and reads them as the whole does."""

    def __init__(self, whole: Evaluation, rows: Rows) -> None:
        super().__init__(whole.model, whole.dataset, whole.split, items=0, seed=whole.seed, batch=whole.batch)
        self._whole, self._rows, self.indices = whole, rows, frozen(whole.indices[rows])

    def _of_whole(self, name: str) -> Any:
        """What the whole has computed already; None where it has not."""
        found = vars(self._whole).get(name)
        return (
            None
            if found is None
            else found[self._rows]
            if isinstance(found, np.ndarray)
            else tuple(found[row] for row in self._rows.tolist())
        )

    @cached_property
    def generated(self) -> Pixels:
        known: Pixels | None = self._of_whole("generated")
        return frozen(self.draws(1)[0]) if known is None else known

    @cached_property
    def read(self) -> Sequence[str]:
        known: Sequence[str] | None = self._of_whole("read")
        return tuple(self.model.caption(self.real, languages=self.samples.languages, batch=self.batch)) if known is None else known

    @cached_property
    def reread(self) -> Sequence[str]:
        known: Sequence[str] | None = self._of_whole("reread")
        return tuple(self.model.caption(self.generated, languages=self.samples.languages, batch=self.batch)) if known is None else known


class Translated(Evaluation):
    """Items with captions in one language as if they were in another: what is `read` was written in it, off drawings of the captions.

    Attributes:
        source: the same items as they are.
        asked: True once `read` was asked for: a metric that never does has nothing to say of it.
    """

    def __init__(self, source: Part, language: str, references: Sequence[str] | None) -> None:
        super().__init__(source.model, source.dataset, source.split, items=0, seed=source.seed, batch=source.batch)
        self.source, self._language, self._references, self.indices, self.asked = source, language, references, source.indices, False

    @cached_property
    def samples(self) -> Samples:
        return attrs.evolve(self.source.samples, captions=self._references, languages=(self._language,) * len(self))

    @property
    def captions(self) -> Sequence[str]:
        if self._references is None:
            raise NoReferences(f"the items have no captions in {self._language}")
        return self._references

    @property
    def generated(self) -> Pixels:
        return self.source.generated

    @cached_property
    def _written(self) -> Sequence[str]:
        return tuple(self.model.caption(self.source.generated, languages=[self._language] * len(self), batch=self.batch))

    @property
    def read(self) -> Sequence[str]:
        self.asked = True
        return self._written


def _captions(metrics: Mapping[str, Metric], recipe: Recipe) -> dict[str, tuple[str, ...]]:
    """Metric → its figures of captions; those that have none are left out."""
    configs = {name: recipe.metrics[name].config for name in metrics if name in recipe.metrics}
    found = {
        name: tuple(one.name for one in config.figures() if getattr(one, "direction", "") == IMAGE_TO_TEXT)
        for name, config in configs.items()
        if isinstance(config, MetricConfig)
    }
    return {name: figures for name, figures in found.items() if figures}


def _rows(evaluation: Evaluation, language: str) -> Rows:
    return np.array([row for row, code in enumerate(evaluation.languages) if code == language], dtype=np.int64)


class ByLanguage(Metric):
    """A metric whose figures of captions are given for each language, too, where there are several: ``bleu/zh``."""

    def __init__(self, metric: Metric, figures: Sequence[str]) -> None:
        self._metric, self._figures = metric, figures

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        found = dict(self._metric.evaluate(evaluation))
        for code, part in _parts(evaluation).items():
            own = self._metric.evaluate(part)
            found |= {f"{name}/{code}": own[name] for name in self._figures}
        return found

    def record(self, evaluation: Evaluation) -> Mapping[str, str | int | float]:
        return {**self._metric.record(evaluation), **{f"n {code}": len(part) for code, part in _parts(evaluation).items()}}

    def marks(self, evaluation: Evaluation) -> Mapping[str, npt.NDArray[np.bool_]]:
        return self._metric.marks(evaluation)

    def panels(self, evaluation: Evaluation) -> Iterable[Panel]:
        return self._metric.panels(evaluation)


def _parts(evaluation: Evaluation) -> Mapping[str, Part]:
    codes = sorted(set(evaluation.languages)) if len(set(evaluation.languages)) > 1 else ()
    found: Mapping[str, Part] = evaluation.once(
        "ibllm.languages", lambda: {code: Part(evaluation, _rows(evaluation, code)) for code in codes}
    )
    return found


class Translation(Metric):
    """Caption in A → image → caption in B, by the recipe's own figures of captions: ``caption_exact/en→zh``.

    Texts are judged as captions in B: by what the data know of the items, or by the captions in B that the measured items of the same image have
    (`Samples.groups`); a metric that compares with captions is left out where there are none. ``script_right/en→zh``: the written text has letters of
    the scripts of B's captions alone, where A and B are written in different ones.
    """

    def __init__(self, metrics: Mapping[str, Metric], recipe: Recipe, pairs: Sequence[tuple[str, str]]) -> None:
        self._metrics, self._figures, self._pairs = metrics, _captions(metrics, recipe), pairs

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        found: dict[str, float] = {}
        for (a, b), part in self._views(evaluation).items():
            for name, figures in self._figures.items():
                part.asked = False
                try:
                    own = self._metrics[name].evaluate(part)
                except NoReferences:
                    continue
                found |= {f"{figure}/{a}→{b}": own[figure] for figure in figures if part.asked}
            known = [{script for text in _texts(evaluation, code) for script in scripts(text)} for code in (a, b)]
            if not known[0] & known[1]:
                found[f"{SCRIPT}/{a}→{b}"] = float(np.mean([bool(scripts(text)) and scripts(text) <= known[1] for text in part.read]))
        return found

    def record(self, evaluation: Evaluation) -> Mapping[str, str | int | float]:
        found: dict[str, str | int | float] = dict(super().record(evaluation))
        for (a, b), part in self._views(evaluation).items():
            found[f"n {a}→{b}"] = len(part)
        return found

    def panels(self, evaluation: Evaluation) -> Iterable[Panel]:
        for (a, b), part in self._views(evaluation).items():
            rows = [(part.source.captions[row], part.read[row]) for row in range(min(SHOWN, len(part)))]
            text = f"A caption in {a} was drawn, and the drawing was described in {b}. Nothing else passed from one to the other."
            yield Panel(title=f"Translation through the picture, {a} → {b}", place="samples", text=text, header=(a, b), rows=rows)

    def _views(self, evaluation: Evaluation) -> Mapping[tuple[str, str], Translated]:
        found: Mapping[tuple[str, str], Translated] = evaluation.once(
            f"ibllm.translations.{self._pairs}",
            lambda: {pair: _translated(evaluation, *pair) for pair in self._pairs if _texts(evaluation, pair[0])},
        )
        return found


def _texts(evaluation: Evaluation, language: str) -> list[str]:
    return [text for text, code in zip(evaluation.captions, evaluation.languages, strict=True) if code == language]


def _translated(evaluation: Evaluation, a: str, b: str) -> Translated:
    """The items with captions in `a`, read in `b`: those whose image has a caption in `b`, too, where there are such; else all, without references."""
    rows, groups = _rows(evaluation, a), evaluation.samples.groups
    known = {} if groups is None else {int(groups[row]): evaluation.captions[row] for row in _rows(evaluation, b)[::-1]}
    both = rows[[int(groups[row]) in known for row in rows]] if groups is not None else rows[:0]
    if not len(both):
        return Translated(Part(evaluation, rows), b, None)
    assert groups is not None
    return Translated(Part(evaluation, both), b, tuple(known[int(groups[row])] for row in both))


def pairs_of(recipe: Recipe, said: Iterable[str]) -> list[tuple[str, str]]:
    """``en,zh`` → (en, zh), each. Raises `UserError` for what is no pair, and for a language that the captioner cannot be asked to write in."""
    found = []
    for text in said:
        a, comma, b = (word.strip() for word in text.partition(","))
        if not (a and comma and b) or a == b:
            raise UserError(f"translate: {text!r} is no pair of languages; expected two codes with a comma between them, en,zh")
        if not recipe.languages:
            raise UserError(
                "translate: the captioner is told no language, so it cannot be asked for one: give model.text_decoder.languages"
            )
        if b not in recipe.languages:
            raise UserError(f"translate: the captioner cannot be asked to write in {b!r}; {suggestion(b, recipe.languages)}")
        found.append((a, b))
    return found


def extended(recipe: Recipe, metrics: Mapping[str, Metric], translate: Iterable[str] = ()) -> dict[str, Metric]:
    """The metrics with what ``[evaluation] by_language`` and ``translate`` add; `translate` is asked for besides. Raises `UserError` as `pairs_of` does."""
    plan, pairs = recipe.evaluation, pairs_of(recipe, dict.fromkeys([*recipe.evaluation.translate, *translate]))
    figures = _captions(metrics, recipe)
    found = {name: ByLanguage(one, figures[name]) if plan.by_language and name in figures else one for name, one in metrics.items()}
    return found | ({TRANSLATION: Translation(metrics, recipe, pairs)} if pairs else {})


class Languages(Listener):
    """Adds these figures to a run's, where its recipe asks for them."""

    everywhere = True

    def on_prepared(self, event: Prepared) -> None:
        session, plan = event.session, event.session.recipe.evaluation
        if plan.by_language or plan.translate:
            try:
                session.metrics = extended(session.recipe, session.metrics)
            except UserError as error:
                event.against.append(error)
