"""The options of the optimizers and schedules. Torch-free."""

from __future__ import annotations

import attrs

from ibllm.plugin import Config, OptionError, added, option


@attrs.frozen(kw_only=True)
class _AdamOptions(Config):
    lr: float = option(1e-3, help="learning rate that the schedule's factor multiplies", gt=0, live="training")
    betas: tuple[float, float] = option((0.9, 0.999), help="decay of the averages of gradients and of their squares", ge=0, lt=1)
    eps: float = option(1e-8, help="added to the root of the average square", gt=0)
    amsgrad: bool = option(False, help="divide by the largest average square so far (Reddi et al. 2018)")


@attrs.frozen(kw_only=True)
class AdamWConfig(_AdamOptions):
    """Loshchilov and Hutter 2019. Tensors with fewer than two axes are not decayed."""

    weight_decay: float = option(0.01, help="fraction of the rate by which weights shrink at each step", ge=0)


@attrs.frozen(kw_only=True)
class AdamConfig(_AdamOptions):
    """Kingma and Ba 2015. Tensors with fewer than two axes are not decayed."""

    weight_decay: float = option(0.0, help="factor of the weights that is added to their gradient", ge=0)


@attrs.frozen(kw_only=True)
class SGDConfig(Config):
    """Stochastic gradient descent. Tensors with fewer than two axes are not decayed."""

    lr: float = option(0.1, help="learning rate that the schedule's factor multiplies", gt=0, live="training")
    momentum: float = option(0.0, help="decay of the sum of gradients that is followed", ge=0, lt=1)
    nesterov: bool = option(False, help="look ahead along the momentum (Nesterov 1983)")
    weight_decay: float = option(0.0, help="factor of the weights that is added to their gradient", ge=0)

    def __attrs_post_init__(self) -> None:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov = true: expected a momentum > 0")


@attrs.frozen(kw_only=True)
class MuonConfig(Config):
    """Jordan et al. 2024 for matrices, AdamW for everything else; needs torch 2.9. Tensors with fewer than two axes are not decayed.

    Its iterations run in bfloat16, which takes a CPU without such units longer than the rest of a small model's step.
    """

    lr: float = option(
        1e-3, help="learning rate that the schedule's factor multiplies, as one would choose it for AdamW", gt=0, live="training"
    )
    momentum: float = option(0.95, help="decay of the average of a matrix's gradients", ge=0, lt=1)
    nesterov: bool = option(True, help="look ahead along the momentum")
    iterations: int = option(5, help="Newton–Schulz iterations that make an update orthogonal", ge=1, le=20)
    scale: str = option(
        "rms",
        help="a matrix's rate by its shape a × b: rms for 0.2·√max(a, b), so that AdamW's rates fit (Liu et al. 2025); shape for √max(1, a/b)",
        choices=("rms", "shape"),
    )
    others: float = option(1.0, help="AdamW's rate as a multiple of `lr`", gt=0)
    adamw: tuple[str, ...] = option(
        ("embedding", "positions", "queries", "head", "score"),
        help="matrices that AdamW follows: those with one of these words in their names (tables of vectors, last layers)",
    )
    betas: tuple[float, float] = option((0.9, 0.999), help="AdamW's decay of the averages of gradients and of their squares", ge=0, lt=1)
    eps: float = option(1e-8, help="added to the root of AdamW's average square", gt=0)
    weight_decay: float = option(0.01, help="fraction of the rate by which weights shrink at each step", ge=0)


@attrs.frozen(kw_only=True)
class ScheduleFreeConfig(Config):
    """Defazio et al. 2024. The schedule is left `constant`, with a warm-up if wished. Tensors with fewer than two axes are not decayed."""

    lr: float = option(2.5e-3, help="learning rate that the schedule's factor multiplies", gt=0, live="training")
    betas: tuple[float, float] = option(
        (0.9, 0.999),
        help="where gradients are taken, between the fast weights (0) and their average (1); decay of the average square",
        gt=0,
        lt=1,
    )
    eps: float = option(1e-8, help="added to the root of the average square", gt=0)
    weight_decay: float = option(0.0, help="fraction of the rate by which weights shrink at each step", ge=0)


@attrs.frozen(kw_only=True)
class ConstantConfig(Config):
    """The number as it is."""

    warmup: int = option(0, help="steps over which it rises to its full value", ge=0, unit="steps")


@attrs.frozen(kw_only=True)
class _Way(Config):
    """From one factor to another."""

    warmup: int = option(0, help="steps over which it rises to its first value", ge=0, unit="steps")
    final: float = option(0.0, help="fraction of the number that is approached at the stage's end, where `to` is not given", ge=0, le=1)
    start: float = added(option(1.0, help="factor at first", key="from"))
    to: float | None = added(option(None, help="factor that is approached, in the place of `final`"))
    over: int = added(option(0, help="steps until it is reached, the warm-up among them; 0 for the whole stage", ge=0, unit="steps"))

    @property
    def end(self) -> float:
        """The factor that is approached."""
        return self.final if self.to is None else self.to


@attrs.frozen(kw_only=True)
class CosineConfig(_Way):
    """Loshchilov and Hutter 2017, without restarts."""


@attrs.frozen(kw_only=True)
class StepConfig(Config):
    """A staircase."""

    gamma: float = option(0.9, help="what the number is multiplied with at each stair", gt=0, le=1)
    every: int = option(0, help="steps from one stair to the next; 0 to use `fraction`", ge=0, unit="steps")
    fraction: float = option(0.1, help="part of the stage from one stair to the next", gt=0, le=1)


@attrs.frozen(kw_only=True)
class LinearConfig(_Way):
    """A line; in the place of a number it needs no `use`: `{ from = 0.0, to = 0.1, over = 300 }`."""


@attrs.frozen(kw_only=True)
class PiecewiseConfig(Config):
    """Values from given steps on: before the first of them it has the first value, after the last the last."""

    at: tuple[int, ...] = option(help="steps, each larger than the one before", ge=0, unit="steps")
    values: tuple[float, ...] = option(help="the factor at each of them")
    between: str = option(
        "steps", help="'steps': a value holds until the next step; 'lines': straight lines between them", choices=("steps", "lines")
    )
    of_run: bool = option(False, help="the steps are those of all stages, one after the other, not of each stage")

    def __attrs_post_init__(self) -> None:
        if not self.at or list(self.at) != sorted(set(self.at)):
            raise OptionError("at", self.at, "one step or more, each larger than the one before")
        if len(self.values) != len(self.at):
            raise OptionError("values", self.values, f"{len(self.at)} values, one a step of `at`")
