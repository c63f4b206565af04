"""The options of the dataset `shapes`. Torch-free."""

from __future__ import annotations

import attrs

from ibllm_core.options import Config, option


@attrs.frozen(kw_only=True)
class ShapesConfig(Config):
    """Scenes of one to three coloured shapes. Lengths are in pixels of a 32×32 image and grow with `size`."""

    size: int = option(32, help="height and width of the images in pixels", ge=32, le=128)
    placement: str = option(
        "cells",
        help="'cells': in the quarters of a 2×2 grid, captions name them; 'free': anywhere, captions say left of, right of, above, below",
        choices=("cells", "free"),
    )
    jitter: float = option(1.0, help="with 'cells': how far a centre may be off its cell's centre in x and in y, in pixels at size 32", ge=0, le=1.5)
    min_objects: int = option(1, help="fewest objects of a scene", ge=1, le=3)
    max_objects: int = option(3, help="most objects of a scene", ge=1, le=3)
    languages: tuple[str, ...] = option(("en",), help="languages of captions and questions; with several, each item draws one", choices=("en", "zh"))
    templates: str = option(
        "canonical", help="'canonical': one fixed caption for a scene and language; 'varied': one of several sentences", choices=("canonical", "varied")
    )
    questions: bool = option(False, help="also a question about the scene with its answer, one pair an item")
    train_size: int = option(1_000_000, help="items of the split train", ge=1)
    evaluation_size: int = option(4096, help="items of each of the other splits", ge=1)
    holdout: float = option(
        0.1, help="fraction of the colour×shape pairs held out for novel, and as many others for novel-validation; rounded up", gt=0, le=0.25
    )
    holdout_seed: int = option(0, help="which pairs are held out; apart from the run's seed, so that seeds compare on the same splits", ge=0)
    evaluation_seed: int = option(0, help="seed of every split but train; apart from the run's seed for the same reason", ge=0)

    def __attrs_post_init__(self) -> None:
        if self.min_objects > self.max_objects:
            raise ValueError(f"min_objects = {self.min_objects}: expected at most max_objects = {self.max_objects}")
        if not self.languages or len(set(self.languages)) < len(self.languages):
            raise ValueError(f"languages = {self.languages!r}: expected one or more different languages")
