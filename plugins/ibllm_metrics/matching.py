"""Whether captions and images are found among others, by the model's own scores. Shapes: n images, m candidates, p pools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.metric import Metric
from ibllm_core.randomness import Stream
from ibllm_metrics.config import RECALLS, RecallConfig, RPrecisionConfig
from ibllm_metrics.spaces import Floats, Pixels, Places, latent_scores, likelihood_scores

if TYPE_CHECKING:
    from ibllm_core.evaluation import Evaluation

Bool = npt.NDArray[np.bool_]


def found_within(scores: Floats, right: Bool, k: int) -> Floats:
    """scores (n m), right (n m) → (n) probability that the best right candidate is among the first k, equal scores being put in random order."""
    best = np.where(right, scores, -np.inf).max(1, keepdims=True)
    above, level = ((scores > best) & ~right).sum(1), ((scores == best) & ~right).sum(1)
    return np.clip((k - above) / (level + 1), 0.0, 1.0)


def _scores(config: RecallConfig | RPrecisionConfig, evaluation: Evaluation, images: Pixels, candidates: Places) -> Floats:
    if config.space == "likelihood":
        return likelihood_scores(evaluation, images, candidates)
    return latent_scores(evaluation, images, candidates, config.fit, config.ridge)


def _space(config: RecallConfig | RPrecisionConfig, evaluation: Evaluation) -> dict[str, str | int | float]:
    """What a record says of the space."""
    if config.space == "likelihood":
        return {"extractor": "likelihood (image_encoder, text_decoder)"}
    fit = min(config.fit, evaluation.dataset.sizes()["train"])
    return {"extractor": "latent (text_encoder, image_encoder, canonical correlations)", "fit": fit, "ridge": config.ridge}


class RecallMetric(Metric):
    """R@k of real images for their captions and of captions for their real images, in random pools of the split's items.

    `image_recall_k`: the caption's own image is among the k best scored of the pool; `caption_recall_k`: the image's own caption is. Items
    that fill no pool are left out.
    """

    def __init__(self, config: RecallConfig, context: Context) -> None:
        self.config = config

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        found: dict[str, list[Floats]] = {figure: [] for figure in self.config.figures()}
        texts = np.unique(np.array(evaluation.captions), return_inverse=True)[1]
        pictures = np.unique(np.array([image.tobytes() for image in evaluation.real], dtype=object), return_inverse=True)[1]
        for pool in self._pools(evaluation):
            scores = _scores(self.config, evaluation, evaluation.real[pool], np.tile(pool, (len(pool), 1)))
            right = (texts[pool][:, None] == texts[pool]) | (pictures[pool][:, None] == pictures[pool])
            for k in RECALLS:
                found[f"caption_recall_{k}"].append(found_within(scores, right, k))
                found[f"image_recall_{k}"].append(found_within(scores.T, right.T, k))
        return {figure: float(np.concatenate(values).mean()) for figure, values in found.items()}

    def record(self, evaluation: Evaluation) -> Mapping[str, str | int | float]:
        pools = self._pools(evaluation)
        return {**super().record(evaluation), **_space(self.config, evaluation), "n": pools.size, "candidates": pools.shape[1]}

    def _pools(self, evaluation: Evaluation) -> Places:
        """(p m) items of the split, none twice."""
        items = min(self.config.limit, len(evaluation))
        order = Stream((evaluation.seed, "metrics.recall", evaluation.split), [0]).permutation(items)[0]
        size = min(self.config.candidates, items)
        return order[: items // size * size].reshape(-1, size)


class RPrecisionMetric(Metric):
    """R-precision as Xu et al. 2018 measure it, with the model's own scores instead of a network trained for it.

    `r_precision`: generated images whose own caption is scored above 99 others of the split, all of other words; `r_precision_times_chance`:
    the same × the number of candidates, so that 1 is chance; `r_precision_shuffled`: each image judged as if it were the next caption's,
    which must come out at chance. Captions in other words may mean the same.
    """

    def __init__(self, config: RPrecisionConfig, context: Context) -> None:
        self.config = config

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        candidates = self._candidates(evaluation)
        images = evaluation.generated[: len(candidates)]
        value, shuffled = (self._precision(evaluation, given, candidates) for given in (images, np.roll(images, 1, 0)))
        times = value * candidates.shape[1]
        return {"r_precision": value, "r_precision_times_chance": times, "r_precision_shuffled": shuffled}

    def record(self, evaluation: Evaluation) -> Mapping[str, str | int | float]:
        n, m = self._candidates(evaluation).shape
        return {**super().record(evaluation), **_space(self.config, evaluation), "n": n, "candidates": m, "chance": 1 / m}

    def _precision(self, evaluation: Evaluation, images: Pixels, candidates: Places) -> float:
        right = np.zeros(candidates.shape, dtype=np.bool_)
        right[:, 0] = True
        return float(found_within(_scores(self.config, evaluation, images, candidates), right, 1).mean())

    def _candidates(self, evaluation: Evaluation) -> Places:
        """(n m) items of the split: first the image's own, then others with other captions; fewer where the split has not enough."""
        n = min(self.config.limit, len(evaluation))
        texts = np.unique(np.array(evaluation.captions), return_inverse=True)[1]
        orders = Stream((evaluation.seed, "metrics.r_precision", evaluation.split), evaluation.indices[:n]).permutation(len(evaluation))
        others = [order[texts[order] != texts[row]] for row, order in enumerate(orders)]
        m = min(self.config.candidates - 1, *(len(other) for other in others))
        return np.stack([np.concatenate([[row], other[:m]]) for row, other in enumerate(others)])
