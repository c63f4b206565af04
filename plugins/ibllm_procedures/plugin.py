"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm.plugin import ComponentSpec, hookimpl


def _spec(name: str, class_: str, summary: str) -> ComponentSpec:
    factory, config = f"ibllm_procedures.procedure:{class_}", f"ibllm_procedures.config:{class_}Config"
    return ComponentSpec(kind="procedure", name=name, factory=factory, config=config, summary=summary)


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        _spec("alternate", "Alternate", "the players take turns, the critic first"),
        _spec("extragradient", "Extragradient", "gradients are taken where a first step would lead, for games that go in circles"),
        _spec("lookahead", "Lookahead", "players take turns and every k iterations all weights go part of the way back"),
    ]
