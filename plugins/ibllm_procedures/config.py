"""The options of the procedures. Torch-free."""

from __future__ import annotations

import attrs

from ibllm.plugin import Config


@attrs.frozen(kw_only=True)
class AlternateConfig(Config):
    """Turns. How often each player plays is said by `players.NAME.every`."""
