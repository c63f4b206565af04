"""The exponential moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor

from ..model.model import Model


class Average:
    """Averaged weights of all parts but the discriminator, through all stages; a stage's trainer updates them in place.

    Args:
        wanted: False for none: nothing is kept, and the model's own weights are those that are used.

    Attributes:
        tensors: parameter name → averaged weight.
    """

    def __init__(self, model: Model, wanted: bool) -> None:
        self._model = model
        named = model.named_parameters() if wanted else ()
        self.tensors = {name: p.detach().clone() for name, p in named if not name.startswith("parts.discriminator.")}

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Within, the model has its averaged weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        named = dict(self._model.named_parameters())
        for name, average in self.tensors.items():
            parameter = named[name]
            held = parameter.data.clone()
            parameter.data.copy_(average)
            average.copy_(held)

    def weights(self) -> dict[str, Tensor]:
        """The model's state with averaged weights: what is validated, kept and reported."""
        return {name: self.tensors.get(name, tensor) for name, tensor in self._model.state_dict().items()}

    def restart(self) -> None:
        """Starts again from the model's weights."""
        self.load({name: p.detach() for name, p in self._model.named_parameters()})

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes the averages that are among `tensors`."""
        for name, average in self.tensors.items():
            if name in tensors:
                average.copy_(tensors[name])
