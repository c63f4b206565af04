"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm.plugin import ComponentSpec, hookimpl


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        ComponentSpec(
            kind="loss",
            name="rules",
            factory="ibllm_logic.loss:RulesLoss",
            config="ibllm_logic.config:RulesLossConfig",
            summary="logical rules about what texts name and images show, as far as a captioner or a probe sees it",
        ),
        ComponentSpec(
            kind="metric",
            name="rules",
            factory="ibllm_logic.metric:RulesMetric",
            config="ibllm_logic.config:RulesMetricConfig",
            summary="how often logical rules hold of captions and of drawings",
        ),
    ]
