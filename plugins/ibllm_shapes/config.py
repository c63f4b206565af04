"""The options of the dataset `shapes` and of its metrics. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from ibllm.plugin import (
    IMAGE_TO_TEXT,
    NOT_INDEPENDENT,
    ROUND_TRIP,
    TEXT_TO_IMAGE,
    DatasetConfig,
    Figure,
    Mark,
    MetricConfig,
    OptionError,
    option,
)

#: train, validation and test share their colour×shape pairs; novel and novel-validation each have other ones held out.
SPLITS: Mapping[str, str] = {
    "train": "items seen in training",
    "validation": "new items of the training's kind, looked at during training",
    "test": "new items of the training's kind",
    "novel": "combinations never seen in training",
    "novel-validation": "other unseen combinations, looked at during training",
}


@attrs.frozen(kw_only=True)
class ShapesConfig(DatasetConfig):
    """Scenes of one to three coloured shapes. Lengths are in pixels of a 32×32 image and grow with `size`."""

    size: int = option(32, help="height and width of the images in pixels", ge=32, le=128)
    placement: str = option(
        "cells",
        help="'cells': in the quarters of a 2×2 grid, captions name them; 'free': anywhere, captions say left of, right of, above, below",
        choices=("cells", "free"),
    )
    jitter: float = option(
        1.0, help="with 'cells': how far a centre may be off its cell's centre in x and in y, in pixels at size 32", ge=0, le=1
    )
    min_objects: int = option(1, help="fewest objects of a scene", ge=1, le=3)
    max_objects: int = option(3, help="most objects of a scene", ge=1, le=3)
    languages: tuple[str, ...] = option(
        ("en",), help="languages of captions and questions; with several, each item draws one", choices=("en", "zh")
    )
    templates: str = option(
        "canonical",
        help="'canonical': one fixed caption for a scene and language; 'varied': one of several sentences",
        choices=("canonical", "varied"),
    )
    questions: bool = option(False, help="also a question about the scene with its answer, one pair an item")
    train_size: int = option(1_000_000, help="items of the split train", ge=1)
    evaluation_size: int = option(4096, help="items of each of the other splits", ge=1)
    holdout: float = option(
        0.1,
        help="fraction of the colour×shape pairs held out for novel, and as many others for novel-validation; rounded up",
        gt=0,
        le=0.25,
    )
    holdout_seed: int = option(
        0, help="which pairs are held out; apart from the run's seed, so that seeds compare on the same splits", ge=0
    )
    evaluation_seed: int = option(0, help="seed of every split but train; apart from the run's seed for the same reason", ge=0)

    def __attrs_post_init__(self) -> None:
        if self.size % 16:
            raise OptionError("size", self.size, "a multiple of 16")
        if self.min_objects > self.max_objects:
            raise OptionError("min_objects", self.min_objects, f"at most max_objects, {self.max_objects}")
        if not self.languages or len(set(self.languages)) < len(self.languages):
            raise OptionError("languages", self.languages, "one or more different languages")

    def provides(self) -> frozenset[str]:
        return super().provides() | ({"questions"} if self.questions else frozenset())

    def splits(self) -> Mapping[str, str]:
        """Split → what it holds."""
        return SPLITS

    def validation_split(self) -> str:
        """Unseen combinations other than the reported ones: choices are made for generalisation without looking at it."""
        return "novel-validation"

    def reported_splits(self) -> tuple[str, ...]:
        """New items, and new combinations."""
        return ("test", "novel")

    def primary_split(self) -> str:
        """New combinations: what a model has understood shows there."""
        return "novel"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(c, h, w) of every image."""
        return (3, self.size, self.size)


@attrs.frozen(kw_only=True)
class SceneConfig(MetricConfig):
    """Text → image, read by the dataset's reader."""

    def figures(self) -> tuple[Figure, ...]:
        scene = (
            "Generated images in which every object has the right colour, shape, size and place and nothing else is there, "
            "as found by the dataset's own reader, which is no part of the model."
        )
        single = "Single objects drawn with everything right, whatever else is wrong in their image."
        return (
            Figure.share("scene_exact", "scenes right", TEXT_TO_IMAGE, scene),
            Figure("object_exact", "objects right", TEXT_TO_IMAGE, single, percent=True, better="higher"),
        )

    def marks(self) -> tuple[Mark, ...]:
        meaning = "An image is right if the dataset's own reader finds every object of the caption in it and nothing else."
        return (Mark("scene", "drawing", "image right", "image wrong", meaning=meaning),)

    def needs(self) -> frozenset[str]:
        return frozenset({"text_encoder", "image_decoder"})


@attrs.frozen(kw_only=True)
class CaptionFactsConfig(MetricConfig):
    """Image → text, parsed by the dataset's grammar."""

    def figures(self) -> tuple[Figure, ...]:
        facts = "Captions of real images that state every fact of the image and invent none. Facts are compared, not wording."
        stated, there = (
            "Of all objects that captions state, how many are in the image.",
            "Of all objects in the images, how many their captions state.",
        )
        return (
            Figure.share("caption_exact", "captions right", IMAGE_TO_TEXT, facts),
            Figure("caption_object_precision", "objects stated that are there", IMAGE_TO_TEXT, stated, percent=True, better="higher"),
            Figure("caption_object_recall", "objects there that are stated", IMAGE_TO_TEXT, there, percent=True, better="higher"),
        )

    def marks(self) -> tuple[Mark, ...]:
        meaning = "A caption is right if it states every fact of the image and invents none, in whatever words."
        return (Mark("caption", "caption read", "caption right", "caption wrong", meaning=meaning),)

    def needs(self) -> frozenset[str]:
        return frozenset({"image_encoder", "text_decoder"})


@attrs.frozen(kw_only=True)
class RoundTripConfig(MetricConfig):
    """Text → image → text."""

    def figures(self) -> tuple[Figure, ...]:
        both = "Caption → image → caption: the dataset's own reader finds the drawn scene right and the model's captioner gives the caption back."
        agreement = (
            "The model's own captioner gives the caption back from the generated image. "
            "It shows that the two halves agree, not that either is right."
        )
        return (
            Figure.share("roundtrip_exact", "round trips right", ROUND_TRIP, both),
            Figure.share("self_agreement", "self-agreement", ROUND_TRIP, agreement, caution=NOT_INDEPENDENT),
        )

    def marks(self) -> tuple[Mark, ...]:
        both = "A round trip is right if the dataset's own reader finds the drawn image right and the captioner gives the caption back."
        agreement = (
            "Self-agreement: the captioner alone gives the caption back. It shows that the two halves agree, not that either is right."
        )
        return (
            Mark("roundtrip", "round trip", "round trip right", "round trip wrong", meaning=both),
            Mark(
                "self_agreement",
                "caption returned",
                "caption given back",
                "caption not given back",
                meaning=agreement,
                caution=NOT_INDEPENDENT,
            ),
        )

    def needs(self) -> frozenset[str]:
        return frozenset({"text_encoder", "image_decoder", "image_encoder", "text_decoder"})


@attrs.frozen(kw_only=True)
class PlacementSpreadConfig(MetricConfig):
    """Several drawings of each caption, read by the dataset's reader, against the placements that the dataset itself gives what the caption says.

    Drawings that are not right say nothing of spread and are left out; how many captions were left is a figure beside it.
    """

    captions: int = option(32, help="captions that are drawn, from the split's beginning", ge=1)
    draws: int = option(32, help="drawings of each caption", ge=2)

    @property
    def fewest(self) -> int:
        """Right drawings without which a caption tells nothing of spread: a quarter."""
        return max(2, self.draws // 4)

    def figures(self) -> tuple[Figure, ...]:
        spread = (
            "Standard deviation of the objects' places over right drawings of one caption by that of the dataset's own scenes of which the "
            "caption is true, mean over captions: 1 is as free as the data, 0 is always the same place, or nothing right at all."
        )
        captions = "Captions of which at least a quarter of the drawings are right; only they count for the spread."
        holds = (
            "Drawings that have every object of the caption, each in the place or the relations that it states, whatever else is in the image; "
            "of captions that state any."
        )
        return (
            Figure("placement_spread", "spread of places by the data's", TEXT_TO_IMAGE, spread),
            Figure("placement_captions", "captions that tell of spread", TEXT_TO_IMAGE, captions, percent=True, better="higher"),
            Figure("relations_hold", "drawings in which all stated relations hold", TEXT_TO_IMAGE, holds, percent=True, better="higher"),
        )

    def needs(self) -> frozenset[str]:
        return frozenset({"text_encoder", "image_decoder"})
