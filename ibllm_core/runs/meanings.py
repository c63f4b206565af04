"""What figures mean, in plain words."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

TEXT_TO_IMAGE, IMAGE_TO_TEXT, ROUND_TRIP, OTHER = "text → image", "image → text", "round trip", "other figures"
DIRECTIONS = (TEXT_TO_IMAGE, IMAGE_TO_TEXT, ROUND_TRIP, OTHER)

#: To be said wherever self-agreement is shown.
NOT_INDEPENDENT = "not independent: the captioner's gradients trained the generator"
#: The same of figures that the model's reading half gives of its drawing half.
JUDGED_BY_ITSELF = "not independent: judged by parts whose gradients may have trained the generator"


@attrs.frozen(kw_only=True)
class Meaning:
    """How a figure is read.

    Attributes:
        counted: the result key with the number it is a fraction of (``items``, ``objects``); None where no interval can be given.
        percent: shown × 100 with a percent sign.
        caution: what keeps the figure from being taken at its word; shown beside it everywhere.
    """

    label: str
    direction: str = OTHER
    explanation: str = ""
    counted: str | None = None
    percent: bool = False
    caution: str = ""

    @property
    def full_label(self) -> str:
        return f"{self.label} ({self.caution.split(':')[0]})" if self.caution else self.label


def _fraction(label: str, direction: str, explanation: str, counted: str | None = "items", caution: str = "") -> Meaning:
    return Meaning(label=label, direction=direction, explanation=explanation, counted=counted, percent=True, caution=caution)


KNOWN: Mapping[str, Meaning] = {
    "scene_exact": _fraction(
        "scenes right",
        TEXT_TO_IMAGE,
        "Generated images in which every object has the right colour, shape, size and place and nothing else is there, "
        "as found by the dataset's own reader, which is no part of the model.",
    ),
    "object_exact": _fraction(
        "objects right",
        TEXT_TO_IMAGE,
        "Single objects drawn with everything right, whatever else is wrong in their image.",
        counted="objects",
    ),
    "reconstruction_psnr": Meaning(
        label="images through their tokens and back (dB)",
        explanation="Mean peak signal-to-noise ratio of real images after the image tokenizer, in decibels, higher is better: "
        "the ceiling of what a token decoder can draw.",
    ),
    "code_perplexity": Meaning(
        label="tokens in use",
        explanation="Perplexity of the image tokens' frequencies: as many tokens, used alike, would have the same entropy. "
        "Far below the vocabulary, codes lie idle.",
    ),
    "retrieval_top1": _fraction(
        "nearest drawing is the right one",
        TEXT_TO_IMAGE,
        "Generated images whose nearest drawing, pixel by pixel among all candidates, is the one their caption belongs to.",
    ),
    "retrieval_top5": _fraction(
        "right drawing among the nearest five",
        TEXT_TO_IMAGE,
        "Generated images whose caption's own drawing is among the five nearest, pixel by pixel among all candidates.",
    ),
    "caption_base": _fraction(
        "captions right but for the skin tone",
        IMAGE_TO_TEXT,
        "Captions that are a name of the drawing, whatever skin tone they state.",
    ),
    "diversity": Meaning(
        label="diversity",
        direction=TEXT_TO_IMAGE,
        explanation="How much images of one caption differ when only the noise differs; near 0, the noise is ignored.",
    ),
    "caption_exact": _fraction(
        "captions right",
        IMAGE_TO_TEXT,
        "Captions of real images that state every fact of the image and invent none. Facts are compared, not wording.",
    ),
    "caption_object_precision": _fraction(
        "objects stated that are there", IMAGE_TO_TEXT, "Of all objects that captions state, how many are in the image.", None
    ),
    "caption_object_recall": _fraction(
        "objects there that are stated", IMAGE_TO_TEXT, "Of all objects in the images, how many their captions state.", None
    ),
    "bleu": Meaning(
        label="BLEU",
        direction=IMAGE_TO_TEXT,
        explanation="Overlap of word sequences with the reference captions, 0–1. Wording counts, so a right caption in other words loses points.",
    ),
    "chrf": Meaning(
        label="chrF",
        direction=IMAGE_TO_TEXT,
        explanation="Overlap of character sequences with the reference captions, 0–1; kinder to near misses than BLEU.",
    ),
    "cider": Meaning(
        label="CIDEr-D",
        direction=IMAGE_TO_TEXT,
        explanation="Overlap of word sequences with the reference captions, rare ones counting more, 0–10. Wording counts here too.",
    ),
    **{
        f"{figure}_generated": Meaning(
            label=f"{label} of generated images",
            direction=ROUND_TRIP,
            explanation=f"{label} of the captions that the model's own captioner reads off the generated images.",
            caution=NOT_INDEPENDENT,
        )
        for figure, label in (("bleu", "BLEU"), ("chrf", "chrF"), ("cider", "CIDEr-D"))
    },
    **{
        f"{found}_recall_{k}": Meaning(
            label=label.format(k),
            direction=IMAGE_TO_TEXT,
            explanation=f"{what} is {place} of a pool, as the model itself scores them.",
            percent=True,
        )
        for found, label, what in (
            ("image", "image found for its caption, R@{}", "Captions whose real image"),
            ("caption", "caption found for its image, R@{}", "Real images whose caption"),
        )
        for k, place in ((1, "the best"), (5, "among the five best"), (10, "among the ten best"))
    },
    **{
        f"{found}_recall_1_times_chance": Meaning(
            label=f"{found} found for its {given}, R@1 × chance",
            direction=IMAGE_TO_TEXT,
            explanation=f"R@1 of {found}s for their {given}s over what guessing would give; 1 is chance.",
        )
        for found, given in (("image", "caption"), ("caption", "image"))
    },
    **{
        f"{found}_recall_1_shuffled": _fraction(
            f"{found} found for its {given}, R@1, shuffled",
            IMAGE_TO_TEXT,
            f"The control: each {given} judged as if it were another {found}'s. It must come out at chance, or below where R@1 is high.",
            None,
        )
        for found, given in (("image", "caption"), ("caption", "image"))
    },
    "r_precision": _fraction(
        "R-precision",
        TEXT_TO_IMAGE,
        "Generated images whose own caption is scored above 99 others of other words.",
        None,
        caution=JUDGED_BY_ITSELF,
    ),
    "r_precision_times_chance": Meaning(
        label="R-precision × chance",
        direction=TEXT_TO_IMAGE,
        explanation="R-precision over what guessing would give; 1 is chance.",
        caution=JUDGED_BY_ITSELF,
    ),
    "r_precision_shuffled": _fraction(
        "R-precision, shuffled captions",
        TEXT_TO_IMAGE,
        "The control: each image judged as if it were another caption's. It must come out at chance, 1 % with 100 captions.",
        None,
        caution=JUDGED_BY_ITSELF,
    ),
    **{
        f"{kind}_{space}": Meaning(
            label=f"{label} distance, {space}",
            direction=TEXT_TO_IMAGE,
            explanation=f"{text} of generated from real images by {features}; less is better. Comparable only with the same data and number of items.",
            caution=JUDGED_BY_ITSELF if space == "encoder" else "",
        )
        for kind, label, text in (
            ("frechet", "Fréchet", "Distance of means and covariances"),
            ("kernel", "kernel", "Squared mean discrepancy"),
        )
        for space, features in (
            ("pixels", "their pixels, made few"),
            ("random", "features of a network with random weights"),
            ("encoder", "the image encoder's own latents"),
        )
    },
    "roundtrip_exact": _fraction(
        "round trips right",
        ROUND_TRIP,
        "Caption → image → caption: the dataset's own reader finds the drawn scene right and the model's captioner gives the caption back.",
    ),
    "self_agreement": _fraction(
        "self-agreement",
        ROUND_TRIP,
        "The model's own captioner gives the caption back from the generated image. It shows that the two halves agree, not that either is right.",
        caution=NOT_INDEPENDENT,
    ),
}


def meaning(figure: str) -> Meaning:
    """A figure's meaning. In ``zh/bleu`` or ``bleu/zh`` the known word counts and the rest qualifies it; unknown figures are taken as plain numbers."""
    if figure in KNOWN:
        return KNOWN[figure]
    words = figure.split("/")
    for k, word in enumerate(words):
        if word in KNOWN:
            # How many items a qualified figure was taken over is not known, so it has no interval.
            return attrs.evolve(KNOWN[word], label=f"{KNOWN[word].label}, {' '.join(words[:k] + words[k + 1 :])}", counted=None)
    return Meaning(label=figure.replace("_", " ").replace("/", ", "))
