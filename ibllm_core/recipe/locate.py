"""Where things stand in a recipe: key paths and the line of each; components, files, folders and runs that it names, and all its mistakes. Torch-free.

tomllib gives lines for syntax errors only. But a statement of TOML ends at the first line break where it can be read by itself: so a file is read statement
by statement.
"""

from __future__ import annotations

import pathlib
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import attrs

from ..errors import UserError, nearest
from ..host.options import Config
from ..host.spec import ComponentSpec

#: A key path: names of tables and keys, numbers of array elements.
Path = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")


@attrs.frozen(kw_only=True)
class Place:
    """Where something stands: ``file:line`` and the key path; for an override, ``--set KEY=VALUE`` and line 0."""

    file: str
    line: int
    key: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@attrs.frozen(kw_only=True)
class Component:
    """A table with ``use``: the component it names, its options, where it stands and who provides it."""

    kind: str
    use: str
    config: Config
    spec: ComponentSpec
    place: Place = attrs.field(eq=False)
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.kind}.{self.use}"

    @property
    def provider(self) -> str:
        """``text_encoder.lstm of ibllm 0.1.0``"""
        return f"{self} of {self.distribution} {self.version}"


class Scheduled:
    """A number of a recipe, a float or an int, that follows a schedule. As it stands it is what the last step of all has (see `ibllm.course`).

    Attributes:
        value: what the schedule's factors multiply.
        schedule, path: the schedule, and where it stands.
    """

    value: float
    schedule: Component
    path: Path

    def __eq__(self, other: object) -> bool:
        alike = not isinstance(other, Scheduled) or (self.value, self.schedule) == (other.value, other.schedule)
        return alike and float(self) == other  # type: ignore[arg-type]  # which it is

    def __hash__(self) -> int:
        return hash(float(self))  # type: ignore[arg-type]


class ScheduledFloat(Scheduled, float):
    """A float that does."""


class ScheduledInt(Scheduled, int):
    """An int that does: the schedule's values are rounded."""


@attrs.frozen
class Dependency:
    """A file, a folder or a run that an option names.

    Attributes:
        path: the option's key path.
        kind: as in `ibllm_core.host.options.option`.
        where: the file or folder itself.
        weights: of a run whose weights are taken, which: ``best`` or ``raw``.
        place: where the recipe says it.
    """

    path: Path
    kind: str
    where: pathlib.Path
    weights: str
    place: Place

    def lacks(self) -> tuple[str, str, str] | None:
        """What is wrong, what would be right, and what was probably meant; None where it is there."""
        exists = {"file": self.where.is_file, "folder": self.where.is_dir, "run": self.where.is_dir}.get(self.kind, self.where.exists)
        if not exists():
            parent = self.where.parent
            near = nearest(self.where.name, [path.name for path in parent.iterdir()] if parent.is_dir() else ())
            return f"there is no {self.kind} {self.where}", f"the path of a {self.kind} that is there", near and str(parent / near)
        if self.kind == "run" and not (self.where / "recipe.toml").is_file():
            return f"{self.where} is no run: it holds no recipe.toml", "the directory of a run", ""
        what, held = ("checkpoint", "checkpoints/step-*") if self.weights == "raw" else ("model", "model")
        if self.kind == "run" and not any(self.where.glob(f"{held}/weights.safetensors")):
            return (
                f"the run {self.where} has no {what} yet",
                'a run that is done, or weights = "raw" for those of its newest checkpoint',
                "",
            )
        return None


def dotted(path: Path) -> str:
    """The path as a recipe would write it: ``stages."my stage".steps``, ``extra[0].name``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            name = step if _BARE.fullmatch(step) else '"' + step.replace("\\", "\\\\").replace('"', '\\"') + '"'
            text += f".{name}" if text else name
    return text


def key_path(text: str) -> tuple[str, ...] | None:
    """The steps of a dotted key, ``stages."my stage".steps``; None where it is none."""
    try:
        nested: Any = tomllib.loads(f"{text.strip()} = 0")
    except (ValueError, RecursionError):
        return None
    path: list[str] = []
    while isinstance(nested, dict) and len(nested) == 1:
        ((key, nested),) = nested.items()
        path.append(key)
    return None if isinstance(nested, dict) else tuple(path)


def split_key(text: str) -> tuple[tuple[str, ...], str] | None:
    """The key path and the text of the value of ``KEY = VALUE``; None where there is no key."""
    for equals in re.finditer("=", text):
        path = key_path(text[: equals.start()])
        if path is not None:
            return path, text[equals.end() :].strip()
    return None


def locate(text: str) -> Mapping[Path, int]:
    """The line of every table and key of a valid TOML text; what stands in an inline table or array has its parent's line."""
    found: dict[Path, int] = {}
    last: dict[Path, int] = {}  # array of tables → the number of its last table
    table: Path = ()
    start, statement = 1, ""
    for number, line in enumerate(text.split("\n"), 1):
        start, statement = (start if statement else number), f"{statement}{line}\n"
        try:
            parsed = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        if statement.lstrip().startswith("["):
            path = table = _header(parsed, found, last, start)
            found[path] = start
        elif parsed:
            key = split_key(statement)
            assert key is not None
            path = (*table, *key[0])
            found.setdefault(path, start)
        else:
            path = ()
        for length in range(1, len(path)):  # "[a.b]" without "[a]": what has no line of its own stands where its first member does
            found.setdefault(path[:length], start)
        statement = ""
    return found


def _header(nested: Any, found: dict[Path, int], last: dict[Path, int], line: int) -> Path:
    """The path of the table that a header opens."""
    path: Path = ()
    while nested:
        ((key, nested),) = nested.items()
        path = (*path, key)
        if isinstance(nested, list):
            last[path] = last.get(path, -1) + 1
            found.setdefault(path, line)
            nested = nested[0]
        if path in last:
            path = (*path, last[path])
    return path


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
