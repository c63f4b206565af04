"""The options of the metrics. Torch-free."""

from __future__ import annotations

import attrs

from ibllm_core.options import MetricConfig, option


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
