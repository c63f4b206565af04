"""How often rules hold of what a model writes and draws. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ibllm.plugin import NOT_INDEPENDENT, Metric, Panel
from ibllm_logic.config import RulesMetricConfig
from ibllm_logic.formulas import Rules
from ibllm_logic.worlds import Tally, tally

if TYPE_CHECKING:
    from ibllm.plugin import Evaluation


@runtime_checkable
class Describing(Protocol):
    """A dataset that can say what an image shows, by a reader of its own that learns nothing."""

    def describe(self, images: npt.NDArray[np.uint8]) -> Sequence[str | None]:
        """Images (b h w c) → b captions; None where it makes nothing of an image."""


def drawn_and_seen(evaluation: Evaluation) -> tuple[Sequence[str | None], str]:
    """What is said of each drawing, and who says it."""
    dataset: Any = evaluation.dataset
    if isinstance(dataset, Describing):
        return evaluation.once("logic.described", lambda: list(dataset.describe(evaluation.generated))), "the dataset's own reader"
    return evaluation.reread, "the model's captioner"


class RulesMetric(Metric):
    """``rules_captions`` and ``rules_drawings``, with a panel that says it rule by rule."""

    def __init__(self, config: RulesMetricConfig, context: Any) -> None:
        self.config, self.rules = config, config.rules()

    def _tallies(self, evaluation: Evaluation) -> Mapping[str, tuple[list[Tally], int, str]]:
        return {what: tallied(self.rules, evaluation, what) for what in self.config.of}

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        found = self._tallies(evaluation)
        applied = {what: [one.share for one in tallies if one.applies] for what, (tallies, *_) in found.items()}
        return {f"rules_{what}": float(np.mean(shares)) if shares else 0.0 for what, shares in applied.items()}

    def record(self, evaluation: Evaluation) -> Mapping[str, str | int | float]:
        kept: dict[str, str | int | float] = {**super().record(evaluation), "rules": len(self.rules.rules), "sha256": self.rules.digest}
        for what, (tallies, unsaid, who) in self._tallies(evaluation).items():
            kept |= {
                f"{what}: seen by": who,
                f"{what}: choices of objects": sum(one.applies for one in tallies),
                f"{what}: nothing said of": unsaid,
            }
            if what == "drawings" and not isinstance(evaluation.dataset, Describing):
                kept["caution rules_drawings"] = NOT_INDEPENDENT
            if not any(one.applies for one in tallies):
                kept[f"caution rules_{what}"] = "no rule applies: 0 stands for that there is nothing to count"
        return kept

    def panels(self, evaluation: Evaluation) -> Iterable[Panel]:
        for what, (tallies, unsaid, who) in self._tallies(evaluation).items():
            rows = [(one.rule.name, one.applies, f"{100 * one.share:.1f} %" if one.applies else "–", one.example) for one in tallies]
            out = f" {unsaid} of them show nothing that can be read." if unsaid else ""
            sees = f"images as {who} say{'' if who.endswith('s') else 's'}"
            text = f"Of {len(evaluation)} {what}, {sees}.{out} A rule is counted for every choice of objects that it applies to."
            yield Panel(title=f"Rules: {what}", text=text, header=("rule", "applies", "holds", "the first of which it does not"), rows=rows)


def tallied(rules: Rules, evaluation: Evaluation, what: str) -> tuple[list[Tally], int, str]:
    """Each rule over captions written of real images, or over drawings; of how many nothing could be said; who says what images show."""
    if what == "captions":
        return *tally(rules, evaluation.read, evaluation.captions), "their own captions"
    seen, who = drawn_and_seen(evaluation)
    return *tally(rules, evaluation.captions, seen, "image"), who
