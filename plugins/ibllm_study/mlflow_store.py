"""Runs of a study to an MLflow store and back: a run a cell, its arm and seed as parameters, its figures as metrics. Torch-free."""

from __future__ import annotations

import re
import shlex
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ibllm_core.errors import Notice, UserError, suggestion

from .analysis import run_cost
from .findings import Findings
from .foreign import COSTS, from_rows

#: Tags that an export sets: which study and which of its runs.
STUDY, RUN = "ibllm.study", "ibllm.run"
#: What MLflow takes in a metric's name.
_STRANGE = re.compile(r"[^\w\-. /:]", re.ASCII)


def export(found: Findings, uri: str, experiment: str) -> int:
    """Writes every run that has figures, unless it is there; gives how many were written. Raises `UserError`."""
    with _store(uri) as client:
        known = client.get_experiment_by_name(experiment)
        number = known.experiment_id if known is not None else client.create_experiment(experiment)
        there = {run.data.tags.get(RUN) for run in _runs(client, number)}
        renamed: set[str] = set()
        written = 0
        for arm, run in found.runs:
            name = f"{arm.name}, seed {run.seed}"
            if not run.done or f"{found.name}/{name}" in there:
                continue
            made = client.create_run(number, run_name=name, tags={STUDY: found.name, RUN: f"{found.name}/{name}"})
            client.log_param(made.info.run_id, "arm", arm.name)
            client.log_param(made.info.run_id, "seed", run.seed)
            cost = run_cost(run)
            costs = dict(zip(COSTS, (cost.seconds, cost.parameters, cost.flops, cost.memory), strict=True))
            for key, value in {**run.results, **{key: value for key, value in costs.items() if value is not None}}.items():
                plain = _STRANGE.sub("_", key)
                renamed |= {key} - {plain}
                client.log_metric(made.info.run_id, plain, value)
            client.set_terminated(made.info.run_id)
            written += 1
    if renamed:
        warnings.warn(Notice(f"MLflow does not take some characters of {', '.join(sorted(renamed))}; they are written as _"), stacklevel=3)
    return written


def from_mlflow(
    uri: str,
    experiment: str,
    *,
    arm: str = "arm",
    seed: str = "seed",
    primary: str = "",
    mode: str = "",
    base: str = "",
    confidence: float = 0.95,
) -> Findings:
    """The finished runs of an experiment, whoever made them.

    Args:
        arm, seed: the parameters, or tags, that say a run's arm and seed.
        primary, mode, base, confidence: as of `from_csv`.

    Raises:
        UserError: there is no such experiment, mlflow is not installed, or the runs do not say what they are.
    """
    with _store(uri) as client:
        known = client.get_experiment_by_name(experiment)
        if known is None:
            names = [one.name for one in client.search_experiments()]
            raise UserError(f"{uri}: no experiment is called {experiment!r}; {suggestion(experiment, names)}")
        runs = list(_runs(client, known.experiment_id))
    where, rows, lacking = f"{uri}, experiment {experiment}", [], []
    for run in runs:
        said = {**run.data.tags, **run.data.params}
        if arm not in said or seed not in said:
            lacking.append(run.info.run_name or run.info.run_id)
            continue
        status = "done" if run.info.status == "FINISHED" else run.info.status.lower()
        rows.append({**run.data.metrics, "arm": said[arm], "seed": said[seed], "status": status, "path": f"{uri}#{run.info.run_id}"})
    if lacking:
        shown = ", ".join(lacking[:5]) + (f" and {len(lacking) - 5} more" if len(lacking) > 5 else "")
        raise UserError(f"{where}: no parameter or tag {arm!r} or {seed!r} of {shown}; say which ones they are (--arm NAME, --seed NAME)")
    figures = list(dict.fromkeys(key for run in runs for key in run.data.metrics))
    options = {"--arm": arm if arm != "arm" else "", "--seed": seed if seed != "seed" else ""}
    command = ["ibllm", "compare", "--mlflow", uri, "--experiment", experiment]
    return from_rows(
        rows, where, ["arm", "seed", *figures], name=experiment, primary=primary, mode=mode, base=base, confidence=confidence,
        command=[*command, *(word for pair in options.items() if pair[1] for word in pair)],
    )  # fmt: skip


def _runs(client: Any, experiment: str) -> Iterator[Any]:
    token = None
    while True:
        found = client.search_runs([experiment], max_results=1000, page_token=token)
        yield from found
        token = found.token
        if not token:
            return


@contextmanager
def _store(uri: str) -> Iterator[Any]:
    """A client of a store; what it raises becomes a `UserError`."""
    try:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise UserError(f"MLflow: {error}; pip install 'ibllm[mlflow]'") from error
    try:
        yield MlflowClient(tracking_uri=uri)
    except MlflowException as error:
        raise UserError(f"MLflow, {shlex.quote(uri)}: {str(error).strip().splitlines()[0]}") from error
