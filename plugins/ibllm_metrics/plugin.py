"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm_core.hookspecs import hookimpl
from ibllm_core.spec import ComponentSpec


def _spec(name: str, module: str, class_: str, summary: str) -> ComponentSpec:
    factory, config = f"ibllm_metrics.{module}:{class_}Metric", f"ibllm_metrics.config:{class_}Config"
    return ComponentSpec(kind="metric", name=name, factory=factory, config=config, summary=summary)


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        _spec("bleu", "text", "BLEU", "BLEU of the captions read off images (sacrebleu)"),
        _spec("chrf", "text", "ChrF", "chrF of the captions read off images (sacrebleu)"),
        _spec("retrieval", "images", "Retrieval", "whether the drawing nearest to a generated image is its own"),
        _spec("diversity", "images", "Diversity", "how much several drawings of one caption differ"),
    ]
