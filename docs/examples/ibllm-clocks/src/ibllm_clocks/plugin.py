"""What this package offers. Torch-free: this module is loaded whenever plugins are listed."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm.plugin import ComponentSpec, hookimpl


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        ComponentSpec(
            kind="dataset",
            name="clocks",
            factory="ibllm_clocks.dataset:ClockDataset",
            config="ibllm_clocks.config:ClocksConfig",
            summary="clock faces and the time in words; some times are held out",
        ),
        ComponentSpec(
            kind="metric",
            name="clock_time",
            factory="ibllm_clocks.metric:ClockTimeMetric",
            config="ibllm_clocks.config:ClockTimeConfig",
            summary="the time that drawn clocks show, against the time they were asked for",
        ),
    ]
