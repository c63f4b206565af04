"""``ibllm plugin new``: what it writes, and what it refuses."""

from __future__ import annotations

import io
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest
from ibllm_testing.fixtures import run_command

from ibllm_core.host.spec import KINDS

ROOT = Path(__file__).parents[2]
#: Lines of code that a package may have in plugin.py, config.py and the part's module together, and those kinds that ask for more than others.
MOST_LINES = 40
MORE_LINES = {"text_decoder": 44, "image_decoder": 46, "dataset": 48, "image_tokenizer": 50}


def new(folder: Path, name: str = "my-part", kind: str = "text_encoder", *more: str):
    return run_command("plugin", "new", name, "--kind", kind, "--dir", folder, *more)


def code_lines(path: Path) -> int:
    """Lines with code: no blank ones, no comments, no docstrings."""
    words = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING, tokenize.ENDMARKER)
    lines: set[int] = set()
    fresh = True  # a string that begins a statement is a docstring
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type not in words and not (fresh and token.type == tokenize.STRING):
            lines |= set(range(token.start[0], token.end[0] + 1))
        fresh = token.type in words if token.type != tokenize.COMMENT else fresh
    return len(lines)


def test_lines_are_counted(tmp_path):
    path = tmp_path / "m.py"
    path.write_text('"""Doc\n\nstring."""\n\n# comment\nx = """a\nb"""  # and code\n\ndef f():\n    "doc"\n    return (1,\n\n        2)\n')
    assert code_lines(path) == 5


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_complete_package_whose_part_is_short(kind, tmp_path):
    target = tmp_path / "two-stripes"
    done = new(target, "ibllm-two-stripes", kind)
    assert (done.code, done.stderr) == (0, "")
    wanted = {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        ".gitignore",
        ".github/workflows/tests.yml",
        "tests/test_contract.py",
        "tests/test_use.py",
    }
    wanted |= {f"src/ibllm_two_stripes/{name}" for name in ("__init__.py", "plugin.py", "config.py", f"{kind}.py", "recipes/small.toml")}
    assert {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()} == wanted
    assert (target / "src/ibllm_two_stripes/__init__.py").read_text() == ""
    lines = {name: code_lines(target / f"src/ibllm_two_stripes/{name}.py") for name in ("plugin", "config", kind)}
    assert sum(lines.values()) <= MORE_LINES.get(kind, MOST_LINES), lines
    assert 'two_stripes = "ibllm_two_stripes.plugin"' in (target / "pyproject.toml").read_text()
    assert not [path for path in target.rglob("*") if path.is_file() and ("<<" in path.read_text() or "<%" in path.read_text())]


@pytest.mark.parametrize("name", ["x", "contrastive-language-image-distance-for-all-sort-of-pictures"])
def test_every_kinds_package_is_clean_and_formatted_however_long_its_name(name, tmp_path):
    """The steps of its own workflow, in its folder."""
    pytest.importorskip("ruff")
    assert len(name) in (1, 60)
    for kind in KINDS:
        assert new(tmp_path / kind, name, kind).code == 0
    for words in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *words, "--no-cache"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


def test_it_says_what_to_do_next(tmp_path):
    done = new(tmp_path / "a folder")
    assert done.stdout.splitlines() == [
        f"text_encoder.my_part is in {tmp_path}/a folder/src/my_part",
        f"next     cd '{tmp_path}/a folder'",
        'install  pip install -e ".[test]"',
        "test     python -m pytest",
        "try      ibllm run my-part:small",
        "check    ibllm plugin check my-part",
    ]


def test_without_dir_the_folder_is_called_like_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_command("plugin", "new", "my-part", "--kind", "schedule").code == 0
    assert (tmp_path / "my-part" / "pyproject.toml").is_file()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("-part", "NAME = '-part': expected letters, digits"),
        ("my part", "NAME = 'my part': expected letters, digits"),
        ("2-parts", "it begins with a letter and is no keyword"),
        ("lambda", "it begins with a letter and is no keyword"),
        ("a" * 61, "expected at most 60 characters, it has 61"),
        ("json", "would hide Python's own module json"),
        ("torch", "a package torch is installed here already: "),
        ("ibllm-lstm", "a package ibllm_lstm is installed here already"),
        ("lstm", "expected another name; text_encoder.lstm is offered by ibllm"),
        ("gan", "expected another name; the plugin gan is offered by ibllm"),
    ],
)
def test_names_that_would_not_do(name, message, tmp_path):
    done = run_command("plugin", "new", "--kind", "text_encoder", "--dir", tmp_path / "new", "--", name)
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: NAME = ")
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_kind_that_there_is_not(tmp_path):
    done = new(tmp_path / "new", "my-part", "text_encodr")
    assert (done.code, done.stderr) == (2, "error: no kind 'text_encodr'; did you mean 'text_encoder'?\n")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "thesis.txt").write_text("years of work")
    done = new(tmp_path / "new")
    assert done.code == 2
    assert done.stderr == f"error: {tmp_path}/new is not empty: expected a new folder (another NAME or --dir); nothing was changed\n"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["thesis.txt"]
    assert new(tmp_path / "new" / "thesis.txt").code == 2
    assert (tmp_path / "new" / "thesis.txt").read_text() == "years of work"


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / "new").mkdir()
    assert new(tmp_path / "new").code == 0
    assert (tmp_path / "new" / "src").is_dir()


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    whole, written = Path.write_text, []

    def write_text(self: Path, *given, **more):
        written.append(self.name)
        if len(written) > 5:
            raise OSError(28, "No space left on device")
        return whole(self, *given, **more)

    monkeypatch.setattr(Path, "write_text", write_text)
    done = new(tmp_path / "new")
    assert (done.code, done.stderr) == (2, f"error: {tmp_path}/new cannot be written: No space left on device; nothing was left behind\n")
    assert list(tmp_path.iterdir()) == []


def test_the_wheel_has_the_templates():
    builders = pytest.importorskip("hatchling.builders.wheel")
    packed = {Path(file.distribution_path) for file in builders.WheelBuilder(str(ROOT)).recurse_included_files()}
    templates = {path.relative_to(ROOT / "plugins") for path in (ROOT / "plugins" / "ibllm_author" / "templates").rglob("*.jinja")}
    assert len(templates) > 2 * len(KINDS)
    assert templates | {Path("ibllm_testing/tiny.toml")} <= packed
