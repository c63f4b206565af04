"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm.plugin import ComponentSpec, hookimpl


def _attack(name: str, class_: str, summary: str, module: str = "attacks") -> ComponentSpec:
    factory, config = f"ibllm_robust.{module}:{class_}", f"ibllm_robust.config:{class_}Config"
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
        _attack("typos", "Typos", "slips of a finger in captions", "text"),
        _attack("words", "Words", "words of captions in the places of others, within the data's grammar", "text"),
        _attack("neighbours", "Neighbours", "tokens of captions in the places of their nearest in the embedding", "text"),
        ComponentSpec(
            kind="dataset",
            name="attacks",
            factory="ibllm_robust.samples:AttacksDataset",
            config="ibllm_robust.config:AttacksConfig",
            summary="items that an attack was made on, among the data that they are of",
        ),
        ComponentSpec(
            kind="loss",
            name="robust_consistency",
            factory="ibllm_robust.consistency:RobustConsistency",
            config="ibllm_robust.config:RobustConsistencyConfig",
            summary="clean and perturbed images have one latent (FARE), or one caption (TRADES)",
        ),
    ]
