"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm.plugin import ComponentSpec, hookimpl


def _attack(name: str, class_: str, summary: str) -> ComponentSpec:
    factory, config = f"ibllm_robust.attacks:{class_}", f"ibllm_robust.config:{class_}Config"
    return ComponentSpec(kind="perturbation", name=name, factory=factory, config=config, summary=summary)


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        _attack("noise", "Noise", "uniform noise, what attacks are compared with"),
        _attack("fgsm", "FGSM", "one step along the gradient"),
        _attack("pgd", "PGD", "steps along the gradient within a ball, with restarts"),
        _attack("apgd", "APGD", "steps along the gradient that choose their own size"),
        _attack("square", "Square", "random squares, without any gradient"),
        _attack("universal", "Universal", "one change for all items of a set"),
        ComponentSpec(
            kind="loss",
            name="robust_consistency",
            factory="ibllm_robust.consistency:RobustConsistency",
            config="ibllm_robust.config:RobustConsistencyConfig",
            summary="clean and perturbed images have one latent (FARE), or one caption (TRADES)",
        ),
    ]
