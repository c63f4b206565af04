"""What a recipe names outside itself: files, folders and other runs. Torch-free."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

import attrs

from ..errors import nearest
from .locate import Path

if TYPE_CHECKING:
    from .schema import Place


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
