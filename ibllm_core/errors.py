"""What went wrong by the user's doing, apart from what went wrong by ours. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Notice", "UserError", "nearest", "suggestion"]


class UserError(ValueError):
    """A mistake in a recipe, a command or an environment. The command line shows it without a traceback and exits with 2.

    Args:
        message: what is wrong and what would be right.
        place: where it stands; its ``str`` is ``file:line`` (`ibllm_core.recipe.schema.Place`), or None where there is no file.
    """

    def __init__(self, message: str, place: object = None) -> None:
        super().__init__(message if place is None else f"{place}: {message}")
        self.message, self.place = message, place


class Notice(UserWarning):
    """What a user should know and nothing stops for. The command line shows it as one line."""


def nearest(word: object, known: Iterable[str]) -> str:
    """The known name most like `word`, whatever the case and whether - or _; empty when none is near."""
    import difflib

    plain = {name.lower().replace("-", "_"): name for name in known}
    found = difflib.get_close_matches(str(word).lower().replace("-", "_"), plain, n=1)
    return plain[found[0]] if found else ""


def suggestion(word: object, known: Iterable[str]) -> str:
    """For the end of a message: ``did you mean 'image'?``, or which there are where none is near."""
    names = list(known)
    guess = nearest(word, names)
    return f"did you mean {guess!r}?" if guess else f"there are: {', '.join(names)}"
