"""The options of the metrics. Torch-free."""

from __future__ import annotations

import attrs

from ibllm.plugin import MetricConfig, option


@attrs.frozen(kw_only=True)
class _TextOptions(MetricConfig):
    images: str = option(
        "real", help="captions read off real images, or off those generated from the captions", choices=("real", "generated")
    )

    def _named(self, name: str) -> tuple[str, ...]:
        return (name if self.images == "real" else f"{name}_generated",)

    def needs(self) -> frozenset[str]:
        reads = {"image_encoder", "text_decoder"}
        return frozenset(reads if self.images == "real" else reads | {"text_encoder", "image_decoder"})


@attrs.frozen(kw_only=True)
class BLEUConfig(_TextOptions):
    """Papineni et al. 2002, one reference a caption."""

    order: int = option(4, help="longest n-grams that are compared; names of one or two words have no longer ones", ge=1, le=4)

    def figures(self) -> tuple[str, ...]:
        return self._named("bleu")


@attrs.frozen(kw_only=True)
class ChrFConfig(_TextOptions):
    """Popović 2015, one reference a caption."""

    order: int = option(6, help="longest sequences of characters that are compared", ge=1)
    words: int = option(0, help="longest sequences of words that are compared; 2 is chrF++", ge=0)

    def figures(self) -> tuple[str, ...]:
        return self._named("chrf")


@attrs.frozen(kw_only=True)
class CIDErConfig(_TextOptions):
    """CIDEr-D of Vedantam et al. 2015, one reference a caption."""

    order: int = option(4, help="longest n-grams that are compared; names of one or two words have no longer ones", ge=1, le=4)
    frequencies: str = option(
        "split",
        help="captions that tell how common an n-gram is: the measured items' own, or the training split's",
        choices=("split", "train"),
    )
    limit: int = option(8192, help="with `train`: items of the training split that are looked at, from its beginning", ge=1)

    def figures(self) -> tuple[str, ...]:
        return self._named("cider")


#: Places of the list that the right answer may take.
RECALLS = (1, 5, 10)


def _space(default: str) -> str:
    """An option: how captions and images are scored."""
    chosen: str = option(
        default,
        help="how a caption and an image are scored: likelihood for log p(caption | image) by D_x; latent for the cosine of E_x's and E_y's "
        "pooled latents after a canonical correlation analysis of the training split",
        choices=("likelihood", "latent"),
    )
    return chosen


@attrs.frozen(kw_only=True)
class _SpaceOptions(MetricConfig):
    space: str
    candidates: int = option(100, help="captions, or images, to choose from, the right one among them", ge=2)
    limit: int = option(200, help="items of the split that are measured, from its beginning", ge=2)
    fit: int = option(2048, help="with `latent`: items of the training split that the analysis is fitted to, from its beginning", ge=8)
    ridge: float = option(1e-2, help="with `latent`: what is added to latents' covariances, as a fraction of their mean variance", gt=0)

    def _scoring(self) -> set[str]:
        return {"image_encoder", "text_decoder" if self.space == "likelihood" else "text_encoder"}


@attrs.frozen(kw_only=True)
class RecallConfig(_SpaceOptions):
    """R@1, R@5 and R@10 among the split's own captions and real images. Same captions, and same images, count as one.

    With `latent` it tells what a linear map finds in the latents: it learns from the training split's pairs, so even encoders that have
    learned nothing are far above chance.
    """

    space: str = _space("likelihood")

    def figures(self) -> tuple[str, ...]:
        found = tuple(f"{what}_recall_{k}" for what in ("image", "caption") for k in RECALLS)
        return (*found, *(f"{what}_recall_1_{against}" for what in ("image", "caption") for against in ("times_chance", "shuffled")))

    def needs(self) -> frozenset[str]:
        return frozenset(self._scoring())


@attrs.frozen(kw_only=True)
class RPrecisionConfig(_SpaceOptions):
    """The protocol of Xu et al. 2018 (AttnGAN): one true caption against 99 others, the best one counts.

    Their judge is a network of its own; here it is the model's encoders with a linear map fitted to real pairs, or the captioner. With
    `likelihood` it costs some hundred captions read off each image.
    """

    space: str = _space("latent")

    def figures(self) -> tuple[str, ...]:
        return ("r_precision", "r_precision_times_chance", "r_precision_shuffled")

    def needs(self) -> frozenset[str]:
        return frozenset(self._scoring() | {"text_encoder", "image_decoder"})


@attrs.frozen(kw_only=True)
class _FeatureOptions(MetricConfig):
    extractor: str = option(
        "random",
        help="what images are compared by: pixels for a smaller picture; random for a convolutional network with fixed random weights; "
        "encoder for E_y's pooled latents, which are not independent of the model",
        choices=("pixels", "random", "encoder"),
    )
    size: int = option(8, help="with `pixels`: height and width of the smaller picture", ge=1)
    width: int = option(64, help="with `random`: number of features", ge=1)
    seed: int = option(0, help="with `random`: seed of the weights; figures of different seeds cannot be compared", ge=0)

    def needs(self) -> frozenset[str]:
        needed = {"text_encoder", "image_decoder"}
        return frozenset(needed | {"image_encoder"} if self.extractor == "encoder" else needed)


@attrs.frozen(kw_only=True)
class FrechetConfig(_FeatureOptions):
    """Heusel et al. 2017, with features that need no download: compare runs of one dataset, size and number of items, not papers."""

    def figures(self) -> tuple[str, ...]:
        return (f"frechet_{self.extractor}",)


@attrs.frozen(kw_only=True)
class KernelConfig(_FeatureOptions):
    """Bińkowski et al. 2018 (KID), with features that need no download: compare runs of one dataset, not papers."""

    def figures(self) -> tuple[str, ...]:
        return (f"kernel_{self.extractor}",)


@attrs.frozen(kw_only=True)
class RetrievalConfig(MetricConfig):
    """Nearest drawing by L2 in RGB. Drawings that are the same pixel by pixel count as one."""

    among: str = option(
        "both",
        help="the drawings to choose from: the training split's, the measured items' own, or both together",
        choices=("train", "split", "both"),
    )
    size: int = option(64, help="height and width in pixels at which images are compared", ge=1)
    limit: int = option(8192, help="items of the training split that are looked at, from its beginning", ge=1)

    def figures(self) -> tuple[str, ...]:
        return ("retrieval_top1", "retrieval_top5")

    def needs(self) -> frozenset[str]:
        return frozenset({"text_encoder", "image_decoder"})


@attrs.frozen(kw_only=True)
class DiversityConfig(MetricConfig):
    """Mean difference of two drawings of one caption."""

    draws: int = option(4, help="drawings of each caption", ge=2)

    def figures(self) -> tuple[str, ...]:
        return ("diversity",)

    def needs(self) -> frozenset[str]:
        return frozenset({"text_encoder", "image_decoder"})
