"""The run's own figures of a model and of what was made of it, on the run's own data. Shapes: b items, h w c image."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ibllm_core.errors import Notice

if TYPE_CHECKING:
    from ibllm_core.model.model import Model


def measured(opened: Any, model: Model, split: str, items: int) -> dict[str, float]:
    """Figure → value of a model on the first items of a split, by the metrics of the run's recipe; captions are greedy.

    Args:
        opened: the run (`ibllm.api.Run`) or an opened model.
    """
    from ibllm_core.model.build import build_metrics
    from ibllm_core.model.evaluation import evaluate

    recipe = opened.recipe
    before, model.beams = model.beams, 1
    try:
        figures, _ = evaluate(
            model,
            opened.dataset,
            build_metrics(recipe),
            split,
            items=items,
            seed=recipe.seed.evaluation,
            batch=recipe.evaluation.batch,
            declared=recipe.figures(),
            strict=False,
        )
    finally:
        model.beams = before
    return figures


def changes(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Figure → after − before, of figures that both have."""
    return {name: after[name] - value for name, value in before.items() if name in after}


def real_items(opened: Any, count: int) -> Any:
    """The first items of a split that the recipe reports on (`Samples`), or None where the data are not here, which is told."""
    import numpy as np

    from ibllm_core.interfaces.batch import take

    try:
        dataset, split = opened.dataset, opened.recipe.evaluation.splits[0]
        return take(dataset, split, np.arange(min(count, dataset.sizes()[split])))
    except (OSError, ValueError) as error:
        warnings.warn(
            Notice(f"the data that it was trained on are not here ({error}): it is checked on made-up inputs, and no figures are measured"),
            stacklevel=2,
        )
        return None
