"""Files, folders and runs that a recipe names: where they are looked for, and what is said where they are not there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from ibllm_cli.main import main

from ibllm.opening import load_run
from ibllm_core.host import packaged
from ibllm_core.recipe import load
from ibllm_core.recipe.document import Document
from ibllm_core.recipe.locate import Place
from ibllm_core.runs.directory import RunDirectory

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a recipe over captions beside it; the working directory is another one."""
    folder, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    (folder / "captions.txt").write_text("a red circle\n" * 40)
    (folder / "mine.toml").write_text(
        f'extends = "{TINY}"\n[unpaired.text]\nuse = "files"\npath = "captions.txt"\nholds = "captions"\n', encoding="utf-8"
    )
    return folder


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["check", *map(str, arguments)]) == 2
    return capsys.readouterr().err


def test_a_path_is_relative_to_the_file_that_says_it(project: Path) -> None:
    recipe = load(project / "mine.toml")
    assert recipe.unpaired["text"].config.path == str(project / "captions.txt")
    (project / "below").mkdir()
    (project / "below" / "child.toml").write_text('extends = "../mine.toml"\n')
    assert load(project / "below" / "child.toml").unpaired["text"].config.path == str(project / "captions.txt")


def test_a_path_of_an_override_is_relative_to_the_working_directory(project: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "others.txt"
    other.write_text("a blue star\n")
    assert load(project / "mine.toml", ["unpaired.text.path=others.txt"]).unpaired["text"].config.path == str(other)


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize("override", ['unpaired.text={path="captions.txt"}', 'unpaired={text={path="captions.txt"}}'])
def test_a_path_in_a_table_of_an_override_is_relative_to_the_working_directory(
    project: Path, tmp_path: Path, override: str, inline: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    if inline:
        table = '{ use = "files", path = "captions.txt", holds = "captions" }'
        (project / "mine.toml").write_text(f'extends = "{TINY}"\nunpaired = {{ text = {table} }}\n')
    there = tmp_path / "elsewhere" / "captions.txt"
    message = refused(capsys, project / "mine.toml", "--set", override)
    assert f"--set {override}: unpaired.text.path: there is no file or folder" in message, "the recipe's own captions.txt is another file"
    there.write_text("a blue star\n" * 40)
    assert load(project / "mine.toml", [override]).unpaired["text"].config.path == str(there)


def test_a_run_in_a_table_of_an_override_is_relative_to_the_working_directory(
    project: Path, tmp_path: Path, pretended_run: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    pretended_run(project / "first")
    child, override = project / "child.toml", 'model.text_decoder.init={run="first"}'
    child.write_text('extends = "mine.toml"\n[model.text_decoder]\ninit = { run = "first" }\n')
    assert f"--set {override}: model.text_decoder.init.run: there is no run" in refused(capsys, child, "--set", override)
    run = pretended_run(tmp_path / "elsewhere" / "first")
    init = load(child, [override]).model.parts["text_decoder"].init
    assert init is not None and init.run == str(run)


def test_a_path_in_an_inline_table_is_relative_to_the_file_that_says_it(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "below").mkdir()
    child = project / "below" / "child.toml"
    child.write_text('extends = "../mine.toml"\n\nunpaired.text = { path = "captions.txt" }\n')
    assert f"{child}:3: unpaired.text.path: there is no file or folder" in refused(capsys, child)
    shutil.copy(project / "captions.txt", child.parent)
    assert load(child).unpaired["text"].config.path == str(child.parent / "captions.txt")
    shutil.copy(project / "captions.txt", tmp_path / "elsewhere")
    over = Document(str(tmp_path / "elsewhere" / "study.toml"))
    over.put(("unpaired",), {"text": {"path": "captions.txt"}}, Place(file=over.file, line=7, key="unpaired"))
    assert load(child, over=[over]).unpaired["text"].config.path == str(tmp_path / "elsewhere" / "captions.txt")


def test_a_path_of_a_packaged_recipe_is_relative_to_the_working_directory(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = packaged.Packaged("mine", "1.0", "mine", project / "mine.toml")
    monkeypatch.setattr(packaged, "everything", lambda what: [found])
    shutil.copy(project / "captions.txt", tmp_path / "elsewhere")
    assert load(project / "mine.toml").unpaired["text"].config.path == str(tmp_path / "elsewhere" / "captions.txt")


def test_what_is_below_runs_is_where_runs_are_made(project: Path, tmp_path: Path, pretended_run: Callable[[Path], Path]) -> None:
    run = pretended_run(tmp_path / "elsewhere" / "runs" / "first")
    (project / "child.toml").write_text('extends = "mine.toml"\ninit = { run = "runs/first" }\n')
    recipe = load(project / "child.toml")
    assert recipe.init is not None and recipe.init.run == str(run)


def test_a_run_records_where_its_files_are_and_opens_without_them(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load(project / "mine.toml")
    directory = RunDirectory(tmp_path / "run")
    directory.create(recipe)
    (project / "captions.txt").unlink()
    shutil.move(tmp_path / "run", tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    opened = load_run(RunDirectory(tmp_path / "moved"))
    assert opened.unpaired["text"].config.path == str(project / "captions.txt")
    assert opened.source == recipe.source


def test_a_run_of_0_1_that_recorded_a_relative_path_is_read_as_it_was(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load(project / "mine.toml")
    directory = RunDirectory(tmp_path / "run")
    directory.create(recipe)
    directory.recipe.write_text(recipe.source.replace(str(project / "captions.txt"), "captions.txt"))
    monkeypatch.chdir(project)
    assert load_run(directory).unpaired["text"].config.path == str(project / "captions.txt")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("frist", ["there is no run {folder}/frist", "did you mean: {folder}/first"]),
        ("empty", ["{folder}/empty is no run: it holds no recipe.toml"]),
        ("begun", ["the run {folder}/begun has no model yet", 'weights = "raw"']),
    ],
)
def test_a_run_that_cannot_be_started_from_is_told_with_its_line(
    project: Path, pretended_run: Callable[[Path], Path], capsys: pytest.CaptureFixture[str], name: str, said: list[str]
) -> None:
    pretended_run(project / "first")
    (project / "empty").mkdir()
    pretended_run(project / "begun")
    shutil.rmtree(project / "begun" / "model")
    child = project / "child.toml"
    child.write_text(f'extends = "mine.toml"\n\n[stages.image]\ninit = {{ run = "{name}" }}\n')
    message = refused(capsys, child)
    assert f"{child}:4: stages.image.init.run: " in message
    assert all(words.replace("{folder}", str(project)) in message for words in said)
    assert main(["check", str(child), "--set", "stages.image.steps=0"]) == 0, "a stage that is not played needs no run"


def test_a_missing_file_is_told_before_anything_is_built(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "captions.txt").rename(project / "caption.txt")
    message = refused(capsys, project / "mine.toml")
    assert f"mine.toml:4: unpaired.text.path: there is no file or folder {project}/captions.txt" in message
    assert f"did you mean: {project}/caption.txt" in message


def test_what_a_recipe_depends_on_is_listed(project: Path, pretended_run: Callable[[Path], Path]) -> None:
    pretended_run(project / "first")
    child = project / "child.toml"
    child.write_text(
        'extends = "mine.toml"\ninit = { run = "first", parts = ["text_encoder"] }\n[model.text_decoder]\ninit = { run = "first" }\n'
    )
    found = {".".join(map(str, one.path)): (one.kind, one.where, one.place.line) for one in load(child).dependencies}
    assert found == {
        "init.run": ("run", project / "first", 2),
        "unpaired.text.path": ("file or folder", project / "captions.txt", 4),
        "model.text_decoder.init.run": ("run", project / "first", 4),
    }


SPECS = """
from ibllm_core.host.hookspecs import hookimpl
from ibllm_core.host.spec import ComponentSpec

@hookimpl
def ibllm_components():
    return [ComponentSpec("tracker", "ledger", "ledger.parts:Ledger", "ledger.config:LedgerConfig", "a test's")]
"""
CONFIG = """
import pathlib
import attrs
from ibllm.plugin import Config, OptionError, option

@attrs.frozen(kw_only=True)
class LedgerConfig(Config):
    form: str = option(help="the form", path="file")
    pages: int = option(1, help="how many pages of it")

    def check(self):
        if self.pages == 13:
            1 / 0
        if pathlib.Path(self.form).is_file() and "ledger" not in pathlib.Path(self.form).read_text():
            yield OptionError("form", self.form, "a file that begins with the word ledger")
"""


@pytest.fixture
def ledger(site, monkeypatch: pytest.MonkeyPatch, project: Path) -> Path:  # type: ignore[no-untyped-def]
    """A recipe with a stranger's tracker that needs a form."""
    from importlib import metadata

    from ibllm_core.host import manager as plugins
    from ibllm_core.host.entry_points import PLUGINS

    site.install("ledger", {"ledger": "ledger.plugin"}, {"ledger.plugin": SPECS, "ledger.config": CONFIG}, version="1.0")
    points = [point for point in metadata.entry_points(group=PLUGINS) if point.dist and point.dist.name in ("ibllm", "ledger")]
    monkeypatch.setattr(plugins, "manager", lambda block=(): plugins.Manager(block, points))
    (project / "form.txt").write_text("a list\n")
    path = project / "child.toml"
    path.write_text('extends = "mine.toml"\n[trackers.ledger]\nuse = "ledger"\nform = "form.txt"\n')
    return path


def test_what_a_config_finds_out_about_its_files_is_told_at_the_option(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, ledger)
    form = ledger.with_name("form.txt")
    assert f'{ledger}:4: trackers.ledger.form: "{form}" is refused\n    expected: a file that begins with the word ledger' in message
    assert "provided by: tracker.ledger of ledger 1.0" in message
    message = refused(capsys, ledger, "--set", "trackers.ledger.pages=13")
    assert f"{ledger}:3: trackers.ledger.use: ledger==1.0" in message and "ZeroDivisionError" in message
