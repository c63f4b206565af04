"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm.plugin import ComponentSpec, hookimpl


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        ComponentSpec(
            kind="tracker",
            name="mlflow",
            factory="ibllm_mlflow.tracker:MlflowTracker",
            config="ibllm_mlflow.config:MlflowConfig",
            summary="figures and images in an MLflow store (extra ibllm[mlflow])",
        ),
    ]
