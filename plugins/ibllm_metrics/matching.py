"""Whether captions and images are found among others, by the model's own scores. Shapes: n images, m candidates, p pools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ibllm.plugin import Context, Metric, Stream
from ibllm_metrics.config import RECALLS, RecallConfig, RPrecisionConfig
from ibllm_metrics.pair_scores import Floats, Pixels, Places, fitted, latent_scores, likelihood_scores

if TYPE_CHECKING:
    from ibllm.plugin import Evaluation

Bool = npt.NDArray[np.bool_]


def hits_at_k(scores: Floats, right: Bool, k: int) -> Floats:
    """scores (n m), right (n m) → (n) probability that the best right candidate is among the first k, equal scores being put in random order."""
    best = np.where(right, scores, -np.inf).max(1, keepdims=True)
    above, level = ((scores > best) & ~right).sum(1), ((scores == best) & ~right).sum(1)
    return np.clip((k - above) / (level + 1), 0.0, 1.0)


def against_chance(figure: str, own: Floats, shuffled: Floats, chance: float) -> dict[str, float]:
    """`figure`, the mean of `own` (n); ``…_times_chance``, the same over what guessing would give; ``…_shuffled``, the control.

    `shuffled` (n) is what comes out when each is judged as if it were the next one's: about chance, or 0 where every own one is found.
    """
    value = float(own.mean())
    return {figure: value, f"{figure}_times_chance": value / chance, f"{figure}_shuffled": float(shuffled.mean())}


def _scores(config: RecallConfig | RPrecisionConfig, evaluation: Evaluation, images: Pixels, candidates: Places) -> Floats:
    if config.space == "likelihood":
        return likelihood_scores(evaluation, images, candidates)
    return latent_scores(evaluation, images, candidates, config.fit, config.ridge)


def _score_record(config: RecallConfig | RPrecisionConfig, evaluation: Evaluation) -> dict[str, str | int | float]:
    """What a record says of the space."""
    if config.space == "likelihood":
        return {"extractor": "likelihood (image_encoder, text_decoder)"}
    _, items = fitted(evaluation, config.fit, config.ridge)
    return {"extractor": "latent (text_encoder, image_encoder, canonical correlations)", "ridge": config.ridge, **items}


class RecallMetric(Metric):
    """R@k of real images for their captions and of captions for their real images, in random pools of the split's items.

    `image_recall_k`: the caption's own image is among the k best scored of the pool; `caption_recall_k`: the image's own caption is. Items
    that fill no pool are left out. `…_recall_1_times_chance`: over what guessing would give, so that 1 is chance; `…_recall_1_shuffled`: each
    judged as if it were the next one's of the pool, which must come out at chance, or below where the own ones are found.
    """

    def __init__(self, config: RecallConfig, context: Context) -> None:
        self.config = config

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        found: dict[tuple[str, int], list[Floats]] = {(what, k): [] for what in ("image", "caption") for k in RECALLS}
        shuffled: dict[str, list[Floats]] = {"image": [], "caption": []}
        pools = self._pools(evaluation)
        answers = self._right(evaluation, pools)
        for pool, right in zip(pools, answers, strict=True):
            scores = _scores(self.config, evaluation, evaluation.real[pool], np.tile(pool, (len(pool), 1)))
            for what, given, own in (("image", scores.T, right.T), ("caption", scores, right)):
                for k in RECALLS:
                    found[what, k].append(hits_at_k(given, own, k))
                shuffled[what].append(hits_at_k(np.roll(given, 1, 0), own, 1))
        figures = {f"{what}_recall_{k}": float(np.concatenate(values).mean()) for (what, k), values in found.items()}
        for what, values in shuffled.items():
            own = np.concatenate(found[what, 1])
            figures |= against_chance(f"{what}_recall_1", own, np.concatenate(values), float(answers.mean()))
        return figures

    def record(self, evaluation: Evaluation) -> Mapping[str, str | int | float]:
        pools = self._pools(evaluation)
        sizes = {"n": pools.size, "candidates": pools.shape[1], "chance": float(self._right(evaluation, pools).mean())}
        return {**super().record(evaluation), **_score_record(self.config, evaluation), **sizes}

    def _pools(self, evaluation: Evaluation) -> Places:
        """(p m) items of the split, none twice, in an order that is their own."""
        items = min(self.config.limit, len(evaluation))
        order = np.argsort(Stream((evaluation.seed, "metrics.recall", evaluation.split), evaluation.indices[:items]).uniform())
        size = min(self.config.candidates, items)
        return order[: items // size * size].reshape(-1, size)

    def _right(self, evaluation: Evaluation, pools: Places) -> Bool:
        """pools (p m) → (p m m) True where the one's caption or image is the other's; its mean is what guessing gives."""
        texts = np.unique(np.array(evaluation.captions), return_inverse=True)[1][pools]
        pictures = np.unique(np.array([image.tobytes() for image in evaluation.real], dtype=object), return_inverse=True)[1][pools]
        return (texts[:, :, None] == texts[:, None]) | (pictures[:, :, None] == pictures[:, None])


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
        own, shuffled = (self._found(evaluation, given, candidates) for given in (images, np.roll(images, 1, 0)))
        return against_chance("r_precision", own, shuffled, 1 / candidates.shape[1])

    def record(self, evaluation: Evaluation) -> Mapping[str, str | int | float]:
        n, m = self._candidates(evaluation).shape
        return {**super().record(evaluation), **_score_record(self.config, evaluation), "n": n, "candidates": m, "chance": 1 / m}

    def _found(self, evaluation: Evaluation, images: Pixels, candidates: Places) -> Floats:
        """(n) whether the image's own caption is the best scored."""
        right = np.zeros(candidates.shape, dtype=np.bool_)
        right[:, 0] = True
        return hits_at_k(_scores(self.config, evaluation, images, candidates), right, 1)

    def _candidates(self, evaluation: Evaluation) -> Places:
        """(n m) items of the split: first the image's own, then others with other captions; fewer where the split has not enough."""
        n = min(self.config.limit, len(evaluation))
        texts = np.unique(np.array(evaluation.captions), return_inverse=True)[1]
        orders = Stream((evaluation.seed, "metrics.r_precision", evaluation.split), evaluation.indices[:n]).permutation(len(evaluation))
        others = [order[texts[order] != texts[row]] for row, order in enumerate(orders)]
        m = min(self.config.candidates - 1, *(len(other) for other in others))
        return np.stack([np.concatenate([[row], other[:m]]) for row, other in enumerate(others)])
