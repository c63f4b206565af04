"""The keys of a recipe's own tables, beside the components' options: declared like options, read like them. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from ..host.options import Config, option
from .schema import FORMAT, Init, Validation, Weight


@attrs.frozen(kw_only=True)
class TopTable(Config):
    """Top-level keys that are no tables of their own."""

    format: int = option(FORMAT, help="version of the recipe format; some file of the chain must say it", ge=1)
    name: str = option("", help="name of the run; the file's name when left out")
    order: tuple[str, ...] = option(help="the stages in the order they are played, each once")
    init: Init | None = option(None, help="start from another run's weights")


@attrs.frozen(kw_only=True)
class ModelTable(Config):
    """``[model]`` beside the parts."""

    width: int = option(128, help="width of every part that does not state its own", ge=1)


@attrs.frozen(kw_only=True)
class PartTable(Config):
    """``[model.PART]`` beside the part's own options."""

    init: Init | None = option(None, help="start from another run's weights")


@attrs.frozen(kw_only=True)
class LossTable(Config):
    """``[losses.NAME]`` beside the loss's own options."""

    weight: Weight = option(1.0, help="a number, or a line over a stage's first steps; the stage's factor multiplies it")
    every: int = option(1, help="play it only on every n-th step of its player, n times as heavy", ge=1)
    player: str | None = option(None, help="who plays it, for the reader: it must agree with the loss", choices=("model", "critic"))


@attrs.frozen(kw_only=True)
class PlayerTable(Config):
    """``[players.NAME]`` beside its optimizer."""

    every: int = option(1, help="play only in every n-th iteration", ge=1)


@attrs.frozen(kw_only=True)
class StageTable(Config):
    """``[stages.NAME]`` beside its schedule and its values for ``[training]``."""

    steps: int = option(help="iterations; 0 skips the stage", ge=0)
    train: str | tuple[str, ...] = option("all", help='the parts that are trained, or "all"; the others are frozen')
    losses: Mapping[str, Weight] = option(help="loss → factor on its own weight")
    lr: float = option(1.0, help="factor on every learning rate", ge=0)
    validate: Validation | None = option(None, help="how the stage is watched on held-out data")
    init: Init | None = option(None, help="start from another run's weights")
