"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm.plugin import ComponentSpec, hookimpl


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
        ComponentSpec(
            kind="metric",
            name="scene",
            factory="ibllm_shapes.metrics:SceneMetric",
            config="ibllm_shapes.config:SceneConfig",
            summary="drawn scenes and objects that are right, read from pixels by the reader of `shapes`",
        ),
        ComponentSpec(
            kind="metric",
            name="residual",
            factory="ibllm_shapes.residual:ResidualMetric",
            config="ibllm_shapes.config:ResidualConfig",
            summary="what the reader's best explanation of generated images leaves unexplained: blur, blends, speckle",
        ),
        ComponentSpec(
            kind="metric",
            name="caption_facts",
            factory="ibllm_shapes.metrics:CaptionFactsMetric",
            config="ibllm_shapes.config:CaptionFactsConfig",
            summary="captions of real images that state every fact of the scene and invent none",
        ),
        ComponentSpec(
            kind="metric",
            name="round_trip",
            factory="ibllm_shapes.metrics:RoundTripMetric",
            config="ibllm_shapes.config:RoundTripConfig",
            summary="text → image → text: right to the reader and given back by the captioner",
        ),
        ComponentSpec(
            kind="metric",
            name="placement_spread",
            factory="ibllm_shapes.spread:PlacementSpreadMetric",
            config="ibllm_shapes.config:PlacementSpreadConfig",
            summary="whether drawings of one caption place objects as freely as the data, and every stated relation holds",
        ),
        ComponentSpec(
            kind="metric",
            name="vqa",
            factory="ibllm_shapes.asked:AnswersMetric",
            config="ibllm_shapes.config:AnswersConfig",
            summary="right answers to questions about scenes, of every kind, beside answers given without seeing the image",
        ),
        ComponentSpec(
            kind="metric",
            name="vqg",
            factory="ibllm_shapes.asked:QuestionsMetric",
            config="ibllm_shapes.config:QuestionsConfig",
            summary="whether the questions that the model asks about scenes have an answer, and whether they are as varied as the data's",
        ),
    ]
