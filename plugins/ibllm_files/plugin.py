"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm.plugin import ComponentSpec, hookimpl


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        ComponentSpec(
            kind="dataset",
            name="files",
            factory="ibllm_files.dataset:FilesDataset",
            config="ibllm_files.config:FilesConfig",
            summary="your own images and captions, or one of them alone: a folder, a table, COCO captions, Parquet, Hugging Face datasets, or an archive",
        ),
    ]
