"""Twenty trainings of four losses against five critics that go well: a watch warns of nothing. About a minute of one core.

``python -m pytest tests/integration/test_watch_is_quiet.py -n 0 -s`` prints the alarms, of which there are to be none.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from ibllm_core.recipe import load
from ibllm_core.training.job import Job

WATCH = Path(__file__).parents[1] / "watch"
_spec = importlib.util.spec_from_file_location("healthy", WATCH / "healthy.py")
assert _spec is not None and _spec.loader is not None
healthy = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(healthy)


@pytest.mark.usefixtures("plain_runs")
def test_twenty_healthy_runs_raise_no_alarm(tmp_path: Path) -> None:
    alarms = {}
    for number, (name, sets) in enumerate(healthy.RUNS.items()):
        path = tmp_path / str(number)
        common = ("compute.device=cpu", "compute.threads=1", "stages.gan.steps=120", "evaluation.items=2", "evaluation.samples=1")
        Job(load(WATCH / "gan.toml", (*common, *sets)), path).run()
        found = json.loads((path / "run.json").read_text(encoding="utf-8"))["watch"]
        assert found["rows"] == {"gan": 60}
        alarms[name] = [(alarm["symptom"], alarm["step"], alarm["because"]) for alarm in found["alarms"]]
        print(name, alarms[name] or "nothing", flush=True)
    assert len(alarms) == 20 and not any(alarms.values()), alarms
