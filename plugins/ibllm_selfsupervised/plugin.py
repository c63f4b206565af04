"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm.plugin import ComponentSpec, hookimpl


def _spec(name: str, class_: str, summary: str) -> ComponentSpec:
    factory, config = f"ibllm_selfsupervised.{name}:{class_}", f"ibllm_selfsupervised.config:{class_}Config"
    return ComponentSpec(kind="loss", name=name, factory=factory, config=config, summary=summary)


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        _spec("masked_text", "MaskedText", "the text encoder predicts masked words from their context (BERT); needs no images"),
        _spec("masked_image", "MaskedImage", "the image encoder predicts masked patches from their context (SimMIM); needs no captions"),
        _spec(
            "augmentation_contrast", "AugmentationContrast", "contrastive learning of two augmented copies of an image or a text (SimCLR)"
        ),
    ]
