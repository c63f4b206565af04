"""``ibllm plugin new --into``: a further component for a package that is there; what it changes, and what it leaves alone."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from ibllm_author import extend
from ibllm_testing.fixtures import run_command

from ibllm_core.errors import UserError
from ibllm_core.host.spec import KINDS

SPEC = {"kind": "loss", "name": "more", "factory": "p.loss:More", "config": "p.loss_config:MoreConfig", "summary": "more of it"}
HEAD = "from ibllm.plugin import ComponentSpec as Spec, hookimpl\n\n\n@hookimpl\ndef ibllm_components():\n"
ONE = 'Spec(kind="loss", name="one", factory="p.m:A", config="p.c:A", summary="é")'


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package as ``plugin new`` writes it."""
    assert run_command("plugin", "new", "my-part", "--kind", "schedule", "--dir", tmp_path / "my-part").code == 0
    return tmp_path / "my-part"


def into(package: Path | str, name: str = "shade", kind: str = "loss", *more: object):
    return run_command("plugin", "new", name, "--kind", kind, "--into", package, *more)


def files(package: Path) -> dict[str, bytes]:
    return {path.relative_to(package).as_posix(): path.read_bytes() for path in package.rglob("*") if path.is_file()}


def test_files_are_new_and_the_plugin_module_gets_one_insertion_that_is_shown(package: Path) -> None:
    before = files(package)
    done = into(package)
    assert (done.code, done.stderr) == (0, "")
    after = files(package)
    assert after.keys() - before.keys() == {"src/my_part/loss.py", "src/my_part/loss_config.py", "tests/test_loss.py"}
    assert {name for name in before if before[name] != after[name]} == {"src/my_part/plugin.py"}
    old, new = before["src/my_part/plugin.py"].decode(), after["src/my_part/plugin.py"].decode()
    assert new.startswith(old.rstrip("\n"))
    assert '+        name="shade",' in done.stdout
    assert [line[9:] for line in done.stdout.splitlines() if line.startswith("new ")] == [
        str(package / name) for name in ("src/my_part/loss.py", "src/my_part/loss_config.py", "tests/test_loss.py")
    ]
    assert b"from .loss_config import ShadeLossConfig" in after["src/my_part/loss.py"]


def test_every_kind_can_be_added_to_one_package(package: Path) -> None:
    """A second one of a kind gets modules of its own."""
    for kind in KINDS:
        done = into(package, f"of-{kind.replace('_', '-')}", kind)
        assert done.code == 0, done.stderr
    names = {path.name for path in (package / "src/my_part").iterdir()}
    assert {"of_schedule_schedule.py", "of_schedule_schedule_config.py", "loss.py", "tracker_config.py"} <= names
    assert (package / "src/my_part/plugin.py").read_text(encoding="utf-8").count("yield ComponentSpec(") == 1 + len(KINDS)


@pytest.mark.parametrize(
    "body",
    [
        f"    yield {ONE}  # the first\n",
        f"    yield from [{ONE}]\n",
        f"    return [\n        {ONE},  # the first\n    ]\n",
        f"    return [\n        {ONE}  # the first\n    ]\n",
        f"    return [\n        {ONE}\n    ]\n",
        f"    return [{ONE}]\n",
        f"    return ({ONE},)\n",
    ],
)
def test_specs_that_are_yielded_or_listed_are_added_to(body: str) -> None:
    """The rest of the file stays as it is, to the character, but for a comma that was missing; a comment stays with its line."""
    source = HEAD + body + "\n\nLAST = 1\n"
    edited = extend.inserted(source, SPEC, "plugin.py")
    calls = [call for call in ast.walk(ast.parse(edited)) if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Spec"]
    names = [word.value.value for call in calls for word in call.keywords if word.arg == "name" and isinstance(word.value, ast.Constant)]
    assert sorted(names) == ["more", "one"]
    kept = edited.splitlines()
    assert [
        line for line in source.splitlines() if line in kept or f"{line}," in kept or "return" in line or line.endswith("# the first")
    ] == (source.splitlines())
    assert [ONE in line for line in kept if "# the first" in line] in ([], [True])
    assert edited.startswith(HEAD)
    assert edited.endswith("\n\nLAST = 1\n")


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (HEAD + "    return make()\n", "neither ends with a yield nor returns a list that is written out"),
        (HEAD + f"    for n in range(2):\n        yield {ONE}\n", "neither ends with a yield"),
        ("import ibllm.plugin as api\n\ndef ibllm_components():\n    return []\n", "does not import ComponentSpec by name"),
        ("def (\n", "line 1 is not Python"),
    ],
)
def test_what_cannot_be_edited_safely_is_refused_with_the_lines_to_add(source: str, why: str) -> None:
    with pytest.raises(UserError, match=why) as caught:
        extend.inserted(source, SPEC, "plugin.py")
    assert "nothing was changed. To be added by hand:\n\nComponentSpec(" in str(caught.value)
    assert 'factory="p.loss:More"' in str(caught.value)


def test_nothing_is_overwritten_or_half_written(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (package / "tests" / "test_loss.py").write_text("# mine\n")
    before = files(package)
    refused = into(package)
    assert refused.code == 2
    assert "test_loss.py is there already and is left as it is" in refused.stderr
    assert files(package) == before

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device", "plugin.py")

    monkeypatch.setattr(Path, "replace", no_space)
    refused = into(package, "pale", "metric")
    assert (refused.code, refused.stderr) == (2, "error: plugin.py cannot be written: No space left on device; nothing was left behind\n")
    assert files(package) == before


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("my_part", "schedule", "schedule.my_part is there already: expected another NAME"),
        ("cosine", "schedule", "expected another name; schedule.cosine is offered by ibllm"),
        ("2-parts", "loss", "it begins with a letter and is no keyword"),
        ("shade", "los", "no kind 'los'; did you mean 'loss'?"),
    ],
)
def test_names_that_would_not_do(package: Path, name: str, kind: str, message: str) -> None:
    before = files(package)
    refused = into(package, name, kind)
    assert refused.code == 2
    assert message in refused.stderr
    assert files(package) == before


def test_packages_that_are_none_are_told(package: Path, tmp_path: Path) -> None:
    assert "there is no such folder, nor such a package" in into("nowhere").stderr
    assert "cannot be read as a package's" in into(tmp_path).stderr
    assert "--dir is for a new package" in into(package, "shade", "loss", "--dir", tmp_path / "x").stderr
    project = package / "pyproject.toml"
    project.write_text(project.read_text().replace("my_part = ", 'other = "my_part.other"\nmy_part = '))
    assert "expected one plugin under [project.entry-points.ibllm]" in into(package).stderr
