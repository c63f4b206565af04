"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm.plugin import ComponentSpec, hookimpl


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        ComponentSpec(
            kind="tracker",
            name="tensorboard",
            factory="ibllm_tensorboard.tracker:TensorBoardTracker",
            config="ibllm_tensorboard.config:TensorBoardConfig",
            summary="event files for TensorBoard in the run's folder tensorboard/",
        ),
    ]
