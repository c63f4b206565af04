"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm.plugin import ComponentSpec, hookimpl


def _spec(name: str, module: str, class_: str, summary: str) -> ComponentSpec:
    factory, config = f"ibllm_metrics.{module}:{class_}Metric", f"ibllm_metrics.config:{class_}Config"
    return ComponentSpec(kind="metric", name=name, factory=factory, config=config, summary=summary)


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        _spec("bleu", "text", "BLEU", "BLEU of the captions read off images (sacrebleu)"),
        _spec("chrf", "text", "ChrF", "chrF of the captions read off images (sacrebleu)"),
        _spec("cider", "text", "CIDEr", "CIDEr-D of the captions read off images"),
        _spec("recall", "matching", "Recall", "whether captions and real images find each other, by the model's own scores"),
        _spec("r_precision", "matching", "RPrecision", "whether a generated image is scored nearest to its own caption"),
        _spec("frechet", "distances", "Frechet", "Fréchet distance of generated and real images in a stated feature space"),
        _spec("kernel", "distances", "Kernel", "kernel distance of generated and real images in a stated feature space"),
        _spec("coverage", "coverage", "Coverage", "precision, recall, density and coverage of generated images in a stated feature space"),
        _spec("commitment", "commitment", "Commitment", "whether drawings are as sharp, and spread as much given a caption, as the data"),
        _spec("retrieval", "images", "Retrieval", "whether the drawing nearest to a generated image is its own"),
        _spec("diversity", "images", "Diversity", "how much several drawings of one caption differ"),
    ]
