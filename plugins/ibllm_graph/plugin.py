"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm.plugin import ComponentSpec, hookimpl


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        ComponentSpec(
            kind="backbone",
            name="graph",
            factory="ibllm_graph.backbone:KnowledgeGraph",
            config="ibllm_graph.config:GraphConfig",
            summary="a knowledge graph: entities and relations embedded (TransE, RotatE, DistMult, R-GCN) and linked to words",
        ),
        ComponentSpec(
            kind="text_encoder",
            name="knowledge",
            factory="ibllm_graph.text_encoder:KnowledgeTextEncoder",
            config="ibllm_graph.config:KnowledgeTextEncoderConfig",
            summary="any text encoder, whose words attend to what a knowledge graph says of them",
        ),
        ComponentSpec(
            kind="loss",
            name="link_prediction",
            factory="ibllm_graph.loss:LinkPrediction",
            config="ibllm_graph.config:LinkPredictionConfig",
            summary="a knowledge graph's facts are more plausible than facts with a wrong entity",
        ),
    ]
