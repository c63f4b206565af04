"""The options of the procedures. Torch-free."""

from __future__ import annotations

import attrs

from ibllm.plugin import Config, option


@attrs.frozen(kw_only=True)
class AlternateConfig(Config):
    """How often each player plays is said by `players.NAME.every`."""


@attrs.frozen(kw_only=True)
class ExtragradientConfig(Config):
    """Gidel et al. 2019. An iteration computes everything twice; not for optimizers such as schedule_free, which train at weights of their own."""


@attrs.frozen(kw_only=True)
class LookaheadConfig(Config):
    """Chavdarova et al. 2021. Validate after multiples of `every` to see the weights that are kept; not for optimizers such as schedule_free."""

    every: int = option(5, help="k, iterations after which the weights go back", ge=1, unit="steps")
    alpha: float = option(0.5, help="α, the part of the way from the slow weights to the present ones that is kept", gt=0, le=1)
