"""How a component declares its options: an attrs class whose fields carry meaning and range. Torch-free.

Example:
    >>> import attrs
    >>> @attrs.frozen(kw_only=True)
    ... class BlurConfig(Config):
    ...     radius: int = option(3, help="radius in pixels", ge=0, le=16)
    ...     mode: str = option("gauss", help="the kernel", choices=("gauss", "box"))
    >>> BlurConfig(radius=2).radius
    2
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import attrs

__all__ = ["Config", "LossConfig", "MetricConfig", "OptionError", "option"]


class OptionError(ValueError):
    """A value outside an option's range. `name` is the option, `expected` what would have been right."""

    def __init__(self, name: str, value: object, expected: str) -> None:
        super().__init__(f"{name} = {value!r}: expected {expected}")
        self.name, self.value, self.expected = name, value, expected


def option(
    default: Any = attrs.NOTHING,
    *,
    help: str,
    ge: float | None = None,
    le: float | None = None,
    gt: float | None = None,
    lt: float | None = None,
    choices: Iterable[Any] | None = None,
    key: str | None = None,
    factory: Callable[[], Any] | None = None,
    unit: str = "",
    path: str = "",
    part: str = "",
    live: bool | str = False,
) -> Any:
    """Declares one option. `default` omitted: the recipe must give it.

    Args:
        help: what it means, with its unit.
        ge, le, gt, lt: bounds for a number, or for every number of a tuple.
        choices: the only values allowed, or for a tuple the only members.
        key: the name in a recipe where it is no Python name (``lambda``).
        factory: makes the default, where it is mutable.
        unit: ``steps`` for a number of a stage's steps: a study that scales the stages scales it too.
        path: it names a ``file``, a ``folder``, a ``file or folder``, a ``run``, or a ``name``, which is a folder only where there is one. Relative paths
            are those of the file that says them, and before a run is started there has to be something.
        part: it names a part of the model, of this kind: ``discriminator`` for a further critic, ``[model.extra.NAME]``. The component then needs it.
        live: it may be changed while the component is used or trained, and follow a schedule: whoever owns it reads it off its `config` each time;
            ``training``: while it is trained, for in use it does nothing.
    """
    allowed = tuple(choices) if choices is not None else None
    bounds = [f"{sign} {bound:g}" for sign, bound in ((">=", ge), (">", gt), ("<=", le), ("<", lt)) if bound is not None]
    expected = (
        "one of " + ", ".join(repr(one) if isinstance(one, str) else str(one).lower() for one in allowed)
        if allowed is not None
        else " and ".join(bounds)
    )

    def inside(value: Any) -> bool:
        if value is None:
            return True
        if isinstance(value, tuple | list):
            return all(inside(member) for member in value)
        if allowed is not None:
            return value in allowed
        if isinstance(value, bool) or not isinstance(value, int | float):
            return True
        return (ge is None or value >= ge) and (le is None or value <= le) and (gt is None or value > gt) and (lt is None or value < lt)

    def check(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if not inside(value):
            raise OptionError(attribute.metadata.get("key") or attribute.name, value, expected)

    metadata = {"help": help, "range": expected, "key": key, "unit": unit, "path": path, "part": part, "live": live}
    default = attrs.Factory(factory) if factory else default
    return attrs.field(default=default, validator=check if expected else None, metadata=metadata)


@attrs.frozen(kw_only=True)
class Config:
    """The base of every component's options. Subclasses are frozen, keyword-only attrs classes.

    `provides` and `needs` are capabilities in words; recipe validation joins them before anything is built. The words
    in use are listed in `ibllm.capabilities`.
    """

    def provides(self) -> frozenset[str]:
        """What the component can do, e.g. ``{"differentiable_draw"}``."""
        return frozenset()

    def needs(self) -> frozenset[str]:
        """What it asks of others: ``"image_decoder"`` (a part is there), ``"image_decoder.differentiable_draw"`` (it can do that), ``"data.pairs"``."""
        return frozenset()

    def trainable(self) -> tuple[str, ...]:
        """A part's sub-modules (``"prior"``, ``"flow.prior"``) that a stage may train alone, the rest of the part being frozen; by default none."""
        return ()

    def provenance(self) -> Mapping[str, str]:
        """What a run records of what the options name outside the recipe, beside its distribution: of a pretrained model its licence and hash."""
        return {}

    def check(self) -> Iterable[OptionError]:
        """What is wrong with what the options name outside the recipe (files, packages), each named by its option; empty where all is well.

        Asked before a run is started, and never where a run is opened or goes on.
        """
        return ()


@attrs.frozen(kw_only=True)
class DatasetConfig(Config, ABC):
    """The base of a dataset's options: what a recipe is checked against before any data is made.

    A dataset provides ``captions`` and ``images``, ``pairs`` where they belong together, and ``questions`` where it asks any.
    """

    def provides(self) -> frozenset[str]:
        """What it gives; by default captions and images that belong together."""
        return frozenset({"captions", "images", "pairs"})

    @abstractmethod
    def splits(self) -> Mapping[str, str]:
        """Split → a few words on what it holds, for reports; ``train`` is among them."""

    def validation_split(self) -> str:
        """The split that stages are validated on unless a recipe says otherwise; never one that is reported."""
        return "validation"

    def reported_splits(self) -> tuple[str, ...]:
        """The splits that a run is measured on unless a recipe says otherwise, in the order of a table's columns."""
        return ("test",)

    def primary_split(self) -> str:
        """The reported split that a reader looks at first."""
        return self.reported_splits()[0]

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, int, int]:
        """(c, h, w) of every image."""

    def fitting(self) -> tuple[str, tuple[int, int, int]]:
        """How an image of any size becomes one of its: ``crop`` (the middle) or ``pad`` (with bars), and the colour of bars and behind transparency."""
        return "crop", (255, 255, 255)


@attrs.frozen(kw_only=True)
class LossConfig(Config):
    """The base of a loss's options."""

    def players(self) -> tuple[str, ...]:
        """Who minimises it: ``("model",)``, ``("critic",)``, or both for a loss with two sides."""
        return ("model",)

    def undivided(self) -> bool:
        """True where its value over ranks and micro-batches would be another one: where there are several, the recipe is refused."""
        return False

    def terms(self) -> tuple[str, ...]:
        """The names of the recipe's other losses that this one is composed of; empty for a plain loss."""
        return ()


class Named(attrs.AttrsInstance, Protocol):
    """What a metric says of a figure or a mark that it gives: `ibllm.plugin.Figure` and `ibllm.plugin.Mark`. The core knows it by its name."""

    @property
    def name(self) -> str: ...


@attrs.frozen(kw_only=True)
class MetricConfig(Config, ABC):
    """The base of a metric's options.

    A metric whose `needs` names no ``data.…`` is taken to compare captions with their images: it needs ``data.pairs``.
    """

    @abstractmethod
    def figures(self) -> tuple[Named, ...]:
        """The figures it gives, so that a recipe can be checked before anything is measured, and tables and reports can explain them."""

    def marks(self) -> tuple[Named, ...]:
        """What it says of single samples (`Metric.marks`); by default nothing."""
        return ()

    def names(self) -> tuple[str, ...]:
        """The figures' names."""
        return tuple(figure.name for figure in self.figures())
