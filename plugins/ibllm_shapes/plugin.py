"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm_core.hookspecs import hookimpl
from ibllm_core.spec import ComponentSpec


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        ComponentSpec(
            kind="dataset",
            name="shapes",
            factory="ibllm_shapes.dataset:ShapesDataset",
            config="ibllm_shapes.config:ShapesConfig",
            summary="procedural scenes of coloured shapes with captions and questions in English and Chinese; unseen pairs held out",
        ),
    ]
