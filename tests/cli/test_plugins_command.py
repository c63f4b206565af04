"""``ibllm plugins``, and what starting the command line costs in imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests import processes


def ibllm(*args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(processes.ibllm(*args), capture_output=True, text=True, env=env, check=False)


def modules_after(*args: str) -> set[str]:
    """The modules that a command imported."""
    script = f"""
import atexit, json, sys
from ibllm_cli.main import main
code = main({list(args)!r})
sys.stderr.write(json.dumps(sorted(sys.modules)))
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr))


def test_json_is_a_list_of_rows_whatever_plugins_print(site, source):
    site.install("loud", {"loud": "loud_plugin"}, {"loud_plugin": "print('hello')\n" + source(kind="metric", name="loud_metric")})
    site.install("broken", {"broken": "broken_plugin"}, {"broken_plugin": "import nothing_like_it"}, version="0.3")
    done = ibllm("plugins", "--json", env=site.environment())
    assert done.returncode == 0
    rows = json.loads(done.stdout)
    assert all(set(row) >= {"kind", "name", "summary", "distribution", "version", "status", "error"} for row in rows)
    loud = next(row for row in rows if row["name"] == "loud_metric")
    assert (loud["kind"], loud["distribution"], loud["version"], loud["status"], loud["error"]) == ("metric", "loud", "1.0", "ok", "")
    broken = next(row for row in rows if row["name"] == "broken")
    assert (broken["distribution"], broken["version"], broken["status"]) == ("broken", "0.3", "error")
    assert "No module named 'nothing_like_it'" in broken["error"]
    assert ("dataset", "shapes", "ibllm") in {(row["kind"], row["name"], row["distribution"]) for row in rows}


def test_the_table_shows_components_failures_and_blocked_plugins(site, source):
    site.install("fine", {"fine": "fine_plugin"}, {"fine_plugin": source(kind="metric", name="my_metric")})
    site.install("broken", {"broken": "broken_plugin"}, {"broken_plugin": "1 / 0"})
    done = ibllm("plugins", env=site.environment() | {"IBLLM_BLOCK": "gan,shapse"})
    assert done.returncode == 0
    line = next(line for line in done.stdout.splitlines() if "my_metric" in line)
    assert line.split() == ["my_metric", "a", "test's", "fine", "1.0"]
    assert "plugin 'broken' of broken 1.0: ZeroDivisionError: division by zero" in done.stdout
    assert "plugin 'gan' of ibllm" in done.stdout.partition("\nblocked\n")[2]
    assert done.stderr == "note: IBLLM_BLOCK names 'shapse', which no installed plugin or tool is called; did you mean 'shapes'?\n"


def test_show_prints_options_with_type_default_range_and_meaning():
    done = ibllm("plugins", "show", "dataset.shapes")
    assert done.returncode == 0
    assert "placement: string, default \"cells\", one of 'cells', 'free', 'count'" in done.stdout
    assert "size: integer, default 32, >= 32 and <= 128\n      height and width of the images in pixels" in done.stdout
    assert "provides" in done.stdout
    assert "from      ibllm " in done.stdout


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("dataset.shaps", "error: no dataset is called 'shaps'; did you mean 'shapes'?"),
        ("datset.shapes", "error: no kind 'datset'; did you mean 'dataset'?"),
        ("dataset", "error: expected dataset.NAME; there are: "),
    ],
)
def test_show_of_what_is_not_there_is_the_users_mistake(argument, message):
    done = ibllm("plugins", "show", argument)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(message)
    assert "Traceback" not in done.stderr


def test_help_loads_no_plugin_and_no_command():
    loaded = modules_after("--help")
    assert not {name for name in loaded if name.startswith("ibllm_") and not name.startswith(("ibllm_core", "ibllm_cli"))}
    assert {name for name in loaded if name.startswith("ibllm_cli.")} == {"ibllm_cli.main", "ibllm_cli.terminal"}
    assert not loaded & {"torch", "numpy", "rich", "pluggy", "ibllm_core.host.manager"}


@pytest.mark.parametrize("args", [("plugins",), ("plugins", "--json"), ("plugins", "show", "dataset.shapes")])
def test_plugins_needs_no_torch(args):
    loaded = modules_after(*args)
    assert "ibllm_shapes.plugin" in loaded
    assert not loaded & {"torch", "matplotlib", "rich", "tokenizers"}


def test_version():
    assert ibllm("--version").stdout.startswith("ibllm 0.")


def test_a_closed_pipe_is_no_error():
    done = subprocess.run(
        f"{sys.executable} -m ibllm plugins --json | head -c 1", shell=True, capture_output=True, text=True, check=True, env=os.environ
    )
    assert (done.stdout, done.stderr) == ("[", "")
