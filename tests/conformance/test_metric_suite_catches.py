"""The suite of metrics: a sound one passes, and one that does not say what its figures and marks are is caught by the check that is meant for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import pytest
from ibllm_testing import MetricSuite, Suite

from ibllm.figures import TEXT_TO_IMAGE, Figure, Mark
from ibllm_core.host.options import MetricConfig
from ibllm_core.interfaces.reporting import Metric

from .test_suite_catches import checks, run, suite

CALM = Figure.share("calm", "calm drawings", TEXT_TO_IMAGE, "Drawings that nothing stirs in.")


class Mood(Metric):
    """Sound: every second drawing is calm."""

    def evaluate(self, evaluation: Any) -> dict[str, float]:
        return {"calm": 0.5}

    def marks(self, evaluation: Any) -> dict[str, Any]:
        return {"calm": np.arange(len(evaluation)) % 2 == 0}


class Beyond(Mood):
    def evaluate(self, evaluation: Any) -> dict[str, float]:
        return {"calm": 50.0}


class Boasting(Mood):
    def panels(self, evaluation: Any) -> Any:
        return [{"title": "calm"}]


class Needy(Mood):
    def evaluate(self, evaluation: Any) -> dict[str, float]:
        if len(evaluation) < 5:
            raise ValueError("too few")
        return super().evaluate(evaluation)


class Following(Mood):
    """Its record says how many parameters are above zero."""

    def record(self, evaluation: Any) -> dict[str, Any]:
        above = sum(int((p > 0).sum()) for p in evaluation.model.parameters())
        return {**super().record(evaluation), "above": above}


def measuring(
    metric: Callable[[], Metric] = Mood, figures: tuple[Figure, ...] = (CALM,), marks: tuple[Mark, ...] = (Mark("calm"),)
) -> Suite:
    @attrs.frozen(kw_only=True)
    class Options(MetricConfig):
        """A test's."""

        def figures(self) -> tuple[Figure, ...]:
            return figures

        def marks(self) -> tuple[Mark, ...]:
            return marks

        def needs(self) -> frozenset[str]:
            return frozenset({"text_encoder", "image_decoder"})

    return suite(MetricSuite, lambda *_: metric(), Options)


@pytest.mark.parametrize("check", checks(measuring()))
def test_a_sound_metric_passes(check: str) -> None:
    run(measuring(), check)


@pytest.mark.parametrize(
    ("broken", "check", "words"),
    [
        (measuring(figures=(CALM, Figure("x", meaning="X."))), "test_figures_are_as_declared", "names x, which evaluate does not give"),
        (measuring(figures=(Figure("calm"),)), "test_figures_are_as_declared", "says nothing of what calm means"),
        (measuring(figures=(attrs.evolve(CALM, better="more"),)), "test_figures_are_as_declared", "calm is better when 'more'"),
        (measuring(marks=(Mark("calm", "mood"),)), "test_figures_are_as_declared", "calm is about 'mood'"),
        (measuring(Beyond), "test_figures_are_numbers", r"a fraction is in \[0, 1\]"),
        (measuring(Needy), "test_a_few_items_are_enough", "ValueError on 2 items of a model that was never trained: too few"),
        (measuring(Boasting), "test_panels_are_what_a_report_can_show", "panels gives a dict: expected Panel"),
        (measuring(Following), "test_the_record_does_not_follow_the_weights", "record differs for a model with other weights: above = "),
        (measuring(marks=()), "test_marks_are_one_for_each_item", "which the config's marks\\(\\) does not name"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else "",
)
def test_a_metric_that_does_not_say_what_it_gives_is_caught(broken: Suite, check: str, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        run(broken, check)
