"""What parts of a model that bring knowledge have to do with a run's texts: what of them they know, and what they tell that training hides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from ibllm_core.errors import UserError
from ibllm_core.training.events import Listener, Prepared

from .vocabulary import texts_of


class Found(Protocol):
    """What a part found: sentences for a user, and what speaks against the run, or nothing."""

    @property
    def told(self) -> Sequence[str]: ...

    @property
    def against(self) -> str: ...


@runtime_checkable
class Knowing(Protocol):
    """A part that knows something from elsewhere than the training data."""

    def audit(self, training: Iterable[str], held_out: Mapping[str, Iterable[str]]) -> Found:
        """Looks at the training texts and those of held-out splits, by the splits' names."""


class Knowledge(Listener):
    """Tells what of a run's texts its parts know from elsewhere, and refuses a run whose parts tell what its held-out splits hide, unless they may."""

    everywhere = True

    def on_prepared(self, event: Prepared) -> None:
        session = event.session
        recipe, dataset = session.recipe, session.dataset
        knowing = {name: part for name, part in session.model.parts.items() if isinstance(part, Knowing)}
        if not knowing:
            return
        splits = dict.fromkeys(recipe.evaluation.splits, recipe.evaluation.items)
        splits |= {stage.validate.split: stage.validate.items for stage in recipe.running() if stage.validate and stage.validate.every}
        training = texts_of(dataset, "train")
        held_out = {split: texts_of(dataset, split, items) for split, items in splits.items() if split != "train"}
        for name, part in knowing.items():
            found = part.audit(training, held_out)
            for text in found.told:
                session.tell(f"{name}: {text}")
            if found.against:
                component = recipe.parts[name]
                event.against.append(UserError(f"{recipe.place_of(name)}: {found.against}", component.place))
