"""The mistakes of a recipe: gathered, sorted by file and line, shown all at once. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

import attrs

from ..errors import UserError
from .locate import Place


@attrs.frozen(kw_only=True)
class Mistake:
    """One thing wrong with a recipe.

    Attributes:
        place: where it stands.
        what: what is wrong, one line.
        expected: what would have been right.
        nearest: the name that was probably meant.
        hint: what to do about it, or where the other half of a contradiction stands.
        provider: the component whose options are at fault, with its distribution and version.
    """

    place: Place
    what: str
    expected: str = ""
    nearest: str = ""
    hint: str = ""
    provider: str = ""

    def __str__(self) -> str:
        head = ": ".join(part for part in (str(self.place), self.place.key, self.what) if part)
        notes = (("expected", self.expected), ("did you mean", self.nearest), ("hint", self.hint), ("provided by", self.provider))
        return "\n".join([head, *(f"    {title}: {text}" for title, text in notes if text)])


@attrs.define
class Mistakes:
    """Collects mistakes while the recipe `file` is read."""

    file: str
    _found: list[Mistake] = attrs.field(factory=list, init=False)

    def add(self, place: Place, what: str, expected: str = "", **more: str) -> None:
        """Notes one; `more` are further attributes of `Mistake`."""
        mistake = Mistake(place=place, what=what, expected=expected, **more)
        if mistake not in self._found:
            self._found.append(mistake)

    def fail(self, place: Place, what: str, expected: str = "", **more: str) -> NoReturn:
        """Notes one that nothing can be read after, and raises `RecipeErrors`."""
        self.add(place, what, expected, **more)
        raise RecipeErrors(self.file, self._found)

    def throw(self) -> None:
        """Raises `RecipeErrors` if there are any."""
        if self._found:
            raise RecipeErrors(self.file, self._found)


class RecipeErrors(UserError):
    """All the mistakes of a recipe, files first and overrides after them, each file's in the order of its lines."""

    def __init__(self, file: str, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(sorted(mistakes, key=lambda m: (m.place.file.startswith("--set"), m.place.file, m.place.line)))
        count = len(self.mistakes)
        closing = f"{count} mistake{'s' if count > 1 else ''}; nothing was started"
        super().__init__("\n\n".join([f"{file} cannot be run as it stands", *map(str, self.mistakes), closing]))
