"""Whatever an installed package does wrong: the message names its distribution and version and what helps, and nobody else is harmed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.processes import free_port

from .conftest import SETS, TINY, Environment

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def rows(strange: Environment) -> dict[str, dict[str, Any]]:
    """What ``ibllm plugins --json`` says of each package."""
    done = strange.ibllm("plugins", "--json", cold=True)
    assert done.returncode == 0, done.stderr
    assert "[prints==1.0] welcome\n" in done.stderr
    assert "from a child\n" in done.stderr
    return {row["distribution"]: row for row in json.loads(done.stdout)}


@pytest.mark.parametrize(
    ("distribution", "version", "error", "remedy"),
    [
        ("import-error", "0.3", r"RuntimeError: needs a licence \(.*import_error.plugin\.py:1\)", "upgrade or uninstall import-error"),
        (
            "missing-dependency",
            "1.0",
            "ModuleNotFoundError: No module named 'a_package_that_is_not_there'",
            "missing-dependency==1.0 needs a_package_that_is_not_there: install it",
        ),
        ("newer-api", "7.0", r"newer-api==7.0 was written for version 99 of the plugin interface, this ibllm speaks 1", "upgrade ibllm"),
        ("retired-api", "0.1", r"version 0 of the plugin interface, which this ibllm.* no longer accepts", "upgrade retired-api"),
        (
            "misspelt-hook",
            "1.0",
            "unknown hook 'ibllm_stage_endet'; did you mean 'ibllm_stage_ended'",
            "upgrade or uninstall misspelt-hook",
        ),
        ("bad-spec", "0.5", "loss.bad_spec with summary = None, expected a string", "upgrade or uninstall bad-spec"),
        ("clash-one", "1.0", r"clash-one==1\.0 .* and clash-two==2\.0 ", "block or uninstall all but one"),
        ("clash-two", "2.0", r"clash-one==1\.0 .* and clash-two==2\.0 ", "block or uninstall all but one"),
        ("twin-one", "1.0", r"plugin name 'twin' is registered by twin-one==1\.0 .* and twin-two==2\.0 ", "uninstall all but one"),
        ("twin-two", "2.0", r"plugin name 'twin' is registered by twin-one==1\.0", "uninstall all but one"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_is_a_row(rows: dict[str, Any], distribution: str, version: str, error: str, remedy: str) -> None:
    row = rows[distribution]
    assert (row["status"], row["version"]) == ("error", version)
    assert re.search(error, row["error"])
    assert remedy in row["remedy"]
    assert Path(row["file"]).name == "plugin.py"


def test_the_others_are_usable(rows: dict[str, Any]) -> None:
    row = rows["prints"]
    assert {name: row[name] for name in ("kind", "name", "status", "error", "remedy", "api", "hooks")} == {
        "kind": "loss", "name": "prints", "status": "ok", "error": "", "remedy": "", "api": 1, "hooks": [],
    }  # fmt: skip
    assert (rows["other-ibllm"]["status"], rows["other-ibllm"]["hooks"]) == ("ok", [])


def with_loss(name: str) -> tuple[str, ...]:
    return (*SETS, f"losses.{name}.use={name}", f"stages.text.losses.{name}=1.0")


@pytest.mark.parametrize(
    ("command", "sets", "said"),
    [
        ("check", with_loss("from_the_future"), ["newer-api==7.0", "upgrade ibllm"]),
        ("check", with_loss("wanted_by_two"), ["clash-one==1.0", "clash-two==2.0", "block or uninstall all but one"]),
        (
            "check",
            with_loss("import-error"),
            ["import-error==0.3", "needs a licence", "uninstall import-error", "IBLLM_BLOCK=import-error"],
        ),
        (
            "check",
            (*SETS, "stages.image.steps=1", "model.image_encoder={use='wrong_shapes'}"),
            ["model.image_encoder = wrong_shapes (provided by wrong-shapes 1.1)", "axis d is wrong", "tell the maintainer of wrong-shapes"],
        ),
        ("check", with_loss("changes-input"), ["losses.changes-input", "changes-input 1.3", "in place (y_fake)", "work on a copy"]),
        (
            "run",
            (*SETS, "metrics={nothing={use='nan-figure'}}"),
            [
                "measuring nothing\n",
                "metrics.nothing = nan-figure (provided by nan-figure 1.5): evaluate on",
                "gave nothing = nan: expected a finite number; tell the maintainer of nan-figure",
            ],
        ),
        (
            "run",
            (*SETS, "data={use='blind'}", "metrics={}"),
            [
                "data = blind (provided by blind 1.6): samples(",
                "gave images of uint8 (2, 3, 32, 32): expected an array, uint8 (2, 32, 32, 3) (b h w c)",
                "tell the maintainer of blind, upgrade it, or use another dataset",
            ],
        ),
        (
            "run",
            with_loss("gives-nan"),
            [
                "loss/gives-nan, grad_norm/model is no longer a finite number",
                "provided by gives-nan 1.2): its value is nan in the batch of the stage's step 2",
                "upgrade it",
            ],
        ),
        (
            "run",
            with_loss("nan-gradient"),
            ["provided by nan-gradient 1.0): the gradient of MulBackward0", "parts.py:", "tell the maintainer of nan-gradient"],
        ),
    ],
)
def test_a_recipe_that_uses_it_ends_with_2_and_names_it(
    strange: Environment, tmp_path: Path, command: str, sets: tuple[str, ...], said: list[str]
) -> None:
    where = ("--run-dir", tmp_path / "run") if command == "run" else ()
    done = strange.ibllm(command, TINY, *where, sets=sets)
    assert done.returncode == 2, done.stderr
    for words in said:
        assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_worker_that_raises_is_named_by_every_process(strange: Environment, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = strange.command("run", TINY, "--run-dir", run, sets=with_loss("worker"))
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(words, env=os.environ | shared | {"RANK": str(r), "LOCAL_RANK": str(r)}, stderr=subprocess.PIPE, text=True)
        for r in range(2)
    ]
    said = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [2, 2], said
    for text in said:
        assert "losses.worker = worker (provided by worker 1.4) raised ValueError: no such thing here (" in text
        assert "tell the maintainer of worker, upgrade it" in text
        assert "Traceback" not in text
    info = json.loads((run / "run.json").read_text())
    assert info["status"] == "failed"
    assert "rank 1: " in info["error"]
    assert "raise ValueError" in (run / "error-rank-1.txt").read_text(), "the whole traceback, for the maintainer"


def test_a_run_that_uses_none_of_them_is_unharmed(strange: Environment, tmp_path: Path) -> None:
    """All the bad packages are there; figures and weights are those of an environment without them."""
    done = strange.ibllm("run", TINY, "--run-dir", tmp_path / "strange", sets=SETS, cold=True)
    assert done.returncode == 0, done.stderr
    plain = Environment(Path(sys.executable)).ibllm("run", TINY, "--run-dir", tmp_path / "plain", sets=SETS)
    assert plain.returncode == 0, plain.stderr
    results = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("strange", "plain")]
    assert results[0] == results[1]
    weights = [load_file(tmp_path / name / "model" / "weights.safetensors") for name in ("strange", "plain")]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[1])


@pytest.fixture(scope="session")
def foreign(strange: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a stranger's loss."""
    run = tmp_path_factory.mktemp("foreign") / "run"
    done = strange.ibllm("run", TINY, "--run-dir", run, sets=with_loss("prints"))
    assert done.returncode == 0, done.stderr
    assert "[prints==1.0] parts are here" in done.stderr
    return run


@pytest.mark.parametrize("command", [("evaluate",), ("run", "--resume")])
def test_opening_a_run_without_its_package_says_what_to_install(foreign: Path, command: tuple[str, ...]) -> None:
    done = Environment(Path(sys.executable)).ibllm(command[0], foreign, *command[1:])
    assert done.returncode == 2
    assert f"{foreign} was made with what is not installed here: losses.prints = loss.prints of prints==1.0. " in done.stderr
    assert "To have it: pip install 'prints==1.0'" in done.stderr


def test_opening_a_model_folder_without_its_package_says_what_to_install(foreign: Path) -> None:
    from ibllm.api import open_model
    from ibllm_core.errors import UserError

    with pytest.raises(UserError, match=r"model was made with .* pip install 'prints==1\.0'"):
        open_model(foreign / "model")


def test_another_version_is_a_warning_and_the_run_is_opened(strange: Environment, foreign: Path, tmp_path: Path) -> None:
    run = tmp_path / "older"
    shutil.copytree(foreign, run)
    info = json.loads((run / "run.json").read_text())
    for entry in info["provenance"].values():
        entry["version"] = entry["version"] if entry["distribution"] != "prints" else "0.4"
    (run / "run.json").write_text(json.dumps(info))
    done = strange.ibllm("evaluate", run, "--json", "--items", 2, "--split", "test")
    assert done.returncode == 0, done.stderr
    assert f"warning: {run} was made with prints==0.4 (here: 1.0); figures may differ\n" in done.stderr
    assert json.loads(done.stdout)["test/items"] == 2
