"""The options of the tracker `tensorboard`. Torch-free."""

from __future__ import annotations

import attrs

from ibllm.plugin import Config, option


@attrs.frozen(kw_only=True)
class TensorBoardConfig(Config):
    """Event files."""

    folder: str = option("tensorboard", help="folder inside the run directory")
    flush_seconds: int = option(30, help="longest time that figures wait before they are on disk", ge=1)
