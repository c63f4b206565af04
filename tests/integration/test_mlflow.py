"""A real MLflow store: the tracker, a study exported and compared again; and what rliable makes of a study's scores."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import pytest
from ibllm_cli.main import main
from ibllm_study.foreign import from_csv
from ibllm_study.outputs import write_findings
from ibllm_study.saved import SavedStudy
from ibllm_study.statistics import interquartile_mean

from .needs import needs

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"
TABLE = "arm,seed,test/scene_exact,test/caption_exact\n" + "".join(
    f"{arm},{seed},{0.5 + 0.01 * seed + effect},{0.6 - 0.01 * seed + effect}\n"
    for arm, effect in (("base", 0.0), ("no cycle", -0.05), ("λ = 0", 0.02))
    for seed in range(5)
)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    needs("mlflow", importlib.util.find_spec("mlflow") is not None)
    monkeypatch.chdir(tmp_path)
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "results.csv"
    path.write_text(TABLE, encoding="utf-8")
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: value for key, value in row.items() if key != "path"} for row in csv.DictReader(file)]


def test_a_study_that_went_through_a_store_has_the_same_tables(store: str, table: Path, tmp_path: Path) -> None:
    study = SavedStudy(from_csv(table, "test/scene_exact"))
    assert study.to_mlflow(store, "losses") == 15
    assert study.to_mlflow(store, "losses") == 0, "what is there is not written again"
    write_findings(study.findings, tmp_path / "own")
    words = ["compare", "--mlflow", store, "--experiment", "losses", "--primary", "test/scene_exact", "--out", str(tmp_path / "again")]
    assert main(words) == 0
    for name in ("table.csv", "runs.csv"):
        key = lambda row: (row["arm"], row.get("figure", ""), row.get("seed", ""))  # noqa: E731
        assert sorted(rows(tmp_path / "again" / name), key=key) == sorted(rows(tmp_path / "own" / name), key=key)


def test_an_unknown_experiment_and_runs_without_arms_are_told(store: str, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    SavedStudy(from_csv(table, "test/scene_exact")).to_mlflow(store, "losses")
    assert main(["compare", "--mlflow", store, "--experiment", "loses"]) == 2
    assert "no experiment is called 'loses'; did you mean 'losses'?" in capsys.readouterr().err
    assert main(["compare", "--mlflow", store, "--experiment", "losses", "--arm", "variant"]) == 2
    assert "no parameter or tag 'variant'" in capsys.readouterr().err


def test_a_run_writes_its_figures_samples_and_recipe(store: str, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    run = tmp_path / "run"
    words = ["run", str(TINY), "--run-dir", str(run), "--set", "trackers.mlflow={use='mlflow'}", "--set", f"trackers.mlflow.uri={store}"]
    assert main(words) == 0
    client = MlflowClient(tracking_uri=store)
    number = client.get_experiment_by_name("ibllm").experiment_id
    (made,) = client.search_runs([number])
    assert made.info.status == "FINISHED"
    assert {"arm": made.data.params["arm"], "seed": made.data.params["seed"]} == {"arm": "tiny", "seed": "0"}
    assert any("/loss/" in key for key in made.data.metrics)
    assert {one.path for one in client.list_artifacts(made.info.run_id)} >= {"recipe.toml", "samples"}


def test_rliable_takes_a_studys_scores(table: Path) -> None:
    needs("rliable", importlib.util.find_spec("rliable") is not None)
    from rliable import metrics

    study = SavedStudy(from_csv(table, "test/scene_exact"))
    scores = study.scores()
    assert {arm: array.shape for arm, array in scores.items()} == {"base": (5, 2), "no cycle": (5, 2), "λ = 0": (5, 2)}
    assert metrics.aggregate_mean(scores["base"]) == pytest.approx(scores["base"].mean())
    assert metrics.aggregate_iqm(scores["base"]) == pytest.approx(interquartile_mean(scores["base"].tolist(), 0.95).value)
    ours = study.table().query("primary and arm == 'no cycle'").probability_of_improvement.item()
    primary = study.scores(["test/scene_exact"])
    assert metrics.probability_of_improvement(primary["no cycle"], primary["base"]) == pytest.approx(ours)
