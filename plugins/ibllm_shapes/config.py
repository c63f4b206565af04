"""The options of the dataset `shapes` and of its metrics. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

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
    added,
    option,
)

if TYPE_CHECKING:
    from ibllm_shapes.composer import ShapesComposer

#: train, validation and test share their combinations; novel and novel-validation each have other ones held out.
SPLITS: Mapping[str, str] = {
    "train": "items seen in training",
    "validation": "new items of the training's kind, looked at during training",
    "test": "new items of the training's kind",
    "novel": "combinations never seen in training",
    "novel-validation": "other unseen combinations, looked at during training",
}
#: What is held out → what `novel` holds then, where that is more than combinations of colour and shape.
NOVEL: Mapping[str, str] = {
    "colour-shape-size": "objects whose shape and whose size were both never seen with their colour in training",
    "relation-shapes": "two shapes related as they never were in training",
    "count-shape": "numbers of a shape never seen in training",
}
#: With two held out at once: one of them alone.
ALONE: Mapping[str, str] = {
    "novel-shape": "colours with a shape never seen in training, in a size that was",
    "novel-size": "colours in a size never seen in training, with a shape that was",
}
#: What the split open holds, with cells in training and with free placement.
OPEN: Mapping[str, str] = {
    "cells": "scenes placed anywhere, told by left of, right of, above, below: what no caption of the training says and no image of it shows",
    "free": "new scenes of two objects or more, placed anywhere as in training",
}
#: What metrics of questions and answers ask of a model and its data.
_ASKS = frozenset({"image_encoder", "text_decoder", "text_decoder.prefix", "data.questions"})
#: Placement → the most objects of a scene.
MOST: Mapping[str, int] = {"cells": 3, "free": 3, "count": 10}


@attrs.frozen(kw_only=True)
class ShapesConfig(DatasetConfig):
    """Scenes of coloured shapes, one to three of them or up to ten alike. Lengths are in pixels of a 32×32 image and grow with `size`."""

    size: int = option(32, help="height and width of the images in pixels", ge=32, le=128)
    placement: str = option(
        "cells",
        help="'cells': in the quarters of a 2×2 grid, captions name them; 'free': anywhere, captions say left of, right of, above, below; "
        "'count': small ones, all alike, in a 4×4 grid, captions say how many",
        choices=("cells", "free", "count"),
    )
    jitter: float = option(
        1.0,
        help="with 'cells': how far a centre may be off its cell's centre in x and in y, in pixels at size 32; with 'count' a fifth of that",
        ge=0,
        le=1,
        live="training",
    )
    scatter: bool = added(
        option(False, help="with 'count': objects in any cells, which no caption tells, not in the first ones in reading order")
    )
    colours: int = added(option(8, help="how many colours there are", ge=2, le=10))
    forms: int = added(option(6, help="how many shapes there are", ge=2, le=10))
    min_objects: int = option(1, help="fewest objects of a scene", ge=1, le=10)
    max_objects: int = option(3, help="most objects of a scene: at most 3, with 'count' 10", ge=1, le=10)
    languages: tuple[str, ...] = option(
        ("en",), help="languages of captions and questions; with several, each item draws one", choices=("en", "zh")
    )
    templates: str = option(
        "canonical",
        help="'canonical': one fixed caption for a scene and language; 'varied': one of several sentences",
        choices=("canonical", "varied"),
    )
    questions: bool = option(False, help="also a question about the scene with its answer, one pair an item")
    wordings: str = added(
        option(
            "canonical",
            help="of questions; 'canonical': one for what is asked; 'varied': objects are told by some of their traits or by all, "
            "with and without a question mark",
            choices=("canonical", "varied"),
        )
    )
    train_size: int = option(1_000_000, help="items of the split train", ge=1)
    evaluation_size: int = option(4096, help="items of each of the other splits", ge=1)
    held_out: str = added(
        option(
            "colour-shape",
            help="which combinations are held out: 'colour-shape'; 'colour-shape-size': these, and some colours' sizes; "
            "'relation-shapes', with 'free': two shapes along an axis; 'count-shape', with 'count': numbers of a shape",
            choices=("colour-shape", "colour-shape-size", "relation-shapes", "count-shape"),
        )
    )
    holdout: float = option(
        0.1,
        help="fraction of the combinations held out for novel, and as many others for novel-validation; rounded up",
        gt=0,
        lt=0.5,
    )
    holdout_seed: int = option(
        0, help="which combinations are held out; apart from the run's seed, so that seeds compare on the same splits", ge=0
    )
    evaluation_seed: int = option(0, help="seed of every split but train; apart from the run's seed for the same reason", ge=0)

    def __attrs_post_init__(self) -> None:
        if self.size % 16:
            raise OptionError("size", self.size, "a multiple of 16")
        if self.min_objects > self.max_objects:
            raise OptionError("min_objects", self.min_objects, f"at most max_objects, {self.max_objects}")
        if not self.languages or len(set(self.languages)) < len(self.languages):
            raise OptionError("languages", self.languages, "one or more different languages")
        if self.max_objects > MOST[self.placement]:
            raise OptionError("max_objects", self.max_objects, f"at most {MOST[self.placement]} with placement = {self.placement!r}")
        needed = {"relation-shapes": "free", "count-shape": "count"}.get(self.held_out, self.placement)
        if self.placement != needed:
            raise OptionError("held_out", self.held_out, f"placement = {needed!r} with it, not {self.placement!r}")
        self._check_kinds()
        number, most, whole = self.held_out_number()
        # With free placement the objects of a scene are different ones.
        if 2 * number > most or (self.placement != "count" and whole - 2 * number < self.max_objects):
            told = f"at most {most // 2 / whole:.3g}: twice {number} of {whole} combinations leave too few for training"
            raise OptionError("holdout", self.holdout, told)

    def held_out_number(self) -> tuple[int, int, int]:
        """How many combinations are held out for either split, how many may be in all, and how many there are.

        Every value keeps a combination for training, and two shapes keep one of the two axes.
        """
        if self.held_out == "relation-shapes":
            most = self.forms * (self.forms + 1) // 2
            return math.ceil(self.holdout * 2 * most), most, 2 * most
        rows = self.max_objects - self.min_objects + 1 if self.held_out == "count-shape" else self.colours
        return math.ceil(self.holdout * rows * self.forms), rows * self.forms - max(rows, self.forms), rows * self.forms

    def _check_kinds(self) -> None:
        """What some kinds of scenes cannot have."""
        if self.held_out == "relation-shapes" and self.min_objects < 2:
            raise OptionError("min_objects", self.min_objects, "at least 2, so that every caption states a relation")
        if self.placement == "count" and self.held_out == "colour-shape-size":
            raise OptionError("held_out", self.held_out, "another one with placement = 'count', whose objects are all small")
        if self.placement == "count" and self.questions:
            raise OptionError("questions", self.questions, "false with placement = 'count', whose captions say all that could be asked")
        if self.scatter and self.placement != "count":
            raise OptionError("scatter", self.scatter, "false, or placement = 'count'")

    def provides(self) -> frozenset[str]:
        return super().provides() | ({"questions"} if self.questions else frozenset())

    def splits(self) -> Mapping[str, str]:
        """Split → what it holds."""
        alone = ALONE if self.held_out == "colour-shape-size" else {}
        opened = {"open": OPEN[self.placement]} if self.placement in OPEN else {}
        return {**SPLITS, "novel": NOVEL.get(self.held_out, SPLITS["novel"]), **alone, **opened}

    def validation_split(self) -> str:
        """Unseen combinations other than the reported ones: choices are made for generalisation without looking at it."""
        return "novel-validation"

    def reported_splits(self) -> tuple[str, ...]:
        """New items, and new combinations."""
        return ("test", "novel", *(ALONE if self.held_out == "colour-shape-size" else ()))

    def primary_split(self) -> str:
        """New combinations: what a model has understood shows there."""
        return "novel"

    def composer(self) -> ShapesComposer:
        """What takes the captions apart into objects and cells, and writes them (``ibllm scene``)."""
        from ibllm_shapes.composer import ShapesComposer

        return ShapesComposer(self)

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
class ResidualConfig(MetricConfig):
    """Text → image: how far images are from being scenes, by the dataset's reader."""

    def figures(self) -> tuple[Figure, ...]:
        meaning = (
            "Root mean squared difference, of pixel values in 0..1, between a generated image and the drawing of what the dataset's own reader finds in it; "
            "the mean over images. 0 is a scene with sharp edges on an even background; blur, blends and speckle raise it. It may be the wrong scene."
        )
        return (Figure("residual", "what no scene explains", TEXT_TO_IMAGE, meaning, better="lower"),)

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


@attrs.frozen(kw_only=True)
class AnswersConfig(MetricConfig):
    """Image and question → answer, judged by the scene."""

    def figures(self) -> tuple[Figure, ...]:
        right = (
            "Questions about real images to which the model's answer is right by the scene, in the question's language; where several answers are right, "
            "any of them. A figure for each kind of question follows."
        )
        blind = (
            "The same questions, each shown with another item's image, and judged by its own: what the model answers right without seeing. "
            "What it sees is worth the difference."
        )
        prior = "The same questions, each answered by what is right most often for its kind and language among them."
        return (
            Figure.share("answer_exact", "answers right", IMAGE_TO_TEXT, right),
            Figure("answer_blind", "answers right with another image", IMAGE_TO_TEXT, blind, percent=True, counted=True),
            Figure("answer_prior", "answers right by the commonest one", IMAGE_TO_TEXT, prior, percent=True, counted=True),
        )

    def needs(self) -> frozenset[str]:
        return _ASKS


@attrs.frozen(kw_only=True)
class QuestionsConfig(MetricConfig):
    """Image → question, drawn at temperature 1; judged by the grammar and the scene."""

    def figures(self) -> tuple[Figure, ...]:
        sound = (
            "Questions that the model asks about real images which the dataset's grammar reads and the scene answers: a colour, a shape or a place "
            "is asked of one object only, and it is there."
        )
        answered = "Of all questions that the model asks, those that are sound and that it answers right itself, by the scene."
        kinds = (
            "Total variation distance between the shares of the kinds of question (colour, shape, number, existence, place) asked by the model and by the "
            "data about the same images: 0 is equal, 1 is no kind in common. Chance alone leaves some; the record has that of two halves of the data."
        )
        variety = "Different questions that the model asks by different ones in the data, about the same images: 1 is as varied."
        return (
            Figure.share("question_sound", "questions asked that have an answer", IMAGE_TO_TEXT, sound),
            Figure.share("question_answered", "questions asked and answered right", IMAGE_TO_TEXT, answered),
            Figure("question_kinds", "distance of the kinds asked from the data's", IMAGE_TO_TEXT, kinds, better="lower"),
            Figure("question_variety", "different questions by the data's", IMAGE_TO_TEXT, variety),
        )

    def needs(self) -> frozenset[str]:
        return _ASKS
