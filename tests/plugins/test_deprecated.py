"""What is retired is said with the plugin's file and line."""

from __future__ import annotations

import warnings
from typing import Any

import pluggy
import pytest

from ibllm_core.host import hookspecs
from ibllm_core.host import manager as plugins
from ibllm_core.host.hookspecs import PluginDeprecationWarning, retires
from ibllm_core.host.manager import PluginError

HOOK = "from ibllm_core.host.hookspecs import hookimpl\n\n\n@hookimpl\ndef {name}({arguments}):\n    return []\n"


def told(site: Any) -> tuple[Any, list[tuple[str, str, int]]]:
    """The manager, and (message, file, line) of the warnings while it was made."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        found = site.manager()
    return found, [(str(w.message), w.filename, w.lineno) for w in caught if issubclass(w.category, PluginDeprecationWarning)]


@pytest.fixture
def spec(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """``spec(name, function, **marks)``: one more hook."""

    def add(name: str, function: Any, **marks: Any) -> None:
        monkeypatch.setattr(hookspecs, name, pluggy.HookspecMarker(hookspecs.PROJECT)(function, **marks), raising=False)

    return add


def test_a_retired_hook(site, spec) -> None:  # type: ignore[no-untyped-def]
    def ibllm_old(recipe: object) -> None: ...

    spec("ibllm_old", ibllm_old, warn_on_impl=retires("the hook ibllm_old", "implement ibllm_new", 2))
    site.install("late", {"late": "late_plugin"}, {"late_plugin": HOOK.format(name="ibllm_old", arguments="recipe")}, version="1.2")
    _, [(message, file, line)] = told(site)
    assert message == "the hook ibllm_old goes with version 2 of the plugin interface; implement ibllm_new"
    assert (file, line) == (str(site.folder / "late_plugin.py"), 4)


def test_a_retired_argument(site, spec) -> None:  # type: ignore[no-untyped-def]
    def ibllm_kept(recipe: object, folder: object) -> None: ...

    spec("ibllm_kept", ibllm_kept, warn_on_impl_args={"folder": retires("the argument folder", "use run_directory", 2)})
    site.install("fine", {"fine": "fine_plugin"}, {"fine_plugin": HOOK.format(name="ibllm_kept", arguments="recipe")})
    site.install("late", {"late": "late_plugin"}, {"late_plugin": HOOK.format(name="ibllm_kept", arguments="folder")})
    _, warned = told(site)
    assert [(message, line) for message, _, line in warned] == [
        ("the argument folder goes with version 2 of the plugin interface; use run_directory", 4)
    ]


def test_an_interface_that_is_accepted_for_a_while(site, source, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(plugins, "API", 3)
    monkeypatch.setattr(plugins, "OLDEST", 2)
    for api, name in ((1, "gone"), (2, "late"), (3, "new")):
        site.install(name, {name: f"{name}_plugin"}, {f"{name}_plugin": source(name=name, api=api)})
    found, [(message, file, line)] = told(site)
    assert message == "loss.late was written for version 2 of the plugin interface, which is still accepted; write it for 3"
    assert (file, line) == (str(site.folder / "late_plugin.py"), 5)
    assert found.names("loss") == ("late", "new")
    with pytest.raises(PluginError, match=r"gone==1\.0 was written for version 1 .* speaks 3, no longer accepts; upgrade gone"):
        found.get("loss", "gone")


def test_what_was_warned_of_is_not_lost_where_the_plugin_fails(site) -> None:  # type: ignore[no-untyped-def]
    warn = "import warnings\nfrom ibllm_core.host.hookspecs import retires\nwarnings.warn(retires('this', 'do that', 2))\n1 / 0\n"
    site.install("late", {"late": "late_plugin"}, {"late_plugin": warn}, version="1.2")
    found, [(message, _, line)] = told(site)
    assert (found.rows()[0].status, line) == ("error", 3)
    assert message == "this goes with version 2 of the plugin interface; do that"


def test_an_interface_that_is_no_number(site, source) -> None:  # type: ignore[no-untyped-def]
    site.install("odd", {"odd": "odd_plugin"}, {"odd_plugin": source().replace("api=1", "api='1'")})
    [row] = site.manager().rows()
    assert row.error == "odd_plugin: ibllm_components gave loss.mine with api = '1', expected an integer"


def test_the_command_line_shows_it_with_its_place(site, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    import subprocess
    import sys

    site.install("late", {"late": "late_plugin"}, {"late_plugin": HOOK.format(name="ibllm_old", arguments="")})
    script = (
        "import pluggy, sys\nfrom ibllm_core.host import hookspecs\nfrom ibllm_core.host.hookspecs import retires\n"
        "def ibllm_old(): pass\n"
        "hookspecs.ibllm_old = hookspecs.hookspec(ibllm_old, warn_on_impl=retires('ibllm_old', 'leave it out', 2))\n"
        "from ibllm_cli.main import main\nsys.exit(main(['plugins', '--json']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=site.environment(), check=True)
    place = site.folder / "late_plugin.py"
    assert done.stderr == f"warning: {place}:4: ibllm_old goes with version 2 of the plugin interface; leave it out\n"
