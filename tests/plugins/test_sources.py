"""The source of what is no installed wheel, and runs that others start from: kept in run.json and in a study's keys, told where they are others."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from ibllm_study.ablate import _tell
from ibllm_study.directory import StudyDirectory
from ibllm_study.plan import Plan, make_plan
from ibllm_study.sharing import prefixes, run_key
from ibllm_study.study_file import read_study
from ibllm_testing.fixtures import run_command

from ibllm import sources
from ibllm_core.errors import Notice
from ibllm_core.host import manager as plugins
from ibllm_core.recipe import load

pytestmark = pytest.mark.usefixtures("plain_runs")

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"
LOSS = """
from ibllm.plugin import Loss
from pile_helper.sums import half

class Pile(Loss):
    def __init__(self, config, context):
        super().__init__()

    def forward(self, cycle):
        return half(cycle.image_nll.mean())
"""
CONFIG = """
import attrs
from ibllm.plugin import LossConfig, option

@attrs.frozen(kw_only=True)
class PileConfig(LossConfig):
    teacher: str = option("", help="a run", path="run")

    def needs(self):
        return frozenset({"text_encoder", "image_decoder"})
"""
RECIPE = f"""
format = 1
extends = "{TINY}"
name = "piled"
losses.pile = {{ use = "pile" }}
stages.text = {{ steps = 1, losses = {{ pile = 1.0 }}, train = ["text_encoder", "image_decoder"] }}
stages.image.steps = 0
stages.joint.steps = 0
evaluation = {{ items = 2, after_stage = 0, samples = 1, splits = ["validation"] }}
trackers.tensorboard = false
compute = {{ device = "cpu", threads = 1 }}
"""


@pytest.fixture
def edit(site, source, monkeypatch) -> Callable[..., None]:  # type: ignore[no-untyped-def]
    """``edit(file, text)``: a stranger's package on the path, or a change of it; whoever looks next is a new process."""
    monkeypatch.setattr(plugins, "_manager", lambda block: plugins.Manager(block))
    modules = {
        "pile.plugin": source("loss", "pile", "pile.loss:Pile", "pile.config:PileConfig"),
        "pile.loss": LOSS,
        "pile.config": CONFIG,
        "pile.__init__": "",
        "pile_helper.__init__": "",
        "pile_helper.sums": "def half(x):\n    return x / 2\n",
    }
    site.install("pile", {"pile": "pile.plugin"}, modules)

    def edit(file: str, text: str = "# edited\n") -> None:
        path = site.folder / file
        path.parent.mkdir(exist_ok=True)
        with path.open("a", encoding="utf-8") as opened:
            opened.write(text)
        sources._package.cache_clear()

    sources._package.cache_clear()
    yield edit
    sources._package.cache_clear()


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "piled.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def info(run: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return found


def test_a_run_goes_on_with_edited_code_only_where_that_is_accepted(edit, recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert run_command("run", recipe, "--run-dir", run).code == 0
    first = info(run)
    assert {"pile", "pile_helper", "ibllm", "ibllm_core", "ibllm_transformer"} <= first["sources"].keys()
    assert not {"ibllm_report", "ibllm_study", "ibllm_tensorboard", "torch", "attrs"} & first["sources"].keys()
    assert run_command("run", run, "--resume").code == 0

    edit("pile_helper/sums.py")
    with pytest.warns(Notice, match="another state of pile_helper"):
        refused = run_command("run", run, "--resume")
    assert refused.code == 2
    assert "was started with another state of pile_helper: put it back, or go on with what is here now (--accept-code)" in refused.stderr
    assert info(run)["sources"] == first["sources"]

    with pytest.warns(Notice, match="another state of pile_helper"):
        taken = run_command("run", run, "--resume", "--accept-code")
    assert taken.code == 0, taken.stderr
    record = info(run)
    assert record["accepted_code"] == [{"pile_helper": first["sources"]["pile_helper"]}]
    assert record["sources"]["pile_helper"] != first["sources"]["pile_helper"]
    assert json.loads((run / "model" / "model.json").read_text(encoding="utf-8"))["sources"] == record["sources"]
    assert run_command("run", run, "--resume").code == 0, "what was accepted is what the run has now"


def test_an_edited_package_is_told_where_a_run_is_opened_and_compared(edit, recipe: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        resolved = load(recipe)
        (folder / "recipe.toml").write_text(resolved.source, encoding="utf-8")
        (folder / "run.json").write_text(json.dumps({"sources": sources.sources(resolved)}), encoding="utf-8")
        if name == "one":
            edit("pile/loss.py")
    with pytest.warns(Notice) as told:
        found = run_command("diff", tmp_path / "one", tmp_path / "two")
    with pytest.warns(Notice):
        later = run_command("diff", tmp_path / "one", recipe)
    assert "source of pile: " in later.stdout
    assert found.code == 0
    assert found.stdout.startswith("source of pile: ")
    assert {str(one.message) for one in told} == {f"{tmp_path / 'one'} was made with another state of pile; figures may differ"}
    assert run_command("diff", tmp_path / "two", recipe).stdout == "no difference once resolved\n"


@pytest.mark.parametrize("file", ["pile/tests/test_pile.py", "pile/docs/conf.py", "pile/README.md", "other/__init__.py"])
def test_tests_and_documentation_and_what_is_not_imported_are_no_source(edit, recipe: Path, file: str) -> None:
    before = sources.sources(load(recipe))
    edit(file)
    assert sources.sources(load(recipe)) == before


def test_an_installed_package_is_known_by_its_version(edit, site, recipe: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    installed = site.folder.parent / "site-packages"
    shutil.copytree(site.folder, installed)
    monkeypatch.syspath_prepend(str(installed))
    edit("pile/loss.py")
    assert not {"pile", "pile_helper"} & sources.sources(load(recipe)).keys()


def test_the_runs_that_weights_are_taken_from_are_looked_into(tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    (teacher / "model").mkdir(parents=True)
    weights = teacher / "model" / "weights.safetensors"
    weights.write_bytes(b"one")
    (teacher / "recipe.toml").write_text("", encoding="utf-8")
    wholly, later = (load(TINY, [f"{key}={{ run = '{teacher}' }}"]) for key in ("init", "stages.joint.init"))
    before = [(run_key(recipe), [prefix.key for prefix in prefixes(recipe)]) for recipe in (wholly, later)]
    hashed = sources.sources(wholly)[str(teacher)]
    weights.write_bytes(b"two")
    after = [(run_key(recipe), [prefix.key for prefix in prefixes(recipe)]) for recipe in (wholly, later)]
    assert sources.sources(wholly)[str(teacher)] != hashed
    assert [old[0] == new[0] for old, new in zip(before, after, strict=True)] == [False, False]
    same = [[a == b for a, b in zip(old[1], new[1], strict=True)] for old, new in zip(before, after, strict=True)]
    assert same == [[False, False, False], [True, True, False]], "a stage hangs on what it, or one before it, starts from"
    checkpoint = teacher / "checkpoints" / "step-0000004"
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights.safetensors").write_bytes(b"raw")
    (checkpoint / "hashes.json").write_text("{}")
    raw = sources.sources(load(TINY, [f"init={{ run = '{teacher}', weights = 'raw' }}"]))[str(teacher)]
    assert raw not in (hashed, sources.sources(wholly)[str(teacher)])
    weights.unlink()
    assert sources.sources(wholly)[str(teacher)] == "missing"


def test_a_teacher_that_an_option_names_is_looked_into(edit, recipe: Path, tmp_path: Path) -> None:
    weights = tmp_path / "teacher" / "model" / "weights.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"one")
    (tmp_path / "teacher" / "recipe.toml").write_text("", encoding="utf-8")
    taught = load(recipe, [f"losses.pile.teacher='{tmp_path / 'teacher'}'"])
    before, key = sources.sources(taught)[str(tmp_path / "teacher")], run_key(taught)
    weights.write_bytes(b"two")
    assert sources.sources(taught)[str(tmp_path / "teacher")] != before
    assert run_key(taught) != key


def test_a_run_that_does_not_say_its_source_goes_on_and_is_told(recipe: Path, edit) -> None:
    resolved = load(recipe)
    with pytest.warns(Notice, match="old does not say with which state of ibllm.*pile.* it was started"):
        assert sources.goes_on({"provenance": {}}, resolved, "old") == {"sources": sources.sources(resolved)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sources.goes_on({}, resolved, "new")


# Studies.


@pytest.fixture
def study(tmp_path: Path, recipe: Path) -> Path:
    path = tmp_path / "study.toml"
    text = 'format = 1\nbase = "piled.toml"\nseeds = 1\nprimary = "validation/scene_exact"\n[axes]\n"optimizer.lr" = [0.1]\n'
    path.write_text(text, encoding="utf-8")
    return path


def planned(study: Path, directory: StudyDirectory, accept: bool = False) -> Plan:
    return make_plan(directory.accept(read_study(study), accept))


def finish(directory: StudyDirectory, plan: Plan) -> None:
    """As if the study had been run."""
    directory.prepare(plan)
    for cell in plan.cells:
        run = directory.run(cell)
        run.create(cell.recipe)
        (run / "results.json").write_text('{"validation/scene_exact": 0.5}', encoding="utf-8")
        run.update(status="done", sources=plan.here)


def test_edited_code_makes_other_runs_of_a_study_unless_it_is_accepted(edit, study: Path, tmp_path: Path, capsys) -> None:
    directory = StudyDirectory(tmp_path / "out")
    before = planned(study, directory)
    finish(directory, before)
    assert [cell.id for cell in planned(study, directory).cells] == [cell.id for cell in before.cells]

    edit("pile/loss.py")
    options = ("ablate", study, "--study-dir", directory.path)
    assert not {cell.key for cell in planned(study, directory).cells} & {cell.key for cell in before.cells}
    refused = run_command(*options, "--report")
    assert refused.code == 2
    assert "the source or the weights of pile have changed (--accept-code takes the runs as they are)" in refused.stderr
    assert "make the runs anew" in refused.stderr
    assert "--study-dir" in refused.stderr
    _tell(planned(study, directory), directory, accepted=False)
    assert "were made with another state of pile: others are made" in capsys.readouterr().err

    with pytest.warns(Notice, match="another state of pile"):
        taken = run_command(*options, "--report", "--accept-code")
    assert taken.code == 0, taken.stderr
    assert "were made with another state of pile: they are kept" in taken.stderr
    accepted = planned(study, directory, accept=True)
    assert [cell.id for cell in accepted.cells] == [cell.id for cell in before.cells]

    directory.run(accepted.cells[1]).update(sources=accepted.here)
    with pytest.warns(Notice, match="another state of pile"):
        assert run_command(*options, "--report", "--accept-code").code == 0
    assert "not all made with the same source or weights of pile." in (directory / "table.md").read_text(encoding="utf-8")


def test_a_study_that_does_not_say_its_source_keeps_its_runs(edit, study: Path, tmp_path: Path) -> None:
    """As those of ibllm 0.1.0."""
    directory = StudyDirectory(tmp_path / "out")
    finish(directory, make_plan(directory.accept(read_study(study), False)))
    record = json.loads((directory / "plan.json").read_text(encoding="utf-8"))
    del record["sources"]
    (directory / "plan.json").write_text(json.dumps(record), encoding="utf-8")
    old = planned(study, directory)
    assert [cell.key for cell in old.cells] == [run_key(cell.recipe, None) for cell in old.cells]
    finish(directory, old)
    edit("pile/loss.py")
    with pytest.warns(Notice, match="another state of pile"):
        done = run_command("ablate", study, "--study-dir", directory.path, "--report")
    assert done.code == 0, done.stderr
    assert "do not say with which state of" in done.stderr
    assert [cell.id for cell in planned(study, directory).cells] == [cell.id for cell in old.cells]


def test_a_worker_does_not_train_with_other_code_than_was_planned(edit, study: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    from ibllm_study import worker

    monkeypatch.setattr(worker, "_follow_parent", lambda: None)
    directory = StudyDirectory(tmp_path / "out")
    plan = planned(study, directory)
    directory.prepare(plan)
    cell = plan.cells[0]
    file, task = tmp_path / "cell.toml", tmp_path / "task.json"
    file.write_text(cell.recipe.source, encoding="utf-8")
    folders = {"run": str(directory.run(cell).path), "shelf": str(directory.shelf.path), "locks": str(directory / "locks")}
    task.write_text(json.dumps(folders | {"recipe": str(file), "prefixes": [], "command": "", "sources": plan.here}))
    edit("pile/loss.py")
    assert worker.main([str(task)]) == worker.FAILED
    assert "pile changed while the study ran: start it again" in capsys.readouterr().out
    assert not (directory.run(cell) / "run.json").exists()
