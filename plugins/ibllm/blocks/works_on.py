"""What an image decoder works on: images, or a codec's latents. Torch-free."""

from __future__ import annotations

import attrs

from ibllm.added import added
from ibllm_core.host.options import Config, option


@attrs.frozen(kw_only=True)
class PixelDecoderConfig(Config):
    """The base of the options of an image decoder that draws numbers in a grid, whether these are pixels or latents.

    Its part takes the shape from ``context.image_shape`` and its range from ``context.bounded``. A subclass adds to what is provided and needed.
    """

    works_on: str = added(
        option(
            "images",
            help="what it learns and draws: 'images', or 'latents' of the codec, model.image_tokenizer. Sizes in pixels are then in places of the latents",
            choices=("images", "latents"),
        )
    )

    def provides(self) -> frozenset[str]:
        return frozenset({"image_latents"} if self.works_on == "latents" else ())

    def needs(self) -> frozenset[str]:
        return frozenset({"image_tokenizer", "image_tokenizer.latents"} if self.works_on == "latents" else ())
