"""The options of the tracker `mlflow`. Torch-free."""

from __future__ import annotations

import attrs

from ibllm.plugin import Config, option


@attrs.frozen(kw_only=True)
class MlflowConfig(Config):
    """A run of an MLflow store."""

    uri: str = option(
        "", help="of the store, sqlite:///mlflow.db or a server's; MLFLOW_TRACKING_URI, else mlflow.db in the run directory, when left out"
    )
    experiment: str = option("ibllm", help="the experiment that the run belongs to; made where there is none")
