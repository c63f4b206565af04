"""What went wrong by the user's doing, apart from what went wrong by ours. Torch-free."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator

__all__ = ["Notice", "UserError", "nearest", "suggestion", "system_error", "writing"]

#: What the system says → what helps.
_REMEDIES = {
    errno.ENOSPC: "make room on that file system",
    errno.EDQUOT: "make room, or ask for a larger quota",
    errno.EFBIG: "allow larger files (ulimit -f), or choose another file system",
    errno.EROFS: "choose a place that can be written to",
    errno.EACCES: "change its permissions, or choose another place",
    errno.EPERM: "change its permissions, or choose another place",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "a file stands where a folder is needed; choose another place",
    errno.EISDIR: "a folder stands where a file is needed; choose another place",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "close other programs: the whole system has too many files open",
    errno.ENOMEM: "close other programs, or use a machine with more memory",
    errno.ESTALE: "mount the network file system anew",
    errno.EIO: "look after the device that it is on, or choose another place",
}


class UserError(ValueError):
    """A mistake in a recipe, a command or an environment. The command line shows it without a traceback and exits with 2.

    Args:
        message: what is wrong and what would be right.
        place: where it stands; its ``str`` is ``file:line`` (`ibllm_core.recipe.locate.Place`), or None where there is no file.
    """

    def __init__(self, message: str, place: object = None) -> None:
        super().__init__(message if place is None else f"{place}: {message}")
        self.message, self.place = message, place


def system_error(error: BaseException) -> UserError | None:
    """What the operating system refused, as the user's error with path and remedy; None for any other error."""
    if not isinstance(error, OSError) or (error.errno not in _REMEDIES and error.filename is None):
        return None
    path = "" if error.filename is None else f"{os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename}: "
    helps = _REMEDIES.get(error.errno or 0)
    return UserError(f"{path}{error.strerror or error}" + (f"; {helps}" if helps else ""))


@contextlib.contextmanager
def writing(path: object) -> Iterator[None]:
    """`path` is written within: where the system refuses, its error names it."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


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
