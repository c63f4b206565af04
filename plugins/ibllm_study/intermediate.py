"""What a search prunes by: the validations of its runs while they train. Torch-free."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from ibllm_core.host.options import MetricConfig
from ibllm_core.recipe.schema import Recipe, Stage

from .directory import StudyDirectory
from .plan import Cell, Plan


def pruning(plan: Plan) -> tuple[bool, str]:
    """Whether the base's validations give the primary figure; why not, and what to do about it."""
    figure, base = plan.study.table.decides.partition("/")[2], plan.base
    if reporting(base, figure):
        return True, ""
    last = base.running()[-1].name if base.running() else ""
    return False, (
        f"nothing is pruned: the validations of the last stage, {last}, do not give {figure}; "
        f'they do with "stages.{last}.validate.figure" = "{figure}"'
    )


def reporting(recipe: Recipe, figure: str) -> tuple[str, ...]:
    """The last stages, as far back as their validations give a figure.

    Those before them train something else: what a captioner reads before the image decoder is sharpened says little about the end.
    """
    found: list[str] = []
    for stage in reversed(recipe.running()):
        if not _gives(recipe, stage, figure):
            break
        found.insert(0, stage.name)
    return tuple(found)


def _gives(recipe: Recipe, stage: Stage, figure: str) -> bool:
    if stage.validate is None or stage.validate.every == 0:
        return False
    configs = [recipe.metrics[name].config for name in recipe.validated(stage.validate)]
    return any(figure in config.names() for config in configs if isinstance(config, MetricConfig))


class Figures:
    """The primary figure of running cells on the split that their stages are validated on."""

    def __init__(self, plan: Plan, directory: StudyDirectory) -> None:
        self.figure, self.directory = plan.study.table.decides.partition("/")[2], directory
        self._read: dict[Path, tuple[tuple[int, int], dict[int, float]]] = {}

    def means(self, cells: Sequence[Cell]) -> Iterator[tuple[int, float, str]]:
        """Iteration × seeds + number of the last seed, the mean over the seeds up to that one at that iteration, and both in words.

        A seed is averaged in only once the ones before it are as far, so that equal places mean the same seeds and the same iteration for every
        point, however its runs were scheduled; and what a place holds never changes, as Optuna wants it.
        """
        found = [self._of(cell) for cell in cells]
        for step in sorted(set().union(*found)):
            values: list[float] = []
            for number, seed in enumerate(found):
                if step not in seed:
                    break
                values.append(seed[step])
                mean = math.fsum(values) / len(values)
                if math.isfinite(mean):
                    yield step * len(cells) + number, mean, f"after {step} iterations, {len(values)} of {len(cells)} seeds"

    def _of(self, cell: Cell) -> dict[int, float]:
        """Iteration → figure."""
        path = self.directory.run(cell) / "metrics.jsonl"
        try:
            status = path.stat()
            state = (status.st_mtime_ns, status.st_size)
            if path not in self._read or self._read[path][0] != state:
                self._read[path] = (state, self._rows(path, cell))
        except OSError:
            return {}
        return self._read[path][1]

    def _rows(self, path: Path, cell: Cell) -> dict[int, float]:
        stages, found = reporting(cell.recipe, self.figure), {}
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            # Most lines are of training; the last one may be half written.
            if '"validation"' not in line or not line.endswith("}"):
                continue
            row = json.loads(line)
            if row.get("kind") == "validation" and row.get("stage") in stages and self.figure in row:
                found[int(row["step"])] = float(row[self.figure])
        return found
