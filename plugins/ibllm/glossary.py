"""What the figures, splits and marks of a run mean, as its metrics and its dataset say; kept in run.json, so that it can be read without them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

import attrs

from ibllm.figures import Figure, Mark
from ibllm_core.host.options import DatasetConfig, MetricConfig
from ibllm_core.recipe.schema import Recipe
from ibllm_core.runs.directory import RunDirectory
from ibllm_core.training.events import Listener, ModelBuilt, RunStarted

#: What every stage measures of itself.
LOSS = Figure("loss", meaning="The stage's own loss on held-out data.", better="lower")


def meanings(recipe: Recipe) -> dict[str, Any]:
    """What the figures, splits and marks of a run mean, as its components say, by name and in the order in which they are shown: for run.json."""
    metrics = [metric.config for metric in recipe.metrics.values() if isinstance(metric.config, MetricConfig)]
    data = recipe.data.config if isinstance(recipe.data.config, DatasetConfig) else None
    figures = {figure.name: attrs.asdict(figure) for config in metrics for figure in config.figures()}
    marks = {mark.name: attrs.asdict(mark) for config in metrics for mark in config.marks()}
    for entry in (*figures.values(), *marks.values()):
        del entry["name"]
    splits, primary = (dict(data.splits()), data.primary_split()) if data else ({}, "")
    return {"figures": figures, "splits": splits, "marks": marks, "primary_split": primary}


class Meanings(Listener):
    """Writes what a run's figures mean into its record."""

    def on_run_started(self, event: RunStarted) -> None:
        self._directory, self._meanings = RunDirectory(event.run_directory), meanings(event.recipe)

    def on_model_built(self, event: ModelBuilt) -> None:
        self._directory.update(**self._meanings)


#: How the keys of a record begin that say what keeps a figure from being taken at its word.
_CAUTION = "caution "


def cautions(record: Mapping[str, Any]) -> dict[str, str]:
    """Figure → what a metric's record says against it."""
    return {key.removeprefix(_CAUTION): str(text) for key, text in record.items() if key.startswith(_CAUTION)}


@attrs.frozen(kw_only=True)
class Glossary:
    """Names with what they mean, in the order in which they are shown. What is not known goes by its bare name.

    Attributes:
        splits: split → what it holds.
        primary: the split to look at first; empty where that is not known.
    """

    figures: Mapping[str, Figure] = attrs.field(factory=dict)
    splits: Mapping[str, str] = attrs.field(factory=dict)
    marks: Mapping[str, Mark] = attrs.field(factory=dict)
    primary: str = ""

    @classmethod
    def of(cls, recipe: Recipe) -> Self:
        """What the components of a recipe say."""
        return cls.read(meanings(recipe))

    @classmethod
    def read(cls, info: Mapping[str, Any]) -> Self:
        """What run.json keeps (`meanings`). Raises `KeyError` where it keeps nothing."""
        return cls(
            figures={name: Figure(name, **entry) for name, entry in info["figures"].items()},
            splits=dict(info["splits"]),
            marks={name: Mark(name, **entry) for name, entry in info["marks"].items()},
            primary=str(info["primary_split"]),
        )

    def record(self) -> dict[str, Any]:
        """What `read` takes: name → what is said of it."""
        figures, marks = ({entry.pop("name"): entry for entry in map(attrs.asdict, of.values())} for of in (self.figures, self.marks))
        return {"figures": figures, "splits": dict(self.splits), "marks": marks, "primary_split": self.primary}

    def cautioned(self, records: Iterable[Mapping[str, Any]]) -> Self:
        """The same with what metrics' records (`Metric.record`) say against figures of theirs, ``caution FIGURE``."""
        figures = dict(self.figures)
        for name, text in (said for record in records for said in cautions(record).items()):
            figure = figures.get(name) or self.figure(name)
            if text not in figure.caution:
                figures[name] = attrs.evolve(figure, caution="; ".join(filter(None, (figure.caution, text))))
        return attrs.evolve(self, figures=figures)

    def figure(self, name: str) -> Figure:
        """What is known of a figure. In ``score/zh`` the known word counts, and the rest qualifies it."""
        known = {LOSS.name: LOSS, **self.figures}
        words = name.split("/")
        word = next((word for word in (name, *words) if word in known), None)
        if word is None or word == name:
            return known.get(name, Figure(name))
        # How many items a qualified figure was taken over is not known, so it has no interval.
        label = f"{known[word].label}, {' '.join(other for other in words if other != word)}"
        return attrs.evolve(known[word], name=name, label=label, counted=False)

    def rank(self, name: str) -> int:
        """A figure's place among those that are known; behind them where it is not."""
        order = list(self.figures)
        return order.index(name) if name in order else len(order)

    def first_split(self, splits: Iterable[str]) -> str | None:
        """The split that a reader looks at first, of those that there are."""
        found = list(splits)
        return self.primary if self.primary in found else next(iter(found), None)
