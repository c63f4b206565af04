"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm.plugin import ComponentSpec, hookimpl


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        ComponentSpec(
            kind="loss",
            name="matching",
            factory="ibllm_agreement.matching:Matching",
            config="ibllm_agreement.config:MatchingConfig",
            summary="a transformer over text and image tells pairs from hard mismatches (ALBEF)",
        ),
        ComponentSpec(
            kind="loss",
            name="damsm",
            factory="ibllm_agreement.damsm:DAMSM",
            config="ibllm_agreement.config:DAMSMConfig",
            summary="each word attends to its regions, each caption to its image (AttnGAN's DAMSM)",
        ),
    ]
