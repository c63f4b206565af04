"""The options of the self-supervised losses. Torch-free."""

from __future__ import annotations

import attrs

from ibllm.plugin import LossConfig, option


@attrs.frozen(kw_only=True)
class MaskedTextConfig(LossConfig):
    """Masked words predicted from their context."""

    ratio: float = option(0.15, help="probability that a word is to be predicted; at least one a text is", gt=0, le=1)
    unknown: float = option(0.8, help="fraction of these words that are replaced by <unk>", ge=0, le=1)
    random: float = option(0.1, help="fraction of them that are replaced by a random word; the rest stay as they are", ge=0, le=1)

    def __attrs_post_init__(self) -> None:
        if self.unknown + self.random > 1:
            raise ValueError(f"unknown + random = {self.unknown + self.random:g}: expected at most 1")

    def needs(self) -> frozenset[str]:
        return frozenset({"text_encoder", "data.captions"})


@attrs.frozen(kw_only=True)
class MaskedImageConfig(LossConfig):
    """Hidden patches drawn from the patches around them."""

    patch: int = option(8, help="height and width in pixels of the patches that are hidden; the image's must be multiples", ge=1)
    ratio: float = option(0.6, help="fraction of an image's patches that are hidden; at least one is and one is not", gt=0, lt=1)

    def needs(self) -> frozenset[str]:
        return frozenset({"image_encoder", "data.images"})


@attrs.frozen(kw_only=True)
class AugmentationContrastConfig(LossConfig):
    """Two changed copies of one item find each other in the batch.

    Images are cut, shifted and enlarged, changed in brightness and contrast, and covered in part; never mirrored or turned, since captions
    speak of left and right, nor changed in hue, since they speak of colours. Of texts, words become <unk>.
    """

    of: str = option("image", help="what is changed: image or text", choices=("image", "text"))
    width: int = option(64, help="width of the space in which copies are compared", ge=1)
    temperature: float = option(0.5, help="τ, what cosines are divided by", gt=0)
    crop: float = option(0.7, help="with image: smallest side of what is cut out, as a fraction of the image's; 1 cuts nothing", gt=0, le=1)
    brightness: float = option(0.2, help="with image: largest change of brightness, in [−1, 1] pixels", ge=0, le=1)
    contrast: float = option(0.2, help="with image: largest relative change of contrast", ge=0, lt=1)
    erase: float = option(0.3, help="with image: largest side of the grey square laid over it, as a fraction of the image's", ge=0, lt=1)
    word_dropout: float = option(0.2, help="with text: probability that a word becomes <unk>", ge=0, lt=1, live="training")

    def needs(self) -> frozenset[str]:
        return frozenset({"image_encoder", "data.images"} if self.of == "image" else {"text_encoder", "data.captions"})
