"""The options of the datasets of emoji and of their metrics. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from ibllm.plugin import IMAGE_TO_TEXT, NOT_INDEPENDENT, ROUND_TRIP, TEXT_TO_IMAGE, DatasetConfig, Figure, Mark, MetricConfig, added, option
from ibllm_emoji.styles.wording import LANGUAGES as STYLED_LANGUAGES

LANGUAGES = ("en", "zh", "de", "fr", "es", "pt", "it", "ru", "ja", "ko", "tr", "id", "ar", "fa")
STYLED_SPLITS: Mapping[str, str] = {
    "train": "drawings seen in training",
    "crossing": "things in a style in which they were never seen; each was in others, and the style on other things",
    "crossing-validation": "other things in a style in which they were never seen, looked at during training",
    "concept": "things never seen in any style; each word of their names was",
    "concept-validation": "other things never seen, looked at during training",
    "language": "things named in a language in which they never were; they were in others",
    "language-validation": "other things so named, looked at during training",
}
SPLITS: Mapping[str, str] = {
    "train": "drawings seen in training",
    "tone": "in a skin tone never seen for that person or hand",
    "tone-validation": "in other skin tones never seen for that person or hand, looked at during training",
    "concept": "concepts never seen; each of their words was",
    "concept-validation": "other concepts never seen, looked at during training",
}


@attrs.frozen(kw_only=True)
class OpenmojiConfig(DatasetConfig):
    """OpenMoji's drawings with their names. A *base* is a name without its skin tones: "woman astronaut" is the base of six drawings.

    The default subset is the largest set of bases in which every word of a name occurs in at least three names, 80 of its persons and
    hands with their five skin tones. ``min_uses = 1`` with ``toned = -1`` gives all drawings but flags and those with two skin tones.
    OpenMoji's own drawings in the private use area have no names and are never among them.
    """

    size: int = option(64, help="height and width of the images in pixels", ge=16, le=256)
    languages: tuple[str, ...] = option(
        ("en",), help="languages of the names; an item is one drawing with its name in one of them", choices=LANGUAGES
    )
    min_uses: int = option(
        3,
        help="keep the bases of whose English names every word occurs in at least so many names kept (the largest such set); 1 keeps all",
        ge=1,
        le=20,
    )
    bases: int = option(0, help="keep at most so many of those bases, in an order drawn with `subset_seed`; 0 for all", ge=0)
    toned: int = option(
        80, help="persons and hands that come with their skin tones, drawn with `subset_seed`; the others come without; -1 for all", ge=-1
    )
    mixed_tones: bool = option(False, help="also the drawings of two people with different skin tones")
    flags: bool = option(False, help="also the flags of countries and regions")
    background: tuple[int, int, int] = option((255, 255, 255), help="red, green and blue behind the drawings", ge=0, le=255)
    tone: float = option(
        0.5, help="fraction of the persons and hands with skin tones that hold one tone out for the split tone", ge=0, le=1
    )
    tone_validation: float = option(0.25, help="fraction of them that hold one out for tone-validation", ge=0, le=1)
    concept: float = option(
        0.1, help="fraction of the bases whose every word occurs elsewhere that is held out for the split concept", ge=0, le=0.5
    )
    concept_validation: float = option(0.05, help="fraction of them held out for concept-validation", ge=0, le=0.5)
    subset_seed: int = option(0, help="seed of the subset; apart from the run's seed, so that seeds compare on the same drawings", ge=0)
    holdout_seed: int = option(0, help="seed of what is held out; apart from the run's seed for the same reason", ge=0)

    def __attrs_post_init__(self) -> None:
        if not self.languages or len(set(self.languages)) < len(self.languages):
            raise ValueError(f"languages = {self.languages!r}: expected one or more different languages")
        if self.tone + self.tone_validation > 1:
            raise ValueError(f"tone + tone_validation = {self.tone + self.tone_validation:g}: expected at most 1")

    def splits(self) -> Mapping[str, str]:
        """Split → what it holds."""
        return SPLITS

    def validation_split(self) -> str:
        """Known concepts in unseen skin tones."""
        return "tone-validation"

    def reported_splits(self) -> tuple[str, ...]:
        """Unseen skin tones, and unseen concepts."""
        return ("tone", "concept")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(c, h, w) of every image."""
        return (3, self.size, self.size)

    def fitting(self) -> tuple[str, tuple[int, int, int]]:
        """The whole image on the drawings' background."""
        return "pad", self.background


@attrs.frozen(kw_only=True)
class NamesConfig(MetricConfig):
    """Captions against the names of the drawings."""

    def figures(self) -> tuple[Figure, ...]:
        exact = "Captions of real images that are a name of the drawing, or of one that looks the same, in any language of the data."
        base = "Captions that are a name of the drawing, whatever skin tone they state."
        both = "Caption → image → caption: the nearest drawing is the right one and the model's captioner gives a name of it."
        agreement = (
            "The model's own captioner gives a name of the drawing back from the generated image. "
            "It shows that the two halves agree, not that either is right."
        )
        return (
            Figure.share("caption_exact", "captions right", IMAGE_TO_TEXT, exact),
            Figure.share("caption_base", "captions right but for the skin tone", IMAGE_TO_TEXT, base),
            Figure.share("roundtrip_exact", "round trips right", ROUND_TRIP, both),
            Figure.share("self_agreement", "self-agreement", ROUND_TRIP, agreement, caution=NOT_INDEPENDENT),
        )

    def marks(self) -> tuple[Mark, ...]:
        named = "A caption is right if it is a name of the drawing, or of one that looks the same, in any language of the data."
        both = "A round trip is right if the drawing nearest to the generated image is the right one and the captioner names it."
        agreement = "Self-agreement: the captioner alone names the drawing. It shows that the two halves agree, not that either is right."
        return (
            Mark("caption", "caption read", "caption right", "caption wrong", meaning=named),
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


@attrs.frozen(kw_only=True)
class EmojiStylesConfig(DatasetConfig):
    """Four artists' drawings of the same things, from the archives that ``npm pack`` writes; a caption names the thing and the artist's style.

    An item is one drawing with its caption in one language. Things are what Unicode calls emoji, without flags of countries and
    without variants of skin; those that one of the four did not draw are left out.
    """

    path: str = option(help="the folder with the five archives; relative to the recipe that names it", path="folder")
    size: int = option(32, help="height and width of the images in pixels", ge=16, le=256)
    languages: tuple[str, ...] = option(
        ("en",), help="languages of the captions; an item is one drawing with its caption in one of them", choices=STYLED_LANGUAGES
    )
    crossing: float = option(0.2, help="fraction of the concepts that hold one style out for the split crossing", ge=0, le=1)
    crossing_validation: float = option(0.1, help="fraction of the concepts that hold one out for crossing-validation", ge=0, le=1)
    language: float = option(
        0.1, help="fraction of the concepts that hold one language out for the split language, where there are several", ge=0, le=1
    )
    language_validation: float = option(0.05, help="fraction of the concepts that hold one out for language-validation", ge=0, le=1)
    concept: float = option(
        0.1, help="fraction of the concepts whose every word occurs elsewhere that is held out for the split concept", ge=0, le=0.5
    )
    concept_validation: float = option(0.05, help="fraction of them held out for concept-validation", ge=0, le=0.5)
    train_share: float = added(
        option(
            1.0,
            help="fraction of the items of train that there are; what is held out, and how drawings are judged, does not follow it",
            gt=0,
            le=1,
        )
    )
    holdout_seed: int = option(
        0, help="seed of what is held out; apart from the run's seed, so that seeds compare on the same drawings", ge=0
    )

    def __attrs_post_init__(self) -> None:
        if not self.languages or len(set(self.languages)) < len(self.languages):
            raise ValueError(f"languages = {self.languages!r}: expected one or more different languages")
        held = self.crossing + self.crossing_validation + self.language + self.language_validation
        if held > 1:
            raise ValueError(f"crossing, language and their validation are {held:g} together: expected at most 1")

    def splits(self) -> Mapping[str, str]:
        """Split → what it holds; `language` where there are several."""
        several = len(self.languages) > 1
        return {split: holds for split, holds in STYLED_SPLITS.items() if several or not split.startswith("language")}

    def validation_split(self) -> str:
        """Known concepts in styles in which they were never seen."""
        return "crossing-validation"

    def reported_splits(self) -> tuple[str, ...]:
        """Unseen pairs of concept and style, unseen concepts, and where there are several languages, unseen names."""
        return tuple(split for split in ("crossing", "concept", "language") if split in self.splits())

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(c, h, w) of every image."""
        return (3, self.size, self.size)

    def fitting(self) -> tuple[str, tuple[int, int, int]]:
        """The whole image on white."""
        return "pad", (255, 255, 255)


@attrs.frozen(kw_only=True)
class StylesConfig(MetricConfig):
    """Drawings and captions against four artists' real drawings of the same things."""

    captions: bool = option(True, help="measure captions, too; false for a model that only draws")

    def needs(self) -> frozenset[str]:
        drawing = {"data.pairs", "text_encoder", "image_decoder"}
        return frozenset(drawing | {"image_encoder", "text_decoder"} if self.captions else drawing)

    def figures(self) -> tuple[Figure, ...]:
        nearest = "Among all real drawings of the style asked for, the nearest is of the thing asked for: read by outline and colours, whatever the size."
        style = "The nearest of the four styles is the one asked for: read by palette and margins, by Fisher's linear discriminant of the training drawings."
        both = "The nearest real drawing of the style is of the thing asked for, and the nearest style is the one asked for."
        caption = "Captions of real drawings that name thing and style in the language asked for, word for word."

        def floor(name: str, label: str, what: str) -> tuple[Figure, ...]:
            parts = (("concept", "thing"), ("style", "style"), ("both", "both"))
            return tuple(
                Figure(f"{name}_{key}", f"{label}: {word} right", TEXT_TO_IMAGE, f"A floor, of no model: {what}.", percent=True)
                for key, word in parts
            )

        drawing = (
            Figure.share("both_right", "thing and style right", TEXT_TO_IMAGE, both),
            Figure.share("concept_right", "thing right", TEXT_TO_IMAGE, nearest),
            Figure.share("style_right", "style right", TEXT_TO_IMAGE, style),
            *floor("copied", "copied from another style", "the same thing as another artist drew it, in place of the drawing"),
            *floor("mean", "mean drawing", "the mean of the style's training drawings in place of the drawing"),
            Figure(
                "ceiling_both",
                "ceiling: thing and style right",
                TEXT_TO_IMAGE,
                "The real drawing, moved by a pixel, in place of the drawing: what the reader can read.",
                percent=True,
            ),
        )
        reading = (
            Figure.share("caption_right", "captions right", IMAGE_TO_TEXT, caption),
            Figure.share("caption_concept", "captions that name the thing", IMAGE_TO_TEXT, caption.replace("thing and style", "the thing")),
            Figure.share("caption_style", "captions that name the style", IMAGE_TO_TEXT, caption.replace("thing and style", "the style")),
        )
        return drawing + reading if self.captions else drawing

    def marks(self) -> tuple[Mark, ...]:
        drawing = (
            "A drawing is right if the nearest real one of the style is of the thing asked for, and the nearest style is the one asked for."
        )
        caption = "A caption is right if it names thing and style in the language asked for, word for word."
        return (
            Mark("drawing", "drawing", "thing and style right", "thing or style wrong", meaning=drawing),
            *([Mark("caption", "caption read", "caption right", "caption wrong", meaning=caption)] if self.captions else []),
        )
