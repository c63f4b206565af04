"""What data and parts say of themselves before a run: that captions were written by a machine, that records or a model's weights are left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ibllm_core.errors import UserError
from ibllm_core.interfaces.dataset import Dataset
from ibllm_core.recipe.schema import Recipe
from ibllm_core.runs.directory import write_text
from ibllm_core.training.events import Listener, ModelBuilt, Prepared, RunEnded, StageEnded

if TYPE_CHECKING:
    from ibllm_core.training.session import Session

#: In a run's directory: the records that are left out, a line each.
LEFT_OUT = "left-out.txt"


@runtime_checkable
class Noted(Protocol):
    """A dataset or a part that has something to tell."""

    def notes(self) -> Sequence[str]:
        """What a user should know and nothing stops for, a sentence each."""


@runtime_checkable
class Incomplete(Protocol):
    """A dataset that may leave out records that are broken."""

    def left_out(self) -> Sequence[str]:
        """Each with its place and what is wrong with it."""


@runtime_checkable
class Eventful(Protocol):
    """A dataset that meets things while it makes items."""

    def incidents(self) -> Sequence[str]:
        """What was met so far, by all processes that make them, a sentence each."""


@runtime_checkable
class Divided(Protocol):
    """A dataset whose options say how it is divided into splits."""

    def remedy(self, split: str) -> str:
        """What would give items to a split that has none."""


class DataNotes(Listener):
    """Tells what a run's datasets and parts say of themselves, which is kept in run.json, and lists in `LEFT_OUT` what they leave out."""

    def __init__(self) -> None:
        self._left_out: list[str] = []
        self._file = Path(LEFT_OUT)
        self._session: Session | None = None

    def on_prepared(self, event: Prepared) -> None:
        self._session, self._file = event.session, event.session.directory / LEFT_OUT
        for dataset in (event.session.dataset, *event.session.unpaired.values()):
            lines = dataset.left_out() if isinstance(dataset, Incomplete) else ()
            self._left_out += lines
            for text in dataset.notes() if isinstance(dataset, Noted) else ():
                event.session.tell(text)
            if lines:
                event.session.tell(f"{len(lines):,} records that are left out are listed in {self._file}")
        for part in event.session.model.parts.values():
            for text in part.notes() if isinstance(part, Noted) else ():
                event.session.tell(text)

    def on_model_built(self, event: ModelBuilt) -> None:
        if self._left_out:
            write_text(self._file, "".join(f"{line}\n" for line in self._left_out))

    def on_stage_ended(self, event: StageEnded) -> None:
        self._look_again()

    def on_run_ended(self, event: RunEnded) -> None:
        self._look_again()

    def _look_again(self) -> None:
        """Tells what was met since, and lists what else was left out."""
        assert self._session is not None
        datasets, before = (self._session.dataset, *self._session.unpaired.values()), len(self._left_out)
        for dataset in datasets:
            for text in dataset.incidents() if isinstance(dataset, Eventful) else ():
                if text not in self._session.notices:
                    self._session.tell(text)
        self._left_out = [line for dataset in datasets if isinstance(dataset, Incomplete) for line in dataset.left_out()]
        if len(self._left_out) > before:
            write_text(self._file, "".join(f"{line}\n" for line in self._left_out))


class EmptySplits(Listener):
    """Refuses a run that would validate on, or be measured on, a split without items."""

    everywhere = True

    def on_prepared(self, event: Prepared) -> None:
        session = event.session
        if found := empty_split(session.recipe, session.dataset, session.unpaired.get("text")):
            event.against.append(found)


def empty_split(recipe: Recipe, dataset: Dataset, text: Dataset | None = None) -> UserError | None:
    """What is wrong where a split that a recipe uses has no items, with what would help.

    Args:
        text: the further captions, on whose validation split a stage's own loss may be.
    """
    sizes = dataset.sizes()
    uses: list[tuple[str, str, object]] = [
        (f"stages.{stage.name}.validate.split", stage.validate.split, stage.place)
        for stage in recipe.running()
        if stage.validate is not None and stage.validate.every > 0
    ]
    uses += [("evaluation.splits", split, None) for split in recipe.evaluation.splits]
    for key, split, place in uses:
        other = text.sizes().get(split, 0) if text is not None and key.startswith("stages") else 0
        if sizes.get(split) == 0 and not other:
            helps = dataset.remedy(split) if isinstance(dataset, Divided) else ""
            return UserError(f'{key}: the split "{split}" has no items{f": {helps}" if helps else ""}', place)
    return None
