"""What metrics are asked, on a model of stand-ins that was never trained."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from ibllm.figures import DRAWING, READING, RETURNED, ROUND_TRIP, Figure, Mark
from ibllm_core.host import manager as plugins
from ibllm_core.host.options import Config, MetricConfig
from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.dataset import Dataset
from ibllm_core.interfaces.reporting import Metric, Panel
from ibllm_core.model.evaluation import Evaluation
from ibllm_core.model.model import Model
from ibllm_core.recipe.words import structure

from .checks import expect
from .dataset import SquaresDataset
from .loss import stand_ins
from .stand_ins import LetterTokenizer
from .suite import LATENT, Suite

#: Items that are measured, and those of the rehearsal before a run.
ITEMS, FEW = 12, 2
#: A hash in a record, as in `Evaluation.hashes`.
HASH = re.compile("[0-9a-f]{16,64}")
#: What `Figure.better` and `Mark.about` may be.
BETTER, ABOUT = ("", "higher", "lower"), (DRAWING, READING, RETURNED, ROUND_TRIP)


class MetricSuite(Suite):
    """A figure on held-out data.

    Attributes:
        dataset: (name, options) of the dataset whose truth it reads; empty for a stand-in.
        split: the split that is measured.
        ordered: why the items' order may matter; empty where it may not.
    """

    kind = "metric"
    dataset: tuple[str, Mapping[str, Any]] = ("", MappingProxyType({}))
    split: str = "test"
    ordered: str = ""

    def data(self) -> Dataset:
        """The dataset that is measured on."""
        name, options = self.dataset
        if not name:
            return SquaresDataset()
        manager = plugins.manager()
        config = structure(manager.config_class("dataset", name), options)
        assert isinstance(config, Config), config
        made: Dataset = manager.factory("dataset", name)(config, Context())
        return made

    def model(self, device: torch.device, shape: tuple[int, int, int], seed: int = 5) -> Model:
        """Stand-ins of every part, with a tokenizer that can spell; `seed` of their weights."""
        context = Context(image_shape=shape, width=LATENT, latent=LATENT, tokenizer=LetterTokenizer(max_length=12))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return stand_ins(context).to(device)

    def evaluation(self, device: torch.device, batch: int = 5, seed: int = 5) -> Evaluation:
        """The first items of the split, for a model whose weights are drawn with `seed`."""
        data = self.data()
        items = min(ITEMS, data.sizes()[self.split])
        return Evaluation(self.model(device, data.image_shape, seed), data, self.split, items=items, batch=batch)

    def _figures(self, evaluation: Evaluation) -> dict[str, float]:
        found: dict[str, float] = self.make().evaluate(evaluation)
        return found

    def test_figures_are_as_declared(self, device: torch.device) -> None:
        """The config, a MetricConfig, names the figures; `evaluate` gives all of them, and others only as qualified ones (``bleu/zh``)."""
        config, metric = self.config(), self.make()
        expect(isinstance(config, MetricConfig), f"{self._name}: its config derives from no ibllm_core.host.options.MetricConfig")
        assert isinstance(config, MetricConfig)
        expect(isinstance(metric, Metric), f"{self._name}: its factory gives a {type(metric).__name__}, no Metric")
        found, declared = self._figures(self.evaluation(device)), config.names()
        expect(len(set(declared)) == len(declared) > 0, f"{self._name}: figures() names {declared}: expected one or more different names")
        figures = [figure for figure in config.figures() if isinstance(figure, Figure)]
        marks = [mark for mark in config.marks() if isinstance(mark, Mark)]
        all_of = len(figures) == len(config.figures()) and len(marks) == len(config.marks())
        expect(all_of, f"{self._name}: expected figures() to give Figures of ibllm.plugin, and marks() Marks")
        silent = [figure.name for figure in figures if not figure.meaning]
        expect(not silent, f"{self._name}: figures() says nothing of what {', '.join(silent)} means: expected a sentence for reports")
        odd = [f"{figure.name} is better when {figure.better!r}" for figure in figures if figure.better not in BETTER]
        odd += [f"{mark.name} is about {mark.about!r}" for mark in marks if mark.about not in ABOUT]
        expect(not odd, f"{self._name}: {', '.join(odd)}: expected one of {BETTER} and of {ABOUT}")
        missing = sorted(set(declared) - set(found))
        expect(not missing, f"{self._name}: figures() names {', '.join(missing)}, which evaluate does not give")
        stray = [name for name in found if name not in declared and not set(name.split("/")) & set(declared)]
        expect(not stray, f"{self._name}: evaluate gives {', '.join(stray)}, which figures() does not name")

    def test_figures_are_numbers(self, device: torch.device) -> None:
        """Floats, finite: a run ends where a figure is not; fractions in [0, 1]."""
        config = self.config()
        said = config.figures() if isinstance(config, MetricConfig) else ()
        percent = {figure.name for figure in said if isinstance(figure, Figure) and figure.percent}
        for name, value in self._figures(self.evaluation(device)).items():
            expect(isinstance(value, float | int), f"{self._name}: {name} is a {type(value).__name__}, expected a float")
            expect(math.isfinite(value), f"{self._name}: {name} is {value}, expected a finite number")
            if name in percent:
                expect(0 <= value <= 1, f"{self._name}: {name} is {value}: a fraction is in [0, 1]")

    def test_a_few_items_are_enough(self, device: torch.device) -> None:
        """2 items of a model that was never trained: a run measures so many before its first step, and is refused where that fails."""
        data = self.data()
        evaluation, metric = Evaluation(self.model(device, data.image_shape), data, self.split, items=FEW), self.make()
        try:
            metric.evaluate(evaluation)
            metric.record(evaluation)
            metric.marks(evaluation)
        except Exception as error:
            expect(False, f"{self._name}: {type(error).__name__} on {FEW} items of a model that was never trained: {error}")

    def test_the_same_evaluation_gives_the_same_figures(self, device: torch.device) -> None:
        """Another metric object on another evaluation of the same model, in batches of another size: the same figures."""
        first = self._figures(self.evaluation(device))
        torch.manual_seed(99)
        np.random.seed(99)  # what a metric must not draw from
        second = self._figures(self.evaluation(device, batch=100))
        _equal(first, second, f"{self._name}: the same model on the same items gives other figures (batch size, global generators)")

    def test_the_order_of_items_does_not_matter(self, device: torch.device) -> None:
        """The items backwards give the same figures."""
        if self.ordered:
            return
        backwards = self.evaluation(device)
        backwards.indices = backwards.indices[::-1].copy()
        found = self._figures(self.evaluation(device)), self._figures(backwards)
        _equal(*found, f"{self._name}: the order of the items matters; if it must, say why in `ordered`")

    def test_marks_are_one_for_each_item(self, device: torch.device) -> None:
        """`marks` gives (b) booleans under the names that the config's `marks` has; `record`, plain values that can be written as JSON."""
        evaluation, metric, config = self.evaluation(device), self.make(), self.config()
        declared = [mark.name for mark in config.marks()] if isinstance(config, MetricConfig) else []
        metric.evaluate(evaluation)
        for name, marks in metric.marks(evaluation).items():
            expect(
                name in declared, f"{self._name}: its marks have {name!r}, which the config's marks() does not name: {', '.join(declared)}"
            )
            well = marks.dtype == np.bool_ and marks.shape == (len(evaluation),)
            expect(well, f"{self._name}: marks of {name} are {marks.dtype} {marks.shape}: expected bool ({len(evaluation)})")
        record = dict(metric.record(evaluation))
        expect(json.loads(json.dumps(record)) == record, f"{self._name}: record gives {record}: expected strings and numbers")

    def test_panels_are_what_a_report_can_show(self, device: torch.device) -> None:
        """`panels` gives `Panel`s, of different titles."""
        evaluation, metric = self.evaluation(device), self.make()
        metric.evaluate(evaluation)
        found = list(metric.panels(evaluation))
        odd = [type(panel).__name__ for panel in found if not isinstance(panel, Panel)]
        expect(not odd, f"{self._name}: panels gives a {', '.join(odd)}: expected Panel, of ibllm.plugin")
        titles = [panel.title for panel in found]
        expect(len(set(titles)) == len(titles), f"{self._name}: panels gives {', '.join(titles)}: expected different titles")

    def test_the_record_tells_what_was_measured(self, device: torch.device) -> None:
        """`record` gives ``n`` > 0 and the hash of what the figures were compared with: another one on other items."""
        evaluation, fewer = self.evaluation(device), self.evaluation(device)
        fewer.indices = fewer.indices[:-1]
        found = []
        for given in (evaluation, fewer):
            metric = self.make()
            metric.evaluate(given)
            record = metric.record(given)
            n = record.get("n")
            expect(isinstance(n, int) and n > 0, f"{self._name}: record gives n = {n}: expected the number of what was measured")
            found.append({key: value for key, value in record.items() if isinstance(value, str) and HASH.fullmatch(value)})
        changed = [key for key in found[0] if found[0][key] != found[1].get(key)]
        expect(
            bool(changed),
            f"{self._name}: record gives no hash that differs on other items: expected one of what the figures were compared with",
        )

    def test_the_record_does_not_follow_the_weights(self, device: torch.device) -> None:
        """`record` says how a figure was measured, not what came out: for another model it is the same. Otherwise no two runs could be compared."""
        records = []
        for seed in (5, 6):
            metric, evaluation = self.make(), self.evaluation(device, seed=seed)
            metric.evaluate(evaluation)
            records.append(dict(metric.record(evaluation)))
        first, second = records
        others = [f"{key} = {first.get(key)!r} and {second.get(key)!r}" for key in {**first, **second} if first.get(key) != second.get(key)]
        expect(
            not others,
            f"{self._name}: record differs for a model with other weights: {', '.join(others)}; it is for what was measured, and how: "
            "leave out what follows from the model",
        )


def _equal(first: Mapping[str, float], second: Mapping[str, float], problem: str) -> None:
    for name, value in first.items():
        near = math.isclose(value, second[name], rel_tol=1e-4, abs_tol=1e-6) or (math.isnan(value) and math.isnan(second[name]))
        expect(near, f"{problem}: {name} is {value:.6g} and {second[name]:.6g}")
