"""``ibllm.study("studies/losses")``: a study's figures as tables of other libraries. Torch-free."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from ibllm.arguments import a_path
from ibllm.glossary import Glossary
from ibllm_core.errors import UserError, suggestion
from ibllm_core.runs.directory import RunDirectory, read_json
from ibllm_report.files import glossary_of
from ibllm_report.results import split_of

from . import tables
from .analysis import Analysis
from .findings import Findings, FoundArm, found_run, merged
from .foreign import from_csv
from .rules import rules_from
from .statistics.factorial import Design, Effect

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd


def study(path: str | os.PathLike[str]) -> SavedStudy:
    """Opens what a study found.

    Args:
        path: a study's directory, run to its end or not, or a CSV file with the columns ``arm``, ``seed`` and one for each figure.

    Raises:
        UserError: it is neither.
    """
    place = a_path("the study", path)
    return SavedStudy(from_csv(place) if place.is_file() else from_directory(place))


@attrs.frozen
class SavedStudy:
    """What a study found, as tables of other libraries."""

    findings: Findings

    @cached_property
    def _analysis(self) -> Analysis:
        return Analysis(self.findings)

    def frame(self) -> pd.DataFrame:
        """A row a run, whatever became of it: arm, seed, status, every figure, what it cost; as in ``runs.csv``."""
        return _frame(tables.runs_table(self._analysis))

    def table(self) -> pd.DataFrame:
        """A row an arm and figure: means, differences, intervals and p-values; as in ``table.csv``."""
        return _frame(tables.long_table(self._analysis))

    def scores(self, figures: Sequence[str] = ()) -> dict[str, npt.NDArray[np.float64]]:
        """Arm → scores (runs figures), as ``rliable`` takes them. Runs that lack one of the figures are left out, and a line says so.

        Args:
            figures: ``SPLIT/FIGURE``; by default all of the primary figure's split that are fractions.

        Raises:
            UserError: there is no such figure.
        """
        import warnings

        import numpy as np

        from ibllm_core.errors import Notice

        known, split = self.findings.figures, split_of(self.findings.primary)[0]
        about = self.findings.glossary.figure
        chosen = list(figures) or [one for one in known if split_of(one)[0] == split and about(split_of(one)[1]).percent]
        chosen = chosen or [self.findings.primary]
        for figure in chosen:
            if figure not in known:
                raise UserError(f"no run has the figure {figure!r}; {suggestion(figure, known)}")
        found, left = {}, 0
        for arm in self.findings.arms:
            whole = [run for run in arm.runs.values() if all(figure in run.results for figure in chosen)]
            left += len(arm.runs) - len(whole)
            found[arm.name] = np.array([[run.results[figure] for figure in chosen] for run in whole]).reshape(len(whole), len(chosen))
        if left:
            warnings.warn(Notice(f"{left} of {len(self.findings.runs)} runs lack one of the figures and are left out"), stacklevel=2)
        return found

    def to_mlflow(self, uri: str, experiment: str = "") -> int:
        """Writes every run with figures into an MLflow store (extra ``ibllm[mlflow]``), and gives their number.

        Args:
            uri: of the store, ``sqlite:///mlflow.db`` or a server's.
            experiment: by default the study's name. A run that an earlier export wrote there is not written again.

        Raises:
            UserError: mlflow is not installed, or the store refuses.
        """
        from .mlflow_store import export

        return export(self.findings, uri, experiment or self.findings.name)


def from_directory(path: Path) -> Findings:
    """The runs of a study's directory, by its plan.json alone: neither the study's file nor its base need be there. Raises `UserError`."""
    plan: Any = read_json(path / "plan.json") if (path / "plan.json").is_file() else None
    if not isinstance(plan, Mapping) or "cells" not in plan:
        raise UserError(f"{path} is no study: expected the directory of `ibllm ablate` (it holds plan.json), or a CSV file")
    cells = {(str(cell["arm"]), int(cell["seed"])): str(cell["id"]) for cell in plan["cells"]}
    arms = [
        FoundArm(
            name=str(arm["name"]),
            differs=[line for line in arm["differs"] if not line.startswith(("name:", "trackers."))],
            runs={seed: found_run(path, cells[str(arm["name"]), seed], seed) for seed in plan["seeds"]},
            high=tuple(arm.get("high", ())),
        )
        for arm in plan["arms"]
    ]
    done = [run for arm in arms for run in arm.runs.values() if run.done]
    glossary = merged(glossary_of(RunDirectory(run.path), run.info) for run in done) if done else Glossary()
    better = glossary.figure(split_of(str(plan["primary"]))[1]).better
    recipe = RunDirectory(next(iter(arms[0].runs.values())).path).recipe
    return Findings(
        name=str(plan["name"]),
        primary=str(plan["primary"]),
        searched=plan["design"] == "search",
        # Studies of 0.1.0 do not say; their figures do.
        mode=str(plan.get("mode") or ("min" if better == "lower" else "max")),
        confidence=float(plan.get("confidence", 0.95)),
        seeds=tuple(plan["seeds"]),
        arms=tuple(arms),
        recipe=recipe.read_text(encoding="utf-8") if recipe.is_file() else "",
        root=path,
        glossary=glossary,
        rules=rules_from(plan.get("rules", {})),
        factorial=_design(plan["factorial"]) if plan.get("factorial") else None,
    )


def _design(said: Mapping[str, Any]) -> Design:
    effects = (
        Effect(factors=tuple(one["factors"]), aliases=tuple((tuple(other), sign) for other, sign in one["aliases"]))
        for one in said["effects"]
    )
    cells, words = (tuple(map(tuple, said[key])) for key in ("cells", "words"))
    return Design(factors=tuple(said["factors"]), cells=cells, words=words, effects=tuple(effects))


def _frame(table: tuple[Sequence[str], Sequence[Sequence[Any]]]) -> pd.DataFrame:
    import pandas as pd

    header, rows = table
    return pd.DataFrame(list(rows), columns=list(header))
