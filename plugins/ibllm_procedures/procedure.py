"""How an iteration is played."""

from __future__ import annotations

from ibllm.plugin import Context, Procedure
from ibllm_procedures.config import AlternateConfig


class Alternate(Procedure):
    """Alternating gradient descent: the critic's step first, then the model's against the critic that it has become (Goodfellow et al. 2014, alg. 1)."""

    def __init__(self, config: AlternateConfig, context: Context) -> None:
        pass
