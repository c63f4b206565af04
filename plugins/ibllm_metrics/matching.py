"""Whether captions and images are found among others, by the model's own scores. Shapes: n images, m candidates, p pools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs
import numpy as np
import numpy.typing as npt

from ibllm.plugin import Context, Metric, Stream
from ibllm_metrics.belonging import images, right, texts
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


@attrs.frozen(eq=False)
class _Asked:
    """Places in a pool that are asked about (a), those that are chosen from (c), and which of these are right (a c)."""

    rows: Places
    columns: Places
    right: Bool

    def of(self, scores: Floats) -> Floats:
        """Scores (m m) of what is asked about (a c)."""
        return scores[self.rows][:, self.columns]


class RecallMetric(Metric):
    """R@k of real images for their captions and of captions for their real images, in random pools of the split's items.

    `image_recall_k`: an image of the caption's is among the k best scored of the pool; `caption_recall_k`: a caption of the image's is. An image is a
    caption's if some item of the split has that image and these words (`ibllm_metrics.belonging`). Where data say which items are of one image
    (`Samples.groups`), an image, or a caption, that several items of a pool have is asked about once and chosen from once. Items that fill no pool
    are left out. `…_recall_1_times_chance`: over what guessing would give, so that 1 is chance; `…_recall_1_shuffled`: each judged as if it were the
    next one's of the pool, which must come out at chance, or below where the own ones are found.
    """

    def __init__(self, config: RecallConfig, context: Context) -> None:
        self.config = config

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        found: dict[tuple[str, int], list[Floats]] = {(what, k): [] for what in ("image", "caption") for k in RECALLS}
        shuffled: dict[str, list[Floats]] = {"image": [], "caption": []}
        chances: dict[str, list[Floats]] = {"image": [], "caption": []}
        for pool in self._pools(evaluation):
            scores = _scores(self.config, evaluation, evaluation.real[pool], np.tile(pool, (len(pool), 1)))
            for what, own in self._asked(evaluation, pool).items():
                given = scores.T if what == "image" else scores
                for k in RECALLS:
                    found[what, k].append(hits_at_k(own.of(given), own.right, k))
                shuffled[what].append(hits_at_k(np.roll(own.of(given), 1, 0), own.right, 1))
                chances[what].append(own.right.mean(1))
        figures = {f"{what}_recall_{k}": float(np.concatenate(values).mean()) for (what, k), values in found.items()}
        for what, values in shuffled.items():
            own_ones, chance = np.concatenate(found[what, 1]), float(np.concatenate(chances[what]).mean())
            figures |= against_chance(f"{what}_recall_1", own_ones, np.concatenate(values), chance)
        return figures

    def record(self, evaluation: Evaluation) -> Mapping[str, str | int | float]:
        pools = self._pools(evaluation)
        asked = [self._asked(evaluation, pool) for pool in pools]
        chance, of_images = (float(np.concatenate([one[what].right.mean(1) for one in asked]).mean()) for what in ("caption", "image"))
        sizes = {"n": pools.size, "candidates": pools.shape[1], "chance": chance, "chance of images": of_images}
        return {**super().record(evaluation), **_score_record(self.config, evaluation), **sizes}

    def _pools(self, evaluation: Evaluation) -> Places:
        """(p m) items of the split, none twice, in an order that is their own."""
        items = min(self.config.limit, len(evaluation))
        order = np.argsort(Stream((evaluation.seed, "metrics.recall", evaluation.split), evaluation.indices[:items]).uniform())
        size = min(self.config.candidates, items)
        return order[: items // size * size].reshape(-1, size)

    def _asked(self, evaluation: Evaluation, pool: Places) -> Mapping[str, _Asked]:
        """What is looked for in a pool (m): images for captions, and captions for images.

        Each different one counts once where the data say which items are of one image; else every item counts, as in ibllm 0.1.
        """
        words, pictures = texts(evaluation), images(evaluation)
        of_images = right(words, pictures)[pool][:, pool]
        once = {
            what: np.sort(np.unique(numbers[pool], return_index=True)[1]) for what, numbers in (("caption", words), ("image", pictures))
        }
        if evaluation.samples.groups is None:
            once = dict.fromkeys(once, np.arange(len(pool)))
        return {
            "image": _Asked(once["caption"], once["image"], of_images[once["caption"]][:, once["image"]]),
            "caption": _Asked(once["image"], once["caption"], of_images.T[once["image"]][:, once["caption"]]),
        }


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
        """(n m) items of the split: first the image's own, then captions that are none of the image; fewer where the split has not enough."""
        n = min(self.config.limit, len(evaluation))
        wrong = ~right(texts(evaluation), images(evaluation)).T  # (b b) captions in the columns that are none of the row's image
        orders = Stream((evaluation.seed, "metrics.r_precision", evaluation.split), evaluation.indices[:n]).permutation(len(evaluation))
        others = [order[wrong[row, order]] for row, order in enumerate(orders)]
        m = min(self.config.candidates - 1, *(len(other) for other in others))
        return np.stack([np.concatenate([[row], other[:m]]) for row, other in enumerate(others)])
