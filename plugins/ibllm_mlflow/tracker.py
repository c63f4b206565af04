"""The tracker `mlflow`. Torch-free."""

from __future__ import annotations

import json
import os
import re
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ibllm.plugin import Context, Notice, Recipe, Tracker, UserError
from ibllm_mlflow.config import MlflowConfig

#: In the run directory: which run of the store it is, so that a restart goes on with it.
KEPT = "mlflow.json"
#: What MLflow does not take in a name.
_STRANGE = re.compile(r"[^\w\-. /:]", re.ASCII)


class MlflowTracker(Tracker):
    """Writes a run's figures, sheets of samples and its recipe into an MLflow store, with its name and seed as the parameters ``arm`` and ``seed``.

    A restart goes on with the same run. MLflow forgets nothing: what a run had logged beyond the checkpoint it goes on from stays, and its steps come again.
    """

    def __init__(self, config: MlflowConfig, context: Context) -> None:
        self.config = config
        self._client: Any = None
        self._run = ""
        self._renamed: set[str] = set()

    def open(self, run_dir: Path, step: int, recipe: Recipe) -> None:
        try:
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise UserError(f"the tracker mlflow: {error}; pip install 'ibllm[mlflow]'") from error
        # The store lies in the run directory unless somebody says where.
        own = run_dir.absolute()
        uri = self.config.uri or os.environ.get("MLFLOW_TRACKING_URI", "")
        self._client = MlflowClient(tracking_uri=uri or f"sqlite:///{own / 'mlflow.db'}")
        held = own / KEPT
        if step and held.is_file():
            self._run = str(json.loads(held.read_text(encoding="utf-8"))["run"])
            self._client.update_run(self._run, status="RUNNING")
            return
        known = self._client.get_experiment_by_name(self.config.experiment)
        place = None if uri else (own / "mlflow").as_uri()
        number = (
            known.experiment_id if known is not None else self._client.create_experiment(self.config.experiment, artifact_location=place)
        )
        self._run = self._client.create_run(number, run_name=f"{recipe.name}, seed {recipe.seed.init}").info.run_id
        held.write_text(json.dumps({"uri": uri, "run": self._run}) + "\n", encoding="utf-8")
        self._client.log_param(self._run, "arm", recipe.name)
        self._client.log_param(self._run, "seed", recipe.seed.init)
        self._client.log_text(self._run, recipe.source, "recipe.toml")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self._run, metrics=[Metric(self._plain(name), float(value), now, step) for name, value in values.items()])

    def image(self, name: str, pixels: npt.NDArray[np.uint8], step: int) -> None:
        self._client.log_image(self._run, pixels, artifact_file=f"{self._plain(name)}/{step:07d}.png")

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.set_terminated(self._run)

    def _plain(self, name: str) -> str:
        plain = _STRANGE.sub("_", name)
        if plain != name and name not in self._renamed:
            self._renamed.add(name)
            warnings.warn(Notice(f"MLflow does not take the name {name!r}; it is written as {plain!r}"), stacklevel=2)
        return plain
