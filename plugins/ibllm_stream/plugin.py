"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm.plugin import ComponentSpec, hookimpl


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        ComponentSpec(
            kind="dataset",
            name="webdataset",
            factory="ibllm_stream.dataset:WebDatasetDataset",
            config="ibllm_stream.config:WebDatasetConfig",
            summary="images and captions in tar shards (WebDataset): more than fits in memory, local or as a stream",
        ),
    ]
