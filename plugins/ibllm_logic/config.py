"""The options of rules as a loss and as a metric. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from ibllm.plugin import (
    IMAGE_TO_TEXT,
    TEXT_TO_IMAGE,
    Config,
    Figure,
    LossConfig,
    MetricConfig,
    OptionError,
    UserError,
    option,
)
from ibllm_logic.formulas import Rules
from ibllm_logic.language import read_rules


@attrs.frozen(kw_only=True, slots=False)
class _RulesConfig(Config):
    """What both say: the file. Without slots, so that options may have another base beside it."""

    file: str = option(help="the file of rules", path="file")

    def rules(self) -> Rules:
        """Raises `UserError` with file, line and column."""
        return read_rules(self.file)

    def check(self) -> Iterable[OptionError]:
        """The file is read."""
        try:
            self.rules()
        except UserError as error:
            yield OptionError("file", self.file, f"rules that can be read: {error}")

    def provenance(self) -> Mapping[str, str]:
        """Hash of the rules."""
        try:
            return {"rules": self.file, "sha256": self.rules().digest}
        except UserError:
            return {}


@attrs.frozen(kw_only=True)
class RulesLossConfig(_RulesConfig, LossConfig):
    """How far rules are from being satisfied by what a reader sees in images, in nats (or, with Łukasiewicz's semantics, from 0 to 1)."""

    semantics: str = option(
        "semantic",
        help="how truth is computed of probabilities: 'semantic' is the probability that the rule holds, exact where atoms are independent (Xu et al. 2018); "
        "'product' and 'lukasiewicz' are t-norms",
        choices=("semantic", "product", "lukasiewicz"),
    )
    reader: str = option(
        "captioner",
        help="whose probabilities: 'captioner', the model's, which reads the caption off the image; 'probe', layers of the loss's own on the image "
        "encoder's latent, which learn from the captions of real images",
        choices=("captioner", "probe"),
    )
    images: tuple[str, ...] = option(
        ("drawn",), help="images that are read: those drawn from the captions, or real ones", choices=("drawn", "real")
    )
    objects: int = option(
        3, help="objects of a text that are looked at, the first; the run's log says how many there are beyond", ge=1, le=8
    )
    width: int = option(64, help="of the probe", ge=4)
    supervision: float = option(1.0, help="weight of what the probe learns from captions, beside the rules", ge=0)

    def __attrs_post_init__(self) -> None:
        if not self.images:
            raise OptionError("images", self.images, "drawn, real or both")
        if self.width % 4:
            raise OptionError("width", self.width, "a multiple of 4, for the probe's heads")

    def needs(self) -> frozenset[str]:
        needed = {"data.pairs", "image_encoder"}
        if self.reader == "captioner":
            needed |= {"text_decoder"}
        if "drawn" in self.images:
            needed |= {"text_encoder", "image_decoder", "image_decoder.differentiable_draw"}
        return frozenset(needed)


@attrs.frozen(kw_only=True)
class RulesMetricConfig(_RulesConfig, MetricConfig):
    """How often rules hold of the captions that the model writes, and of its drawings."""

    of: tuple[str, ...] = option(
        ("captions", "drawings"),
        help="what is looked at; a model that only draws, or only writes, has one of them",
        choices=("captions", "drawings"),
    )

    def needs(self) -> frozenset[str]:
        needed = {"data.pairs", "image_encoder", "text_decoder"}
        return frozenset(needed | {"text_encoder", "image_decoder"} if "drawings" in self.of else needed)

    def figures(self) -> tuple[Figure, ...]:
        written = (
            "Of all choices of objects that a rule applies to, in captions that the model writes of real images, those of which it holds; "
            "what the image shows is what its own caption says. The mean over rules that apply."
        )
        drawn = "The same of drawings: what captions name, and what the dataset's own reader sees in drawings, or where it has none, the model's captioner."
        found = []
        if "captions" in self.of:
            found.append(Figure("rules_captions", "rules hold of captions", IMAGE_TO_TEXT, written, better="higher", percent=True))
        if "drawings" in self.of:
            found.append(Figure("rules_drawings", "rules hold of drawings", TEXT_TO_IMAGE, drawn, better="higher", percent=True))
        return tuple(found)
