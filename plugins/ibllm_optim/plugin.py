"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm.plugin import ComponentSpec, hookimpl


def _spec(kind: str, name: str, class_: str, summary: str, module: str = "") -> ComponentSpec:
    factory, config = f"ibllm_optim.{module or kind}:{class_}", f"ibllm_optim.config:{class_}Config"
    return ComponentSpec(kind=kind, name=name, factory=factory, config=config, summary=summary)


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        _spec("optimizer", "adamw", "AdamW", "Adam with decoupled weight decay"),
        _spec("optimizer", "adam", "Adam", "Adam, its weight decay as a penalty in the gradient"),
        _spec("optimizer", "sgd", "SGD", "stochastic gradient descent, with momentum if wished"),
        _spec("optimizer", "muon", "Muon", "momentum made orthogonal for matrices, AdamW for the rest", "muon"),
        _spec(
            "optimizer", "schedule_free", "ScheduleFree", "AdamW on an average of its own path instead of a schedule (extra schedulefree)"
        ),
        _spec("schedule", "constant", "Constant", "the number as it is, after a warm-up if wished"),
        _spec(
            "schedule", "cosine", "Cosine", "half a cosine from the full number to a final fraction of it, or from one factor to another"
        ),
        _spec("schedule", "step", "Step", "times gamma every so many steps, or every so large a part of the stage"),
        _spec(
            "schedule", "linear", "Linear", "a straight line from the full number to a final fraction of it, or from one factor to another"
        ),
        _spec("schedule", "piecewise", "Piecewise", "other values from given steps on, with steps or lines between them"),
    ]
